"""Connections that mean harm, many at a time: each is answered with one clear line or closed, and somebody else is served all the while."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from hostile_helpers import LIMITS, Target, bystander, one_error, refused, target, unharmed_by_it
from serve_helpers import answer_of, chat, connect, request

CHAT = "/v1/chat/completions"
JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("wire")) as found:
        yield found


@pytest.fixture(autouse=True)
def unharmed(attacked: Target) -> Iterator[None]:
    with unharmed_by_it(attacked):
        yield


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the server closes a connection within some seconds, whatever it says before."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:  # reset
        pass
    return True


def answered_or_closed(attacked: Target, data: bytes, seconds: float = 8.0) -> None:
    """What comes back is nothing, or a refusal, or answers of which the last one is none of the server's own failures; then the connection is closed."""
    with connect(attacked.address) as connection:
        connection.settimeout(seconds)
        came = b""
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
            while part := connection.recv(65536):
                came += part
        statuses = [int(line.split(b" ")[1]) for line in came.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
        assert all(status < 500 for status in statuses), came[:500]
        if statuses and statuses[-1] >= 400 and b"HEAD" not in data[:4]:
            one_error(json.loads(came.rpartition(b"\r\n\r\n")[2]))


GARBAGE = {
    "tls": bytes.fromhex("16030100c8010000c40303") + bytes(range(200)),
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(30),
    "version": b"GET /health HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "spaces": b"GET  /health  HTTP/1.1\r\n\r\n",
    "zeros": bytes(5000),
    "long target": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "long header": request("GET", "/health", b"", "X: " + "a" * 100_000),
    "many headers": request("GET", "/health", b"", *(f"X-{i}: {i}" for i in range(20_000))),
    "zero in a header": request("GET", "/health", b"", "X: a\x00b"),
    "folded header": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\r\n b\r\nConnection: close\r\n\r\n",
    "two lengths": request("POST", CHAT, b"{}", JSON, "Content-Length: 5"),
    "negative length": request("POST", CHAT, b"{}", JSON, "Content-Length: -2", length=False),
    "huge length": request("POST", CHAT, b"{}", JSON, "Content-Length: " + "9" * 40, length=False),
    "length and chunks": request("POST", CHAT, b"5\r\n{}   \r\n0\r\n\r\n", JSON, "Transfer-Encoding: chunked", "Connection: close"),
    "bad chunk": request("POST", CHAT, b"zz\r\n{}\r\n", JSON, "Transfer-Encoding: chunked", length=False),
    "huge chunk": request("POST", CHAT, b"ffffffffffffffff\r\n{}\r\n", JSON, "Transfer-Encoding: chunked", length=False),
    "unknown coding": request("POST", CHAT, b"{}", JSON, "Transfer-Encoding: gzip", length=False),
    "zipped": request("POST", CHAT, b"\x1f\x8b" + bytes(50), JSON, "Content-Encoding: gzip", "Connection: close"),
    "expects": request("POST", CHAT, b"{}", JSON, "Expect: 200-ok", "Connection: close"),
    "websocket": request("GET", "/v1/models", b"", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13"),
    "upgrade to h2c": request("GET", "/health", b"", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings, close", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    "another host's path": b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    "two hosts": request("GET", "/health", b"", "Host: evil.example"),
    "cookies": request("GET", "/health", b"", "Cookie: " + "a=b; " * 5000, "Connection: close"),
    "ranges": request("GET", "/page/page.js", b"", "Range: bytes=" + ",".join(f"{i}-{i}" for i in range(5000)), "Connection: close"),
    "garbage behind a request": request("GET", "/health") + b"\x00\xff\r\n\r\ngarbage",
    "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_no_request(attacked: Target, name: str) -> None:
    answered_or_closed(attacked, GARBAGE[name])


def test_any_bytes_behind_good_ones(attacked: Target) -> None:
    """Fifty connections, each with good requests and then others with some of their bytes changed."""
    chance = random.Random(3)
    good = request("POST", CHAT, json.dumps(chat(max_tokens=1)).encode(), JSON)
    with bystander(attacked):
        for _ in range(50):
            changed = bytearray(request("POST", CHAT, json.dumps(chat(max_tokens=1)).encode(), JSON, "Connection: close"))
            for _ in range(chance.randint(1, 8)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            answered_or_closed(attacked, good * chance.randint(0, 2) + bytes(changed))


def test_bodies_that_are_too_large(attacked: Target) -> None:
    """Announced, and in chunks without end: 413, long before all of it is there."""
    size = LIMITS["max_body_bytes"]
    with bystander(attacked):
        with connect(attacked.address) as connection:
            connection.sendall(request("POST", CHAT, b"", JSON, f"Content-Length: {size + 1}", length=False))
            assert answer_of(connection)[0] == 413
        ended: list[float] = []

        def send_without_end() -> None:
            with connect(attacked.address) as connection, contextlib.suppress(OSError):
                connection.sendall(request("POST", CHAT, b"", JSON, "Transfer-Encoding: chunked", length=False))
                while time.monotonic() < begun + 15:
                    connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
            ended.append(time.monotonic() - begun)

        begun, threads = time.monotonic(), [threading.Thread(target=send_without_end, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(ended) == 4 and max(ended) < 8, ended
        with connect(attacked.address) as connection:
            connection.sendall(request("POST", CHAT, b"", JSON, "Transfer-Encoding: chunked", length=False) + b"100001\r\n" + b" " * (size + 1) + b"\r\n0\r\n\r\n")
            status, body = answer_of(connection)
            assert status == 413 and refused(status, body)


def test_slow_senders(attacked: Target) -> None:
    """Fifty heads and fifty bodies, a byte at a time: all are told or closed after `read_seconds`, wherever they are."""
    head, body = request("POST", CHAT, b"", JSON, "Content-Length: 1000", length=False), b" " * 1000
    begun = time.monotonic()
    with bystander(attacked), contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(attacked.address)) for _ in range(100)]
        for i, connection in enumerate(slow):
            connection.sendall(head if i % 2 else b"")
        left = dict.fromkeys(slow)
        for step in range(200):
            for i, connection in enumerate(slow):
                try:
                    connection.sendall((body if i % 2 else head)[step : step + 1])
                except ConnectionError:
                    left.pop(connection, None)
            if not left or time.monotonic() - begun > 12:
                break
            time.sleep(0.1)
        assert not left, f"{len(left)} are still listened to"


def test_two_hundred_silent_clients(attacked: Target) -> None:
    """More than the server has connections for: the oldest of those that say nothing make room, and in the end all are closed."""
    with contextlib.ExitStack() as stack:
        with bystander(attacked):
            silent = [stack.enter_context(connect(attacked.address)) for _ in range(200)]
        assert all(is_closed(connection, 10) for connection in silent)


def test_readers_that_do_not_read(attacked: Target) -> None:
    """Ten clients ask for more than the buffers hold and read nothing: they are cut off."""
    with attacked.client() as client:
        for i in range(4):
            assert client.put("/v1/documents", json={"documents": [{"id": f"big{i}", "text": "word " * 50_000}]}).status_code == 200
    with bystander(attacked), contextlib.ExitStack() as stack:
        idle = []
        for _ in range(10):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, port = attacked.address.removeprefix("http://").split(":")
            connection.connect((host, int(port)))
            connection.sendall(b"".join(request("GET", f"/v1/documents/big{i % 4}") for i in range(40)))
            idle.append(connection)
        time.sleep(3 * LIMITS["write_seconds"])
        assert all(is_cut(connection) for connection in idle)


def is_cut(connection: socket.socket) -> bool:
    """Whether the other side has reset a connection: reading what is left of it ends in an error, or early."""
    connection.settimeout(5)
    read = 0
    try:
        while part := connection.recv(2**20):
            read += len(part)
    except TimeoutError:
        return False
    except OSError:
        return True
    return read < 40 * 250_000


def test_streams_that_are_broken_off(attacked: Target) -> None:
    """Eighty streams whose readers go away with a reset: before anything came, in the middle, at the end. Nothing of it goes on."""
    chance = random.Random(5)

    def go_away(number: int) -> None:
        body = json.dumps(chat(f"Who wrote number {number}?", stream=True, documents=[{"text": f"Text {number % 7} of some length. " * 20}, {"text": "another"}])).encode()
        with connect(attacked.address) as connection:
            connection.sendall(request("POST", CHAT, body, JSON))
            for _ in range(number % 3):
                connection.recv(200)
            time.sleep(chance.random() * 0.1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with bystander(attacked, most=15):
        threads = [threading.Thread(target=go_away, args=(number,), daemon=True) for number in range(80)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_a_full_queue_says_when_to_come_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    """More questions than the queue takes: 429 with Retry-After and nothing else, and who was taken is answered."""
    with target(tmp_path_factory.mktemp("full"), queue=2, max_rows=1) as small:
        replies: list[httpx.Response] = []

        def ask(number: int) -> None:
            with small.client() as client:
                replies.append(client.post(CHAT, json=chat(documents=[{"text": f"Text {number}. " * 200}])))

        threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(replies) == 24 and {reply.status_code for reply in replies} == {200, 429}
        for reply in replies:
            if reply.status_code == 429:
                assert refused(429, reply.json()) and int(reply.headers["retry-after"]) >= 1
        assert small.ask() == small.answer
