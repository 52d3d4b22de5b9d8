"""`graphkv bench landmark-index` with a tiny random model that has the landmark token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import landmark_engine, tiny_engine
from typer.testing import CliRunner

from graphkv import InputError, UnsupportedModelError
from graphkv.cli import app
from graphkv_benchmarks.landmark_index import lines, run_landmark_index


def test_searches_are_compared_with_torch() -> None:
    result = run_landmark_index(landmark_engine(), tokens=700, questions=2, k=3)
    kinds = result["kinds"]
    assert list(kinds) == ["torch", "flat", "hnsw"] and kinds["torch"]["recall"] == 1
    assert kinds["flat"]["recall"] == 1 and kinds["flat"]["same"] > 0.99 and 0.5 < kinds["hnsw"]["recall"] <= 1
    assert result["settings"]["blocks"] == 100 and result["settings"]["queries"] > 0 and list(result["layers"]) == ["1"]  # the first of two layers chooses nothing
    assert len(lines(result)) == 4


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="with k=4 there is nothing to choose"):
        run_landmark_index(landmark_engine(), tokens=50)
    with pytest.raises(InputError, match="tokens must be a whole number of at least 1"):
        run_landmark_index(landmark_engine(), tokens=0)
    with pytest.raises(UnsupportedModelError, match="was not trained with landmarks"):
        run_landmark_index(tiny_engine())


def test_the_command_writes_what_it_measured(tmp_path: Path) -> None:
    engine, out = landmark_engine(), tmp_path / "new" / "index.json"
    engine.model.model.save_pretrained(tmp_path / "model")
    engine.model.tokenizer.save_pretrained(tmp_path / "model")
    done = CliRunner().invoke(app, ["bench", "landmark-index", "--model", str(tmp_path / "model"), "--tokens", "300", "--questions", "1", "-k", "2", "--output", str(out)])
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()][1:] == ["torch", "flat", "hnsw"]
    assert set(json.loads(out.read_text())["kinds"]) == {"torch", "flat", "hnsw"}
