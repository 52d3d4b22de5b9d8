"""What the verbs of question answering share on the command line: refusals before anything is written, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphkv.cli import app

RUN = ["bench", "rag", "--offline", "--rows", "2", "--arms", "graph", "--limit", "1"]


def test_a_run_and_the_same_again(tmp_path: Path) -> None:
    for _ in range(2):
        done = CliRunner().invoke(app, [*RUN, "--out", str(tmp_path / "out")])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout.splitlines()[-1]) == {"answered": 1, "skipped": 0, "broken": 0, "out": str(tmp_path / "out")}
    refused = CliRunner().invoke(app, ["bench", "topic", "--offline", "--arms", "graph", "--out", str(tmp_path / "out")])
    assert refused.exit_code == 2 and "holds a run of rag-nq, and this is topic-cora" in refused.output
    assert [path.name for path in (tmp_path / "out" / "data").iterdir()] == ["datahub"]


def test_nothing_answered_is_a_failure_that_says_why(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [*RUN, "--max-memory", "0.00001", "--out", str(tmp_path)])
    assert done.exit_code == 1 and "1 skipped, 0 broken (memory: keys and values of" in done.output and "report.md" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-memory", "nan"], "above 0"),
        (["--max-memory", "inf"], "above 0"),
        (["--max-memory", "0"], "above 0"),
        (["--arms", "grpah"], "unknown arm"),
        (["--arms", "block:m=3"], "block"),
        (["--shard", "3/2"], "I/N"),
        (["--prompt", "yours"], "paper or model"),
        (["--landmark-model", "embedded-landmark"], "arm landmark"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_written(tmp_path: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, [*RUN, *options, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and message in " ".join(done.output.split()), done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["rag", "topic", "arxiv-qa"])
def test_a_device_that_there_is_not(tmp_path: Path, verb: str) -> None:
    done = CliRunner().invoke(app, ["bench", verb, "--offline", "--arms", "graph", "--limit", "1", "--device", "tpu", "--out", str(tmp_path)])
    assert done.exit_code == 2 and "could not be loaded" in done.output


def test_the_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, [*RUN, "--out", str(tmp_path / "file")])
    assert done.exit_code == 2 and "is a file" in done.output
