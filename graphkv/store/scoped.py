"""ScopedStore: a view of a store in which nobody sees what was encoded under another scope."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphkv.kv import SegmentKV
from graphkv.store.base import Store
from graphkv.store.entry import Entry


class ScopedStore(Store):
    """The blocks of one scope in a shared store. Every key is hashed together with the scope, so two scopes never meet, not even over equal texts; the budget is
    the shared store's, and so are its lists: :meth:`entries` shows what the store holds under whatever scope.

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
        self._salt = hashlib.sha256(f"graphkv-scope|{scope}".encode()).digest()

    def key(self, key: str) -> str:
        """What a block is called in the shared store."""
        return hashlib.sha256(self._salt + key.encode()).hexdigest()

    def get(self, key: str, token_ids: Sequence[int]) -> SegmentKV | None:
        block = self.store.get(self.key(key), token_ids)
        return None if block is None else replace(block, key=key)

    def put(self, block: SegmentKV) -> SegmentKV:
        return replace(self.store.put(replace(block, key=self.key(block.key))), key=block.key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.key(key) in self.store

    def entries(self) -> Iterator[Entry]:
        return self.store.entries()

    def keys(self) -> Iterator[str]:
        return self.store.keys()

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
