"""`graphkv heads`: finds, shows and saves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from graphkv import GraphKV
from graphkv.cli import app
from graphkv.model import EMBEDDED
from graphkv_retrieval.head_file import FILE, saved_heads

SMALL = ["--needles", "2", "--length", "200"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["heads", *arguments])


def test_a_table_and_a_file_beside_the_model(model: str) -> None:
    done = run(model, *SMALL, "--top", "1", "--window", "256", "--top-tokens", "32")
    assert done.exit_code == 0, done.output
    first, header, *_ = done.stdout.splitlines()
    assert "of 2 needles answered" in first and header.split() == ["layer", "head", "copy", "question", "last", "margin"]
    assert "warning: no head finds and copies at least 0.8 of the time" in done.stderr  # its weights are random
    assert "best with" in done.stdout and str(Path(model) / FILE) in done.stdout.replace("\n", "")
    saved = saved_heads(GraphKV.from_pretrained(model).model)
    assert saved is not None and len(saved.heads) == 1 and (saved.window, saved.top_tokens) == (256, 32)
    (Path(model) / FILE).unlink()


def test_json_and_only_looking(model: str, tmp_path: Path) -> None:
    hay = tmp_path / "hay.txt"
    hay.write_text("My own words. Some more of them. And these.")
    done = run(model, *SMALL, "--text", str(hay), "--no-save", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["needles"] == 2 and told["saved"] is None and len(told["copy"]) == len(told["last"]) == 2
    assert 1 <= len(told["heads"]) <= 2 and told["rows"] in ("question", "last")
    assert not (Path(model) / FILE).exists()


def test_the_embedded_model_has_its_file() -> None:
    assert (EMBEDDED / FILE).is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--length", "9000"], "more than half of the model's window"),
        (["--text", "no/such/file"], "cannot be read"),
        (["--text", "EMPTY"], "is empty"),
    ],
)
def test_errors_are_one_line(model: str, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    done = run(model, *[str(tmp_path / "empty.txt") if a == "EMPTY" else a for a in arguments])
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1
