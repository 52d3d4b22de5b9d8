"""GraphKVByteStore: bytes by key, in a space of their own inside a store of encoded blocks; or the blocks' own bytes."""

from __future__ import annotations

import json
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, Protocol

import xxhash
from langchain_core.stores import ByteStore

from graphkv.errors import InputError, StoreError, StoreWarning
from graphkv.store.base import Store, check_budget
from graphkv.store.entry import DamagedEntry, check
from graphkv.store.file import FileStore
from graphkv.store.folder import FORMAT, MARKER, Folder
from graphkv.store.memory import MemoryStore
from graphkv.store.place import open_store

VALUES = "values"
"""The folder of the values, beside that of the blocks."""

MAGIC = b"graphkv-value-1\n"
MOST_KEY_BYTES = 4096
_HEAD = len(MAGIC) + 4 + MOST_KEY_BYTES
_CHECKSUM = 16


class GraphKVByteStore(ByteStore):
    """LangChain's key-value interface over a store's place.

    Values are any bytes under any text. They have a folder of their own beside the encoded blocks, so nothing that is written here can be taken for a
    block. A file is named by a digest of its key, holds the key and a checksum, and is replaced whole or not at all; a damaged one is a miss, with
    a warning.

    With ``blocks=True`` it is the encoded blocks themselves: a key is a block's (hexadecimal), a value the bytes of its file, safetensors with
    a checksum, and what is not exactly that is refused. So blocks travel through any other LangChain store.

    Args:
        store: a :class:`graphkv.Store` or the place of one, as :func:`graphkv.open_store` takes it; in a store in memory values live as long as this object.
        max_bytes: budget of the values, each with its key; a full store refuses, and throws nothing away. Several processes may exceed it by what the others
            wrote. Of blocks the store's own budget counts.
        blocks: the encoded blocks instead of values.

    Raises:
        InputError: a budget below 0, or ``blocks=True`` over a store in memory, whose blocks are no bytes.

    Example:
        >>> store = GraphKVByteStore("memory")
        >>> store.mset([("a", b"1"), ("b", b"2")])
        >>> store.mget(["b", "c"]), list(store.yield_keys(prefix="a"))
        ([b'2', None], ['a'])
    """

    def __init__(self, store: Store | str | None = None, *, max_bytes: int = 2**30, blocks: bool = False) -> None:
        check_budget(max_bytes)
        self.store = store if isinstance(store, Store) else open_store(store)
        self.max_bytes = max_bytes
        self._space: _Space
        if isinstance(self.store, FileStore):
            self._space = _Blocks(self.store.folder) if blocks else _Values(self.store.folder, max_bytes)
        elif blocks:
            raise InputError("a store in memory holds blocks and no bytes: with blocks=True give a folder or an address")
        elif isinstance(self.store, MemoryStore):
            self._space = _Memory(max_bytes)
        else:
            raise InputError(f"expected a FileStore, a MemoryStore or a place, got {type(self.store).__name__}")

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of keys, in order, None for those that are not there. Raises InputError for a key that is none, StoreError if the place cannot be read."""
        return [self._space.get(key) for key in _listed(keys)]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Keep values; each replaces the one of its key.

        Raises:
            InputError: a key or a value that is none (nothing is written then). StoreError: no room, or the place cannot be written to.
        """
        pairs = list(key_value_pairs)
        for pair in pairs:
            if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[1], bytes):
                raise InputError(f"expected pairs (key, bytes), got {_short(pair)}")
        self._space.put(dict(pairs))

    def mdelete(self, keys: Sequence[str]) -> None:
        """Forget values; keys that are not there are passed over. Raises as :meth:`mset` does."""
        for key in _listed(keys):
            self._space.remove(key)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """The keys that begin with `prefix`, in no order."""
        for key in self._space.names():
            if key.startswith(prefix or ""):
                yield key


class _Space(Protocol):
    """What the three kinds have in common."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, values: dict[str, bytes]) -> None: ...

    def remove(self, key: str) -> None: ...

    def names(self) -> Iterator[str]: ...


class _Memory:
    """Values in this process."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._values: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        _encoded(key)
        return self._values.get(key)

    def put(self, values: dict[str, bytes]) -> None:
        with self._lock:
            after = {**self._values, **values}
            _check_room(sum(_size(_encoded(key), value) for key, value in after.items()), self.max_bytes, "this store in memory")
            self._values = after

    def remove(self, key: str) -> None:
        with self._lock:
            _encoded(key)
            self._values.pop(key, None)

    def names(self) -> Iterator[str]:
        return iter(list(self._values))


class _Values:
    """Values as files: magic, key, value, checksum over all of it."""

    def __init__(self, folder: Folder, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._lock = threading.Lock()
        self._sizes: dict[str, int] | None = None  # of the files that this object has seen; counted anew before anything is refused

    def get(self, key: str) -> bytes | None:
        name, encoded = _name(key), _encoded(key)
        with _os_errors(self.folder, "be read"):
            data = self.folder.files.read(name)
        if data is None:
            return None
        body = bytes(data)
        start = len(MAGIC) + 4 + len(encoded)
        if len(body) < start + _CHECKSUM or xxhash.xxh3_128_digest(body[:-_CHECKSUM]) != body[-_CHECKSUM:]:
            warnings.warn(f"the value of {key[:40]!r} in {self.folder.place} is damaged: it counts as missing", StoreWarning, stacklevel=4)
            return None
        return body[start:-_CHECKSUM] if _key_of(body) == key else None

    def put(self, values: dict[str, bytes]) -> None:
        self.folder.must_write()
        files = {_name(key): (_encoded(key), value) for key, value in values.items()}
        with self._lock, _os_errors(self.folder, "keep a value"):
            new = {name: _size(*pair) for name, pair in files.items()}
            if self._sizes is None or sum((self._sizes | new).values()) > self.max_bytes:
                self._sizes = {found.name: found.size for found in self.folder.files.walk(VALUES)}
            _check_room(sum((self._sizes | new).values()), self.max_bytes, self.folder.place)
            if not self.folder.exists:  # a folder without this file would be no store any more as soon as something else is in it
                self.folder.files.write(MARKER, json.dumps({"graphkv_store": FORMAT}).encode())
            for name, (encoded, value) in files.items():
                body = MAGIC + struct.pack("<I", len(encoded)) + encoded + value
                self.folder.files.write(name, body + xxhash.xxh3_128_digest(body))
                self._sizes[name] = new[name]

    def remove(self, key: str) -> None:
        self.folder.must_write()
        with _os_errors(self.folder, "remove a value"):
            self.folder.files.remove(_name(key))

    def names(self) -> Iterator[str]:
        with _os_errors(self.folder, "be read"):
            names = [found.name for found in self.folder.files.walk(VALUES)]
        for name in names:
            with _os_errors(self.folder, "be read"):
                head = self.folder.files.head(name, _HEAD)
            key = _key_of(head or b"")
            if key is not None and _name(key) == name:  # what is not ours, or is damaged, is passed over
                yield key


class _Blocks:
    """Encoded blocks as the bytes of their files."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def get(self, key: str) -> bytes | None:
        data = self.folder.read(key)
        if data is None:
            return None
        try:
            check(data, key)
        except DamagedEntry as error:
            warnings.warn(f"the block {key[:12]} in {self.folder.place} is damaged ({error}): it counts as missing", StoreWarning, stacklevel=4)
            return None
        return bytes(data)

    def put(self, values: dict[str, bytes]) -> None:
        for key, value in values.items():
            try:
                check(value, key)
            except DamagedEntry as error:
                raise InputError(f"the bytes under {_short(key)} are no block of that key ({error}): nothing was written") from None
        for key, value in values.items():
            self.folder.write(key, value)

    def remove(self, key: str) -> None:
        self.folder.remove(key)

    def names(self) -> Iterator[str]:
        return self.folder.keys()


def _encoded(key: Any) -> bytes:
    """A key's bytes. Raises InputError for what is no key."""
    try:
        data = key.encode() if isinstance(key, str) else b""
    except UnicodeEncodeError:
        data = b""
    if not 1 <= len(data) <= MOST_KEY_BYTES:
        raise InputError(f"a key must be some text of at most {MOST_KEY_BYTES} bytes in UTF-8, got {_short(key)}")
    return data


def _name(key: str) -> str:
    """Where a key's value is. Nothing of the key itself is in the name, so no key leads out of the folder."""
    digest = blake2b(_encoded(key), digest_size=20).hexdigest()
    return f"{VALUES}/{digest[:2]}/{digest}"


def _key_of(body: bytes) -> str | None:
    """The key that stands in a file."""
    start = len(MAGIC) + 4
    if len(body) < start or not body.startswith(MAGIC):
        return None
    (length,) = struct.unpack("<I", body[len(MAGIC) : start])
    try:
        key = body[start : start + length].decode()
    except UnicodeDecodeError:
        return None
    return key if 0 < length <= MOST_KEY_BYTES and start + length <= len(body) else None


def _size(encoded: bytes, value: bytes) -> int:
    return len(MAGIC) + 4 + len(encoded) + len(value) + _CHECKSUM


def _check_room(wanted: int, max_bytes: int, where: str) -> None:
    if wanted > max_bytes:
        raise StoreError(f"the values in {where} would take {wanted:,} bytes, max_bytes is {max_bytes:,}: nothing was written; delete some, or give more room")


def _listed(keys: Any) -> Sequence[str]:
    if isinstance(keys, str | bytes) or not isinstance(keys, Sequence):
        raise InputError(f"expected a list of keys, got {_short(keys)}")
    return keys


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@contextmanager
def _os_errors(folder: Folder, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"the store {folder.place} cannot {what}: {error.strerror or error}") from error
