"""Scores over HTTP are the engine's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.testclient import TestClient

from graphkv import GraphKV
from graphkv.cli.demo import read_demo

GRAPH, QUESTIONS = read_demo()
PAPERS = [{"id": s.id, "title": s.title, "text": s.text, "sources": list(GRAPH.sources(s.id))} for s in GRAPH]
HOP = QUESTIONS[2]
NAMES = [" Jane Sintil", " Mia Rasbuk", " Uma Tilkux", " x"]


@pytest.mark.parametrize("layout", ["graph", {"name": "graph_topk", "m": 2}, "sequential"])
def test_they_are_the_engines(app_client: TestClient, embedded: GraphKV, layout: Any) -> None:
    reply = app_client.post("/v1/score", json={"question": HOP["question"], "documents": PAPERS, "graph": {"layout": layout}, "continuations": NAMES}).json()
    assert reply["object"] == "list" and reply["model"] == "embedded" and [d["index"] for d in reply["data"]] == [0, 1, 2, 3]
    options = dict(layout) if isinstance(layout, dict) else {"name": layout}
    wanted = embedded.score(GRAPH, HOP["question"], NAMES, layout=options.pop("name"), **options)
    for got, score in zip(reply["data"], wanted, strict=True):
        assert got["log_likelihood"] == pytest.approx(float(score), abs=1e-4)
        assert (got["tokens"], got["is_greedy"]) == (score.tokens, score.is_greedy)


def test_the_edge_makes_the_answer_likely(app_client: TestClient) -> None:
    data = app_client.post("/v1/score", json={"question": HOP["question"], "documents": PAPERS, "continuations": NAMES}).json()["data"]
    assert max(data, key=lambda d: d["log_likelihood"])["index"] == 0 and data[0]["is_greedy"]


def test_messages_and_no_documents(app_client: TestClient) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    one, two = (app_client.post("/v1/score", json={**ask, "continuations": [" Ada"]}).json()["data"][0] for ask in ({"messages": messages}, {"question": "Who?"}))
    assert one["log_likelihood"] < 0 and two["log_likelihood"] < 0 and one["log_likelihood"] != two["log_likelihood"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to score": ({"question": "Who?"}, "continuations: Field required"),
    "no continuation": ({"question": "Who?", "continuations": []}, "at least 1 item"),
    "an empty one": ({"question": "Who?", "continuations": [""]}, "at least 1 character"),
    "many": ({"question": "Who?", "continuations": ["x"] * 257}, "at most 256 items"),
    "no question": ({"continuations": ["x"]}, "give either question or messages"),
    "two questions": ({"question": "Who?", "messages": [{"role": "user", "content": "Who?"}], "continuations": ["x"]}, "give either question or messages"),
    "an empty question": ({"question": " ", "continuations": ["x"]}, "is empty"),
    "unknown field": ({"question": "Who?", "continuations": ["x"], "temperature": 1}, "temperature: Extra inputs are not permitted"),
    "another model": ({"question": "Who?", "continuations": ["x"], "model": "gpt-4o"}, "there is no model"),
    "too long": ({"question": "Who?", "continuations": ["word " * 19_000]}, "window"),
}


@pytest.mark.parametrize("what", BAD)
def test_mistakes(app_client: TestClient, what: str) -> None:
    body, said = BAD[what]
    response = app_client.post("/v1/score", json=body)
    assert response.status_code in (400, 404) and said in response.json()["error"]["message"]


def test_many_at_a_time(live_server: str) -> None:
    import httpx

    async def work() -> list[Any]:
        async with httpx.AsyncClient(base_url=live_server, timeout=60) as client:
            bodies = [{"question": q["question"], "documents": PAPERS, "continuations": NAMES} for q in QUESTIONS]
            alone = [(await client.post("/v1/score", json=body)).json()["data"] for body in bodies]
            together = [r.json()["data"] for r in await asyncio.gather(*(client.post("/v1/score", json=body) for body in bodies))]
            return [alone, together]

    alone, together = asyncio.run(work())
    assert alone == together
