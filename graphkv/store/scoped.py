"""ScopedStore: a view of a store in which nobody sees what was encoded under another scope."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphkv.errors import InputError
from graphkv.kv import SegmentKV
from graphkv.store.base import Store
from graphkv.store.entry import Entry

_KEY = re.compile(r"[0-9a-f]{16,128}")


class ScopedStore(Store):
    """The blocks of one scope in a shared store, where each has a name that the scope's own digest has been mixed into: two scopes never meet, not even over equal
    texts. The budget is the shared store's, and so are its lists: what :meth:`entries` and :meth:`clear` see is all that the store holds, under whatever scope.

    Args:
        store: the shared one. scope: any text, for example a digest of an API key.

    Example:
        >>> from graphkv.store import MemoryStore
        >>> shared = MemoryStore()
        >>> ScopedStore(shared, "a").key("0" * 64) == ScopedStore(shared, "b").key("0" * 64)
        False
    """

    def __init__(self, store: Store, scope: str) -> None:
        super().__init__(store.max_bytes, store.codec.name)
        self.store, self.scope = store, scope
        self._mask = hashlib.shake_256(f"graphkv-scope|{scope}".encode()).hexdigest(64)

    def key(self, key: str) -> str:
        """What a block is called in the shared store; and what one of the shared store is called here, for it is its own inverse. Raises InputError for what is no key."""
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise InputError(f"expected a block's key (16 to 128 hexadecimal digits), got {key!r}")
        return f"{int(key, 16) ^ int(self._mask[: len(key)], 16):0{len(key)}x}"

    def get(self, key: str, token_ids: Sequence[int]) -> SegmentKV | None:
        block = self.store.get(self.key(key), token_ids)
        return None if block is None else replace(block, key=key)

    def put(self, block: SegmentKV) -> SegmentKV:
        return replace(self.store.put(replace(block, key=self.key(block.key))), key=block.key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.key(key) in self.store

    def entries(self) -> Iterator[Entry]:
        return (replace(entry, key=self.key(entry.key)) for entry in self.store.entries())

    def keys(self) -> Iterator[str]:
        return map(self.key, self.store.keys())

    @property
    def nbytes(self) -> int:
        """Bytes of everything in the shared store."""
        return self.store.nbytes

    def remove(self, key: str) -> bool:
        return self.store.remove(self.key(key))

    def touch(self, key: str) -> None:
        self.store.touch(self.key(key))

    def pin(self, key: str, *, ahead: bool = False) -> None:
        self.store.pin(self.key(key), ahead=ahead)

    def unpin(self, key: str) -> None:
        self.store.unpin(self.key(key))
