"""Servers for the tests: one over the embedded model for all of them, another that asks for keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serve_helpers import served
from starlette.testclient import TestClient

from graphkv import GraphKV
from graphkv.scheduler import Scheduler
from graphkv.serve.app import create_app
from graphkv.serve.settings import Settings, allowed_hosts

KEYS = ("first-key-of-two", "second-key-of-two")


@pytest.fixture(scope="session")
def embedded() -> GraphKV:
    """The embedded model over an empty store in memory."""
    return GraphKV.from_pretrained(store="memory")


@pytest.fixture(scope="session")
def scheduler(embedded: GraphKV) -> Iterator[Scheduler]:
    with Scheduler(embedded) as scheduler:
        yield scheduler


@pytest.fixture(scope="session")
def app_client(scheduler: Scheduler) -> Iterator[TestClient]:
    """A client that calls the application itself, without a network."""
    app = create_app(scheduler, Settings(hosts=allowed_hosts("127.0.0.1", ())))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture(scope="session")
def live_server(scheduler: Scheduler) -> Iterator[str]:
    """The address of a real server without keys."""
    with served(scheduler, Settings(hosts=allowed_hosts("127.0.0.1", ()))) as address:
        yield address


@pytest.fixture(scope="session")
def key_server(scheduler: Scheduler) -> Iterator[str]:
    """The address of a real server that asks for one of :data:`KEYS`."""
    with served(scheduler, Settings(keys=KEYS)) as address:
        yield address
