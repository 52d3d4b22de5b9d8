"""The official client against a live server: plain, streaming, async, mistakes, a full queue, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from helpers import tiny_engine
from openai import AsyncOpenAI, OpenAI
from serve_helpers import chat, served, wait_until

from graphkv import GraphKV
from graphkv.cli.demo import read_demo
from graphkv.errors import CancelledError
from graphkv.scheduler import Piece, Question, Scheduler, Ticket
from graphkv.serve import streaming
from graphkv.serve.settings import Settings

GRAPH, QUESTIONS = read_demo()
PAPERS = [{"id": s.id, "title": s.title, "text": s.text, "sources": list(GRAPH.sources(s.id))} for s in GRAPH]
HOP = QUESTIONS[2]  # only the edge tells which paper is meant


def client_of(address: str, key: str = "any") -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)


def ask(question: str, **more: Any) -> dict[str, Any]:
    """Arguments of a question about the papers."""
    return {"model": "embedded", "messages": [{"role": "user", "content": question}], "extra_body": {"documents": PAPERS, **more}, "max_tokens": 24}


@pytest.fixture
def client(live_server: str) -> Iterator[OpenAI]:
    with client_of(live_server) as client:
        yield client


def test_plain(client: OpenAI, embedded: GraphKV) -> None:
    reply = client.chat.completions.create(**ask(HOP["question"]))
    wanted = embedded.ask(GRAPH, HOP["question"], max_new_tokens=24)
    assert (reply.object, reply.model, reply.id[:9]) == ("chat.completion", "embedded", "chatcmpl-")
    (choice,) = reply.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", wanted.text, wanted.finish_reason)
    assert HOP["answer"] in wanted.text
    usage = reply.usage
    assert usage is not None and usage.prompt_tokens == wanted.tokens_reused + wanted.tokens_computed
    assert usage.completion_tokens == wanted.tokens_generated and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens

    again = client.chat.completions.create(**ask(QUESTIONS[0]["question"])).usage
    assert again is not None and again.prompt_tokens_details is not None
    cached = again.prompt_tokens_details.cached_tokens
    assert cached and cached > 200 and again.graphkv == {"exact": cached, "composed": 0, "computed": again.prompt_tokens - cached}  # type: ignore[attr-defined]
    shuffled = ask(QUESTIONS[0]["question"]) | {"extra_body": {"documents": PAPERS[::-1]}}
    assert client.chat.completions.create(**shuffled).usage == again  # in another order they are the same context


def test_citations_in_coheres_form(client: OpenAI) -> None:
    message = client.chat.completions.create(**ask(HOP["question"])).choices[0].message
    citations: list[dict[str, Any]] = message.citations  # type: ignore[attr-defined]
    assert [(c["text"], [s["id"] for s in c["sources"]]) for c in citations] == [("Jane Sintil", ["paper3"])]
    for citation in citations:
        assert message.content and message.content[citation["start"] : citation["end"]] == citation["text"] and citation["type"] == "TEXT_CONTENT"
        for source in citation["sources"]:
            paper = GRAPH[source["id"]]
            assert source["type"] == "document" and source["document"] == {"id": paper.id, "title": paper.title, "text": paper.text}
            assert 0 < source["score"] <= 1
    off = client.chat.completions.create(**ask(HOP["question"], citation_options={"mode": "off"}))
    assert not hasattr(off.choices[0].message, "citations")


def test_the_same_in_pieces(client: OpenAI) -> None:
    whole = client.chat.completions.create(**ask(HOP["question"]))
    chunks = list(client.chat.completions.create(**ask(HOP["question"], graph={"trace": True}), stream=True, stream_options={"include_usage": True}))
    first, *middle, last, usage = chunks
    assert len({(c.id, c.model, c.object, c.created) for c in chunks}) == 1 and first.object == "chat.completion.chunk"
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "".join(c.choices[0].delta.content or "" for c in middle) == whole.choices[0].message.content
    assert all(c.choices[0].finish_reason is None for c in (first, *middle))
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.choices[0].delta.citations == whole.choices[0].message.citations  # type: ignore[attr-defined]
    assert usage.choices == [] and usage.usage == client.chat.completions.create(**ask(HOP["question"])).usage
    looks = [c.graphkv["used"] for c in middle]  # type: ignore[attr-defined]
    assert any(looks) and all(set(used) <= set(GRAPH.ids) and 0 <= sum(used.values()) <= 1.001 for used in looks)
    assert last.graphkv["layout"] == "graph" and set(last.graphkv["reused"]) == set(GRAPH.ids)  # type: ignore[attr-defined]

    plain = list(client.chat.completions.create(**ask(HOP["question"]), stream=True))
    assert all(c.usage is None and len(c.choices) == 1 and c.choices[0].delta.content != "" for c in plain[1:])


def test_events_on_the_wire(live_server: str) -> None:
    with httpx.stream("POST", f"{live_server}/v1/chat/completions", json=chat(stream=True, max_tokens=4)) as response:
        assert response.headers["content-type"].startswith("text/event-stream") and response.headers["cache-control"] == "no-cache"
        text = b"".join(response.iter_raw()).decode("ascii")
    events = text.removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") and "\n" not in event for event in events) and events[-1] == "data: [DONE]"
    assert [json.loads(event[6:])["object"] for event in events[:-1]] == ["chat.completion.chunk"] * (len(events) - 1)


def test_async(live_server: str) -> None:
    async def work() -> None:
        async with AsyncOpenAI(base_url=f"{live_server}/v1", api_key="any", max_retries=0) as client:
            replies = await asyncio.gather(*(client.chat.completions.create(**ask(q["question"])) for q in QUESTIONS))
            for question, reply in zip(QUESTIONS, replies, strict=True):
                stream = await client.chat.completions.create(**ask(question["question"]), stream=True)
                assert "".join([c.choices[0].delta.content or "" async for c in stream]) == reply.choices[0].message.content
            assert [m.id async for m in client.models.list()] == ["embedded"]

    asyncio.run(work())


def test_conversations_and_sampling(client: OpenAI) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello."}]
    asked = ask("") | {"messages": [*turns, {"role": "user", "content": [{"type": "text", "text": QUESTIONS[0]["question"]}]}]}
    assert client.chat.completions.create(**asked).choices[0].message.content
    bare = client.chat.completions.create(model="embedded", messages=[{"role": "user", "content": "Who?"}], max_tokens=4)
    assert bare.usage and bare.usage.prompt_tokens < 30 and not hasattr(bare.choices[0].message, "citations")

    def drawn(seed: int) -> str | None:
        return client.chat.completions.create(**ask(HOP["question"]), temperature=2.0, top_p=0.95, seed=seed).choices[0].message.content

    assert drawn(1) == drawn(1) and len({drawn(seed) for seed in range(6)}) > 1
    whole = client.chat.completions.create(**ask(HOP["question"])).choices[0].message.content or ""
    cut = client.chat.completions.create(**ask(HOP["question"]), stop=[whole[3:6]]).choices[0]
    assert (cut.message.content, cut.finish_reason) == (whole[:3], "stop")
    short = client.chat.completions.create(**ask(HOP["question"]) | {"max_tokens": 1})
    assert short.usage and short.usage.completion_tokens == 1 and short.choices[0].finish_reason == "length"


def test_documents_as_anthropic_sends_them(client: OpenAI) -> None:
    blocks: list[Any] = [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": p["text"]}, "title": p["title"]} for p in PAPERS]
    reply = client.chat.completions.create(
        model="embedded", messages=[{"role": "user", "content": [*blocks, {"type": "text", "text": QUESTIONS[0]["question"]}]}], max_tokens=24
    )
    assert QUESTIONS[0]["answer"] in (reply.choices[0].message.content or "")


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no messages": ({"messages": []}, "messages", "at least 1 item"),
    "a strange role": ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "x"}]}, "role", "'system', 'developer', 'user' or 'assistant'"),
    "an image": ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content[0]", "only text is read"),
    "assistant last": ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "", "the last message to be the user's"),
    "temperature": ({"temperature": 3}, "temperature", "less than or equal to 2"),
    "a number as text": ({"temperature": "0.5"}, "temperature", "valid number"),
    "max_tokens": ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    "many tokens": ({"max_tokens": 5000}, "max_tokens", "at most 4,096"),
    "n": ({"n": 2}, "n", "one answer is given at a time"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "not supported"),
    "json": ({"response_format": {"type": "json_object"}}, "response_format", "plain text"),
    "logprobs": ({"logprobs": True}, "logprobs", "/v1/score"),
    "penalties": ({"presence_penalty": 0.5}, "presence_penalty", "not supported"),
    "many stops": ({"stop": ["a"] * 17}, "stop", "at most 16 items"),
    "an empty stop": ({"stop": [""]}, "stop", "at least 1 character"),
    "a document": ({"extra_body": {"documents": [{"text": "x"}, {"txt": "y"}]}}, "documents[1]", "expected text"),
    "a graph's typo": ({"extra_body": {"documents": ["x"], "graph": {"edge": []}}}, "graph.edge", "not permitted"),
    "a layout": ({"extra_body": {"documents": ["x"], "graph": {"layout": "grpah"}}}, "", "unknown layout 'grpah'; valid: ape, block"),
    "a cycle": (
        {"extra_body": {"documents": ["x", "y"], "graph": {"edges": [["doc_0", "doc_1"], ["doc_1", "doc_0"]], "layout": {"name": "graph", "rounds": "topological"}}}},
        "",
        "doc_0 → doc_1 → doc_0",
    ),
    "length": ({"extra_body": {"documents": ["word " * 20_000]}}, "", "window"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_requests_are_refused_before_anything_is_sent(client: OpenAI, what: str, stream: bool) -> None:
    changed, place, said = BAD[what]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "embedded", "messages": [{"role": "user", "content": "Who?"}], **changed}, stream=stream)
    body: Any = caught.value.body
    assert said in body["message"] and "\n" not in body["message"] and place in (body["param"] or "")
    assert body["type"] == "invalid_request_error"
    if what == "length":
        assert caught.value.code == "context_length_exceeded"


def test_other_mistakes(client: OpenAI, key_server: str) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4o'; the one that is served is 'embedded'"):
        client.chat.completions.create(**ask("Who?") | {"model": "gpt-4o"})
    with pytest.raises(openai.NotFoundError, match="there is no document 'x'"):
        client.chat.completions.create(**ask("Who?", graph={"documents": ["x"]}))
    assert client.models.retrieve("embedded").max_model_len == 8192  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another/model")
    with client_of(key_server, "wrong-key-of-mine") as wrong, pytest.raises(openai.AuthenticationError, match="not valid"):
        wrong.chat.completions.create(**ask("Who?"))
    for body in (b"{", b"[]", b'"x"', b"null", b""):
        response = httpx.post(str(client.base_url) + "chat/completions", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400 and set(response.json()["error"]) == {"message", "type", "code", "param"}


class Watched(Scheduler):
    """A scheduler that remembers what was handed in."""

    def submit(self, question: Question, listener: Callable[[Piece], None] | None = None) -> Ticket:
        ticket = super().submit(question, listener)
        self.tickets = [*getattr(self, "tickets", []), ticket]
        return ticket


@pytest.fixture(scope="module")
def endless() -> Iterator[tuple[Watched, str]]:
    """A server whose model does not stop by itself, with room for one answer and one that waits."""
    with Watched(tiny_engine(), max_waiting=1, max_rows=1) as scheduler, served(scheduler, Settings(model_name="tiny")) as address:
        yield scheduler, address


LONG: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 4000, "extra_body": {"documents": ["Some text."]}}


def idle(scheduler: Scheduler) -> bool:
    stats = scheduler.stats()
    return stats.waiting == stats.running == 0


def test_a_client_that_goes_away_in_mid_stream(endless: tuple[Watched, str]) -> None:
    scheduler, address = endless
    with client_of(address) as client, client.chat.completions.create(**LONG, stream=True) as stream:
        for number, _ in enumerate(stream):
            if number == 5:
                break
    ticket = scheduler.tickets[-1]
    wait_until(lambda: idle(scheduler), 10)
    with pytest.raises(CancelledError):
        ticket.future.result(timeout=1)


def test_a_client_that_goes_away_while_it_waits(endless: tuple[Watched, str]) -> None:
    scheduler, address = endless
    with client_of(address) as client, pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(**LONG)
    ticket = scheduler.tickets[-1]
    wait_until(lambda: idle(scheduler), 10)
    with pytest.raises(CancelledError):
        ticket.future.result(timeout=1)


def test_a_full_queue_is_429_with_retry_after(endless: tuple[Watched, str]) -> None:
    scheduler, address = endless
    with client_of(address) as client:
        running = client.chat.completions.create(**LONG, stream=True)
        next(iter(running))
        wait_until(lambda: scheduler.stats().running == 1)
        waiting = client.chat.completions.create(**LONG, stream=True)
        wait_until(lambda: scheduler.stats().waiting == 1)
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError, match="the queue is full") as caught:
                client.chat.completions.create(**LONG, stream=stream)
            assert int(caught.value.response.headers["Retry-After"]) >= 1 and caught.value.code == "busy"
        with pytest.raises(openai.RateLimitError):
            client.post("/score", body={"question": "x", "documents": ["y"], "continuations": ["z"]}, cast_to=object)
        with pytest.raises(openai.RateLimitError):
            client.put("/documents", body={"documents": [{"id": "a", "text": "x"}], "encode": True}, cast_to=object)
        assert client.get("/documents", cast_to=object)["data"] == []  # type: ignore[index] # what could not be encoded was not kept
        running.close()
        assert next(iter(waiting)).choices  # its turn has come
        waiting.close()
    wait_until(lambda: idle(scheduler), 10)


def test_pings_do_not_disturb(endless: tuple[Watched, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PING_SECONDS", 0.02)
    _, address = endless
    short = LONG | {"max_tokens": 100}
    with httpx.stream("POST", f"{address}/v1/chat/completions", json={"stream": True, **short["extra_body"], **{k: v for k, v in short.items() if k != "extra_body"}}) as response:
        assert b"\n: ping" in b"".join(response.iter_raw())
    with client_of(address) as client:
        chunks = list(client.chat.completions.create(**short, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == client.chat.completions.create(**short).choices[0].message.content


def test_time_runs_out() -> None:
    settings = Settings(model_name="tiny", request_seconds=0.4)
    with Watched(tiny_engine()) as scheduler, served(scheduler, settings) as address, client_of(address) as client:
        with pytest.raises(openai.InternalServerError, match="took too long") as caught:
            client.chat.completions.create(**LONG)
        assert caught.value.status_code == 504
        wait_until(lambda: idle(scheduler), 10)
        got: list[Any] = []
        with pytest.raises(openai.APIError, match="took too long"):
            got.extend(client.chat.completions.create(**LONG, stream=True))
        wait_until(lambda: idle(scheduler), 10)
        assert isinstance(scheduler.tickets[-1].future.exception(), CancelledError)


def test_a_failure_in_mid_stream_is_an_event(endless: tuple[Watched, str]) -> None:
    scheduler, address = endless
    with client_of(address) as client:
        stream = client.chat.completions.create(**LONG, stream=True)
        next(stream)
        threading.Timer(0.2, scheduler.tickets[-1].cancel).start()
        begun = time.monotonic()
        with pytest.raises(openai.APIError, match="cancelled"):
            list(stream)
        assert time.monotonic() - begun < 10
