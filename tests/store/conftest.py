"""Every kind of store, for the tests of what all of them do; blocks to put in are made by `store_helpers.py`."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from store_helpers import MakeStore

from graphkv.store import FileStore, MemoryStore
from graphkv.store.files import RemoteFiles
from graphkv.store.scoped import ScopedStore


@pytest.fixture(params=["memory", "folder", "fsspec", "fsspec-rename", "scoped"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeStore:
    """Makes stores of one kind; two made by one test share their place, where they have one."""
    name = secrets.token_hex(4)
    if request.param == "memory":
        return MemoryStore
    if request.param == "scoped":
        return lambda max_bytes=None, codec="exact": ScopedStore(MemoryStore(max_bytes, codec), name)
    if request.param == "fsspec-rename":  # a file system of fsspec that writes in place, so that ours must rename
        monkeypatch.setattr("graphkv.store.folder.files_at", lambda place, options, mapper: RemoteFiles(f"file://{place}", options))
    place = f"memory://{name}" if request.param == "fsspec" else str(tmp_path / name)
    return lambda max_bytes=None, codec="exact": FileStore(place, max_bytes=max_bytes, codec=codec)
