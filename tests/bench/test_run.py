"""Runs: killed and taken up again, in parts and by several processes, with broken rows, too little room, a full disk."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runner_helpers import Worlds, lines_in, plan, untimed

import graphkv_benchmarks.runner.run as running
from graphkv.errors import GraphKVError, InputError, StoreError
from graphkv_benchmarks.runner.case import Broken, Case, Line
from graphkv_benchmarks.runner.folder import METRICS, PREDICTIONS, REPORT, read_config
from graphkv_benchmarks.runner.predictions import Predictions, key_of
from graphkv_benchmarks.runner.run import finish, run

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three worlds that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    run(plan(), folder)
    return folder


def test_a_line_a_question_with_everything_that_is_known(whole: Path) -> None:
    lines = lines_in(whole)
    assert len(lines) == 3 * 2 * 2 * 2 and len({key_of(line) for line in lines}) == len(lines)
    assert {line["arm"] for line in lines} == {"sequential", "graph"} and sum(line["score"] for line in lines) >= 20
    for line in lines:
        assert line["score"] == float(line["gold"][0].lower() in line["answer"].lower()) and line["finish"] == "stop" and len(line["prompt"]) == 16
        assert line["ttft"] > 0 and line["seconds"] >= line["ttft"]
        assert line["tokens"]["context"] > 100 and line["tokens"]["kv_bytes"] > 0


def test_a_context_is_encoded_once_for_its_questions_and_orders(whole: Path) -> None:
    graph = [line["tokens"] for line in lines_in(whole) if line["arm"] == "graph" and line["unit"] == "0"]
    assert graph[0]["reused"] < graph[0]["context"] / 2  # what another arm encoded before
    assert all(tokens["reused"] >= tokens["context"] for tokens in graph[1:])  # the second question, and both of the other order


def test_the_prompt_is_named_by_what_it_says(whole: Path) -> None:
    prompts = {(line["id"], line["setting"]["order"]): line["prompt"] for line in lines_in(whole)}
    assert len(set(prompts.values())) == len(prompts)
    by_arm = {(line["arm"], line["id"], line["setting"]["order"]): line["prompt"] for line in lines_in(whole)}
    assert all(by_arm["graph", *key] == prompt for key, prompt in prompts.items())


@pytest.mark.parametrize("kept", [0, 1, 3, 8, 11, 23])
def test_a_run_that_was_cut_anywhere_ends_as_if_it_had_not(whole: Path, tmp_path: Path, kept: int) -> None:
    run(plan(), tmp_path)  # for its config
    lines = (tmp_path / PREDICTIONS).read_bytes().splitlines(keepends=True)
    (tmp_path / PREDICTIONS).write_bytes(b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2])
    (tmp_path / METRICS).unlink()
    run(plan(), tmp_path)
    assert untimed(lines_in(tmp_path)) == untimed(lines_in(whole))
    assert (tmp_path / METRICS).read_bytes() == (whole / METRICS).read_bytes()


def test_a_finished_run_asks_nothing_again(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (whole / PREDICTIONS).read_bytes()

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("something was asked")

    monkeypatch.setattr("graphkv.engine.GraphKV.ask", never)
    run(plan(), whole)
    assert (whole / PREDICTIONS).read_bytes() == before


SCRIPT = """
    import sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from runner_helpers import plan
    from graphkv_benchmarks.runner.run import run
    if __name__ == "__main__":
        run(plan(), Path(sys.argv[1]), workers=int(sys.argv[2]))
"""


def start(tmp_path: Path, workers: int) -> subprocess.Popen[bytes]:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=str(ROOT / "tests"))))
    return subprocess.Popen([sys.executable, str(script), str(tmp_path / "out"), str(workers)], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_was_killed_goes_on(whole: Path, tmp_path: Path, workers: int) -> None:
    process = start(tmp_path, workers)
    predictions = tmp_path / "out" / PREDICTIONS
    try:
        while process.poll() is None and not (predictions.exists() and predictions.read_bytes().count(b"\n") >= 5):
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 5 <= predictions.read_bytes().count(b"\n") < 24
    assert not (tmp_path / "out" / METRICS).exists()
    run(plan(), tmp_path / "out")
    assert sorted(map(key_of, lines_in(tmp_path / "out"))) == sorted(map(key_of, lines_in(whole)))
    assert (tmp_path / "out" / METRICS).read_bytes() == (whole / METRICS).read_bytes()


def test_several_processes_come_to_the_same_numbers(whole: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    run(plan(), tmp_path, workers=2, report=lambda done, total, said: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert sorted(untimed(lines_in(tmp_path)), key=key_of) == sorted(untimed(lines_in(whole)), key=key_of)
    assert (tmp_path / METRICS).read_bytes() == (whole / METRICS).read_bytes()


def test_an_error_of_a_worker_is_the_runs(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    with pytest.raises(InputError, match="another --out"):
        run(plan(Worlds(words=1)), tmp_path / "out", workers=2)


def test_shards_have_every_unit_once() -> None:
    task = Worlds(count=7)
    parts = [plan(task, shard=(i, 3)).units() for i in (1, 2, 3)]
    assert sorted(unit for part in parts for unit in part) == sorted(task.units()) and max(map(len, parts)) - min(map(len, parts)) <= 1
    assert plan(task, limit=4, shard=(2, 3)).units() == ["1"]


def test_a_broken_row_is_reported_with_its_id_and_the_rest_goes_on(tmp_path: Path) -> None:
    result = run(plan(Worlds(count=3, broken=1)), tmp_path)
    assert result["broken"] == [{"id": "1", "reason": "expected a world, got chaos"}]
    assert len(lines_in(tmp_path)) == 1 + 2 * 8 and "expected a world" in (tmp_path / REPORT).read_text(encoding="utf-8")
    again = run(plan(Worlds(count=3, broken=1)), tmp_path)
    assert again == result and len(lines_in(tmp_path)) == 17
    mended = run(plan(Worlds(count=3)), tmp_path)
    assert mended["broken"] == [] and len(lines_in(tmp_path)) == 24


def test_what_does_not_fit_is_skipped_with_its_reason_and_counted(tmp_path: Path) -> None:
    result = run(plan(Worlds(count=2, long=1), ("graph",)), tmp_path)
    assert [cell["skipped"] for cell in result["cells"]] == [{"length": 2}, {"length": 2}]
    skipped = [line for line in lines_in(tmp_path) if "skipped" in line]
    assert len(skipped) == 4 and all("window is 8192" in line["skipped"] and "answer" not in line for line in skipped)


def test_too_little_memory_is_a_reason_too(tmp_path: Path) -> None:
    result = run(plan(Worlds(count=1), max_memory=1000), tmp_path)
    assert all(cell["skipped"] == {"memory": 2} for cell in result["cells"])
    assert all("--max-memory" in line["skipped"] for line in lines_in(tmp_path))


def test_memory_that_runs_out_while_a_question_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkv import GraphKV

    ask, calls = GraphKV.ask, [0]

    def sometimes(self: GraphKV, *args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise MemoryError
        if calls[0] == 3:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 999 bytes")
        return ask(self, *args, **kwargs)

    monkeypatch.setattr(GraphKV, "ask", sometimes)
    run(plan(Worlds(count=1), ("graph",)), tmp_path)
    assert ["memory" if "skipped" in line and line["skipped"].startswith("memory: ") else "answered" for line in lines_in(tmp_path)] == ["answered", "memory", "memory", "answered"]
    run(plan(Worlds(count=1), ("graph",)), tmp_path)  # it may have passed: asked again
    assert len(lines_in(tmp_path)) == 4 and all("score" in line for line in lines_in(tmp_path))


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: device-side assert"), KeyError("x"), StoreError("no room")])
def test_one_questions_trouble_does_not_stop_the_others_and_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    from graphkv import GraphKV

    ask, calls = GraphKV.ask, [0]

    def once(self: GraphKV, *args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise error
        return ask(self, *args, **kwargs)

    monkeypatch.setattr(GraphKV, "ask", once)
    result = run(plan(Worlds(count=1), ("graph",)), tmp_path)
    assert sum(cell["skipped"].get("error", 0) for cell in result["cells"]) == 1
    assert next(line["skipped"] for line in lines_in(tmp_path) if "skipped" in line).startswith(f"error: {type(error).__name__}: ")
    result = run(plan(Worlds(count=1), ("graph",)), tmp_path)
    assert not any(cell["skipped"] for cell in result["cells"]) and len(lines_in(tmp_path)) == 4


def test_what_was_skipped_is_not_encoded_when_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkv import GraphKV

    run(plan(Worlds(count=1), max_memory=1000), tmp_path)
    lines = (tmp_path / PREDICTIONS).read_bytes().splitlines(keepends=True)
    (tmp_path / PREDICTIONS).write_bytes(b"".join(lines[:-1]))
    monkeypatch.setattr(GraphKV, "encode", lambda *args, **kwargs: pytest.fail("encoded"))
    run(plan(Worlds(count=1), max_memory=1000), tmp_path)
    assert len(lines_in(tmp_path)) == len(lines)


def test_what_a_question_may_take_is_settled_when_a_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(plan(Worlds(count=1), ("graph",)), tmp_path)
    before = read_config(tmp_path)["memory"]
    assert before > 2**20
    monkeypatch.setattr("graphkv_benchmarks.runner.plan.free_bytes", lambda engine: 10_000)
    (tmp_path / PREDICTIONS).unlink()
    result = run(plan(Worlds(count=1), ("graph",)), tmp_path)
    assert read_config(tmp_path)["memory"] == before and not any(cell["skipped"] for cell in result["cells"])
    result = run(plan(Worlds(count=1), ("graph",)), tmp_path / "another")
    assert all(cell["skipped"] for cell in result["cells"])


def test_an_answer_that_the_window_cut_short_says_so(tmp_path: Path) -> None:
    from helpers import byte_tokenizer, tiny_model

    tiny_model(max_position_embeddings=700).save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    run(replace(plan(Worlds(count=1), ("graph",)), model=str(tmp_path / "model"), max_new_tokens=900), tmp_path / "out")
    lines = [line for line in lines_in(tmp_path / "out") if "score" in line]
    assert any("cut" in line for line in lines)
    assert all(("cut" in line) == (line["finish"] == "length" and line["tokens"]["generated"] < 900) for line in lines)


def test_one_process_at_a_time_has_a_folder(tmp_path: Path) -> None:
    run(plan(Worlds(count=1), ("graph",)), tmp_path)
    with Predictions(tmp_path / PREDICTIONS), pytest.raises(InputError, match="another process"):
        run(plan(Worlds(count=1), ("graph",)), tmp_path)


def test_a_worker_that_is_killed_is_told_and_nobody_is_left(whole: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(done: int, total: int, said: str) -> None:
        if not killed:
            child = multiprocessing.active_children()[0]
            os.kill(child.pid or 0, signal.SIGKILL)
            killed.append(child.pid or 0)

    with pytest.raises(GraphKVError, match=r"died \(exit code -9\); it was killed"):
        run(plan(Worlds(count=8)), tmp_path, workers=2, report=kill)
    for child in multiprocessing.active_children():
        child.join(10)
    assert multiprocessing.active_children() == [] and 0 < len(lines_in(tmp_path)) < 64


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "report.md"])
def test_files_that_cannot_be_written_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write = Path.write_text

    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        if name in self.name:
            raise OSError(28, "No space left on device", str(self))
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(StoreError, match=rf"{name}.*No space left"):
        run(plan(Worlds(count=1), ("graph",)), tmp_path)


def test_a_model_without_landmarks_is_a_reason(tmp_path: Path) -> None:
    run(plan(Worlds(count=1), ("landmark",), landmark_model="embedded"), tmp_path)
    assert all(line["skipped"].startswith("model: ") for line in lines_in(tmp_path))


def test_other_documents_under_the_same_ids_are_noticed(tmp_path: Path) -> None:
    run(plan(Worlds(count=1)), tmp_path)
    before = (tmp_path / PREDICTIONS).read_bytes()
    with pytest.raises(InputError, match="other documents"):
        run(plan(Worlds(count=1, words=1)), tmp_path)
    assert (tmp_path / PREDICTIONS).read_bytes() == before


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    run(plan(Worlds(count=1), ("graph",)), tmp_path)
    for other in (plan(Worlds(count=1), ("block",)), plan(Worlds(count=1), ("graph",), max_new_tokens=1), plan(Worlds(count=2), ("graph",))):
        with pytest.raises(InputError, match="other settings"):
            run(other, tmp_path)


def test_an_empty_shard_is_nothing_to_ask(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to ask"):
        run(plan(Worlds(count=1), shard=(2, 2)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


FULL = """
    import resource, sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from runner_helpers import Worlds, plan
    from graphkv.errors import StoreError
    from graphkv_benchmarks.runner.run import run
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))  # the kernel refuses to make a file larger
    try:
        run(plan(), Path(sys.argv[1]))
    except StoreError as error:
        print(error)
"""


def test_a_disk_that_is_full_is_reported_with_the_ids_and_nothing_is_half(whole: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(FULL.format(tests=str(ROOT / "tests"))))
    done = subprocess.run([sys.executable, str(script), str(tmp_path / "out")], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    kept = lines_in(tmp_path / "out")
    assert 0 < len(kept) < 24 and untimed(kept) == untimed(lines_in(whole))[: len(kept)]
    assert f"{24 - len(kept)} answers could not be written" in done.stdout and "2.1" in done.stdout and f"the {len(kept)} others are kept" in done.stdout
    run(plan(), tmp_path / "out")
    assert (tmp_path / "out" / METRICS).read_bytes() == (whole / METRICS).read_bytes()


def test_one_answer_that_cannot_be_written_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkv_benchmarks.runner import predictions

    append, calls = predictions.Predictions._append, [0]

    def full_for_a_while(self: predictions.Predictions, data: bytes) -> None:
        calls[0] += 1
        if 3 <= calls[0] < 6:
            raise OSError(28, "No space left on device")
        append(self, data)

    monkeypatch.setattr(predictions.Predictions, "_append", full_for_a_while)
    result = run(plan(Worlds(count=1)), tmp_path)
    assert len(lines_in(tmp_path)) == 8 and sum(cell["answered"] for cell in result["cells"]) == 8


def test_metrics_can_be_made_again_from_the_lines(whole: Path) -> None:
    before = (whole / METRICS).read_bytes()
    (whole / METRICS).unlink()
    finish(whole, Worlds())
    assert (whole / METRICS).read_bytes() == before


class _Mixed(Worlds):
    """A unit whose second case is broken."""

    def cases(self, unit: str) -> Iterator[Case | Broken]:
        first, *_ = super().cases(unit)
        yield first
        yield Broken(f"{unit}-b", "half of it")


def test_a_broken_case_beside_a_whole_one(tmp_path: Path) -> None:
    result = run(replace(plan(arms=("graph",)), task=_Mixed(count=1)), tmp_path)
    assert result["broken"][0]["id"] == "0-b" and result["cells"][0]["answered"] == 2


def test_what_a_unit_came_to_in_words() -> None:
    lines: list[Line] = [{"arm": "a", "score": 0.5}, {"arm": "a", "skipped": "x"}, {"broken": "1", "unit": "1", "reason": ""}]
    assert running.said(lines) == "a 0.5 of 1, 1 skipped, 1 broken" and running.said([]) == "was done"


def test_no_answers_at_all_because_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkv_benchmarks.runner import predictions

    def full(self: predictions.Predictions, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(predictions.Predictions, "_append", full)
    with pytest.raises(StoreError, match=r"8 answers .* \(No space left on device\): questions 0\.0, 0\.1"):
        run(plan(Worlds(count=1)), tmp_path)
