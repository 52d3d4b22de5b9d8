"""The hash of a prompt: nothing that the model is shown can change without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graphkv import GraphKV, SegmentGraph
from graphkv.prompt import PromptTemplate
from graphkv_benchmarks.runner.answering import prompt_hash
from graphkv_benchmarks.runner.case import Question


def test_everything_that_the_model_is_shown_is_in_the_prompts_hash() -> None:
    model = GraphKV.from_pretrained().model
    template = PromptTemplate("P", "T {title} {text}", "{text}", "Q {question}")
    documents = [{"id": "a", "text": "x", "title": "t", "score": 1.0}, {"id": "b", "text": "y", "sources": ["a"], "score": 2.0}]
    question = Question("1", "why", ("so",))

    def hashed(template: PromptTemplate = template, documents: Any = documents, text: str = "why") -> str:
        return prompt_hash(GraphKV(model, template=template), SegmentGraph.from_documents(documents), replace(question, text=text))

    first, second = documents
    others = [
        hashed(replace(template, prefix="R")),
        hashed(replace(template, document="U {title} {text}")),
        hashed(replace(template, untitled="V {text}")),
        hashed(replace(template, question="W {question}")),
        hashed(text="how"),
        hashed(documents=[first, {**second, "sources": []}]),
        hashed(documents=[{**first, "text": "z"}, second]),
        hashed(documents=[{**first, "title": "s"}, second]),
        hashed(documents=[{**first, "score": 3.0}, second]),
        hashed(documents=[second, first]),
    ]
    assert len({hashed(), *others}) == 1 + len(others) and hashed() == hashed()
