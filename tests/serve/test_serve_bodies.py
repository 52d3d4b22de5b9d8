"""Bodies: who may send one, how much of them is held at a time, and lists of a million mistakes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import httpx
import pytest
from hostile_helpers import one_error
from serve_helpers import answer_of, chat, connect, request, served
from starlette.testclient import TestClient

from graphkv import GraphKV
from graphkv.serve.settings import Settings

CHAT = "/v1/chat/completions"
JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def strict(embedded: GraphKV) -> Iterator[str]:
    """A server that holds little; it has a scheduler of its own, which ends with it."""
    with served(embedded, Settings(max_body_bytes=100_000, max_held_bytes=150_000)) as address:
        yield address


def test_bodies_are_held_within_bounds(strict: str) -> None:
    with connect(strict) as first, connect(strict) as second:
        first.sendall(request("POST", CHAT, b"", JSON, "Content-Length: 100000", length=False) + b" " * 99_000)
        time.sleep(0.2)
        second.sendall(request("POST", CHAT, b" " * 90_000, JSON))
        status, error = answer_of(second)
    assert status == 503 and "too many large requests" in one_error(error)


def test_small_bodies_are_taken_all_the_same(strict: str) -> None:
    with contextlib.ExitStack() as open_things:
        for size in (99_000, 50_900):
            connection = open_things.enter_context(connect(strict))
            connection.sendall(request("POST", CHAT, b"", JSON, "Content-Length: 100000", length=False) + b" " * size)
        time.sleep(0.2)
        assert httpx.post(strict + CHAT, json=chat(max_tokens=1)).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/", "/nowhere", "/openapi.json"])
@pytest.mark.parametrize("more", [("Content-Length: 90000",), ("Transfer-Encoding: chunked",)], ids=["whole", "chunked"])
def test_no_body_outside_of_the_api(strict: str, path: str, more: tuple[str, ...]) -> None:
    with connect(strict) as connection:
        connection.sendall(request("POST", path, b"", JSON, *more, length=False) + b"5\r\n{    \r\n")
        status, error = answer_of(connection)
        assert status == 413 and "takes no body" in one_error(error)


def test_one_key_holds_half_at_most(embedded: GraphKV) -> None:
    keys = {name: f"Authorization: Bearer key-of-the-{name}" for name in ("first", "second")}
    settings = Settings(max_body_bytes=100_000, max_held_bytes=300_000, keys=tuple(f"key-of-the-{name}" for name in keys))
    with served(embedded, settings) as address, connect(address) as first, connect(address) as again, connect(address) as other:
        first.sendall(request("POST", CHAT, b"", JSON, keys["first"], "Content-Length: 100000", length=False) + b" " * 99_000)
        time.sleep(0.2)
        again.sendall(request("POST", CHAT, b" " * 90_000, JSON, keys["first"]))
        assert answer_of(again)[0] == 503
        other.sendall(request("POST", CHAT, b" " * 90_000, JSON, keys["second"]))
        assert answer_of(other)[0] == 400  # it is no JSON


TYPED = [b'{"messages":[%s]}', b'{"messages":[{"role":"user","content":"x"}],"graph":{"documents":[%s]}}', b'{"messages":[{"role":"user","content":"x"}],"stop":[%s]}']


@pytest.mark.parametrize("body", [*TYPED, b'{"continuations":[%s]}'], ids=["messages", "documents", "stop", "continuations"])
def test_lists_of_mistakes_are_read_up_to_the_first(app_client: TestClient, body: bytes) -> None:
    path = "/v1/score" if b"continuations" in body else CHAT
    begun = time.monotonic()
    answer = app_client.post(path, content=body % b",".join([b"1"] * 300_000), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and time.monotonic() - begun < 5
    assert "[0]: " in one_error(answer.json()) and "(and " not in answer.text.replace("(and 1 more)", "")


def test_fields_of_mistakes_are_not_read(app_client: TestClient) -> None:
    many = {f"f{i}": 1 for i in range(50_000)}
    for body in (many, {"continuations": ["x"], "graph": many}):
        answer = app_client.post("/v1/score", json=body)
        assert answer.status_code == 400 and "at most 256 fields, got 50,000" in one_error(answer.json())
