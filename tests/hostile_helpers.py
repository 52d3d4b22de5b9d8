"""A server that is attacked: over a store on disk in a folder of its own, with a bystander who must be served all the while."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from serve_helpers import chat, wait_until

from graphkv import GraphKV
from graphkv.scheduler import Scheduler
from graphkv.serve.app import create_app
from graphkv.serve.library import Library
from graphkv.serve.run import Server, bind
from graphkv.serve.settings import Settings, allowed_hosts

LIMITS: dict[str, Any] = {"max_body_bytes": 2**20, "max_held_bytes": 8 * 2**20, "max_document_chars": 300_000, "max_connections": 150}
LIMITS |= {"read_seconds": 1.5, "write_seconds": 1.5, "request_seconds": 20.0}
"""Small ones, so that a test sees them reached."""


@dataclass
class Target:
    """An attacked server.

    Attributes:
        address: its own. root: a folder with nothing but the server's in it; the working directory lies in it, the store below that. answer: the right one of :func:`chat`.
    """

    address: str
    root: Path
    scheduler: Scheduler
    answer: str = ""

    def client(self, timeout: float = 30.0) -> httpx.Client:
        """A client that keeps its connection."""
        return httpx.Client(base_url=self.address, timeout=timeout, trust_env=False, verify=False)  # no TLS here: reading the certificates takes longer than an answer

    def ask(self, **more: Any) -> str:
        """The answer to the usual question."""
        with self.client() as client:
            return str(client.post("/v1/chat/completions", json=chat(**more)).raise_for_status().json()["choices"][0]["message"]["content"])

    def tree(self) -> set[str]:
        """Everything in the root but the store's own, which lies where it should."""
        store = self.root / "a" / "b" / "store"
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_relative_to(store)}

    def idle(self) -> bool:
        """Whether nothing waits and nothing is written."""
        stats = self.scheduler.stats()
        return not stats.waiting and not stats.running


@contextlib.contextmanager
def target(root: Path, **limits: Any) -> Iterator[Target]:
    """A server whose working directory and store lie in `root`."""
    here = root / "a" / "b"
    here.mkdir(parents=True)
    settings = Settings(hosts=allowed_hosts("127.0.0.1", ()), **{**LIMITS, **limits})
    with contextlib.chdir(here), Scheduler(GraphKV.from_pretrained(store=here / "store"), max_waiting=settings.queue, max_rows=settings.max_rows) as scheduler:
        library = Library(here / "store" / "serve" / "documents.sqlite")
        listener = bind("127.0.0.1", 0)
        server = Server(create_app(scheduler, settings, library=library), settings)
        thread = threading.Thread(target=server.run, args=([listener],), name="attacked", daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started)
            found = Target(f"http://127.0.0.1:{listener.getsockname()[1]}", root, scheduler)
            found.answer = found.ask()
            yield found
        finally:
            server.should_exit = True
            thread.join(60)
            listener.close()
            library.close()
            if thread.is_alive():
                raise RuntimeError("the server does not stop")


@contextlib.contextmanager
def bystander(attacked: Target, most: float = 10.0) -> Iterator[None]:
    """Somebody else asks all the while: every answer must be the right one, and come within `most` seconds."""
    over, answers, slowest, failed = threading.Event(), list[str](), [0.0], list[BaseException]()

    def ask() -> None:
        try:
            while not answers or not over.is_set():
                begin = time.monotonic()
                answers.append(attacked.ask())
                slowest[0] = max(slowest[0], time.monotonic() - begin)
                time.sleep(0.02)
        except BaseException as error:  # shown in the test's own thread
            failed.append(error)

    thread = threading.Thread(target=ask, name="bystander", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    assert not thread.is_alive() and not failed, failed
    assert set(answers) == {attacked.answer} and slowest[0] < most, slowest


@contextlib.contextmanager
def no_failures() -> Iterator[None]:
    """Nothing is logged as an error meanwhile, by whomever: a failure that the client does not see is one, too."""
    found: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(f"{record.name}: {record.getMessage()} {logging.Formatter().formatException(record.exc_info) if record.exc_info else ''}")

    listener = Listener(logging.ERROR)
    names = ("graphkv.serve", "uvicorn", "uvicorn.error", "asyncio", "concurrent.futures")
    for name in names:
        logging.getLogger(name).addHandler(listener)
    try:
        yield
    finally:
        for name in names:
            logging.getLogger(name).removeHandler(listener)
    assert not found, found[:3]


@contextlib.contextmanager
def unharmed_by_it(attacked: Target) -> Iterator[None]:
    """Afterwards: no failure inside, nothing outside of the store, nothing left to do, the usual answer."""
    before = attacked.tree()
    with no_failures():
        yield
        wait_until(attacked.idle)
        assert attacked.ask() == attacked.answer
    assert attacked.tree() == before


def refused(status: int, body: Any) -> str:
    """Checks that this is a refusal: 4xx, and one clear line. Returns that."""
    assert 400 <= status < 500, (status, body)
    return one_error(body)


def one_error(body: Any) -> str:
    """Checks that a body is an error of ours, in one line. Returns that."""
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "code", "param"}, body
    message = body["error"]["message"]
    assert isinstance(message, str) and 10 <= len(message) <= 1000 and message.isprintable(), message
    assert "Traceback" not in message and "site-packages" not in message, message
    return message
