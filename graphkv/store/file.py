"""FileStore: one file a block, in a folder or any place that fsspec reaches.

    graphkv-store.json      which version of this layout it is
    blocks/3f/3fa9….safetensors   one block, see entry.py
    pins/3fa9…              an empty file: never evict that block
    tmp/                    files that are being written
    manifest.jsonl          see manifest.py

Everything that is visible is whole: files are written under a temporary name and renamed, and never changed. So readers need no lock, and
any number of processes may write: two that encode the same block write the same file. A file's modification time says when it was last used.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from graphkv.errors import InputError, StoreError, StoreWarning
from graphkv.kv import SegmentKV
from graphkv.store.base import Entry, Store, evictable, now
from graphkv.store.entry import HEAD_BYTES, DamagedEntry, check, from_bytes, head_length, parse_head, to_bytes
from graphkv.store.files import Files, Found, files_at
from graphkv.store.manifest import NAME as MANIFEST
from graphkv.store.manifest import manifest_bytes, read_manifest
from graphkv.store.memory import MemoryStore

FORMAT = 1
MARKER = "graphkv-store.json"
SUFFIX = ".safetensors"
STALE_SECONDS = 3600.0
"""A temporary file that old was left by a writer that was killed."""

_KEY = re.compile(r"[0-9a-f]{16,128}")
_TOUCH_SECONDS = 60.0
"""A hit renews the time of use at most this often."""


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
    change to a tensor reaches the file.

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
        self.read_only = read_only
        self.memory = MemoryStore(memory_bytes) if memory_bytes else None
        self.files: Files = files_at(place, options or {})
        self.place = self.files.place
        self._lock = threading.Lock()
        self._marked = self._check_marker()
        self._estimate: int | None = None  # bytes in the store, as far as this process knows
        self._touched: dict[str, float] = {}

    def get(self, key: str, token_ids: Sequence[int]) -> SegmentKV | None:
        if self.memory is not None and (block := self.memory.get(key, token_ids)) is not None:
            return block
        name = _name(key)
        try:
            data = self.files.read(name)
        except OSError as error:
            raise StoreError(f"the store {self.place} cannot be read: {error}") from error
        if data is None:
            return None
        try:
            block = from_bytes(data, key)
        except DamagedEntry as error:
            warnings.warn(f"{self.place}/{name} is damaged ({error}): the block is encoded again", StoreWarning, stacklevel=2)
            return None
        if block.token_ids != tuple(token_ids):
            return None
        self._touch(name)
        if self.memory is not None:
            self.memory.put(block)
        return block

    def put(self, block: SegmentKV) -> SegmentKV:
        """As in :class:`graphkv.store.Store`. Raises StoreError if the place is full or cannot be written to; nothing is left half-written."""
        packed = self.codec.pack(block)
        data = to_bytes(block, self.codec, packed)
        if self.codec.name != "exact":
            block = from_bytes(data, block.key)
        if self.memory is not None:
            self.memory.put(block)
        if self.read_only or (self.max_bytes is not None and len(data) > self.max_bytes):
            return block
        name = _name(block.key)
        try:
            if not self._marked:
                self.files.write(MARKER, json.dumps({"graphkv_store": FORMAT}).encode())
                self._marked = True
            self.files.write(name, data)
            self._make_room(len(data))
        except OSError as error:
            raise StoreError(f"the store {self.place} cannot keep a block of {len(data):,} bytes: {error.strerror or error}") from error
        return block

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.files.exists(_name(key))

    def __len__(self) -> int:
        return sum(1 for _ in self._found())

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return sum(found.size for _, found in self._found())

    def entries(self) -> Iterator[Entry]:
        """What is there, least recently used first. Reads the manifest and the headers that it lacks, and completes it."""
        known = read_manifest(self.files.read(MANIFEST))
        pins = self.pins()
        found = list(self._found())
        about = {key: known[key] for key, f in found if key in known and known[key][0] == f.size}
        fresh = {key: seen for key, f in found if key not in about and (seen := self._peek(f)) is not None}
        about |= fresh
        if (fresh or len(about) != len(known)) and not self.read_only:
            self._write_manifest(about)
        for key, f in sorted(found, key=lambda item: (item[1].used, item[0])):
            size, tokens, codec, dtype, label, model = about.get(key, (f.size, 0, "?", "?", "(unreadable)", ""))
            yield Entry(key, tokens, size, codec, dtype, label, model, f.used, key in pins)

    def remove(self, key: str) -> bool:
        if self.memory is not None:
            self.memory.remove(key)
        self._must_write()
        self.files.remove(f"pins/{_checked(key)}")
        return self.files.remove(_name(key))

    def pin(self, key: str) -> None:
        if key not in self:
            raise InputError(f"there is no block {key!r} to pin in {self.place}")
        self._must_write()
        self.files.write(f"pins/{_checked(key)}", b"pinned\n")

    def unpin(self, key: str) -> None:
        self._must_write()
        self.files.remove(f"pins/{_checked(key)}")

    def pins(self) -> frozenset[str]:
        """Keys that are pinned."""
        return frozenset(found.name.rpartition("/")[2] for found in self.files.walk("pins"))

    def prune(self, max_bytes: int) -> list[Entry]:
        self._must_write()
        self.files.sweep(STALE_SECONDS)
        return super().prune(max_bytes)

    def clear(self) -> None:
        self._must_write()
        super().clear()

    def damage(self, key: str) -> str | None:
        """What is wrong with an entry, None if it is whole: every byte is read and compared with its checksum."""
        try:
            data = self.files.read(_name(key))
            if data is not None and (holds := check(data)["__metadata__"]["key"]) != key:
                return f"it holds the block {holds[:12]}"
        except DamagedEntry as error:
            return str(error)
        except OSError as error:
            return f"it cannot be read: {error.strerror or error}"
        return None

    def sweep(self) -> int:
        """Remove what killed writers left behind more than an hour ago. Returns how many files."""
        self._must_write()
        return self.files.sweep(STALE_SECONDS)

    def rebuild_manifest(self) -> int:
        """Forget the manifest and make it again from the files. Returns the number of entries."""
        self._must_write()
        self.files.remove(MANIFEST)
        return sum(1 for _ in self.entries())

    # Inside.

    def _check_marker(self) -> bool:
        """Whether the folder is marked as a store; False for one that is yet to be made."""
        try:
            data = self.files.read(MARKER)
            if data is None:
                others: set[str] = set(self.files.others()) - {"blocks", "pins", "tmp", MANIFEST}
                if others:
                    raise StoreError(f"{self.place} is no store: expected an empty or a new folder, found {sorted(others)[0]!r} in it")
                return False
            version = json.loads(bytes(data))["graphkv_store"]
        except OSError as error:
            raise StoreError(f"the store {self.place} cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self.place}/{MARKER} is damaged: delete that file if the folder is a store of graphkv; it is written again") from error
        if version != FORMAT:
            raise StoreError(f"the store {self.place} is of version {version!r}, this graphkv reads version {FORMAT}: give another folder, or use the graphkv that made it")
        return True

    def _must_write(self) -> None:
        if self.read_only:
            raise StoreError(f"the store {self.place} was opened read-only")

    def _found(self) -> Iterator[tuple[str, Found]]:
        for found in self.files.walk("blocks"):
            key = found.name.rpartition("/")[2].removesuffix(SUFFIX)
            if found.name == _name_or_none(key):
                yield key, found

    def _peek(self, found: Found) -> list[Any] | None:
        """What the header says, unchecked: for listings only."""
        head = self.files.head(found.name, HEAD_BYTES) or b""
        if len(head) < head_length(head) <= found.size:
            head = self.files.head(found.name, head_length(head)) or b""
        header = parse_head(head)
        if header is None:
            return None
        meta = header["__metadata__"]
        tokens = str(meta.get("tokens", ""))
        return [found.size, int(tokens) if tokens.isdecimal() else 0, *(str(meta.get(name, "")) for name in ("codec", "dtype", "label", "model"))]

    def _write_manifest(self, about: dict[str, list[Any]]) -> None:
        with contextlib.suppress(OSError):  # it only saves time: on a medium that cannot be written to, the next listing reads the headers again
            self.files.write(MANIFEST, manifest_bytes(about))

    def _touch(self, name: str) -> None:
        moment = now()
        if self.read_only or moment - self._touched.get(name, 0.0) < _TOUCH_SECONDS:
            return
        if len(self._touched) > 100_000:
            self._touched.clear()
        self._touched[name] = moment
        with contextlib.suppress(OSError):  # evicted meanwhile, or a medium that cannot be written to: the block itself has been read
            self.files.touch(name)

    def _make_room(self, written: int) -> None:
        """Evict down to the budget. The folder is looked through at the first write, and when this process's count reaches the budget."""
        if self.max_bytes is None:
            return
        with self._lock:
            self._estimate = self.nbytes if self._estimate is None else self._estimate + written
            if self._estimate <= self.max_bytes:
                return
            self.files.sweep(STALE_SECONDS)
            found = [(key, f) for key, f in self._found()]
            total, pins = sum(f.size for _, f in found), self.pins()
            found.sort(key=lambda item: (item[1].used, item[0]))
            # a little more than needed, so that not every write looks through the folder
            goal = self.max_bytes - min(self.max_bytes // 20, written * 16)
            entries = (Entry(key, 0, f.size, "", "", "", "", f.used, key in pins) for key, f in found)
            for entry in evictable(entries, total - goal) if total > self.max_bytes else []:
                self.files.remove(_name(entry.key))
                total -= entry.nbytes
            self._estimate = total


def _checked(key: str) -> str:
    """A key becomes part of a path: hexadecimal digits and nothing else. Raises InputError."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InputError(f"expected a block's key (16 to 128 hexadecimal digits), got {key!r}")
    return key


def _name(key: str) -> str:
    return f"blocks/{_checked(key)[:2]}/{key}{SUFFIX}"


def _name_or_none(key: str) -> str | None:
    return _name(key) if _KEY.fullmatch(key) else None
