"""The folder of a run, and when two runs are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graphkv.errors import InputError
from graphkv_benchmarks.runner.folder import CONFIG, decisive, differing, open_folder, read_config

CONFIGURED: dict[str, Any] = {
    "task": {"kind": "rag", "set": "nq", "data": "/a"},
    "arms": [{"name": "graph", "strategy": "graph", "options": {"layout": "graph"}, "about": "x", "query_aware": False}],
    "weights": "w",
    "dtype": "float32",
    "prompt": {"prefix": "<|user|>\n", "question": "é: {question}"},
    "limit": None,
    "versions": {"torch": "2"},
    "shard": "1/1",
    "machine": {"cpu": "one"},
}


def test_a_config_comes_back_as_it_was(tmp_path: Path) -> None:
    open_folder(tmp_path / "deep" / "run", CONFIGURED)
    assert read_config(tmp_path / "deep" / "run") == CONFIGURED


def test_the_place_of_the_data_and_the_machine_decide_nothing() -> None:
    elsewhere = {**CONFIGURED, "task": {**CONFIGURED["task"], "data": "/b"}, "machine": {"cpu": "another"}, "shard": "2/3"}
    assert differing(CONFIGURED, elsewhere) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("task", {"kind": "rag", "set": "tqa"}), ("weights", "v"), ("dtype", "bfloat16"), ("prompt", {}), ("limit", 3), ("arms", []), ("versions", {}), ("max_new_tokens", 5), ("max_memory", 7), ("max_segment_tokens", 9)],
)
def test_whatever_decides_over_a_number_is_noticed(tmp_path: Path, key: str, value: object) -> None:
    open_folder(tmp_path, CONFIGURED)
    before = (tmp_path / CONFIG).read_bytes()
    with pytest.raises(InputError, match=key):
        open_folder(tmp_path, {**CONFIGURED, key: value})
    assert (tmp_path / CONFIG).read_bytes() == before


def test_another_shard_is_another_run(tmp_path: Path) -> None:
    open_folder(tmp_path, {**CONFIGURED, "shard": "1/2"})
    with pytest.raises(InputError, match="shard"):
        open_folder(tmp_path, {**CONFIGURED, "shard": "2/2"})


def test_the_same_run_again_keeps_its_config(tmp_path: Path) -> None:
    open_folder(tmp_path, CONFIGURED)
    open_folder(tmp_path, {**CONFIGURED, "machine": {"cpu": "another"}})
    assert read_config(tmp_path)["machine"] == {"cpu": "one"}


def test_folders_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the folder of a run"):
        read_config(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        open_folder(tmp_path / "file", CONFIGURED)
    (tmp_path / "predictions.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="without"):
        open_folder(tmp_path, CONFIGURED)


@pytest.mark.parametrize("text", ["a: [", "just words", "task: 3\narms: []", "task: {}\narms: 1", "!!python/object/apply:os.system [echo]"])
def test_a_config_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(InputError, match=CONFIG):
        read_config(tmp_path)


def test_decisive_of_an_empty_config_is_no_error() -> None:
    assert decisive({})["arms"] == []
