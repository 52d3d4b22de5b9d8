"""FileStore: blocks as files, in a folder or any place that fsspec reaches; what the folder holds and how is in folder.py."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from graphkv.errors import StoreWarning
from graphkv.kv import SegmentKV
from graphkv.store.base import Store, check_budget
from graphkv.store.entry import DamagedEntry, Entry
from graphkv.store.folder import Folder
from graphkv.store.memory import MemoryStore
from graphkv.store.tensors import from_bytes, map_file, to_bytes


class FileStore(Store):
    """Blocks as files, shared by any number of processes, today and tomorrow.

    Args:
        place: a folder, or an fsspec address such as ``s3://bucket/kv`` (with the package that fsspec names for it, ``s3fs`` there).
        max_bytes: budget on disk; None for no limit. Each process counts what it writes itself and looks at the folder again before it
            evicts, so several writers may exceed it for a while by what the others wrote.
        codec: as in :class:`graphkv.store.Store`.
        memory_bytes: keep that many bytes of decoded blocks in memory too: for remote places, and for codecs other than ``exact``.
        read_only: write nothing, not even times of use; blocks that are missing are encoded and not kept.
        options: for the fsspec file system.

    Local files are memory-mapped: reading a block copies nothing, and pages come from the disk's cache. The map is private: no
    change to a tensor reaches the file. On an object store blocks go in the order in which they were written, for it notes no use.

    Raises:
        StoreError: the place is a file, or a folder with something else in it, or a store of another version.

    Example:
        >>> store = FileStore("/tmp/kv", max_bytes=2**30, codec="int8")  # doctest: +SKIP
        >>> engine = GraphKV.from_pretrained(store=store)  # doctest: +SKIP
    """

    def __init__(
        self,
        place: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        codec: str = "exact",
        memory_bytes: int = 0,
        read_only: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(max_bytes, codec)
        self.options = dict(options or {})
        self.folder = Folder(place, read_only=read_only, options=options, mapper=map_file)
        self.memory = MemoryStore(memory_bytes) if memory_bytes else None
        self._lock = threading.Lock()
        self._estimate: int | None = None  # bytes in the store, as far as this process knows

    @property
    def place(self) -> str:
        """The folder or address."""
        return self.folder.place

    def get(self, key: str, token_ids: Sequence[int]) -> SegmentKV | None:
        if self.memory is not None and (kept := self.memory.get(key, token_ids)) is not None:
            self.folder.used(key)
            return kept
        data = self.folder.read(key)
        if data is None:
            return None
        try:
            block = from_bytes(data, key)
        except DamagedEntry as error:
            warnings.warn(f"the block {key[:12]} in {self.place} is damaged ({error}): it is encoded again", StoreWarning, stacklevel=2)
            return None
        if block.token_ids != tuple(token_ids):
            return None
        self.folder.used(key)
        if self.memory is not None:
            self.memory.put(block)
        return block

    def put(self, block: SegmentKV) -> SegmentKV:
        """As in :class:`graphkv.store.Store`. Raises StoreError if the place is full or cannot be written to; nothing is left half-written."""
        data = to_bytes(block, self.codec, self.codec.pack(block))
        if self.codec.name != "exact":
            block = from_bytes(data, block.key)
        if self.memory is not None:
            self.memory.put(block)
        if not self.folder.read_only and (self.max_bytes is None or len(data) <= self.max_bytes):
            self.folder.write(block.key, data)
            self._make_room(len(data))
        return block

    def __contains__(self, key: object) -> bool:
        return key in self.folder

    def keys(self) -> Iterator[str]:
        return self.folder.keys()

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return self.folder.nbytes

    def entries(self) -> Iterator[Entry]:
        return self.folder.entries()

    def remove(self, key: str) -> bool:
        if self.memory is not None:
            self.memory.remove(key)
        return self.folder.remove(key)

    def touch(self, key: str) -> None:
        self.folder.used(key)

    def pin(self, key: str, *, ahead: bool = False) -> None:
        self.folder.pin(key, ahead=ahead)

    def unpin(self, key: str) -> None:
        self.folder.unpin(key)

    def prune(self, max_bytes: int) -> list[Entry]:
        """As in :class:`graphkv.store.Store`, by sizes and times of use alone: the entries that went have no label."""
        check_budget(max_bytes)
        gone, self._estimate = self.folder.prune(max_bytes)
        return gone

    def _make_room(self, written: int) -> None:
        """Evict down to the budget. The folder is looked through at the first write, and when this process's count reaches the budget."""
        if self.max_bytes is None:
            return
        with self._lock:
            self._estimate = self.nbytes if self._estimate is None else self._estimate + written
            if self._estimate > self.max_bytes:
                # a little more than needed, so that not every write looks through the folder
                spare = min(self.max_bytes // 20, 16 * written)
                self._estimate = self.folder.nbytes
                if self._estimate > self.max_bytes:
                    self._estimate = self.folder.prune(self.max_bytes - spare)[1]
