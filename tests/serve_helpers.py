"""Servers in a thread, and clients that speak raw bytes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI

from graphkv import GraphKV
from graphkv.scheduler import Scheduler
from graphkv.serve.app import create_app
from graphkv.serve.run import Server, bind
from graphkv.serve.settings import Settings

DOCUMENTS = [
    {"id": "a", "title": "Night Maple", "text": "Night Maple is a novel. It was written by Ada Reed in 1931."},
    {"id": "b", "title": "Ada Reed", "text": "Ada Reed was born in Lund and wrote two novels.", "sources": ["a"]},
]


def chat(question: str = "Who wrote Night Maple?", **more: Any) -> dict[str, Any]:
    """The body of a question over two documents."""
    return {"messages": [{"role": "user", "content": question}], "documents": DOCUMENTS, **more}


@contextmanager
def served(engine: GraphKV | Scheduler, settings: Settings | None = None) -> Iterator[str]:
    """A server in a thread of its own, on a free port; yields its address. It is stopped as SIGTERM stops one."""
    settings = settings or Settings()
    with served_app(create_app(engine, settings)) as address:
        yield address


@contextmanager
def served_app(app: FastAPI) -> Iterator[str]:
    """:func:`served`, for an application. The scheduler ends with it."""
    listener = bind("127.0.0.1", 0)
    server = Server(app, app.state.graphkv.settings)
    thread = threading.Thread(target=server.run, args=([listener],), name="server", daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        listener.close()
        if thread.is_alive():
            raise RuntimeError("the server does not stop")


def wait_until(true: Any, seconds: float = 30.0) -> None:
    """Returns when a condition holds. Raises TimeoutError."""
    by = time.monotonic() + seconds
    while not true():
        if time.monotonic() > by:
            raise TimeoutError("it does not become true")
        time.sleep(0.01)


def connect(address: str) -> socket.socket:
    """A raw connection to a server."""
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def raw(address: str, data: bytes) -> tuple[int, Any]:
    """Send bytes, close the sending side, read the answer to its end: (status, body as JSON). (0, None) if there is none."""
    with connect(address) as connection:
        connection.sendall(data)
        return answer_of(connection)


def answer_of(connection: socket.socket) -> tuple[int, Any]:
    """Read one answer: (status, body as JSON). (0, None) if the connection is closed without one."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return 0, None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return status, json.loads(body)


def request(method: str, path: str, body: bytes = b"", *headers: str, length: bool = True, host: str = "127.0.0.1") -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
