"""Two keys at one server: nothing of the one is seen by the other, neither documents nor what was encoded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

KEYS = ("first-key-of-two", "second-key-of-two")
SECRET = [{"id": "secret/plan", "title": "Plan", "text": "The code word of the plan is Zanzibar. " * 8}, {"id": "b", "text": "Another text.", "sources": ["secret/plan"]}]


@pytest.fixture
def clients(key_server: str) -> Iterator[list[httpx.Client]]:
    """One client a key; nobody has documents in the library."""
    made = [httpx.Client(base_url=key_server, headers={"Authorization": f"Bearer {key}"}, timeout=60) for key in KEYS]
    yield made
    for client in made:
        for id in ids(client):
            client.delete(f"/v1/documents/{id}")
        client.close()


def ids(client: httpx.Client) -> list[str]:
    return [d["id"] for d in client.get("/v1/documents").json()["data"]]


def ask(client: httpx.Client, **more: Any) -> dict[str, Any]:
    response = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "What is the code word?"}], "max_tokens": 8, **more})
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def test_documents_are_each_keys_own(clients: list[httpx.Client]) -> None:
    mine, yours = clients
    assert mine.put("/v1/documents", json={"documents": SECRET}).status_code == 200
    assert ids(mine) == ["b", "secret/plan"] and ids(yours) == []
    nowhere = yours.get("/v1/documents/secret%2Fplan")
    assert nowhere.status_code == 404 and yours.get("/v1/documents/not%2Fthere").json()["error"]["message"].replace("not/there", "secret/plan") == nowhere.json()["error"]["message"]
    for body in ({"graph": {"documents": ["secret/plan"]}}, {"documents": [{"id": "secret/plan"}]}):
        for path, more in (("chat/completions", {"messages": [{"role": "user", "content": "x"}]}), ("score", {"question": "x", "continuations": ["y"]}), ("graph", {})):
            assert mine.post(f"/v1/{path}", json={**body, **more}).status_code == 200
            refused = yours.post(f"/v1/{path}", json={**body, **more})
            assert refused.status_code == 404 and "Zanzibar" not in refused.text

    assert yours.put("/v1/documents/secret%2Fplan", json={"text": "Mine now."}).status_code == 200
    assert "Zanzibar" in mine.get("/v1/documents/secret%2Fplan").json()["text"]
    assert yours.delete("/v1/documents/secret%2Fplan").json()["deleted"] and ids(mine) == ["b", "secret/plan"]
    assert yours.delete("/v1/documents/secret%2Fplan").status_code == 404


def test_edges_lead_to_nobody_elses_documents(clients: list[httpx.Client]) -> None:
    mine, yours = clients
    mine.put("/v1/documents", json={"documents": SECRET, "encode": True})
    alone = yours.put("/v1/documents", json={"documents": [{"id": "spy", "text": "I read the plan.", "sources": ["secret/plan"]}], "encode": True}).json()["encoded"]
    assert alone["tokens_reused"] == 0 and 0 < alone["tokens_computed"] < 40  # one short text, and the plan was not read for it
    drawn = yours.post("/v1/graph", json={"graph": {"documents": ["spy"]}}).json()
    assert [n["id"] for n in drawn["nodes"]] == ["spy"] and drawn["edges"] == []


def test_what_one_has_encoded_the_other_computes(clients: list[httpx.Client]) -> None:
    def cached(client: httpx.Client, text: str) -> int:
        return int(ask(client, documents=[{"text": text}])["usage"]["prompt_tokens_details"]["cached_tokens"])

    text = "A text that nobody else has asked about. " * 10
    mine, yours = clients
    for client in clients:
        ask(client, documents=["x"])  # now the prompt's first token is known to both
    assert [cached(mine, text), cached(mine, text) > 50] == [1, True]
    assert [cached(yours, text), cached(yours, text) > 50] == [1, True]  # who could see a hit would know what others read

    mine.put("/v1/documents", json={"documents": [{"id": "x", "text": text + "More."}], "encode": True})
    assert cached(yours, text + "More.") == 1 and cached(mine, text + "More.") > 50
    mine.delete("/v1/documents/x")
    assert cached(mine, text + "More.") > 50  # the key's own blocks stay until the store makes room


def test_the_same_question_has_the_same_answer_and_other_ids(clients: list[httpx.Client]) -> None:
    one, two = (ask(client, documents=SECRET) for client in clients)
    assert one["id"] != two["id"] and one["choices"] == two["choices"]


def test_without_a_right_key_nothing_is_served(key_server: str, clients: list[httpx.Client]) -> None:
    clients[0].put("/v1/documents/a", json={"text": "x"})
    for headers in ({}, {"Authorization": "Bearer wrong-key-of-mine"}, {"Authorization": f"Basic {KEYS[0]}"}, {"X-API-Key": KEYS[0][:-1]}):
        for method, path, body in (
            ("GET", "/v1/documents", None),
            ("GET", "/v1/documents/a", None),
            ("DELETE", "/v1/documents/a", None),
            ("PUT", "/v1/documents/a", {"text": "y"}),
            ("POST", "/v1/documents", {"documents": []}),
            ("GET", "/v1/models", None),
            ("POST", "/v1/chat/completions", {"messages": []}),
            ("POST", "/v1/score", {}),
            ("POST", "/v1/graph", {}),
        ):
            response = httpx.request(method, key_server + path, headers={**headers, "Content-Type": "application/json"}, content=None if body is None else json.dumps(body))
            assert response.status_code == 401 and response.headers["WWW-Authenticate"] == "Bearer", (method, path)
            assert response.json()["error"]["type"] == "authentication_error"
    assert ids(clients[0]) == ["a"] and clients[0].get("/v1/documents/a").json()["text"] == "x"
    assert httpx.get(f"{key_server}/v1/documents/a", headers={"X-API-Key": KEYS[0]}).json()["text"] == "x"
