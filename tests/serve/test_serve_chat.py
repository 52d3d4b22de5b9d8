"""Chat over HTTP: what is reused and how, long documents, many at a time, fields that do nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from graphkv import GraphKV
from graphkv.cli.demo import read_demo
from graphkv.scheduler import Scheduler
from graphkv.serve.app import create_app
from graphkv.serve.settings import Settings

GRAPH, QUESTIONS = read_demo()
PAPERS = [{"id": s.id, "title": s.title, "text": s.text, "sources": list(GRAPH.sources(s.id))} for s in GRAPH]
HOP = QUESTIONS[2]


def ask(client: httpx.Client | TestClient, question: str = HOP["question"], **more: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": question}], "documents": PAPERS, "max_tokens": 24}
    response = client.post("/v1/chat/completions", json=body | more)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def reuse(reply: dict[str, Any]) -> tuple[int, int, int]:
    """Tokens exact, composed, computed; they add up."""
    usage, ours = reply["usage"], reply["usage"]["graphkv"]
    assert ours["exact"] + ours["composed"] == usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - ours["computed"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return ours["exact"], ours["composed"], ours["computed"]


def test_exact_and_composed_reuse_are_told_apart_also_after_a_restart(tmp_path: Path, embedded: GraphKV) -> None:
    """1. All is computed. 2. The very same context. 3. Some of its documents. 4. A new server over the same folder: block by block."""

    def server() -> tuple[Scheduler, TestClient]:
        scheduler = Scheduler(GraphKV(embedded.model, store=tmp_path / "store", template=embedded.template))
        return scheduler, TestClient(create_app(scheduler, Settings()), base_url="http://127.0.0.1")

    scheduler, client = server()
    with scheduler, client:
        first, again, part = ask(client), ask(client, documents=PAPERS[::-1]), ask(client, documents=[{**p, "sources": []} for p in PAPERS[2:5]])
        question = reuse(again)[2]
        assert reuse(first)[:2] == (0, 0) and reuse(again)[1] == 0 and reuse(again)[0] == reuse(first)[2] - question
        assert reuse(part)[0] == 0 and reuse(part)[1] > 50
    scheduler, client = server()
    with scheduler, client:
        later = ask(client)
        assert reuse(later) == (0, reuse(again)[0], question) and later["choices"] == first["choices"] == again["choices"]


def test_parts_of_long_documents_are_told_by_their_document(embedded: GraphKV) -> None:
    text = " ".join(p["text"] for p in PAPERS)
    with Scheduler(GraphKV(embedded.model, store="memory", template=embedded.template, max_segment_tokens=60)) as scheduler:
        client = TestClient(create_app(scheduler, Settings()), base_url="http://127.0.0.1")
        reply = ask(client, QUESTIONS[0]["question"], documents=[{"id": "all", "text": text}, {"id": "other", "text": "Nothing of note."}], graph={"trace": True})
        body = {"messages": [{"role": "user", "content": QUESTIONS[0]["question"]}], "documents": [text], "graph": {"trace": True}, "stream": True}
        streamed = client.post("/v1/chat/completions", json=body)
    assert set(reply["graphkv"]["reused"]) == {"all", "other"}
    citations = reply["choices"][0]["message"]["citations"]
    assert citations and {s["id"] for c in citations for s in c["sources"]} <= {"all", "other"}
    assert all(0 < s["score"] <= 1 for c in citations for s in c["sources"])
    events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
    used = [e["graphkv"]["used"] for e in events if (e.get("graphkv") or {}).get("used")]
    assert used and all(set(shares) == {"doc_0"} for shares in used)


def test_a_long_text_in_a_citation_is_cut(app_client: TestClient) -> None:
    reply = ask(app_client, documents=[{"text": " ".join(p["text"] for p in PAPERS) + " It is so." * 300}])
    shown = [s["document"]["text"] for c in reply["choices"][0]["message"]["citations"] for s in c["sources"]]
    assert shown and all(len(text) == 2001 and text.endswith("…") for text in shown)


def test_many_at_a_time_have_the_answers_that_each_has_alone(live_server: str) -> None:
    async def work() -> None:
        async with httpx.AsyncClient(base_url=live_server, timeout=120) as client:

            async def answer(number: int, stream: bool) -> Any:
                question = QUESTIONS[number % len(QUESTIONS)]["question"]
                documents = PAPERS if number % 2 else [{**p, "sources": []} for p in PAPERS]  # two contexts
                body = {"messages": [{"role": "user", "content": question}], "documents": documents, "max_tokens": 16, "stream": stream}
                response = await client.post("/v1/chat/completions", json=body)
                if not stream:
                    return response.json()["choices"][0]["message"]["content"]
                chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
                return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)

            alone = [await answer(i, False) for i in range(10)]
            together = await asyncio.gather(*(answer(i, bool(i % 3)) for i in range(40)))
            assert together == alone * 4

    asyncio.run(work())


def test_fields_that_do_nothing(app_client: TestClient) -> None:
    plain = ask(app_client)
    nothing = {"tools": [], "n": 1, "logit_bias": {}, "response_format": {"type": "text"}, "presence_penalty": 0, "logprobs": False, "modalities": ["text"]}
    unset = dict.fromkeys(("temperature", "top_p", "top_k", "seed", "stop", "stream", "stream_options", "graph", "citation_options", "model", "max_completion_tokens", "tools"))
    harmless = {"user": "somebody", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "parallel_tool_calls": False, "stream_options": {"include_usage": True}}
    for more in (nothing, unset, harmless):
        assert ask(app_client, **more)["choices"] == plain["choices"], more
    assert ask(app_client, max_tokens=24, max_completion_tokens=2)["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("layout", ["sequential", "block", "pcw", "ape", "graph_full", {"name": "graph_topk", "m": 2}, {"name": "graph", "rounds": "topological", "view": "final"}])
def test_layouts_are_the_engines(app_client: TestClient, embedded: GraphKV, layout: Any) -> None:
    options = dict(layout) if isinstance(layout, dict) else {"name": layout}
    wanted = embedded.ask(GRAPH, HOP["question"], max_new_tokens=24, layout=options.pop("name"), **options)
    reply = ask(app_client, graph={"layout": layout})
    assert reply["choices"][0]["message"]["content"] == wanted.text
    assert reply["usage"]["prompt_tokens"] == wanted.tokens_reused + wanted.tokens_computed  # another m would make other blocks


def test_answers_are_counted(app_client: TestClient) -> None:
    def counted() -> dict[str, float]:
        lines = [line.rsplit(" ", 1) for line in app_client.get("/metrics").text.splitlines() if line.startswith("graphkv:")]
        return {name: float(value) for name, value in lines}

    ask(app_client)
    before, reply, after = counted(), ask(app_client), counted()
    for name, count in (("generation_tokens", reply["usage"]["completion_tokens"]), ("tokens_reused_exact", reuse(reply)[0]), ("tokens_computed", reuse(reply)[2])):
        assert after[f"graphkv:{name}_total"] - before[f"graphkv:{name}_total"] == count > 0
    app_client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 1})
    assert counted()["graphkv:time_to_first_token_seconds_count"] == after["graphkv:time_to_first_token_seconds_count"] + 1
