"""`pipeline("graphkv-text-generation")`: the engine's own answers, batches, parameters, and what is refused."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from helpers import byte_tokenizer, tiny_model
from transformers import GenerationConfig, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

import graphkv
from graphkv import GraphKV, InputError, SegmentGraph
from graphkv.adapters import huggingface
from graphkv.adapters.huggingface import TASK, GraphKVPipeline, register

DOCUMENTS = [{"id": "a", "title": "A", "text": "We build on earlier work.", "sources": ["b"]}, {"id": "b", "text": "The first paper."}]
OTHERS = [{"id": "c", "text": "Something else."}]


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    return tiny_model(), byte_tokenizer()


@pytest.fixture
def pipe(pair: tuple[Any, Any]) -> Any:
    register()
    return pipeline(TASK, model=pair[0], tokenizer=pair[1], device="cpu", store="memory", max_new_tokens=6)


def test_the_embedded_model_answers_without_any_setting() -> None:
    """As a user would: register, make the pipeline, ask the questions of the demo."""
    register()
    folder = Path(graphkv.__file__).parent / "demo"
    papers = [json.loads(line) for line in (folder / "papers.jsonl").read_text().splitlines()]
    questions = json.loads((folder / "questions.json").read_text())
    pipe = pipeline("graphkv-text-generation")
    found = pipe([{"documents": papers, "question": row["question"]} for row in questions])
    assert [row["generated_text"] for row in found] == [row["answer"] for row in questions]
    assert found[0]["tokens_reused"] == 0 and all(row["tokens_reused"] > 400 for row in found[1:])


def test_it_says_what_the_engine_says(pipe: Any, pair: tuple[Any, Any]) -> None:
    """1. The pipeline. 2. The engine over the same model with the same arguments."""
    engine = GraphKV.from_pretrained(pair, store="memory")
    for question in ("What is it?", "Who?"):
        found, answer = pipe({"documents": DOCUMENTS, "question": question}), engine.ask(DOCUMENTS, question, max_new_tokens=6)
        assert found["generated_text"] == answer.text and found["finish_reason"] == answer.finish_reason
        assert [(s["id"], s["reused"], s["reads"]) for s in found["segments"]] == [(s.id, s.reused, s.reads) for s in answer.segments]
        counts = ("tokens_reused", "tokens_computed", "tokens_generated")
        assert [found[name] for name in counts] == [getattr(answer, name) for name in counts]


def test_rows_lists_and_batches_give_the_same_answers(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = ["One?", "Another?", "And a longer one, with more words?"]
    rows = [{"documents": DOCUMENTS, "question": q} for q in questions] + [{"documents": OTHERS, "question": "One?"}]
    single = [pipe(row)["generated_text"] for row in rows]
    assert [row["generated_text"] for row in pipe(rows)] == single
    assert [row["generated_text"] for row in pipe(row for row in rows)] == single
    assert [row["generated_text"] for row in pipe({"documents": DOCUMENTS, "question": questions})] == single[:3]
    graph = SegmentGraph.from_documents(DOCUMENTS)
    assert pipe({"documents": graph, "question": "One?"})["generated_text"] == single[0]

    asked: list[int] = []
    ask_many = GraphKV.ask_many
    monkeypatch.setattr(GraphKV, "ask_many", lambda self, graph, questions, **options: asked.append(len(questions)) or ask_many(self, graph, questions, **options))
    found = pipe([*rows, {"documents": OTHERS, "question": questions[:2]}], batch_size=5)
    assert [row["generated_text"] for row in found[:4]] == single and len(found[4]) == 2
    assert asked == [3, 3]  # neighbours over the same documents are one batch


def test_parameters_reach_the_engine(pipe: Any, pair: tuple[Any, Any]) -> None:
    """Those of a call stand above those of the pipeline; what generate() takes by name stands above a generation_config."""
    engine, row = GraphKV.from_pretrained(pair, store="memory"), {"documents": DOCUMENTS, "question": "What is it?"}
    assert pipe(row)["tokens_generated"] == 6 and pipe(row, max_new_tokens=3)["tokens_generated"] == 3
    assert pipe(row, layout="ape", options={"temperature": 0.2})["generated_text"] == engine.ask(DOCUMENTS, "What is it?", layout="ape", temperature=0.2, max_new_tokens=6).text
    assert pipe(row, strategy="full_context")["generated_text"] == engine.ask(DOCUMENTS, "What is it?", strategy="full_context", max_new_tokens=6).text
    usual = engine.ask(DOCUMENTS, "What is it?", max_new_tokens=6)
    config = GenerationConfig(suppress_tokens=list(usual.token_ids))
    expected = engine.ask(DOCUMENTS, "What is it?", generation_config=config, max_new_tokens=6).text
    assert pipe(row, generation_config=config)["generated_text"] == expected != usual.text
    assert pipe(row, suppress_tokens=list(usual.token_ids))["generated_text"] == expected
    assert pipe(row, generation_config=GenerationConfig(suppress_tokens=[1]), suppress_tokens=list(usual.token_ids))["generated_text"] == expected


@pytest.mark.parametrize(
    ("inputs", "parameters", "said"),
    [
        ("What is it?", {}, "expected {'documents': ..., 'question': ...}, got str"),
        ({"documents": DOCUMENTS}, {}, "got the keys ['documents']"),
        ({"documents": DOCUMENTS, "question": "Q", "context": "x"}, {}, "context"),
        ({"documents": DOCUMENTS, "question": ""}, {}, "the question is empty"),
        ({"documents": [], "question": "Q"}, {}, "no segments"),
        ({"documents": DOCUMENTS, "question": "Q"}, {"max_tokens": 3}, "unknown parameter 'max_tokens'"),
        ({"documents": DOCUMENTS, "question": "Q"}, {"num_beams": 4}, "num_beams"),
        ({"documents": DOCUMENTS, "question": "Q"}, {"layout": "grpah"}, "unknown layout 'grpah'"),
    ],
)
def test_what_is_refused(pipe: Any, inputs: Any, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        pipe(inputs, **parameters)
    assert said in str(error.value)


def test_a_saved_pipeline_is_a_plain_model(pipe: Any, tmp_path: Path) -> None:
    row = {"documents": DOCUMENTS, "question": "What is it?"}
    pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py"))
    assert pipeline(TASK, model=str(tmp_path), device="cpu", max_new_tokens=6)(row)["generated_text"] == pipe(row)["generated_text"]


def test_registered_by_a_call_and_not_by_an_import(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delitem(PIPELINE_REGISTRY.supported_tasks, TASK, raising=False)
    runpy.run_path(huggingface.__file__)
    assert TASK not in PIPELINE_REGISTRY.get_supported_tasks()
    register()
    register()
    assert not caplog.records  # transformers warns when a task is registered twice
    assert PIPELINE_REGISTRY.check_task(TASK)[1]["impl"] is GraphKVPipeline
