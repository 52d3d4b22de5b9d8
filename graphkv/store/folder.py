"""The folder of a store: entries as files, listed, pinned, verified and evicted. No torch here, so looking into a store is quick.

    graphkv-store.json            which version of this layout it is
    blocks/3f/3fa9….safetensors   one block, see entry.py
    pins/3fa9…                    a small file: never evict that block
    tmp/                          files that are being written
    manifest.jsonl                see manifest.py
    serve/                        documents that clients left with `graphkv serve`

Everything that is visible is whole: files are written under a temporary name and renamed, and never changed. So readers need no lock, and
any number of processes may write: two that encode the same block write the same file. A file's modification time says when it was last used.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any

from graphkv.errors import InputError, StoreError
from graphkv.store.entry import HEAD_BYTES, DamagedEntry, Entry, check, evictable, head_length, parse_head
from graphkv.store.files import Files, Found, Mapper, files_at
from graphkv.store.manifest import NAME as MANIFEST
from graphkv.store.manifest import manifest_bytes, read_manifest

FORMAT = 1
MARKER = "graphkv-store.json"
SUFFIX = ".safetensors"
STALE_SECONDS = 3600.0
"""A temporary file that old was left by a writer that was killed."""

_KEY = re.compile(r"[0-9a-f]{16,128}")
_TOUCH_SECONDS = 60.0
"""A hit renews the time of use at most this often."""


class Folder:
    """The files of a store, in a local folder or at an fsspec address.

    Args:
        place: see :class:`graphkv.store.FileStore`. read_only: write nothing. options: for the fsspec file system.
        mapper: how local files are mapped into memory.

    Raises:
        StoreError: the place is a file, a folder with something else in it, or a store of another version.

    Example:
        >>> sum(entry.nbytes for entry in Folder("/tmp/kv").entries())  # doctest: +SKIP
        10735616
    """

    def __init__(
        self, place: str | os.PathLike[str], *, read_only: bool = False, options: dict[str, Any] | None = None, mapper: Mapper | None = None
    ) -> None:
        self.read_only = read_only
        self.files: Files = files_at(place, options or {}, mapper)
        self.place = self.files.place
        self._marked = self._check_marker()
        self._touched: dict[str, float] = {}

    @property
    def exists(self) -> bool:
        """Whether there is a store yet."""
        return self._marked

    def read(self, key: str) -> Any | None:
        """The bytes of an entry, None if there is none. Raises StoreError if they cannot be read."""
        with self._reading():
            return self.files.read(_name(key))

    def write(self, key: str, data: Any) -> None:
        """An entry, whole or not at all. Raises StoreError: no room, or it cannot be written to."""
        self.must_write()
        with self._writing(f"keep a block of {len(data):,} bytes"):
            self._mark()
            self.files.write(_name(key), data)

    def used(self, key: str) -> None:
        """Note that an entry was used now, where that can be noted."""
        moment = time.time()
        if self.read_only or moment - self._touched.get(key, 0.0) < _TOUCH_SECONDS:
            return
        if len(self._touched) > 100_000:
            self._touched.clear()
        self._touched[key] = moment
        with contextlib.suppress(OSError):  # evicted meanwhile, or a medium that cannot be written to: the block itself has been read
            self.files.touch(_name(key))

    def __contains__(self, key: object) -> bool:
        with self._reading():
            return isinstance(key, str) and self.files.exists(_name(key))

    def keys(self) -> Iterator[str]:
        """All keys, in no order."""
        return (key for key, _ in self._found())

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return sum(found.size for _, found in self._found())

    def entries(self) -> Iterator[Entry]:
        """What is there, least recently used first. Reads the manifest and the headers that it lacks, and completes it."""
        pins, found = self.pins(), self._found()
        with self._reading():
            known = read_manifest(self.files.read(MANIFEST))
        about = {key: known[key] for key, f in found if key in known and known[key][0] == f.size}
        fresh = {key: seen for key, f in found if key not in about and (seen := self._peek(f)) is not None}
        about |= fresh
        if (fresh or len(about) != len(known)) and not self.read_only:
            with contextlib.suppress(OSError):  # it only saves time: where nothing can be written, the next listing reads the headers again
                self.files.write(MANIFEST, manifest_bytes(about))
        for key, f in sorted(found, key=lambda item: (item[1].used, item[0])):
            size, tokens, codec, dtype, label, model = about.get(key, (f.size, 0, "?", "?", "(unreadable)", ""))
            yield Entry(key, tokens, size, codec, dtype, label, model, f.used, key in pins)

    def remove(self, key: str) -> bool:
        """Forget an entry, pinned or not; False if there is none."""
        self.must_write()
        with self._writing("remove a block"):
            self.files.remove(f"pins/{_checked(key)}")
            return self.files.remove(_name(key))

    def pin(self, key: str, *, ahead: bool = False) -> None:
        """Never evict this entry. Raises InputError if it is not there, unless it is pinned `ahead` of being written."""
        self.must_write()
        with self._writing("pin a block"):
            self._mark()
            self.files.write(f"pins/{_checked(key)}", b"pinned\n")
        if not ahead and key not in self:  # asked last: an eviction that did not see the pin has happened by now
            self.unpin(key)
            raise InputError(f"there is no block {key!r} to pin in {self.place}")

    def unpin(self, key: str) -> None:
        """Let this entry be evicted again."""
        self.must_write()
        with self._writing("unpin a block"):
            self.files.remove(f"pins/{_checked(key)}")

    def pins(self) -> frozenset[str]:
        """Keys that are pinned."""
        with self._reading():
            return frozenset(found.name.rpartition("/")[2] for found in self.files.walk("pins"))

    def prune(self, max_bytes: int) -> tuple[list[Entry], int]:
        """Evict the least recently used entries until at most `max_bytes` are left, or only pinned ones, and sweep up.

        Returns:
            What went, and the bytes that are left.
        """
        self.sweep()
        pins = self.pins()
        found = sorted(self._found(), key=lambda item: (item[1].used, item[0]))
        total = sum(f.size for _, f in found)
        entries = (Entry(key, 0, f.size, "", "", "", "", f.used, key in pins) for key, f in found)
        gone = []
        with self._writing("remove a block"):
            for entry in evictable(entries, total - max_bytes):
                if not self.files.exists(f"pins/{entry.key}"):  # pinned since the listing: then it stays, and so does its pin
                    self.files.remove(_name(entry.key))
                    gone.append(entry)
        return gone, total - sum(entry.nbytes for entry in gone)

    def damage(self, key: str) -> str | None:
        """What is wrong with an entry, None if it is whole: every byte is read and compared with its checksum."""
        try:
            data = self.files.read(_name(key))
            if data is not None:
                check(data, key)
        except DamagedEntry as error:
            return str(error)
        except OSError as error:
            return f"it cannot be read: {error.strerror or error}"
        return None

    def sweep(self) -> int:
        """Remove what killed writers left behind more than an hour ago. Returns how many files."""
        self.must_write()
        with self._writing("sweep up"):
            return self.files.sweep(STALE_SECONDS)

    def rebuild_manifest(self) -> int:
        """Forget the manifest and make it again from the files. Returns the number of entries."""
        self.must_write()
        with self._writing("rebuild the manifest"):
            self.files.remove(MANIFEST)
        return sum(1 for _ in self.entries())

    def _mark(self) -> None:
        if not self._marked:
            self.files.write(MARKER, json.dumps({"graphkv_store": FORMAT}).encode())
            self._marked = True

    def must_write(self) -> None:
        """Raises StoreError if the store was opened read-only."""
        if self.read_only:
            raise StoreError(f"the store {self.place} was opened read-only")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"the store {self.place} cannot be read: {error.strerror or error}") from error

    @contextlib.contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"the store {self.place} cannot {what}: {error.strerror or error}") from error

    def _check_marker(self) -> bool:
        """Whether the folder is marked as a store; False for one that is yet to be made."""
        with self._reading():
            data = self.files.read(MARKER)
            others = set(self.files.others()) - {"blocks", "pins", "tmp", "serve", MANIFEST} if data is None else set()
            if MARKER in others:  # another process has made the store this very moment
                data, others = self.files.read(MARKER), set()
        if others:
            raise StoreError(f"{self.place} is no store: expected an empty or a new folder, found {min(others)!r} in it")
        if data is None:
            return False
        try:
            version = json.loads(bytes(data))["graphkv_store"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{self.place}/{MARKER} is damaged: delete that file if the folder is a store of graphkv; it is written again") from error
        if version != FORMAT:
            raise StoreError(f"the store {self.place} is of version {version!r}, this graphkv reads version {FORMAT}: give another folder, or use the graphkv that made it")
        return True

    def _found(self) -> list[tuple[str, Found]]:
        with self._reading():
            listing = list(self.files.walk("blocks"))
        named = ((found.name.rpartition("/")[2].removesuffix(SUFFIX), found) for found in listing)
        return [(key, found) for key, found in named if _KEY.fullmatch(key) and found.name == _name(key)]

    def _peek(self, found: Found) -> list[Any] | None:
        """What the header says, unchecked: for listings only. None if it cannot be read."""
        try:
            head = self.files.head(found.name, HEAD_BYTES) or b""
            if len(head) < head_length(head) <= found.size:
                head = self.files.head(found.name, head_length(head)) or b""
        except OSError:
            return None  # listed as unreadable; verify says what is the matter
        header = parse_head(head)
        if header is None:
            return None
        meta = header["__metadata__"]
        tokens = str(meta.get("tokens", ""))[:9]
        return [found.size, int(tokens) if tokens.isdecimal() else 0, *(str(meta.get(name, "")) for name in ("codec", "dtype", "label", "model"))]


def _checked(key: str) -> str:
    """A key becomes part of a path: hexadecimal digits and nothing else. Raises InputError."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InputError(f"expected a block's key (16 to 128 hexadecimal digits), got {key!r}")
    return key


def _name(key: str) -> str:
    return f"blocks/{_checked(key)[:2]}/{key}{SUFFIX}"
