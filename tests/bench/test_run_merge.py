"""`graphkv bench merge`: shards become the undivided run, byte for byte, or an error says what is in the way."""

from __future__ import annotations

import json
import random
import re
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from graphkv.cli.bench.merge import merge as verb
from graphkv.cli.common import guarded
from graphkv.errors import InputError, StoreError
from graphkv_benchmarks.runner import merge as merge_module
from graphkv_benchmarks.runner import run as run_module
from graphkv_benchmarks.runner.case import Line
from graphkv_benchmarks.runner.folder import read_config, write_config
from graphkv_benchmarks.runner.merge import merge
from graphkv_benchmarks.runner.predictions import key_of, read_lines
from graphkv_benchmarks.runner.run import finish
from graphkv_benchmarks.tasks.arxiv_qa import ArxivQA

ARMS = ("sequential", "graph")
TASK = ArxivQA("/nowhere", distractors=(0, 1), seeds=(1, 2))
APP = typer.Typer()
APP.command("merge")(guarded(verb))


@APP.callback()
def _main() -> None:
    """Two verbs make a group."""


def config(shard: str, units: int, **more: Any) -> dict[str, Any]:
    arms = [{"name": arm, "strategy": "graph", "options": {"layout": arm}} for arm in ARMS]
    return {"task": TASK.settings(), "arms": arms, "weights": "w", "dtype": "float32", "model": "embedded", "shard": shard, "units": units, "machine": {"cpu": shard}, **more}


def unit_lines(unit: int) -> list[Line]:
    """Every fifth unit is broken, some questions do not fit, and texts are of all kinds."""
    name = f"{unit}"
    if unit % 5 == 4:
        return [{"broken": name, "unit": name, "reason": "no | answer"}]
    lines: list[Line] = []
    for setting in ({"distractors": 0}, *({"distractors": 1, "order": order, "seed": seed} for seed in (1, 2) for order in ("first", "last"))):
        for arm in ARMS:
            rng = random.Random(f"{unit} {arm} {setting}")
            head: Line = {"arm": arm, "setting": setting, "id": name, "unit": name, "type": f"{unit % 3}", "prompt": f"{unit}", "gold": ["é"]}
            if rng.random() < 0.15:
                lines.append(head | {"skipped": "memory: 3 GiB"})
            else:
                tokens = {"context": rng.randrange(100, 5000), "kept": 1, "reused": 0, "computed": 1, "generated": 1}
                lines.append(head | {"answer": rng.choice(["é|", "b\n", "\ud83d"]), "score": rng.choice([0.0, 1.0, 1 / 3]), "finish": "stop", "tokens": tokens, "ttft": rng.random(), "seconds": 1.0})
    return lines


def write_run(folder: Path, units: Sequence[int], shard: str = "1/1", *, done: bool = True, change: Callable[[list[Line]], list[Line]] | None = None, **more: Any) -> Path:
    folder.mkdir(parents=True)
    write_config(folder, config(shard, len(units), **more))
    lines = [line for unit in units for line in unit_lines(unit)]
    lines = change(lines) if change else lines
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    if done:
        finish(folder, TASK)
    return folder


def sharded(tmp_path: Path, count: int, units: int, **more: Any) -> list[Path]:
    return [write_run(tmp_path / f"part{i}", range(units)[i - 1 :: count], f"{i}/{count}", **more) for i in range(1, count + 1)]


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are drawn in other tests, and cost a second each."""
    monkeypatch.setattr("graphkv_benchmarks.runner.pictures.draw_all", lambda result, folder: [])


@given(count=st.integers(1, 5), units=st.integers(5, 12), rng=st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None)
def test_merged_shards_are_the_undivided_run(tmp_path_factory: pytest.TempPathFactory, count: int, units: int, rng: random.Random) -> None:
    """1. All units in one run. 2. In shards, whose lines stand in another order and whose folders are given in any. The same bytes."""
    tmp_path = tmp_path_factory.mktemp("merge")
    whole = write_run(tmp_path / "whole", range(units))
    parts = sharded(tmp_path, count, units, change=lambda lines: rng.sample(lines, len(lines)))
    result = merge(rng.sample(parts, len(parts)), tmp_path / "out")
    assert (tmp_path / "out" / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    assert json.loads((whole / "metrics.json").read_text()) == result
    ours, theirs = (read_lines(folder / "predictions.jsonl") for folder in (tmp_path / "out", whole))
    assert {key_of(line): line for line in ours} == {key_of(line): line for line in theirs} and len(ours) == len(theirs)
    again = merge(parts, tmp_path / "again")
    assert again == result and (tmp_path / "again" / "predictions.jsonl").read_bytes() == (tmp_path / "out" / "predictions.jsonl").read_bytes()


def test_predictions_are_in_one_order(tmp_path: Path) -> None:
    merge(sharded(tmp_path, 3, 12), tmp_path / "out")
    lines = read_lines(tmp_path / "out" / "predictions.jsonl")
    assert [line["arm"] for line in lines if "arm" in line] == ["sequential"] * 50 + ["graph"] * 50
    assert [line["id"] for line in lines[:10]] == ["0", "1", "2", "3", "5", "6", "7", "8", "10", "11"]
    assert [line["broken"] for line in lines[100:]] == ["4", "9"]


def test_the_merged_config_tells_of_its_parts(tmp_path: Path) -> None:
    parts = sharded(tmp_path, 2, 7, seconds=30.0, workers=2, threads=1, store="memory", memory=7, command="graphkv bench arxiv-qa")
    merge(parts, tmp_path / "out")
    found = read_config(tmp_path / "out")
    assert not found.keys() & {"seconds", "workers", "threads", "store", "memory", "machine"}  # a shard's, not the whole's
    assert found["command"] == f"graphkv bench merge {parts[0]} {parts[1]}" and found["weights"] == "w"
    assert all((part["seconds"], part["workers"], part["store"], part["command"]) == (30.0, 2, "memory", "graphkv bench arxiv-qa") for part in found["merged"])
    assert (found["shard"], found["units"]) == ("1/1", 7) and "missing_shards" not in found
    assert [(part["folder"], part["shard"], part["units"], part["machine"]) for part in found["merged"]] == [(str(parts[0]), "1/2", 4, {"cpu": "1/2"}), (str(parts[1]), "2/2", 3, {"cpu": "2/2"})]
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "- merged: from shards 1/2, 2/2" in text and "- time: 1.0 minutes, all shards together" in text and "- machine: several" in text
    assert merge([tmp_path / "out"], tmp_path / "once more") == json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_a_missing_shard_is_an_error_unless_partial(tmp_path: Path) -> None:
    parts = sharded(tmp_path, 3, 9)
    with pytest.raises(InputError, match=r"of 3 shards 2/3 are missing: give their folders too, or say --partial"):
        merge([parts[2], parts[0]], tmp_path / "out")
    assert "out" not in left(tmp_path)
    result = merge([parts[2], parts[0]], tmp_path / "out", partial=True)
    assert {int(line["unit"]) % 3 for line in read_lines(tmp_path / "out" / "predictions.jsonl")} == {0, 2} and result["cells"]
    assert "2/3 not among them" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="was merged without shards 2/3: merge the shards themselves"):
        merge([tmp_path / "out"], tmp_path / "again")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [line for line in lines if line["unit"] != "2"], "1 of 3 units have no answers"),
        (lambda lines: lines[:-1], "arm 'graph' lacks answers about unit '6'"),
        (lambda lines: lines[1:], "arm 'sequential' lacks answers about unit '0'"),
    ],
)
def test_a_shard_that_is_not_done_is_an_error(tmp_path: Path, change: Callable[[list[Line]], list[Line]], message: str) -> None:
    one = write_run(tmp_path / "one", (0, 2, 6), "1/2", change=change)
    other = write_run(tmp_path / "other", (1, 3), "2/2")
    with pytest.raises(InputError, match=rf"one \(shard 1/2\) is not done: {message}; give its command again"):
        merge([one, other], tmp_path / "out")
    assert left(tmp_path) == ["one", "other"]
    assert merge([one, other], tmp_path / "out", partial=True)["cells"]


def test_a_run_that_never_ended_is_not_done(tmp_path: Path) -> None:
    """Killed between two cases, every arm has the same questions; only the end of the run, its metrics, is missing."""
    one = write_run(tmp_path / "one", (0,), "1/1", done=False, change=lambda lines: lines[:2])
    with pytest.raises(InputError, match=r"is not done: it has no metrics.json"):
        merge([one], tmp_path / "out")
    finish(one, TASK)
    whole = "".join(json.dumps(line) + "\n" for line in unit_lines(0))
    (one / "predictions.jsonl").write_text(whole, encoding="utf-8")
    with pytest.raises(InputError, match=r"its metrics.json is of 2 lines, and there are 10"):
        merge([one], tmp_path / "out")
    (one / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match=r"metrics.json cannot be read"):
        merge([one], tmp_path / "out")


def test_a_half_line_at_the_end_is_no_answer(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", (0, 1), "1/1")
    path = one / "predictions.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="lacks answers about unit '1'"):
        merge([one], tmp_path / "out")


def test_other_runs_are_not_parts(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "one", (0,), "1/2"), write_run(tmp_path / "other", (1,), "2/2", weights="v", dtype="bfloat16")
    with pytest.raises(InputError, match=r"are not parts of one run: weights, dtype differ"):
        merge([one, other], tmp_path / "out")
    third = write_run(tmp_path / "third", (1,), "2/3")
    with pytest.raises(InputError, match=r"it was cut into 2 and into 3"):
        merge([one, third], tmp_path / "out")


def test_one_answer_twice_must_be_the_same(tmp_path: Path) -> None:
    """Two shards that hold one unit: a shard was run of another list of units, or twice."""
    one = write_run(tmp_path / "one", (0, 1), "1/2")
    same = write_run(tmp_path / "same", (1, 2), "2/2")
    assert merge([one, same], tmp_path / "out")["cells"][0]["questions"] == 3

    def changed(lines: list[Line], **new: Any) -> list[Line]:
        place = next(i for i, line in enumerate(lines) if "score" in line)
        return [*lines[:place], lines[place] | new, *lines[place + 1 :]]

    for number, new in enumerate(({"answer": "another"}, {"score": 0.5}, {"prompt": "another"})):
        other = write_run(tmp_path / f"other{number}", (1, 2), "2/2", change=lambda lines, new=new: changed(lines, **new))
        what = "prompts" if "prompt" in new else "answers"
        with pytest.raises(InputError, match=rf"question '1' of arm 'sequential' under distractors=0 has different {what} in .*one and in .*other{number}"):
            merge([one, other], tmp_path / "no")
    assert "no" not in left(tmp_path)


def test_one_shard_twice(tmp_path: Path) -> None:
    one, copy = write_run(tmp_path / "one", (0, 1), "1/1"), write_run(tmp_path / "copy", (0, 1), "1/1")
    assert merge([one, copy], tmp_path / "out") == json.loads((one / "metrics.json").read_text())
    with pytest.raises(InputError, match="is given twice"):
        merge([one, one], tmp_path / "no")


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", (0,))
    out = tmp_path / "out"
    out.mkdir()
    (out / "note.txt").write_text("mine")
    for place in (out, out / "note.txt"):
        with pytest.raises(InputError, match="is there and is not empty"):
            merge([one], place)
    (out / "note.txt").unlink()
    merge([one], out)
    assert (out / "metrics.json").exists() and (out.stat().st_mode & 0o777) == (one.stat().st_mode & 0o777)


@pytest.mark.parametrize(
    ("module", "function", "name"),
    [(merge_module, "write_config", "config.yaml"), (merge_module, "_write", "predictions.jsonl"), (run_module, "write_result", "metrics.json"), (run_module, "write_report", "report.md")],
)
def test_nothing_is_left_where_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, function: str, name: str) -> None:
    """A full disk does not say which file it was that did not fit."""
    one = write_run(tmp_path / "one", (0,))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, function, full)
    with pytest.raises(StoreError, match=rf"^{re.escape(str(tmp_path / 'deep' / 'out' / name))} cannot be written \(No space left on device\): nothing was merged; make room"):
        merge([one], tmp_path / "deep" / "out")
    assert left(tmp_path / "deep") == []


def test_what_cannot_be_made_moved_or_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write_run(tmp_path / "one", (0,))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=rf"^{re.escape(str(tmp_path / 'file'))} cannot be written"):
        merge([one], tmp_path / "file" / "out")
    with monkeypatch.context() as patch, pytest.raises(StoreError, match=rf"^{re.escape(str(tmp_path / 'out'))} cannot be written \(Read-only"):
        patch.setattr(Path, "rename", lambda self, _: (_ for _ in ()).throw(OSError(30, "Read-only file system", str(self))))
        merge([one], tmp_path / "out")
    (one / "predictions.jsonl").unlink()
    (one / "predictions.jsonl").mkdir()
    with pytest.raises(StoreError, match=rf"^{re.escape(str(one / 'predictions.jsonl'))} cannot be read \(Is a directory\)"):
        merge([one], tmp_path / "out")
    assert left(tmp_path) == ["file", "one"]


def test_a_file_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    """Really: for a moment no file of this process may grow beyond a size."""
    one = write_run(tmp_path / "one", range(30))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
    try:
        with pytest.raises(StoreError, match=rf"^{re.escape(str(tmp_path / 'out' / 'predictions.jsonl'))} cannot be written \(File too large\)"):
            merge([one], tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left(tmp_path) == ["one"]


def test_no_run_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is nothing to merge"):
        merge([], tmp_path / "out")
    with pytest.raises(InputError, match="is not the folder of a run"):
        merge([tmp_path], tmp_path / "out")
    odd = write_run(tmp_path / "odd", (0,), "3/2")
    with pytest.raises(InputError, match=r"expected a shard such as 1/4 in its config, got '3/2'"):
        merge([odd], tmp_path / "out")


def test_the_verb(tmp_path: Path) -> None:
    parts = [str(part) for part in sharded(tmp_path, 2, 4)]
    shown = CliRunner().invoke(APP, ["merge", *parts, "--out", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    assert "2 runs merged" in shown.stdout and "22 of 24 questions answered in 6 cells" in shown.stdout
    again = CliRunner().invoke(APP, ["merge", *parts, "--out", str(tmp_path / "out")])
    assert again.exit_code == 2 and again.stderr.startswith("error: ") and "not empty" in again.stderr
    as_json = CliRunner().invoke(APP, ["merge", *parts, "--out", str(tmp_path / "b"), "--json"])
    assert json.loads(as_json.stdout) == json.loads((tmp_path / "b" / "metrics.json").read_text())
