"""InfiniRetri beside its authors' package, without the package: what both are given, how agreement is counted, how the runs are put together."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from graphkv import GraphKV, InputError, ModelError
from graphkv.cli import app
from graphkv.model import EMBEDDED, GraphModel
from graphkv.store import MemoryStore
from graphkv_benchmarks.infini_retri_peer import cases, our_runner, run
from graphkv_benchmarks.infini_retri_peer.cases import ROWS, TEMPLATE, Case, Row, job, make_cases, model_folder, rows_of
from graphkv_benchmarks.infini_retri_peer.compare import (
    RETOKENISED,
    ROUNDING,
    SPLIT,
    STRIPPED,
    agreement,
    compare,
    first_difference,
    source_numbers,
)

SMALL = Row("embedded", "float32", cases=2, tokens=300, window=128, top_tokens=40, repeats=1)


def window(sentences: list[list[int]], fresh: list[list[int]], kept: list[int]) -> dict[str, Any]:
    return {"sentences": sentences, "fresh": fresh, "kept": kept, "tokens": 9, "prefix": [0], "between": [7], "question": [8, 9]}


def letters(ids: Any) -> str:
    return "".join(" abcdefgh"[i] for i in ids)


def test_cases_are_needles_and_papers_of_the_wanted_length_and_the_same_for_a_seed() -> None:
    made = make_cases(4, 400, seed=3)
    assert [case.id for case in made] == ["needle0", "papers1", "needle2", "papers3"]
    assert ["Title: " in case.text for case in made] == [False, True, False, True]
    tokenizer = GraphKV.from_pretrained(store=MemoryStore()).model.tokenizer
    for case in made:
        assert 400 <= len(tokenizer(case.text)["input_ids"]) < 480 and case.text == case.text.strip() and case.question
        assert case.answer and case.answer in case.text
    assert made == make_cases(4, 400, seed=3) != make_cases(4, 400, seed=4)


def test_every_model_is_measured_at_every_window() -> None:
    assert rows_of(None, None) == list(ROWS) and rows_of(["embedded"], None) == [ROWS[0]]
    assert [(r.model, r.window, r.cases) for r in rows_of(None, [4096])] == [("embedded", 4096, 50), (cases.QWEN, 4096, 1)]
    assert [(r.model, r.window, r.dtype) for r in rows_of(["a/b"], [512, 512, 256])] == [("a/b", 512, "bfloat16"), ("a/b", 256, "bfloat16")]
    done = CliRunner().invoke(app, ["bench", "infini-retri-peer", "--quick", "--window", "512"])
    assert done.exit_code == 2 and "leave --model and --window out" in done.stderr


def test_a_needle_is_hidden_in_a_text_of_the_users_own() -> None:
    story = " ".join(f"The {n}th day was much like the day before it." for n in range(400))
    (case,) = make_cases(1, 200, seed=1, text=story)
    assert case.answer and case.answer in case.text and "much like the day" in case.text
    assert all(part in story or case.answer in part or part + "." in story for part in case.text.split(". "))
    with pytest.raises(InputError, match="two sentences"):
        make_cases(1, 200, seed=1, text="no sentence at all")


def test_the_prompt_of_both_is_one() -> None:
    told = job(ROWS[0], [Case("a", "Some text.", "Why?", "so")], EMBEDDED, 1, 8)
    assert told["prompt"].format(context="C", question="Q") == TEMPLATE.prefix + "C" + TEMPLATE.ask("Q")
    assert json.loads(json.dumps(told)) == told and told["settings"] == {"window": 1024, "top_tokens": 300, "phrase": 8}


def test_random_weights_are_written_once_for_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(cases, "load", lambda name, dtype, seed: made.append(seed) or GraphModel.load(None))
    row = Row(cases.QWEN, "float32", cases=1, tokens=64)
    place = model_folder(row, tmp_path, 5)
    assert model_folder(row, tmp_path, 5) == place and made == [5] and place.parent == tmp_path
    assert GraphModel.load(place).tokenizer("Some text.")["input_ids"] == GraphModel.load(None).tokenizer("Some text.")["input_ids"]
    assert model_folder(SMALL, tmp_path, 5) == EMBEDDED and model_folder(Row("some/folder", "float32", 1, 64), tmp_path, 5) == Path("some/folder")


def test_what_the_peer_kept_is_followed_from_window_to_window() -> None:
    first = window([[1], [2], [3]], [[1], [2], [3]], [0, 2])
    second = window([[1], [3], [4], [5]], [[4], [5]], [1, 3])
    third = window([[3], [5], [6]], [[6]], [0, 1, 2])
    assert source_numbers([first, second, third]) == [[0, 2], [2, 4], [2, 4, 5]]
    glued = window([[1, 3], [4], [5]], [[4], [5]], [0, 1])  # two sentences became one at the joint: it is none that was there
    assert source_numbers([first, glued]) == [[0, 2], [-1, 3]]


def test_agreement_is_intersection_over_union_and_cases_alike() -> None:
    found = agreement([([1, 2, 3], [1, 2, 3]), ([1, 2], [2, 4]), ([5], [5])])
    assert found == {"cases": 3, "peer": 6, "ours": 6, "both": 5, "shared": round(5 / 7, 4), "same": round(2 / 3, 4)}


@pytest.mark.parametrize(
    ("second", "cause"),
    [
        (window([[1], [3], [4]], [[4]], [0]), STRIPPED),
        (window([[0, 1], [2, 3], [4]], [[4]], [0]), RETOKENISED),
        (window([[0, 1, 3], [4]], [[4]], [0]), SPLIT),
        (window([[0, 1], [3], [4]], [[4]], [0]), ROUNDING),
    ],
)
def test_where_they_part_says_why(second: dict[str, Any], cause: str) -> None:
    first = window([[0, 1], [2], [3]], [[0, 1], [2], [3]], [0, 2])
    windows = [first, second]
    ours = [[0, 2], [0, 3]]
    found = first_difference(windows, source_numbers(windows), ours, letters)
    assert found is not None and (found.window, found.cause) == (1, cause)
    if cause == STRIPPED:
        assert (found.peer, found.ours) == ("a", " a")
    assert first_difference(windows, ours, ours, letters) is None


def test_comparing_cases() -> None:
    first = window([[0, 1], [2], [3]], [[0, 1], [2], [3]], [0, 2])
    second = window([[1], [3], [4]], [[4]], [0])
    peer = [{"id": "a", "windows": [first]}, {"id": "b", "windows": [first, second]}]
    ours = [{"alone": {"kept": [[0, 2]]}, "led": [[0, 2]]}, {"alone": {"kept": [[0, 2], [0, 3]]}, "led": [[0, 2], [1]]}]
    found = compare(peer, ours, letters)
    assert found["alone"]["same"] == 0.5 and found["alone"]["shared"] == 0.75 and found["led"] == {"windows": 3, "same": round(2 / 3, 4)}
    assert found["causes"] == {STRIPPED: 1} and found["differences"][0]["id"] == "b" and found["differences"][0]["only_ours"] == 1


@pytest.fixture
def threads() -> Iterator[None]:
    """A runner sets the number of threads of its process, which here is that of all tests."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_our_runner_and_the_summary(tmp_path: Path) -> None:
    """The peer's side is made of our own scan here: what ours kept as if it were the peer's must be found again, alone and led."""
    told = job(SMALL, make_cases(2, 300, seed=1), EMBEDDED, 1, 4)
    (tmp_path / "job.json").write_text(json.dumps(told))
    engine = GraphKV.from_pretrained(store=MemoryStore(), template=TEMPLATE)
    rows = []
    for case in told["cases"]:
        sentences = [list(engine.model.tokenizer(s + ".")["input_ids"]) for s in case["text"].split(". ")]
        half = len(sentences) // 2
        question = list(engine.model.tokenizer(case["question"] + "\n\nAnswer:")["input_ids"])
        one = window(sentences[:half], sentences[:half], []) | {"prefix": [0], "between": [201], "question": question}
        settings = our_runner.Settings({6: None}, top_tokens=40, phrase=8)
        one["kept"] = our_runner.led(engine, [one], settings)[0]
        two = one | {"sentences": [sentences[i] for i in one["kept"]] + sentences[half:], "fresh": sentences[half:]}
        two["kept"] = our_runner.led(engine, [one, two], settings)[1]
        assert 0 < len(one["kept"]) < half and 0 < len(two["kept"]) < len(two["sentences"])
        rows.append({"id": case["id"], "windows": [one, two], "seconds": 2.0, "scan_seconds": 1.0, "peak_mb": 100.0, "answer": " no"})
    (tmp_path / "peer.json").write_text(json.dumps({"rows": rows}))
    our_runner.main(str(tmp_path / "job.json"), str(tmp_path / "ours.json"), str(tmp_path / "peer.json"))
    ours = json.loads((tmp_path / "ours.json").read_text())["rows"]
    found = run.summary(told, [rows, rows], [ours, ours], engine.model.tokenizer.decode)
    assert found["agreement"]["alone"]["shared"] == found["agreement"]["alone"]["same"] == found["agreement"]["led"]["same"] == 1.0
    assert found["agreement"]["differences"] == [] and found["windows"] == 4 and found["exact_answers"]["peer"] == 0
    assert found["seconds"]["peer"] == 4.0 and found["seconds"]["times_faster"] == pytest.approx(4.0 / found["seconds"]["ours"], rel=0.05)
    assert found["tokens"]["peer"] == 36 and found["tokens"]["ours"] > 600 and len(found["cases"][0]["ours"]) == 2
    assert found["peak_mb"]["peer"] == 100.0


def test_the_question_rows_begin_behind_the_words_between() -> None:
    asked = our_runner._asked(window([[1]], [[1]], [0]))
    assert asked.ids == (7, 8, 9) and asked.start == 1


def test_medians_over_repeats() -> None:
    def runs(*seconds: float) -> list[Any]:
        return [[{"seconds": s}, {"seconds": 2 * s}] for s in seconds]

    times = run._times({"peer": runs(5.0, 100.0, 6.0), "ours": runs(1.0, 1.0, 0.5)}, "seconds")
    assert times == {"peer": 18.0, "ours": 3.0, "times_faster": 6.0, "each_repeat": [5.0, 100.0, 12.0]}


def test_without_the_package_the_command_says_how_to_install_it(tmp_path: Path) -> None:
    for peer, words in ((tmp_path / "none", "is no Python that can be run"), (Path(sys.executable), "infini-retri cannot be imported")):
        done = CliRunner().invoke(app, ["bench", "infini-retri-peer", "--quick", "--peer", str(peer)])
        assert done.exit_code == 2 and words in done.stderr and "pip install --no-deps infini-retri==0.0.3" in done.stderr, done.output


def test_what_cannot_be_measured_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "peer_versions", lambda peer: {"infini-retri": "0.0.3"})
    with pytest.raises(InputError, match="cannot be read"):
        run.run_infini_retri_peer("python", [SMALL], text=tmp_path / "none.txt")
    other = tmp_path / "other.json"
    other.write_text("{}")
    with pytest.raises(InputError, match="is not a result of this benchmark"):
        run.run_infini_retri_peer("python", [SMALL], output=other)
    with pytest.raises(ModelError, match="infini-retri did not get through"):
        run.run_infini_retri_peer("false", [SMALL])  # a program that fails


def test_rows_that_the_output_holds_are_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "peer_versions", lambda peer: {"infini-retri": "0.0.3"})
    measured: list[int] = []
    monkeypatch.setattr(run, "_measure", lambda told, *rest: measured.append(told["settings"]["window"]) or ([], []))
    monkeypatch.setattr(run, "summary", lambda *args: {"agreement": {}})
    output, other = tmp_path / "out.json", Row(**{**SMALL.__dict__, "window": 256})
    run.run_infini_retri_peer("python", [SMALL], output=output, threads=1)
    again = run.run_infini_retri_peer("python", [SMALL, other], output=output, threads=1)
    assert measured == [128, 256] and [row["settings"]["window"] for row in again["rows"]] == [128, 256]
    assert json.loads(output.read_text()) == again
