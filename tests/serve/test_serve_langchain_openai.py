"""langchain-openai's ChatOpenAI pointed at the server: nothing of ours is installed at the client's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from graphkv.cli.demo import read_demo

GRAPH, QUESTIONS = read_demo()
PAPERS = [{"id": s.id, "title": s.title, "text": s.text, "sources": list(GRAPH.sources(s.id))} for s in GRAPH]
HOP = QUESTIONS[2]


@pytest.fixture
def chat(live_server: str) -> ChatOpenAI:
    settings: dict[str, Any] = {"base_url": f"{live_server}/v1", "api_key": "any", "model": "embedded", "max_tokens": 24, "max_retries": 0, "stream_usage": True}
    return ChatOpenAI(**settings, extra_body={"documents": PAPERS})


def test_invoke_and_what_was_reused(chat: ChatOpenAI) -> None:
    first = chat.invoke([HumanMessage(HOP["question"])])
    assert HOP["answer"] in str(first.content)
    again = chat.invoke([HumanMessage(QUESTIONS[0]["question"])])
    assert again.usage_metadata is not None
    assert again.usage_metadata["input_token_details"]["cache_read"] > 200
    assert again.usage_metadata["input_tokens"] > again.usage_metadata["input_token_details"]["cache_read"]
    assert again.response_metadata["model_name"] == "embedded" and again.response_metadata["finish_reason"] in ("stop", "length")


def test_stream(chat: ChatOpenAI) -> None:
    whole: AIMessageChunk | None = None
    for chunk in chat.stream(HOP["question"]):
        assert isinstance(chunk, AIMessageChunk)
        whole = chunk if whole is None else whole + chunk
    assert whole is not None and whole.content == chat.invoke(HOP["question"]).content
    assert whole.usage_metadata is not None and whole.usage_metadata["input_token_details"]["cache_read"] > 200


def test_a_chain_with_documents_of_its_own(chat: ChatOpenAI) -> None:
    bound = chat.bind(extra_body={"documents": PAPERS[::-1], "graph": {"layout": "block"}}, stop=["."])
    chain = ChatPromptTemplate.from_messages([("user", "{question}")]) | bound
    answers = chain.batch([{"question": q["question"]} for q in QUESTIONS[:2]])
    assert QUESTIONS[0]["answer"] in str(answers[0].content) and "." not in str(answers[0].content)


def test_async_and_system_messages(chat: ChatOpenAI) -> None:
    async def work() -> str:
        pieces = [str(c.content) async for c in chat.astream([SystemMessage("Be brief."), HumanMessage(HOP["question"])])]
        return "".join(pieces)

    assert asyncio.run(work()) == chat.invoke([SystemMessage("Be brief."), HumanMessage(HOP["question"])]).content
