"""Store: what every store of encoded blocks can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace

from graphkv.errors import InputError
from graphkv.kv import SegmentKV
from graphkv.store.codecs import Codec, codec_named, dtype_name
from graphkv.store.entry import Entry, evictable


class Store(ABC):
    """Encoded blocks by key, with a byte budget: the least recently used go first, pinned ones never.

    Args:
        max_bytes: budget; None for no limit. A block larger than the budget is not kept.
        codec: ``exact``, ``int8``, ``fp8`` or ``int4``: how keys and values are stored. It is part of every key, so a store may hold several.

    Raises:
        InputError: a budget below 0, or an unknown codec.
    """

    def __init__(self, max_bytes: int | None = None, codec: str = "exact") -> None:
        if max_bytes is not None:
            check_budget(max_bytes)
        self.max_bytes = max_bytes
        self.codec: Codec = codec_named(codec)

    @abstractmethod
    def get(self, key: str, token_ids: Sequence[int]) -> SegmentKV | None:
        """The block named `key`, or None. Its token ids are compared: a digest that collided counts as a miss."""

    @abstractmethod
    def put(self, block: SegmentKV) -> SegmentKV:
        """Keep a block, evict others if the budget asks for it, and return the block as later reads will see it."""

    def as_stored(self, block: SegmentKV) -> SegmentKV:
        """The block as it would be read back: itself under ``exact``, else what the codec leaves of it. Raises StoreError as the codec does."""
        if self.codec.name == "exact":
            return block
        keys, values = self.codec.unpack(self.codec.pack(block), dtype_name(block.keys[0].dtype))
        return replace(block, keys=keys, values=values)

    @abstractmethod
    def __contains__(self, key: object) -> bool:
        """Whether a block of that key is there, without reading it."""

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """What is there, least recently used first."""

    @abstractmethod
    def remove(self, key: str) -> bool:
        """Forget a block, pinned or not; False if there is none."""

    @abstractmethod
    def touch(self, key: str) -> None:
        """Count a block as used now."""

    @abstractmethod
    def pin(self, key: str, *, ahead: bool = False) -> None:
        """Never evict this block. Raises InputError if it is not there, unless it is pinned `ahead` of being put."""

    @abstractmethod
    def unpin(self, key: str) -> None:
        """Let this block be evicted again."""

    def keys(self) -> Iterator[str]:
        """The keys of all blocks, in no order."""
        return (entry.key for entry in self.entries())

    def __len__(self) -> int:
        return sum(1 for _ in self.keys())

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is there."""
        return sum(entry.nbytes for entry in self.entries())

    def prune(self, max_bytes: int) -> list[Entry]:
        """Evict the least recently used blocks until at most `max_bytes` are left, or only pinned ones. Returns what went.

        Raises:
            InputError: `max_bytes` is below 0.
        """
        check_budget(max_bytes)
        entries = list(self.entries())
        gone = evictable(entries, sum(entry.nbytes for entry in entries) - max_bytes)
        for entry in gone:
            self.remove(entry.key)
        return gone

    def clear(self) -> None:
        """Forget everything, pinned blocks too."""
        for key in list(self.keys()):
            self.remove(key)


def check_budget(max_bytes: object) -> None:
    """Raises InputError unless it is a whole number of at least 0."""
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 0:
        raise InputError(f"max_bytes must be a whole number of at least 0, got {max_bytes!r}")
