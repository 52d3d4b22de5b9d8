"""The benchmarks of the store: codecs, and a store with many blocks; their commands write what they measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphkv import GraphKV, InputError
from graphkv.cli import app
from graphkv_benchmarks.codecs import run_codecs
from graphkv_benchmarks.store_size import run_store_size


@pytest.fixture(scope="module")
def embedded() -> GraphKV:
    return GraphKV.from_pretrained()


def test_codecs_are_compared_with_exact_on_the_same_questions(embedded: GraphKV) -> None:
    result = run_codecs(embedded, documents=4, questions=15, codecs=("int8", "int4"))
    rows = result["codecs"]
    assert list(rows) == ["exact", "int8", "int4"] and result["settings"]["worlds"] == 2
    assert rows["exact"]["same_answer"] == 1.0 == rows["exact"]["top1"] and rows["exact"]["logits_largest"] == 0
    assert rows["exact"]["difference"][0] == 0 and rows["exact"]["low"] <= rows["exact"]["exact_match"] <= rows["exact"]["high"]
    assert 0 < rows["int8"]["logits_median"] < rows["int4"]["logits_median"] and rows["int8"]["logits_median"] <= rows["int8"]["logits_largest"]
    with pytest.raises(InputError, match="unknown codec 'int3'"):
        run_codecs(embedded, questions=1, codecs=("int3",))


def test_the_command_for_codecs(tmp_path: Path) -> None:
    out = tmp_path / "codecs.json"
    done = CliRunner().invoke(app, ["bench", "codecs", "--questions", "2", "--documents", "3", "--output", str(out)])
    assert done.exit_code == 0 and [line.split()[0] for line in done.stdout.splitlines()] == ["codec", "exact", "int8", "fp8", "int4"], done.output
    assert set(json.loads(out.read_text())["codecs"]) == {"exact", "int8", "fp8", "int4"}


def test_a_store_needs_a_block(embedded: GraphKV) -> None:
    with pytest.raises(InputError, match="segments must be a whole number"):
        run_store_size(embedded, segments=0)


def test_the_command_for_many_blocks(tmp_path: Path) -> None:
    out = tmp_path / "size.json"
    done = CliRunner().invoke(app, ["bench", "store-size", "--segments", "20", "--repeats", "1", "--output", str(out), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout) == json.loads(out.read_text()), done.output
    seconds = json.loads(done.stdout)["seconds"]
    assert set(seconds) == {"ls_first", "ls_again", "ls_interpreter", "start", "hit", "miss"} and all(s > 0 for s in seconds.values())
