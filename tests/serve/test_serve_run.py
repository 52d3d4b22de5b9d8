"""`graphkv serve` as a process: how it starts, what it refuses to start with, and that it stops without breaking an answer off."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from serve_helpers import answer_of, chat, connect, request, served_app, wait_until
from typer.testing import CliRunner, Result

from graphkv import GraphKV
from graphkv.cli import app as command
from graphkv.errors import InputError
from graphkv.serve.app import create_app
from graphkv.serve.library import Library
from graphkv.serve.run import bind
from graphkv.serve.settings import KEYS, Settings


@contextmanager
def process(*args: str, key: str | None = None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server as users start it: yields its address and the process, which is killed if it is still there."""
    environment = {name: value for name, value in os.environ.items() if name != KEYS} | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"} | ({KEYS: key} if key else {})
    started = [sys.executable, "-c", "from graphkv.cli import app; app()", "serve", "--port", "0", *args]
    child = subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert child.stdout is not None and child.stderr is not None
        line = child.stdout.readline()
        assert " at http://" in line, line + child.stderr.read()
        yield line.partition(" at ")[2].split()[0], child
    finally:
        child.kill()
        child.communicate()


def streamed(address: str, body: dict[str, Any], begun: threading.Event | None = None, headers: dict[str, str] | None = None, cut: bool = False) -> list[Any]:
    """Every event of a streamed answer; `begun` is set at the third. If it may be `cut`, those until then."""
    events: list[Any] = []
    cutting = contextlib.suppress(httpx.TransportError) if cut else contextlib.nullcontext()
    with cutting, httpx.stream("POST", address + "/v1/chat/completions", json=body | {"stream": True}, timeout=60, headers=headers) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: "):
                data = line.removeprefix("data: ")
                events.append(data if data == "[DONE]" else json.loads(data))
                if begun is not None and len(events) == 3:
                    begun.set()
    return events


def finish(events: list[Any]) -> str | None:
    """The reason for which an answer ended."""
    return next((event["choices"][0]["finish_reason"] for event in reversed(events) if isinstance(event, dict) and event.get("choices")), None)


LONG = chat("Tell a long story.", max_tokens=400, stop=None)


def test_stopped_while_answers_stream(model: str, tmp_path: Path) -> None:
    """1. Two answers are on their way, one of them waits for the other. 2. SIGTERM. 3. Both end whole, nobody else gets in, the exit code is 0.
    4. What was put and encoded is there after a start with the same store, now with keys. 5. Ctrl-C ends that one as well, a second one at once."""
    found = dict[str, list[Any]]()
    keys = ("a-key-of-some-length", "another-of-some-length")
    headers = {"Authorization": f"Bearer {keys[1]}", "X-Request-Id": "mine"}
    options = ("--model", model, "--store", str(tmp_path / "kv"), "--rows", "1", "--name", "tiny")

    def lines(child: subprocess.Popen[str]) -> list[dict[str, Any]]:
        _, log = child.communicate(timeout=30)
        assert child.returncode == 0, log
        assert not any(key in log for key in keys)
        return [json.loads(line) for line in log.splitlines()]

    with process(*options, key=keys[1]) as (address, child):
        assert httpx.put(address + "/v1/documents/kept", json={"text": "A kept text."}, headers=headers).status_code == 200
        begun = threading.Event()
        first = threading.Thread(target=lambda: found.update(first=streamed(address, LONG, begun, headers)))
        first.start()
        assert begun.wait(30)
        second = threading.Thread(target=lambda: found.update(second=streamed(address, LONG | {"max_tokens": 5}, None, headers)))
        second.start()
        wait_until(lambda: "graphkv:num_requests_waiting 1.0" in httpx.get(address + "/metrics", headers=headers).text)
        child.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(httpx.TransportError):
            httpx.get(address + "/health", timeout=2)
        first.join(60)
        second.join(60)
        assert all(line["event"] == "request" and line["status"] == 200 for line in lines(child))
    for events, length in ((found["first"], 400), (found["second"], 5)):
        assert events[-1] == "[DONE]" and finish(events) == "length"
        assert not any("error" in event for event in events if isinstance(event, dict))
        assert len(events) <= length + 4

    with process(*options, key=",".join(keys)) as (address, child):
        assert httpx.get(address + "/v1/models").status_code == 401
        assert httpx.get(address + "/v1/documents/kept", headers=headers | {"Host": "proxy.example"}).json()["text"] == "A kept text."
        assert httpx.get(address + "/v1/documents/kept", headers={"X-API-Key": keys[0]}).status_code == 404
        usage = httpx.post(address + "/v1/chat/completions", json=LONG | {"max_tokens": 1}, timeout=60, headers=headers).json()["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > 0
        begun.clear()
        cut = threading.Thread(target=lambda: found.update(cut=streamed(address, LONG | {"max_tokens": 4000}, begun, headers, cut=True)))
        cut.start()
        assert begun.wait(30)
        child.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert child.poll() is None  # it waits for the answer
        child.send_signal(signal.SIGINT)
        stopped = time.monotonic()
        logged = lines(child)
        assert time.monotonic() - stopped < 10
        cut.join(30)
    assert len(found["cut"]) >= 3 and "[DONE]" not in found["cut"]
    assert [(line["event"], line["path"], line["status"]) for line in logged[:4]] == [
        ("request", "-", 401),
        ("request", "/v1/documents/{id:path}", 200),
        ("request", "/v1/documents/{id:path}", 404),
        ("request", "/v1/chat/completions", 200),
    ]
    assert logged[1]["id"] == "mine"


def test_answers_that_would_take_too_long_are_ended_with_a_word(model: str) -> None:
    """When `stop_seconds` are over: a stream ends with an error event, and who waited for the whole gets 503."""
    app = create_app(GraphKV.from_pretrained(model, store="memory"), Settings(stop_seconds=0.3, max_rows=2))
    found: dict[str, Any] = {}
    long = LONG | {"max_tokens": 4000}
    with served_app(app) as address:
        begun = threading.Event()
        threads = [
            threading.Thread(target=lambda: found.update(stream=streamed(address, long, begun))),
            threading.Thread(target=lambda: found.update(whole=httpx.post(address + "/v1/chat/completions", json=long, timeout=60))),
        ]
        for thread in threads:
            thread.start()
        assert begun.wait(30)
        wait_until(lambda: app.state.graphkv.scheduler.stats().running == 2)
    for thread in threads:
        thread.join(30)
    assert found["whole"].status_code == 503 and "cancelled" in found["whole"].json()["error"]["message"]
    assert "cancelled" in found["stream"][-1]["error"]["message"]


def test_a_request_that_is_still_being_sent_when_the_server_stops(embedded: GraphKV) -> None:
    """It is not begun any more; the client can tell that from a full queue."""
    body = json.dumps(chat()).encode()
    found: dict[str, Any] = {}
    app = create_app(embedded, Settings())
    with served_app(app) as address:
        connection = connect(address)
        connection.sendall(request("POST", "/v1/chat/completions", b"", "Content-Type: application/json", f"Content-Length: {len(body)}", length=False) + body[:5])
        wait_until(lambda: "graphkv:http_requests_in_work 2.0" in httpx.get(address + "/metrics").text)

        def rest() -> None:
            wait_until(lambda: app.state.graphkv.scheduler._closing)
            connection.sendall(body[5:])
            found["answer"] = answer_of(connection)

        thread = threading.Thread(target=rest)
        thread.start()
    thread.join(30)
    connection.close()
    status, error = found["answer"]
    assert (status, error["error"]["code"]) == (503, "stopping")


def run(*args: str, **environment: str) -> Result:
    return CliRunner().invoke(command, ["serve", *args], env={"COLUMNS": "200", "GRAPHKV_DEBUG": "", KEYS: None, **environment})


REFUSED: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "others without a key": (("--host", "0.0.0.0"), {}, "others can reach 0.0.0.0: put an API key into GRAPHKV_API_KEY"),
    "others by IPv6": (("--host", "::"), {}, "others can reach ::"),
    "a key that is empty": ((), {KEYS: ""}, "GRAPHKV_API_KEY is set but holds no key"),
    "a key that is short": ((), {KEYS: "abc"}, "8 to 512 visible ASCII characters"),
    "keys and none": (("--without-key",), {KEYS: "a-key-of-some-length"}, "leave one of them out"),
    "another's address": (("--host", "192.0.2.1", "--without-key"), {}, "192.0.2.1 is no address of this machine"),
    "no host": (("--host", "no such host", "--without-key"), {}, "'no such host' is not known here"),
    "a layout": (("--layout", "grpah"), {}, "unknown layout 'grpah'"),
    "a size": (("--max-body", "much"), {}, "expected a size such as 500MB"),
    "no size": (("--max-body", "0"), {}, "max_body_bytes must be a whole number of at least 1"),
    "no time": (("--timeout", "nan"), {}, "request_seconds must be a number of seconds above 0"),
    "a model": (("--model", "/no/such/model"), {}, "/no/such/model"),
    "a store": (("--store", __file__), {}, "store"),
    "a library": (("--documents", __file__), {}, "document library"),
    "a codec": (("--codec", "zip"), {}, "unknown codec 'zip'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_start_with(name: str) -> None:
    args, environment, expected = REFUSED[name]
    result = run("--port", "0", *args, **environment)
    assert result.exit_code == 2 and expected in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not result.stdout


def test_a_port_in_use_is_said_before_the_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = run("--port", str(port := other.getsockname()[1]), "--model", "/no/such/model")
    assert result.exit_code == 2 and f"port {port} of 127.0.0.1 is in use" in result.stderr


def test_a_port_that_is_taken_while_the_model_is_loaded(embedded: GraphKV) -> None:
    from graphkv.scheduler import Scheduler
    from graphkv.serve.run import serve

    with bind("127.0.0.1", 0) as ours, bind("127.0.0.1", ours.getsockname()[1]) as theirs:
        theirs.listen()
        with pytest.raises(InputError, match="in use"):
            serve(Scheduler(embedded), Settings(), ours)


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "uvicorn" else found(name, *rest))
    result = run()
    assert result.exit_code == 2 and "the server needs uvicorn: pip install 'graphkv[serve]'" in result.stderr


def test_of_several_addresses_the_one_that_everything_understands(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)), (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: known)
    with bind("localhost", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_addresses_of_this_machine(host: str) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with bind(host, 0) as listener:
        assert listener.getsockname()[0] == ("::1" if host == "::1" else "127.0.0.1")


def test_documents_may_come_before_the_first_block(tmp_path: Path) -> None:
    """The library lies in the store's folder, which is no store yet: it becomes one all the same."""
    place = tmp_path / "kv"
    Library(place / "serve" / "documents.sqlite").close()
    engine = GraphKV.from_pretrained(store=place)
    engine.encode(chat()["documents"])
    assert len(GraphKV.from_pretrained(store=place).store) > 0
