"""API keys: without the right one nothing is read, and under each its own."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from serve_helpers import answer_of, chat, connect, request
from starlette.testclient import TestClient

from graphkv.errors import InputError
from graphkv.scheduler import Scheduler
from graphkv.serve.app import create_app
from graphkv.serve.errors import ApiError
from graphkv.serve.keys import scope_for
from graphkv.serve.settings import KEYS, Settings, keys_from_environment

FIRST, SECOND = "first-key-of-two", "second-key-of-two"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


ROUTES = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/score"),
    ("POST", "/v1/graph"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/embedded"),
    ("GET", "/v1/documents"),
    ("PUT", "/v1/documents"),
    ("GET", "/v1/documents/a"),
    ("DELETE", "/v1/documents/a"),
    ("GET", "/v1/nothing"),
    ("GET", "/metrics"),
    ("GET", "/%76%31/models"),
]


@pytest.mark.parametrize("headers", [{}, bearer("wrong-key"), {"Authorization": "Bearer"}, bearer(FIRST + "x"), bearer(FIRST[:-1]), {"Authorization": f"Basic {FIRST}"}, {"X-API-Key": "wrong"}, bearer("ä")], ids=str)
@pytest.mark.parametrize("method, path", ROUTES)
def test_no_route_without_a_key(key_server: str, method: str, path: str, headers: dict[str, str]) -> None:
    answer = httpx.request(method, key_server + path, json=chat() if method in ("POST", "PUT") else None, headers={name: value.encode() for name, value in headers.items()})
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"]["code"] == "invalid_api_key" and FIRST not in answer.text


@pytest.mark.parametrize("headers", [bearer(FIRST), bearer(SECOND), {"Authorization": f"bearer  {FIRST}"}, {"X-API-Key": SECOND}], ids=str)
def test_with_a_key(key_server: str, headers: dict[str, str]) -> None:
    assert httpx.get(key_server + "/v1/models", headers=headers).status_code == 200
    assert httpx.get(key_server + "/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/", "/openapi.json"])
def test_what_needs_no_key(key_server: str, path: str) -> None:
    assert httpx.get(key_server + path).status_code == 200


def test_the_key_comes_before_the_body(key_server: str) -> None:
    """Who has no key cannot make the server read anything."""
    with connect(key_server) as connection:
        connection.sendall(request("POST", "/v1/documents", b"", "Content-Length: 1000000", length=False))
        assert answer_of(connection)[0] == 401


def test_every_key_has_a_scope_of_its_own() -> None:
    keys = (FIRST, SECOND)
    scopes = {key: scope_for([("authorization", f"Bearer {key}")], keys) for key in keys}
    assert len({*scopes.values(), ""}) == 3 and not any(key in scope for key, scope in scopes.items())
    assert scope_for([("x-api-key", FIRST)], keys) == scopes[FIRST]
    assert scope_for([("authorization", "Bearer whatever")], ()) == ""
    with pytest.raises(ApiError):
        scope_for([("authorization", f"Bearer {FIRST},{SECOND}")], keys)


def test_nothing_of_one_key_is_seen_under_another(key_server: str) -> None:
    """1. a document, 2. what was encoded and assembled of it, 3. an answer's own use of it."""
    put = {"id": "mine", "text": "The code of the vault is 4711, written by Ada Reed."}

    def as_(key: str, method: str, path: str, body: Any = None) -> httpx.Response:
        return httpx.request(method, key_server + path, json=body, headers=bearer(key), timeout=60)

    assert as_(FIRST, "POST", "/v1/documents", put | {"encode": True}).status_code == 200
    assert [one["id"] for one in as_(FIRST, "GET", "/v1/documents").json()["data"]] == ["mine"]
    assert as_(SECOND, "GET", "/v1/documents").json()["data"] == []
    assert as_(SECOND, "GET", "/v1/documents/mine").status_code == 404
    assert as_(SECOND, "DELETE", "/v1/documents/mine").status_code == 404
    ask = {"messages": [{"role": "user", "content": "Who wrote it?"}], "graph": {"documents": ["mine"]}, "max_tokens": 2}
    assert as_(SECOND, "POST", "/v1/chat/completions", ask).status_code in (400, 404)

    def reused(key: str, body: Any) -> int:
        answer = as_(key, "POST", "/v1/chat/completions", body)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert reused(FIRST, ask) > 0
    same = {"messages": ask["messages"], "documents": [put], "max_tokens": 2}
    assert reused(FIRST, same) > 0
    assert reused(SECOND, same) <= 1 < reused(SECOND, same)  # the prefix, one token, may be there from an earlier question of its own
    assert as_(FIRST, "DELETE", "/v1/documents/mine").status_code == 200


@pytest.mark.parametrize("text, keys", [(None, ()), (FIRST, (FIRST,)), (f" {FIRST} ,,{SECOND},{FIRST}\n", (FIRST, SECOND))], ids=["none", "one", "several"])
def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, text: str | None, keys: tuple[str, ...]) -> None:
    monkeypatch.delenv(KEYS, raising=False)
    if text is not None:
        monkeypatch.setenv(KEYS, text)
    assert keys_from_environment() == keys


@pytest.mark.parametrize("text", ["", " , ", "short", f"{FIRST},with a space", "schlüssel-der-tür"])
def test_keys_that_are_none_do_not_open_the_server(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(KEYS, text)
    with pytest.raises(InputError, match=KEYS) as caught:
        keys_from_environment()
    assert "space" not in str(caught.value) and "tür" not in str(caught.value)


@pytest.mark.parametrize("keys", [(), (FIRST,)], ids=["open", "keys"])
def test_the_openapi_document_tells_of_keys_where_they_are_asked_for(scheduler: Scheduler, keys: tuple[str, ...]) -> None:
    with TestClient(create_app(scheduler, Settings(keys=keys)), base_url="http://127.0.0.1") as client:
        document = client.get("/openapi.json").json()
    operations = {path: operation for path, methods in document["paths"].items() for operation in methods.values()}
    for path, operation in operations.items():
        assert bool(operation.get("security")) == ("401" in operation["responses"]) == (bool(keys) and path.startswith(("/v1", "/metrics"))), path
        assert "422" not in operation["responses"]
    assert ("securitySchemes" in document["components"]) == bool(keys)
