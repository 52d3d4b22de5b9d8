"""The blocks of a text that was read with landmarks: their landmarks near, their keys and values wherever there is room.

    none    beside the model
    cpu     in the CPU's memory; what is chosen is copied to the model
    store   in the engine's store, on disk say: a file a chunk, and only the chunks that were used last are held

Landmark keys, which are compared with every query, always stay near: a `block`-th of the keys.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from graphkv.errors import InputError, StoreError, one_of
from graphkv.kv import SegmentKV
from graphkv.store import Store
from graphkv_kernels import top_landmarks
from graphkv_retrieval.landmark_index import FaissLandmarks, check_index

OFFLOADS = ("none", "cpu", "store")
HELD_BYTES = 64 * 2**20
"""What ``offload="store"`` holds of keys and values at one time."""


def check_offload(offload: object) -> None:
    """Raises InputError for a place that is none."""
    if offload not in OFFLOADS:
        raise InputError(one_of("offload", offload, OFFLOADS))


class LandmarkMemory:
    """Blocks by number, in the text's order; implements :class:`graphkv.landmark_reading.BlockMemory`.

    Args:
        block: tokens of a block. capacity: how many blocks there will be. chunk: tokens of a chunk, all but the last, a multiple of `block`.
        devices: one a layer. index, offload: see above and :mod:`graphkv_retrieval.landmark_index`. store: for ``offload="store"``.
        held_bytes: for ``offload="store"``.

    Raises:
        InputError: an unknown index or place.
    """

    def __init__(
        self,
        block: int,
        capacity: int,
        chunk: int,
        devices: Sequence[torch.device],
        *,
        index: str = "torch",
        offload: str = "none",
        store: Store | None = None,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        check_index(index)
        check_offload(offload)
        if offload == "store" and store is None:
            raise InputError("offload='store' needs a store")
        self.block, self.capacity, self.chunk, self.devices, self.offload = block, capacity, chunk, list(devices), offload
        self.blocks = self.tokens = 0
        self._landmarks: list[Tensor] = []
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._indexes = [FaissLandmarks(index) for _ in devices] if index != "torch" else []
        self._held = _Held(store, held_bytes) if store is not None and offload == "store" else None

    @property
    def nbytes(self) -> int:
        """Bytes of what is held now: landmark keys, keys and values; an index not counted."""
        held = 0 if self._held is None else self._held.nbytes
        return held + sum(t.numel() * t.element_size() for t in (*self._landmarks, *self._keys, *self._values))

    def add(self, chunk: SegmentKV) -> None:
        """Append a chunk's blocks. Only the last chunk may be shorter than the others, and only its last block.

        Raises:
            InputError: there is no room for it, or it comes behind the last one.
        """
        tokens = len(chunk)
        many = -(-tokens // self.block)
        if self.tokens % self.chunk or tokens > self.chunk or self.blocks + many > self.capacity:
            raise InputError(f"expected chunks of {self.chunk} tokens and {self.capacity} blocks in all, got {tokens} tokens behind {self.blocks} blocks")
        if not self._landmarks:
            self._make_room(chunk)
        ends = torch.arange(1, many + 1) * self.block - 1
        ends[-1] = tokens - 1
        place = slice(self.blocks, self.blocks + many)
        for layer, (keys, values) in enumerate(zip(chunk.keys, chunk.values, strict=True)):
            self._landmarks[layer][:, place] = keys[:, ends.to(keys.device)].to(self.devices[layer])
            if self._held is None:
                for kept, new in ((self._keys[layer], keys), (self._values[layer], values)):
                    kept[:, place] = _blocks(new, self.block).to(kept.device)
        if self._held is not None:
            self._held.add(chunk)
        self.blocks += many
        self.tokens += tokens

    def landmarks(self, layer: int, start: int, stop: int) -> Tensor:
        """The landmark keys of some blocks, before rotation, ``[K, n, D]``."""
        return self._landmarks[layer][:, start:stop]

    def search(self, layer: int, query: Tensor, k: int, older: int) -> tuple[Tensor, Tensor]:
        """The `k` largest dot products of ``[K, N, D]`` with the first `older` landmark keys, and the numbers of the blocks, ``[K, N, k]``."""
        if not self._indexes:
            return top_landmarks(query, self._landmarks[layer][:, :older].to(query.dtype), k)
        index = self._indexes[layer]
        last, step = self.blocks - older, self.chunk // self.block
        while len(index) < older:  # in the pieces in which they grow old while a text is read: a graph does not depend on what came from the store
            begin = len(index)
            index.add(self._landmarks[layer][:, begin : min(older, begin + step - (begin + last) % step)])
        return index.search(query, k)

    def fetch(self, layer: int, head: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys before rotation and values ``[U, W, D]`` of pairs of key head and block, and the blocks' tokens ``[U]``; beside the model."""
        lengths = torch.full_like(block, self.block)
        lengths[block == self.blocks - 1] = self.tokens - (self.blocks - 1) * self.block
        device = self.devices[layer]
        if self._held is not None:
            keys, values = self._held.fetch(layer, head.cpu(), block.cpu(), self.block, self.chunk // self.block)
        else:
            at = (head * self.capacity + block).to(self._keys[layer].device)
            keys, values = (kept[layer].flatten(0, 1).index_select(0, at) for kept in (self._keys, self._values))
        return keys.to(device), values.to(device), lengths.to(device)

    def _make_room(self, chunk: SegmentKV) -> None:
        for keys, device in zip(chunk.keys, self.devices, strict=True):
            heads, _, dim = keys.shape
            self._landmarks.append(torch.zeros(heads, self.capacity, dim, dtype=keys.dtype, device=device))
            if self._held is None:
                where = device if self.offload == "none" else torch.device("cpu")
                for kept in (self._keys, self._values):
                    kept.append(torch.zeros(heads, self.capacity, self.block, dim, dtype=keys.dtype, device=where))


class _Held:
    """Chunks in a store, of which the last used are held."""

    def __init__(self, store: Store, limit: int) -> None:
        self.store, self.limit, self.nbytes = store, limit, 0
        self._chunks: list[tuple[str, tuple[int, ...]]] = []
        self._open: OrderedDict[int, SegmentKV] = OrderedDict()

    def add(self, chunk: SegmentKV) -> None:
        """Note where a chunk is."""
        self._chunks.append((chunk.key, chunk.token_ids))

    def fetch(self, layer: int, head: Tensor, block: Tensor, size: int, per_chunk: int) -> tuple[Tensor, Tensor]:
        """Keys and values of pairs, a chunk at a time."""
        of_chunk = torch.div(block, per_chunk, rounding_mode="floor")
        pair: list[Tensor] = []
        for number in sorted(set(of_chunk.tolist())):
            chunk, mine = self._chunk(number), of_chunk == number
            for at, kept in enumerate((chunk.keys, chunk.values)):
                found = _blocks(kept[layer], size)[head[mine], block[mine] - number * per_chunk]
                if len(pair) <= at:
                    pair.append(found.new_empty(len(block), *found.shape[1:]))
                pair[at][mine] = found
        return pair[0], pair[1]

    def _chunk(self, number: int) -> SegmentKV:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        key, token_ids = self._chunks[number]
        chunk = self.store.get(key, token_ids)
        if chunk is None:
            raise StoreError(f"chunk {number} of the text is not in the store any more: give the store more room, or take offload='cpu'")
        self._open[number] = chunk
        self.nbytes += chunk.nbytes
        while self.nbytes > self.limit and len(self._open) > 1:
            self.nbytes -= self._open.popitem(last=False)[1].nbytes
        return chunk


def _blocks(x: Tensor, size: int) -> Tensor:
    """``[K, T, D]`` cut into blocks, ``[K, n, W, D]``; a short last one is filled up with zeros."""
    if rest := -x.shape[1] % size:
        x = torch.nn.functional.pad(x, (0, 0, 0, rest))
    return x.reshape(len(x), -1, size, x.shape[-1])
