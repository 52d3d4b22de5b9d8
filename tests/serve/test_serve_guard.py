"""Hostile clients: each gets one clear JSON line with a 4xx, none a 500, and the others go on."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from serve_helpers import answer_of, chat, connect, raw, request, served, served_app, wait_until
from starlette.testclient import TestClient

from graphkv import GraphKV
from graphkv.errors import InputError
from graphkv.scheduler import Scheduler
from graphkv.serve.app import create_app
from graphkv.serve.settings import Settings, allowed_hosts

CHAT = "/v1/chat/completions"
JSON = "Content-Type: application/json"
LIMITS: dict[str, Any] = {"max_body_bytes": 100_000, "max_held_bytes": 150_000, "read_seconds": 1.0, "write_seconds": 0.5, "max_connections": 12}


@pytest.fixture(scope="module")
def strict(embedded: GraphKV) -> Iterator[str]:
    """A server with narrow limits."""
    with served(embedded, Settings(**LIMITS, hosts=allowed_hosts("127.0.0.1", ()))) as address:
        yield address


@pytest.fixture(autouse=True)
def others_go_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test does to a server, the next client is served."""
    yield
    if "strict" in request.fixturenames:
        assert httpx.post(request.getfixturevalue("strict") + CHAT, json=chat(max_tokens=1)).status_code == 200


def one_line(error: Any) -> str:
    """The message of an error body, whose form is checked."""
    assert set(error) == {"error"} and set(error["error"]) == {"message", "type", "code", "param"}
    message = error["error"]["message"]
    assert isinstance(message, str) and message and message.isprintable() and len(message) <= 1000
    return message


BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "expected a JSON object, got nothing"),
    "not JSON": (b"{'a': 1}", "the body is not JSON"),
    "half": (b'{"messages": [{"role": "user", "con', "the body is not JSON"),
    "raw control character": (b'{"messages": "a\nb"}', "the body is not JSON"),
    "a list": (b"[1]", "expected a JSON object"),
    "a null": (b"null", "expected a JSON object"),
    "deep": (b"[" * 50_000, "nested more than 64 deep"),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested more than 64 deep"),
    "NaN": (b'{"temperature": NaN}', "NaN is not JSON"),
    "Infinity": (b'{"temperature": -Infinity}', "Infinity is not JSON"),
    "beyond a double": (b'{"temperature": 1e999}', "out of range"),
    "a long number": (b'{"seed": ' + b"1" * 90_000 + b"}", "90,000 digits"),
    "latin-1": ('{"messages": "é"}'.encode("latin-1"), "not UTF-8"),
    "UTF-16": (json.dumps(chat()).encode("utf-16-le"), "not UTF-8"),
    "half a surrogate pair": (rb'{"messages": "\ud83d"}', "surrogate"),
    "too large": (b" " * 100_001, "larger than 100,000 bytes"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
def test_bad_bodies(strict: str, name: str, chunked: bool) -> None:
    body, expected = BAD_BODIES[name]
    if chunked:
        parts = [body[i : i + 5000] for i in range(0, len(body), 5000)]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        status, error = raw(strict, request("POST", CHAT, b"", JSON, "Transfer-Encoding: chunked", length=False) + sent)
    else:
        status, error = raw(strict, request("POST", CHAT, body, JSON))
    assert status == (413 if name == "too large" else 400)
    assert expected in one_line(error)


def test_a_size_that_is_announced_is_refused_before_it_is_sent(strict: str) -> None:
    with connect(strict) as connection:
        connection.sendall(request("POST", CHAT, b"", JSON, "Content-Length: 99999999999", "Expect: 100-continue", length=False))
        assert answer_of(connection)[0] == 413


LONG = (400, 431)  # the parser or the guard, as it comes in pieces or in one
BAD_HEADS: dict[str, tuple[bytes, int | tuple[int, ...]]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, 400),
    "one line": (b"GET /\r\n\r\n", 400),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: a\r\n\r\n", 400),
    "another host": (request("GET", "/health", host="evil.example"), 403),
    "a host that is none": (request("GET", "/health", host="127.0.0.1@evil.example:x"), 403),
    "an empty host": (request("GET", "/health", host=""), 403),
    "a NUL in a header": (request("GET", "/health", b"", "X-A: a\0b"), 400),
    "a header without a name": (request("GET", "/health", b"", ": a"), 400),
    "a folded header": (request("GET", "/health", b"", "X-A: a", " evil: b", "\tmore"), 200),
    "a long header": (request("GET", "/health", b"", "X-A: " + "a" * 100_000), LONG),
    "many headers": (request("GET", "/health", b"", *(f"X-{i}: a" for i in range(9000))), LONG),
    "a long path": (request("GET", "/" + "a" * 100_000), LONG),
    "bytes in a path": (b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
    "a path of no encoding": (request("GET", "/v1/documents/%ff%fe"), 404),
    "a path with a NUL": (request("GET", "/v1/documents/%00"), 400),
    "a path that climbs": (request("GET", "/page/..%2f..%2fetc%2fpasswd"), 404),
    "a query of no encoding": (request("GET", "/v1/documents?limit=%ff"), 400),
    "a proxy's request": (request("GET", "http://evil.example/health"), 404),
    "CONNECT": (request("CONNECT", "evil.example:443"), 404),
    "a negative length": (request("POST", CHAT, b"", JSON, "Content-Length: -1", length=False), 400),
    "a length that is none": (request("POST", CHAT, b"", JSON, "Content-Length: 1e3", length=False), 400),
    "two lengths": (request("POST", CHAT, b"", JSON, "Content-Length: 5", "Content-Length: 6", length=False), 400),
    "a chunk that is none": (request("POST", CHAT, b"", JSON, "Transfer-Encoding: chunked", length=False) + b"zz\r\n", 400),
    "another transfer encoding": (request("POST", CHAT, b"", JSON, "Transfer-Encoding: gzip", length=False), 400),
    "no content type": (request("POST", CHAT, b"{}"), 415),
    "a form": (request("POST", CHAT, b"a=b", "Content-Type: application/x-www-form-urlencoded"), 415),
    "plain text": (request("POST", CHAT, b"{}", "Content-Type: text/plain"), 415),
    "another charset": (request("POST", CHAT, b"{}", "Content-Type: application/json; charset=utf-16"), 415),
    "two content types": (request("POST", CHAT, b"{}", JSON, "Content-Type: text/plain"), 415),
    "a packed body": (request("POST", CHAT, b"{}", JSON, "Content-Encoding: gzip"), 415),
    "a body with GET": (request("GET", "/health", b"abc"), 413),
    "an unknown method": (request("FETCH", CHAT), 405),
    "a method that is another path's": (request("DELETE", CHAT), 405),
    "OPTIONS": (request("OPTIONS", CHAT), 405),
    "TRACE": (request("TRACE", "/"), 405),
    "OPTIONS *": (request("OPTIONS", "*"), 404),
    "an unknown path": (request("GET", "/v2/chat"), 404),
    "a web socket": (request("GET", "/health", b"", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13"), 200),
}


@pytest.mark.parametrize("name", BAD_HEADS)
def test_bad_heads(strict: str, name: str) -> None:
    data, expected = BAD_HEADS[name]
    status, answer = raw(strict, data)
    assert status in (expected if isinstance(expected, tuple) else (expected,)), answer
    if status != 200:
        one_line(answer)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:1", "localhost", "LOCALHOST:8000", "localhost.", "[::1]:8000"])
def test_hosts_of_this_machine(strict: str, host: str) -> None:
    assert raw(strict, request("GET", "/health", host=host)) == (200, {"status": "ok"})


def test_which_hosts_are_allowed() -> None:
    assert allowed_hosts("0.0.0.0", ()) == () == allowed_hosts("127.0.0.1", ("a-key-of-some-length",))
    assert allowed_hosts("127.0.0.2", (), ("Proxy",)) == ("localhost", "127.0.0.1", "::1", "127.0.0.2", "proxy")


def test_the_head_may_be_asked_for_alone(strict: str) -> None:
    for path in ("/health", "/ready"):
        answer = httpx.head(strict + path)
        assert answer.status_code == 200 and not answer.content


def test_what_a_path_takes_is_said_in_full(app_client: TestClient) -> None:
    answer = app_client.patch("/v1/documents")
    assert answer.status_code == 405 and answer.headers["allow"] == "DELETE, GET, POST, PUT"


@pytest.mark.parametrize("data", [b"GET /he", request("GET", "/health")[:-2], request("POST", CHAT, b"", JSON, "Content-Length: 50", length=False) + b'{"mess'], ids=["line", "head", "body"])
def test_slow_senders(strict: str, data: bytes) -> None:
    """A byte now and then keeps nobody waiting for longer than `read_seconds`."""
    begun = time.monotonic()
    with connect(strict) as connection:
        connection.sendall(data)
        connection.settimeout(0.2)
        answer = b""
        while not answer and time.monotonic() - begun < 5:
            try:
                answer = connection.recv(1000)
            except TimeoutError:
                connection.sendall(b" ")
    assert answer.startswith(b"HTTP/1.1 408") and 0.9 < time.monotonic() - begun < 3
    one_line(json.loads(answer.partition(b"\r\n\r\n")[2]))


@pytest.mark.parametrize("before", [b"", request("GET", "/health")], ids=["at first", "after an answer"])
def test_silent_clients_are_let_go(strict: str, before: bytes) -> None:
    with connect(strict) as connection:
        if before:
            connection.sendall(before)
            assert answer_of(connection)[0] == 200
        begun = time.monotonic()
        assert connection.recv(10) == b""
        assert time.monotonic() - begun < 8


def test_a_refused_body_that_never_ends(strict: str) -> None:
    with connect(strict) as connection:
        connection.sendall(request("POST", "/nowhere", b"", "Content-Type: text/plain", "Content-Length: 1000000", length=False))
        assert answer_of(connection)[0] == 413
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begun < 10:
                connection.sendall(b"a" * 10)
                time.sleep(0.05)
        assert time.monotonic() - begun < 4


def test_a_client_that_reads_nothing(embedded: GraphKV) -> None:
    """The answer does not fit into what the system keeps for the client; the connection is cut, and the request ends."""
    app = create_app(embedded, Settings(**LIMITS))
    sent, ended = list[int](), threading.Event()

    @app.get("/long")
    async def long() -> Any:
        from starlette.responses import StreamingResponse

        async def body() -> Any:
            try:
                for _ in range(5000):
                    sent.append(10_000)
                    yield b"a" * 10_000
                    await asyncio.sleep(0)
            finally:
                ended.set()

        return StreamingResponse(body())

    with served_app(app) as address, connect(address) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(request("GET", "/long"))
        assert ended.wait(8)
        assert len(sent) < 5000
        with pytest.raises(ConnectionResetError):
            while connection.recv(1_000_000):
                pass


def test_many_connections(strict: str) -> None:
    """The oldest that ask for nothing make room for those who do."""
    silent = [connect(strict) for _ in range(30)]
    try:
        for _ in range(3):
            assert httpx.get(strict + "/health").status_code == 200
        with pytest.raises(OSError):  # reset, without a word
            if silent[0].recv(10) == b"":
                raise ConnectionResetError
        silent[-1].sendall(request("GET", "/health"))
        assert answer_of(silent[-1])[0] == 200
    finally:
        for connection in silent:
            connection.close()


def test_when_all_connections_are_at_work_the_next_is_told(strict: str) -> None:
    busy = []
    try:
        for _ in range(12):
            busy.append(connect(strict))
            busy[-1].sendall(request("POST", CHAT, b"", JSON, "Content-Length: 50", length=False) + b"{")
        time.sleep(0.2)
        with connect(strict) as connection:
            status, error = answer_of(connection)
        assert status == 503 and "too many connections" in one_line(error)
    finally:
        for connection in busy:
            connection.close()


def test_a_client_that_goes_away_while_it_asks(strict: str) -> None:
    for _ in range(20):
        with connect(strict) as connection:
            connection.sendall(request("POST", CHAT, b"", JSON, "Content-Length: 50", length=False) + b"{")


def test_requests_one_after_another_on_one_connection(strict: str) -> None:
    with connect(strict) as connection:
        for data, expected in ((request("GET", "/health"), 200), (request("POST", CHAT, b"{", JSON), 400), (request("GET", "/nowhere", b"abc"), 413), (request("GET", "/ready"), 200)):
            connection.sendall(data)
            assert answer_of(connection)[0] == expected


def test_what_every_answer_has(strict: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "graphkv.serve"):
        answer = httpx.post(strict + CHAT, json=chat("A secret question?", max_tokens=2), headers={"X-Request-Id": "my-id.1", "Authorization": "Bearer a-secret-key"})
        wait_until(lambda: "my-id.1" in {record.fields["id"] for record in caplog.records})  # type: ignore[attr-defined]
    assert answer.headers["x-request-id"] == "my-id.1" and answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers and "server" not in answer.headers
    [record] = [record for record in caplog.records if record.fields["id"] == "my-id.1"]  # type: ignore[attr-defined]
    fields = record.fields  # type: ignore[attr-defined]
    assert (fields["id"], fields["method"], fields["path"], fields["status"]) == ("my-id.1", "POST", CHAT, 200)
    assert fields["bytes_out"] == len(answer.content) and fields["seconds"] > 0 and "secret" not in str(fields)


@pytest.mark.parametrize("id", ["", "a b", "a" * 65, "../x", "ä"])
def test_ids_that_are_none_are_replaced(app_client: TestClient, id: str) -> None:
    answer = app_client.get("/health", headers={"X-Request-Id": id.encode()})
    assert len(answer.headers["x-request-id"]) == 32


def test_an_error_of_ours_tells_nothing(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(scheduler, Settings())

    @app.get("/broken")
    async def broken() -> None:
        raise KeyError("a secret path")

    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.get("/broken", headers={"X-Request-Id": "find-me"})
        count = client.get("/metrics").text
    assert answer.status_code == 500 and "find-me" in one_line(answer.json()) and "secret" not in answer.text
    assert any(record.fields.get("id") == "find-me" and record.exc_info for record in caplog.records if record.levelname == "ERROR")  # type: ignore[attr-defined]
    assert 'graphkv:request_refused_total{kind="internal_error"} 1.0' in count
    assert 'graphkv:http_requests_total{method="GET",route="/broken",status="500"} 1.0' in count


def test_a_request_whose_time_is_up_is_ended(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphkv.serve.guard.GRACE_SECONDS", 0.1)
    app = create_app(scheduler, Settings(request_seconds=0.2))

    @app.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(60)

    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.get("/slow")
    assert answer.status_code == 504 and "too long" in one_line(answer.json())


@trials(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes(data: bytes, strict_address: list[str]) -> None:
    status, answer = raw(strict_address[0], data + b"\r\n\r\n")
    assert status in (0, 400, 403, 404, 405, 408, 413, 415, 431), answer


@pytest.fixture(scope="module")
def strict_address(strict: str) -> list[str]:
    return [strict]


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": ("short",)},
        {"keys": ("with a space in it",)},
        {"keys": ("ünicode-key",)},
        {"keys": "not-a-tuple"},
        {"max_body_bytes": 0},
        {"max_body_bytes": 2**40},
        {"queue": True},
        {"context_bytes": -1},
        {"request_seconds": 0},
        {"request_seconds": float("nan")},
        {"read_seconds": "5"},
        {"model_name": ""},
        {"model_name": "a\nb"},
    ],
    ids=str,
)
def test_settings_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong)).removesuffix("s") if "keys" not in wrong else "key") as caught:
        Settings(**wrong)
    assert "ünicode" not in str(caught.value)


def test_settings_do_not_show_keys() -> None:
    assert "a-key-of-some-length" not in repr(Settings(keys=("a-key-of-some-length",)))
