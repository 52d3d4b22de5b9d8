"""Where encoded blocks are kept between calls."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from graphkv.errors import InputError
from graphkv.kv import SegmentKV


class MemoryStore:
    """Blocks in memory, by key; the least recently used go first when a byte budget is set.

    Args:
        max_bytes: budget for keys and values; None for no limit. A block larger than the budget is not kept.

    Raises:
        InputError: a budget below 0.

    Example:
        >>> store = MemoryStore(max_bytes=2**30)
        >>> len(store), store.nbytes
        (0, 0)
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        if max_bytes is not None and max_bytes < 0:
            raise InputError(f"max_bytes must be 0 or more, got {max_bytes}")
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._blocks: OrderedDict[str, SegmentKV] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._blocks)

    def __contains__(self, key: object) -> bool:
        return key in self._blocks

    def get(self, key: str, token_ids: Sequence[int]) -> SegmentKV | None:
        """The block named `key`, or None. Its token ids are compared: a digest that collided counts as a miss."""
        with self._lock:
            block = self._blocks.get(key)
            if block is None or block.token_ids != tuple(token_ids):
                return None
            self._blocks.move_to_end(key)
            return block

    def put(self, block: SegmentKV) -> None:
        """Keep a block, and drop the least recently used ones if the budget asks for it."""
        with self._lock:
            old = self._blocks.pop(block.key, None)
            self.nbytes -= old.nbytes if old else 0
            if self.max_bytes is not None and block.nbytes > self.max_bytes:
                return
            self._blocks[block.key] = block
            self.nbytes += block.nbytes
            while self.max_bytes is not None and self.nbytes > self.max_bytes:
                self.nbytes -= self._blocks.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._blocks.clear()
            self.nbytes = 0
