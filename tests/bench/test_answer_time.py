"""The time of a whole answer: what is timed is right first, and the command writes what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphkv import GraphKV, PromptTemplate
from graphkv.cli import app
from graphkv.errors import InputError
from graphkv_benchmarks import answer_time


@pytest.fixture(scope="module")
def embedded() -> GraphKV:
    return GraphKV.from_pretrained()


def test_every_way_is_timed_and_the_store_of_the_caller_is_used(embedded: GraphKV, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    ask = GraphKV.ask
    monkeypatch.setattr(GraphKV, "ask", lambda self, *a, **k: asked.append((answer := ask(self, *a, **k)).tokens_reused) or answer)
    result = answer_time.run_answer_time(embedded, documents=3, questions=2, repeats=1)
    assert set(result["ways"]) == {"encoded", "not_encoded", "transformers"} == set(answer_time.HOW) - {"seconds", "over_encoded"}
    assert all(0 < way["median"] <= way["largest"] for way in result["ways"].values())
    # Sequential first, then, over encoded documents and afresh, whose store has nothing to reuse.
    assert len(asked) == 6 and asked[1] > 0 and asked[2] == 0 and asked[4] > 0 and asked[5] == 0
    assert result["machine"]["cores"] and result["machine"]["dtype"] == "float32"


def test_an_unequal_answer_is_not_timed(embedded: GraphKV, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_time, "_plain", lambda *_: "something else")
    with pytest.raises(ArithmeticError, match="that of transformers 'something else'"):
        answer_time.run_answer_time(embedded, documents=3, questions=1, repeats=1)


def test_a_prompt_that_transformers_cannot_have_is_refused(embedded: GraphKV) -> None:
    custom = GraphKV(embedded.model, template=PromptTemplate("", "{title}: {text}\n", "{text}\n", "Q: {question}\nA:"))
    with pytest.raises(InputError, match="chat template that takes documents; this prompt comes from 'custom'"):
        answer_time.run_answer_time(custom)


def test_numbers_below_one_are_refused(embedded: GraphKV) -> None:
    with pytest.raises(InputError, match="documents"):
        answer_time.run_answer_time(embedded, documents=0)


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "time.json"
    run = CliRunner().invoke(app, ["bench", "answer-time", "--documents", "3", "--questions", "1", "--repeats", "1", "--output", str(out), "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(out.read_text()) == json.loads(run.stdout)
