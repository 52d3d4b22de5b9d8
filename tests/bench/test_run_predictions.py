"""predictions.jsonl: nothing twice, nothing half, nothing lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from graphkv.errors import InputError
from graphkv_benchmarks.runner.case import Line
from graphkv_benchmarks.runner.predictions import Predictions, key_of, question_key, read_lines


def line(id: str = "1", **changes: object) -> Line:
    return {"arm": "graph", "setting": {"order": "first", "seed": 1}, "id": id, "unit": id, "answer": "Zoë", "score": 1.0, **changes}


def test_a_line_is_on_the_disk_when_add_returns(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    predictions = Predictions(path)
    predictions.add(line())
    assert [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()] == [line()]
    assert "Zoë" in path.read_text(encoding="utf-8")


def test_a_key_is_there_once(tmp_path: Path) -> None:
    predictions = Predictions(tmp_path / "p")
    predictions.add(line())
    predictions.add(line(answer="another"))
    assert read_lines(tmp_path / "p") == [line()] and key_of(line()) in predictions


def test_the_order_of_a_settings_keys_does_not_matter() -> None:
    assert question_key("a", {"x": 1, "y": "2"}, "3") == question_key("a", {"y": "2", "x": 1}, "3")
    assert question_key("a", {"x": 1}, "3") != question_key("a", {"x": "1"}, "3")


def test_broken_rows_have_keys_of_their_own() -> None:
    assert key_of({"broken": "7", "unit": "7", "reason": "x"}) != key_of(line("7"))


@pytest.mark.parametrize("cut", [1, 5, 20, -1])
def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "p"
    text = (json.dumps(line("1")) + "\n").encode()
    second = (json.dumps(line("2"), ensure_ascii=False) + "\n").encode()[:cut]
    path.write_bytes(text + second)
    assert read_lines(path) == [line("1")]
    predictions = Predictions(path)
    assert path.read_bytes() == text
    predictions.add(line("2"))
    assert read_lines(path) == [line("1"), line("2")]


@pytest.mark.parametrize("text", ["chaos", "[]", "{}", '{"arm": "graph"}', '"broken"'])
def test_what_is_no_prediction_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "p").write_text(json.dumps(line()) + "\n" + text + "\n")
    with pytest.raises(InputError, match="line 2"):
        read_lines(tmp_path / "p")


def test_a_key_that_stands_there_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "p").write_text((json.dumps(line()) + "\n") * 2)
    with pytest.raises(InputError, match="twice"):
        Predictions(tmp_path / "p")


def test_half_a_character_is_kept(tmp_path: Path) -> None:
    Predictions(tmp_path / "p").add(line(answer="\ud800"))
    assert read_lines(tmp_path / "p")[0]["answer"] == "\ud800"


def test_a_full_disk_leaves_whole_lines_and_what_waits_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p"
    predictions = Predictions(path)
    predictions.add(line("1"))
    whole, write = path.read_bytes(), os.pwrite

    def full(file: int, data: bytes, place: int) -> int:
        if len(data) < 60:
            raise OSError(28, "No space left on device")
        return write(file, bytes(data)[:50], place)  # some of it still fits

    monkeypatch.setattr(os, "pwrite", full)
    predictions.add(line("2"))
    predictions.add(line("3"))
    assert path.read_bytes() == whole
    assert [waiting["id"] for waiting in predictions.waiting] == ["2", "3"] and "No space" in predictions.trouble
    monkeypatch.undo()
    assert predictions.flush()
    assert [kept["id"] for kept in read_lines(path)] == ["1", "2", "3"]

