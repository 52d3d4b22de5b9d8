"""Haystack: a pipeline of its own parts gives the demo's answers, streams them, counts tokens, and is saved and loaded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.components.builders import AnswerBuilder
from haystack.components.generators.utils import print_streaming_chunk
from haystack.components.retrievers import InMemoryBM25Retriever
from haystack.dataclasses import ChatMessage, StreamingChunk
from haystack.document_stores.in_memory import InMemoryDocumentStore

from graphkv import DocumentError, InputError, Scheduler
from graphkv.adapters.haystack import GraphKVChatGenerator


@pytest.fixture
def documents(papers: list[dict[str, Any]]) -> list[Document]:
    return [Document(id=p["id"], content=p["text"], meta={"title": p["title"], "cites": p["sources"]}) for p in papers]


def test_a_pipeline_gives_the_demos_answers(documents: list[Document], asked: list[tuple[str, str]]) -> None:
    store = InMemoryDocumentStore()
    store.write_documents(documents)
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=8))
    pipeline.add_component("llm", GraphKVChatGenerator(generation_kwargs={"max_new_tokens": 16}))
    pipeline.add_component("answers", AnswerBuilder())
    pipeline.connect("retriever.documents", "llm.documents")
    pipeline.connect("retriever.documents", "answers.documents")
    pipeline.connect("llm.replies", "answers.replies")

    def inputs(question: str) -> dict[str, Any]:
        return {"retriever": {"query": question}, "llm": {"messages": question}, "answers": {"query": question}}

    for question, expected in asked:
        answer = pipeline.run(inputs(question))["answers"]["answers"][0]
        assert answer.data == expected and len(answer.documents) > 1
        assert answer.meta["usage"]["prompt_tokens"] > 100 and answer.meta["finish_reason"] == "stop"
    assert asyncio.run(pipeline.run_async(inputs(asked[0][0])))["answers"]["answers"][0].data == asked[0][1]
    pipeline.close()
    assert pipeline.get_component("llm").scheduler is None


def test_replies_say_where_they_come_from(scheduler: Scheduler, documents: list[Document], asked: list[tuple[str, str]]) -> None:
    generator = GraphKVChatGenerator(scheduler=scheduler)
    question, expected = asked[0]
    first, second = (generator.run(question, documents)["replies"][0] for _ in range(2))
    assert first.text == second.text == expected
    assert first.meta["usage"]["cached_tokens"] == 0 and second.meta["usage"]["cached_tokens"] > 400
    citation = first.meta["citations"][0]
    assert first.text[citation["start"] : citation["end"]] == citation["text"] and citation["segments"][0][0] == "paper6"
    generator.close()  # a scheduler that was given is left to whoever gave it
    assert generator.scheduler is scheduler and generator.run(question, documents)["replies"][0].text == expected


def test_it_streams(scheduler: Scheduler, documents: list[Document], asked: list[tuple[str, str]]) -> None:
    question, expected = asked[2]
    chunks: list[StreamingChunk] = []
    GraphKVChatGenerator(scheduler=scheduler).run([ChatMessage.from_user(question)], documents, streaming_callback=chunks.append)
    assert "".join(chunk.content for chunk in chunks) == expected and len(chunks) > 1
    assert any(chunk.meta["used"].get("paper3", 0) > 0.2 for chunk in chunks)


def test_messages_and_settings(scheduler: Scheduler, documents: list[Document], asked: list[tuple[str, str]]) -> None:
    generator = GraphKVChatGenerator(scheduler=scheduler, generation_kwargs={"max_new_tokens": 1})
    question = asked[2][0]
    assert generator.run(question, documents)["replies"][0].meta["usage"]["completion_tokens"] == 1
    assert generator.run(question, documents, generation_kwargs={"max_new_tokens": 16, "stop": ["Sintil"]})["replies"][0].text == "Jane"
    assert generator.run("Hello!")["replies"][0].meta["usage"]["prompt_tokens"] < 50  # without documents it just talks
    said = [ChatMessage.from_user(question), ChatMessage.from_assistant("Jane Sintil"), ChatMessage.from_user("Which lab does Delta Thunder come from?")]
    assert generator.run(said, documents)["replies"][0].meta["usage"]["prompt_tokens"] > generator.run(question, documents)["replies"][0].meta["usage"]["prompt_tokens"] + 10


def test_what_is_refused(scheduler: Scheduler, documents: list[Document]) -> None:
    generator = GraphKVChatGenerator(scheduler=scheduler)
    with pytest.raises(InputError, match="unknown setting 'max_tokens'"):
        generator.run("Q", documents, generation_kwargs={"max_tokens": 3})
    with pytest.raises(DocumentError, match="'picture' has no text"):
        generator.run("Q", [Document(id="picture")])
    with pytest.raises(InputError, match="at least one message"):
        generator.run([], documents)
    with pytest.raises(InputError, match="cannot be saved"):
        generator.to_dict()


def test_saved_and_loaded(documents: list[Document], asked: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = Pipeline()
    settings = {"store": "memory", "layout": "block", "edges": [("cites", "$id"), ("see", "name")], "generation_kwargs": {"max_new_tokens": 16}}
    pipeline.add_component("llm", GraphKVChatGenerator(**settings, streaming_callback=print_streaming_chunk))
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=["graphkv.adapters.haystack"])
    component = loaded.get_component("llm")
    assert {name: getattr(component, name) for name in settings} == settings
    assert component.scheduler is None  # no model is loaded before it is needed
    question, expected = asked[0]
    assert loaded.run({"llm": {"messages": question, "documents": documents}})["llm"]["replies"][0].text == expected
    assert expected in capsys.readouterr().out
    loaded.close()
