"""The attention function that reads with landmarks: a chunk or a question, and behind it any number of blocks in a memory.

Landmark Attention (Mohtashami and Jaggi, 2023, arXiv 2305.16300, section 3.2). The text is read chunk by chunk. While a chunk is read,
every token reads its own chunk, and of all blocks before it the `k` with the best landmarks: for each head and token, or for each head
(one choice for the whole chunk: the largest weight that a landmark gets from any of its tokens). A question with its answer is read in
the same way, as a last chunk that has no landmarks of its own.

Positions are stingy: they never grow with the text. Counted back from the chunk's first token::

    | k places for older blocks | the last k blocks, where they are | the chunk |

* The last k blocks stand at their true distance.
* The older blocks that were chosen stand in the places before, packed from the left, in the text's order.
* While landmarks are compared, every older block stands in the first place. So all of them have the same distance, and keys
  without rotation can be searched with the query rotated by it: that is what makes an index over millions of blocks possible.

So a chunk needs ``2 * k * block + chunk`` positions, however long the text. (The paper has k + 1 places, and moves the chosen ones of the last k
blocks to the right; here none of them moves, which costs k - 1 more places.) As long as there are at most k blocks nothing is
chosen and nothing moved: the numbers are those of the uncached forward under the grouped softmax.

In the first layer a landmark's key does not depend on the text (it is the same token everywhere), so older blocks cannot be told
apart: the last ones are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from graphkv.errors import ModelError
from graphkv.kv import Rope, rotate
from graphkv_kernels import causal_attention, chunk_attention, gather_blocks, merge_blocks


class BlockMemory(Protocol):
    """Blocks that were read, keys before rotation; what :mod:`graphkv_retrieval.landmark_memory` implements."""

    @property
    def blocks(self) -> int:
        """How many there are."""

    @property
    def tokens(self) -> int:
        """Their tokens, landmarks included."""

    def search(self, layer: int, query: Tensor, k: int, older: int) -> tuple[Tensor, Tensor]:
        """The `k` largest dot products of ``[K, N, D]`` with the first `older` landmark keys, and the numbers of the blocks, ``[K, N, k]``."""

    def landmarks(self, layer: int, start: int, stop: int) -> Tensor:
        """The landmark keys of some blocks, ``[K, n, D]``."""

    def fetch(self, layer: int, head: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values ``[U, W, D]`` of pairs of key head and block, and the blocks' tokens ``[U]``."""


@dataclass(eq=False)
class LandmarkReading:
    """What the attention function needs to know; reaches it through :data:`READING`.

    Attributes:
        memory: the blocks before the chunk or question. block: tokens of a block. k: blocks that are chosen. per_token: for each head and
            token, or for each head. ropes: one a layer.
        chunk: True while text is encoded: queries and keys come before rotation, and the text has landmarks.
        usage: the weight that each block got, ``[B, M]`` float64, summed over layers, heads and tokens; None if nobody asks.
        counted: rows whose tokens count for `usage`, bool ``[B]``; None for all.
    """

    memory: BlockMemory
    block: int
    k: int
    per_token: bool
    ropes: Sequence[Rope]
    chunk: bool = True
    usage: Tensor | None = None
    counted: Tensor | None = None
    _places: _Places | None = field(default=None, init=False, repr=False)

    def places(self) -> _Places:
        """Where blocks stand now."""
        if self._places is None or self._places.tokens != self.memory.tokens:
            self._places = _Places(self.memory.blocks, self.memory.tokens, self.block, self.k)
        return self._places


READING: ContextVar[LandmarkReading | None] = ContextVar("graphkv_landmark_reading", default=None)


@contextmanager
def reading_blocks(reading: LandmarkReading) -> Iterator[None]:
    """As long as it lasts, :func:`landmark_attention` reads with `reading`."""
    token = READING.set(reading)
    try:
        yield
    finally:
        READING.reset(token)


def positions_needed(k: int, block: int, blocks: int) -> int:
    """Positions before a chunk or a question: k places for older blocks and the last k, or all blocks if they are fewer.

    Example:
        >>> positions_needed(4, 32, 1000), positions_needed(4, 32, 3)
        (256, 96)
    """
    return min(2 * k, blocks) * block


def landmark_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """A chunk or a question, and the blocks that are chosen for it: query ``[B, H, T, D]``, key and value ``[B, K, S, D]``; the output is ``[B, T, H, D]``."""
    reading = READING.get()
    if reading is None:
        raise ModelError("attention 'graphkv_landmark' runs only while graphkv reads with landmarks: load the model with another attn_implementation")
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    work = torch.promote_types(query.dtype, torch.float32)
    if reading.chunk:
        table = reading.places().chunk_table(reading.ropes[layer], query.shape[2])
        query, key = rotate(query, *table), rotate(key, *table)
        out, mass = chunk_attention(query, key, value, reading.block, scale=scaling, softcap=softcap)
    else:
        out, mass = causal_attention(query, key, value, attention_mask, scale=scaling, softcap=softcap)
    if reading.memory.blocks:
        out = _read_memory(reading, layer, query.to(work), out, mass, key.shape[1], attention_mask, scaling, softcap)
    return out.to(value.dtype).transpose(1, 2).contiguous(), None


def _read_memory(
    reading: LandmarkReading, layer: int, query: Tensor, out: Tensor, mass: Tensor, key_heads: int, mask: Tensor | None, scaling: float | None, softcap: float | None
) -> Tensor:
    """Choose blocks for `query`, rotated to its places in the chunk, and merge what they give with the own part."""
    memory, places, rope = reading.memory, reading.places(), reading.ropes[layer]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores, chosen = _candidates(reading, layer, query, key_heads)
    if not reading.per_token:
        logits = scores * scale if softcap is None else softcap * torch.tanh(scores * scale / softcap)
        weight = torch.cat((mass.unsqueeze(-1), logits), dim=-1).softmax(-1)[..., 1:]
        chosen = _one_choice(weight.masked_fill(~_rows(mask, query)[:, None, :, None], -1.0), chosen, min(reading.k, memory.blocks), memory.blocks)
    chosen = chosen.sort(-1).values
    place = torch.where(chosen < places.older, torch.arange(chosen.shape[-1], device=chosen.device), chosen - places.older + places.room)
    turned = _turned(query, *places.place_table(rope))

    def fetch(head: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keys, values, lengths = memory.fetch(layer, head, block)
        return _turned(keys.to(query.dtype), *places.inside_table(rope, keys.shape[1])), values, lengths

    read, landmark = gather_blocks(turned, place, chosen, key_heads, fetch, scale=scale, softcap=softcap)
    out, weights = merge_blocks(out, mass, read, landmark)
    if reading.usage is not None:
        counted = _rows(mask, query) if reading.counted is None else _rows(mask, query) & reading.counted[:, None].to(query.device)
        weights = weights * counted[:, None, :, None]
        reading.usage.scatter_add_(1, chosen.flatten(1).to(reading.usage.device), weights.flatten(1).to(reading.usage))
    return out


def _candidates(reading: LandmarkReading, layer: int, query: Tensor, key_heads: int) -> tuple[Tensor, Tensor]:
    """The k best landmarks of each head and token, fewer if there are fewer blocks: dot products and numbers ``[B, H, T, C]``; of two that are equal the later one."""
    memory, places, rope = reading.memory, reading.places(), reading.ropes[layer]
    heads = query.shape[1]
    last = _turned(memory.landmarks(layer, places.older, memory.blocks).to(query.dtype), *places.last_table(rope)).flip(1)
    by_head = query.view(len(query), key_heads, heads // key_heads, *query.shape[2:]).transpose(0, 1)  # [K, B, G, T, D]
    scores = (by_head.flatten(1, 3) @ last.transpose(-1, -2)).view(*by_head.shape[:4], -1)
    chosen = torch.arange(memory.blocks - 1, places.older - 1, -1, device=query.device).expand(scores.shape)
    if places.older:
        wanted = min(reading.k, places.older)
        lookup = _turned(by_head, *places.lookup_table(rope)).flatten(1, 3)
        if layer == 0:  # all alike: any one's score is everybody's
            found = torch.arange(places.older - 1, places.older - 1 - wanted, -1, device=query.device).expand(*lookup.shape[:2], wanted)
            best = (lookup @ memory.landmarks(layer, places.older - 1, places.older).to(query.dtype).transpose(-1, -2)).expand(found.shape)
        else:
            best, found = memory.search(layer, lookup, wanted, places.older)
        scores = torch.cat((scores, best.reshape(*by_head.shape[:4], wanted)), dim=-1)
        chosen = torch.cat((chosen, found.reshape(*by_head.shape[:4], wanted)), dim=-1)
        if scores.shape[-1] > reading.k:
            scores, at = scores.sort(dim=-1, descending=True, stable=True)
            scores, chosen = scores[..., : reading.k], chosen.gather(-1, at[..., : reading.k])
    return scores.transpose(0, 1).flatten(1, 2), chosen.transpose(0, 1).flatten(1, 2)


def _one_choice(weight: Tensor, chosen: Tensor, k: int, blocks: int) -> Tensor:
    """One choice for all tokens of each head: the blocks with the largest weight from any token. ``[B, H, T, C]`` → ``[B, H, T, k]``.

    A block among the k best of all is among the k best of the token that gives it its largest weight, so candidates are enough.
    """
    best = torch.full((*weight.shape[:2], blocks), -2.0, dtype=weight.dtype, device=weight.device)
    best = best.scatter_reduce(-1, chosen.flatten(2), weight.flatten(2), "amax")
    return best.topk(k, dim=-1).indices.unsqueeze(2).expand(*chosen.shape[:3], k)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As :func:`graphkv.kv.rotate`, for tables ``[..., T, R]`` that are broadcast with `x` ``[..., T, D]``; written into one tensor, as these are the largest."""
    half = cos.shape[-1] // 2
    cos, sin = (t[..., :half].to(x) for t in (cos, sin))
    first, second = x[..., :half], x[..., half : 2 * half]
    out = x.new_empty(*(first[..., :1] + cos[..., :1]).shape[:-1], x.shape[-1])
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half : 2 * half]).addcmul_(first, sin)
    out[..., 2 * half :] = x[..., 2 * half :]
    return out


def _rows(mask: Tensor | None, query: Tensor) -> Tensor:
    """Which rows of a padded batch are tokens, ``[B, T]``."""
    if mask is None:
        return torch.ones(query.shape[0], query.shape[2], dtype=torch.bool, device=query.device)
    return mask[:, 0].any(-1)


class _Places:
    """Where the blocks of a memory stand, counted from the first token of what is read now (so most numbers are negative), and cos and sin for it."""

    def __init__(self, blocks: int, tokens: int, block: int, k: int) -> None:
        self.tokens, self.block = tokens, block
        last = min(k, blocks)
        self.older = blocks - last
        """Blocks before the last k: the ones that can be moved."""
        self.room = min(k, self.older)
        """Places for them."""
        begin = self.older * block - tokens
        first = begin - self.room * block
        self.starts = torch.tensor([*(first + i * block for i in range(self.room)), *(begin + i * block for i in range(last))])
        self.last_landmarks = torch.tensor([*(begin + (i + 1) * block - 1 for i in range(last - 1)), -1])
        self.lookup = torch.tensor([-(first + block - 1)])
        self._tables: dict[tuple[int, str, int], tuple[Tensor, Tensor]] = {}

    def chunk_table(self, rope: Rope, tokens: int) -> tuple[Tensor, Tensor]:
        """For the chunk's own queries and keys."""
        return self._table(rope, "chunk", torch.arange(tokens))

    def inside_table(self, rope: Rope, tokens: int) -> tuple[Tensor, Tensor]:
        """For the keys of a block, from its first token on."""
        return self._table(rope, "inside", torch.arange(tokens))

    def last_table(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """For the landmarks of the last blocks."""
        return self._table(rope, "last", self.last_landmarks)

    def lookup_table(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """For queries that are compared with landmark keys before rotation, as if they stood at the end of the first place."""
        return self._table(rope, "lookup", self.lookup)

    def place_table(self, rope: Rope) -> tuple[Tensor, Tensor]:
        """For queries as they are seen from each place, ``[P, 1, 1, 1, R]``; they have their rope's scaling already."""
        cos, sin = self._table(Rope(rope.inv_freq), "place", -self.starts, rope)
        return cos[:, None, None, None], sin[:, None, None, None]

    def _table(self, rope: Rope, name: str, positions: Tensor, owner: Rope | None = None) -> tuple[Tensor, Tensor]:
        key = (id(owner or rope), name, len(positions))
        if key not in self._tables:
            self._tables[key] = rope.table(positions)
        return self._tables[key]
