"""MemoryStore: blocks in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from torch import Tensor

from graphkv.errors import InputError
from graphkv.kv import SegmentKV
from graphkv.store.base import Store
from graphkv.store.codecs import dtype_name
from graphkv.store.entry import Entry


class MemoryStore(Store):
    """Blocks in memory, by key; threads may share one.

    Args:
        max_bytes: budget for keys and values; None for no limit. codec: as in :class:`graphkv.store.Store`; another than
            ``exact`` is decoded at every read.

    Example:
        >>> store = MemoryStore(max_bytes=2**30)
        >>> len(store), store.nbytes
        (0, 0)
    """

    def __init__(self, max_bytes: int | None = None, codec: str = "exact") -> None:
        super().__init__(max_bytes, codec)
        self._blocks: OrderedDict[str, _Kept] = OrderedDict()
        self._pins: set[str] = set()
        self._nbytes = 0
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, key: object) -> bool:
        return key in self._blocks

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is there."""
        return self._nbytes

    def get(self, key: str, token_ids: Sequence[int]) -> SegmentKV | None:
        with self._lock:
            kept = self._blocks.get(key)
            if kept is None or kept.token_ids != tuple(token_ids):
                return None
            kept.used = time.time()
            self._blocks.move_to_end(key)
        return self._decoded(kept) if kept.block is None else kept.block

    def put(self, block: SegmentKV) -> SegmentKV:
        kept = _Kept(block, None if self.codec.name == "exact" else self.codec.pack(block))
        with self._lock:
            self._drop(block.key)
            if self.max_bytes is None or kept.nbytes <= self.max_bytes:
                self._blocks[block.key] = kept
                self._nbytes += kept.nbytes
                if self.max_bytes is not None and self._nbytes > self.max_bytes:
                    self._evict(self.max_bytes)
        return self._decoded(kept) if kept.block is None else kept.block

    def entries(self) -> Iterator[Entry]:
        with self._lock:
            kept = list(self._blocks.items())
        for key, k in kept:
            yield Entry(key, len(k.token_ids), k.nbytes, self.codec.name, k.dtype, k.label, k.model, k.used, key in self._pins)

    def keys(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._blocks))

    def remove(self, key: str) -> bool:
        with self._lock:
            self._pins.discard(key)
            return self._drop(key)

    def touch(self, key: str) -> None:
        with self._lock:
            if key in self._blocks:
                self._blocks[key].used = time.time()
                self._blocks.move_to_end(key)

    def pin(self, key: str, *, ahead: bool = False) -> None:
        with self._lock:
            if key not in self._blocks and not ahead:
                raise InputError(f"there is no block {key!r} to pin in this store")
            self._pins.add(key)

    def unpin(self, key: str) -> None:
        with self._lock:
            self._pins.discard(key)

    def _evict(self, max_bytes: int) -> None:
        for key in list(self._blocks):
            if self._nbytes <= max_bytes:
                break
            if key not in self._pins:
                self._drop(key)

    def _drop(self, key: str) -> bool:
        kept = self._blocks.pop(key, None)
        self._nbytes -= kept.nbytes if kept else 0
        return kept is not None

    def _decoded(self, kept: _Kept) -> SegmentKV:
        keys, values = self.codec.unpack(kept.packed, kept.dtype)
        return SegmentKV(kept.key, kept.token_ids, keys, values, kept.label, kept.model)


class _Kept:
    """A block as it is kept: itself, or what the codec made of it."""

    def __init__(self, block: SegmentKV, packed: dict[str, Tensor] | None) -> None:
        self.key, self.token_ids, self.label, self.model = block.key, block.token_ids, block.label, block.model
        self.dtype = dtype_name(block.keys[0].dtype)
        self.block = block if packed is None else None
        self.packed = packed or {}
        self.nbytes = block.nbytes if packed is None else sum(t.numel() * t.element_size() for t in packed.values())
        self.used = time.time()
