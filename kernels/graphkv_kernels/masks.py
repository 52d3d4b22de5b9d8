"""Masks of a block pattern: every entry for the oracle, only the allowed blocks for flex_attention.

For blocks A, B, C of 2, 1 and 2 tokens where C reads A, `dense_mask` is

        A A B C C
    A   1 0 0 0 0
    A   1 1 0 0 0
    B   0 0 1 0 0
    C   1 1 0 1 0
    C   1 1 0 1 1
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphkv_kernels.pattern import BlockPattern

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def dense_mask(pattern: BlockPattern, query_length: int | None = None, *, device: torch.device | str = "cpu") -> Tensor:
    """The whole mask, True where a query may read a key: bool [Tq, Tk], quadratic in memory.

    Args:
        pattern: the blocks and who reads whom.
        query_length: Tq when only the trailing blocks are queried; all tokens by default.

    Raises:
        ShapeError: no trailing blocks hold `query_length` tokens.

    Example:
        >>> dense_mask(BlockPattern((2, 1, 2), ((), (), (0,))), query_length=2).int()
        tensor([[1, 1, 0, 1, 0],
                [1, 1, 0, 1, 1]], dtype=torch.int32)
    """
    first = 0 if query_length is None else pattern.first_query_block(query_length)
    offset = pattern.starts[first]
    mask = torch.zeros(pattern.tokens - offset, pattern.tokens, dtype=torch.bool, device=device)
    for block in range(first, len(pattern.lengths)):
        start, end = pattern.span(block)
        rows = mask[start - offset : end - offset]
        for source_start, source_end in pattern.runs(pattern.reads[block]):
            rows[:, source_start:source_end] = True
        rows[:, start:end] = torch.ones(end - start, end - start, dtype=torch.bool, device=device).tril()
    return mask


def token_mask(
    pattern: BlockPattern, query_length: int | None = None, *, tokens: tuple[int, int] | None = None, blocks: int | None = None
) -> MaskMod:
    """The mask as flex_attention's `mask_mod`: who is in which block, and which block reads which.

    Args:
        pattern: the blocks and who reads whom.
        query_length: Tq when only the trailing blocks are queried.
        tokens: pad to this many queries and keys; padding reads nothing and is read by nobody.
        blocks: pad the table of reads to this many blocks, so that graphs of one bucket have equal shapes.
    """
    first = 0 if query_length is None else pattern.first_query_block(query_length)
    offset, count = pattern.starts[first], len(pattern.lengths)
    queries, keys = tokens or (pattern.tokens - offset, pattern.tokens)
    size = max(blocks or 0, count) + 1  # the last row and column belong to the padding
    reads = torch.zeros(size, size, dtype=torch.bool)
    target, source = _edges(pattern, 0)
    reads[target, source] = True
    owner = torch.repeat_interleave(torch.arange(count), torch.tensor(pattern.lengths))
    key_block = torch.full((keys,), size - 1)
    key_block[: pattern.tokens] = owner
    query_block = torch.full((queries,), size - 1)
    query_block[: pattern.tokens - offset] = owner[offset:]
    query_token = torch.full((queries,), -1)
    query_token[: pattern.tokens - offset] = torch.arange(offset, pattern.tokens)
    return _mask_mod(query_block, key_block, query_token, reads)


def _mask_mod(query_block: Tensor, key_block: Tensor, query_token: Tensor, reads: Tensor) -> MaskMod:
    # One function over tensors of fixed shapes: torch.compile sees the same code for every graph and does not recompile.
    def mask_mod(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        target, source = query_block[q], key_block[k]
        return reads[target, source] | ((target == source) & (k <= query_token[q]))

    return mask_mod


def _edges(pattern: BlockPattern, first: int) -> tuple[Tensor, Tensor]:
    """Targets and sources of all edges whose target is block `first` or later."""
    counts = torch.tensor([len(sources) for sources in pattern.reads[first:]], dtype=torch.long)
    target = torch.repeat_interleave(torch.arange(first, len(pattern.lengths)), counts)
    flat = array("q", chain.from_iterable(pattern.reads[first:]))  # read in place: torch.tensor() of a list costs as much as all the rest
    source = torch.frombuffer(flat, dtype=torch.long) if flat else torch.empty(0, dtype=torch.long)
    return target, source


def _read_runs(pattern: BlockPattern, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Edges joined where a target's sources are neighbours: target, first key token, key token after the last."""
    target, source = _edges(pattern, first)
    starts = torch.tensor(pattern.starts)
    if not len(target):
        return target, source, source
    begins = torch.ones(len(target), dtype=torch.bool)
    begins[1:] = (target[1:] != target[:-1]) | (source[1:] != source[:-1] + 1)
    ends = torch.ones(len(target), dtype=torch.bool)
    ends[:-1] = begins[1:]
    return target[begins], starts[source[begins]], starts[source[ends] + 1]


def _spread(lo: Tensor, hi: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The tiles that token spans [lo, hi) touch: index of the span, tile."""
    count = (hi - 1) // size - lo // size + 1
    which = torch.repeat_interleave(torch.arange(len(count)), count)
    place = torch.arange(len(which)) - torch.repeat_interleave(count.cumsum(0) - count, count)
    return which, (lo // size)[which] + place


def _clip(lo: Tensor, hi: Tensor, tile: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return torch.maximum(lo, tile * size), torch.minimum(hi, (tile + 1) * size)


def _triangle(height: Tensor) -> Tensor:
    height = height.clamp(min=0)
    return height * (height + 1) // 2


def _tile_counts(pattern: BlockPattern, first: int, size: int, columns: int) -> tuple[Tensor, Tensor]:
    """Tiles with an allowed pair, as row · columns + column in ascending order, and how many pairs each allows."""
    offset, starts = pattern.starts[first], torch.tensor(pattern.starts)
    rows, width = -(-(pattern.tokens - offset) // size), columns + 1
    # One integer a tile, as the mask's own index has. `steps` is summed along each row, `points` is not.
    steps, points = torch.zeros(rows * width, dtype=torch.int32), torch.zeros(rows * width, dtype=torch.int32)

    def add(grid: Tensor, row: Tensor, column: Tensor, pairs: Tensor) -> None:
        grid.index_add_(0, row * width + column, pairs.to(torch.int32))

    # What is read in full. The keys [left, right) meet a tile j in f(right) - f(left) columns, where f(x) is `size` for the tiles
    # before x, x % size in the tile of x, and 0 after it: four numbers for a run of any length.
    target, left, right = _read_runs(pattern, first)
    q_lo, q_hi = starts[target] - offset, starts[target + 1] - offset
    which, row = _spread(q_lo, q_hi, size)
    top, bottom = _clip(q_lo[which], q_hi[which], row, size)
    height, left, right = bottom - top, left[which], right[which]
    add(steps, row, left // size, height * size)
    add(steps, row, right // size, -height * size)
    add(points, row, right // size, height * (right % size))
    add(points, row, left // size, -height * (left % size))

    # A block's own causal triangle: the pairs with key <= query, counted in closed form for each tile that it touches.
    own_lo, own_hi = starts[first:-1], starts[first + 1 :]
    block, row = _spread(own_lo - offset, own_hi - offset, size)
    which, column = _spread(own_lo[block], own_hi[block], size)
    block, row = block[which], row[which]
    top, bottom = (x + offset for x in _clip(own_lo[block] - offset, own_hi[block] - offset, row, size))
    left, right = _clip(own_lo[block], own_hi[block], column, size)
    add(points, row, column, _triangle(bottom - left) - _triangle(top - left) - _triangle(bottom - right) + _triangle(top - right))

    total = steps.view(rows, width).cumsum_(1).add_(points.view(rows, width))[:, :columns]
    row, column = total.nonzero(as_tuple=True)
    return row * columns + column, total[row, column]


def _tile_lists(tile: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Tiles as flex_attention's pair: how many there are in each row, and their columns, padded to all columns."""
    row = tile // columns
    count = torch.bincount(row, minlength=rows)
    indices = torch.zeros(rows, columns, dtype=torch.int32)
    place = torch.arange(len(tile)) - (count.cumsum(0) - count)[row]
    indices[row, place] = (tile % columns).to(torch.int32)
    return count.to(torch.int32)[None, None], indices[None, None]


def block_mask(
    pattern: BlockPattern,
    block_size: int = 128,
    query_length: int | None = None,
    *,
    tokens: tuple[int, int] | None = None,
    blocks: int | None = None,
    device: torch.device | str = "cpu",
) -> BlockMask:
    """The pattern as a `BlockMask`, built from its edges without ever holding a Tq × Tk mask.

    Time and memory grow with the tiles that are allowed (plus one integer for each tile of the grid), where
    `create_block_mask` evaluates every pair. The two give the same mask.

    Args:
        pattern: the blocks and who reads whom.
        block_size: tokens to a side of a tile.
        query_length: Tq when only the trailing blocks are queried.
        tokens: pad to this many queries and keys (see `token_mask`).
        blocks: pad to this many blocks (see `token_mask`).
        device: where the mask's tensors go.

    Raises:
        ShapeError: no trailing blocks hold `query_length` tokens.

    Example:
        >>> block_mask(BlockPattern((128, 128), ((), (0,)))).kv_num_blocks
        tensor([[[1, 1]]], dtype=torch.int32)

    Source: the layout of `BlockMask` is torch.nn.attention.flex_attention's.
    """
    from torch.nn.attention.flex_attention import BlockMask

    first = 0 if query_length is None else pattern.first_query_block(query_length)
    queries, keys = tokens or (pattern.tokens - pattern.starts[first], pattern.tokens)
    rows, columns = -(-queries // block_size), -(-keys // block_size)
    tile, pairs = _tile_counts(pattern, first, block_size, columns)
    whole = pairs == block_size * block_size
    partial_count, partial_index = _tile_lists(tile[~whole], rows, columns)
    full_count, full_index = _tile_lists(tile[whole], rows, columns)
    return BlockMask.from_kv_blocks(
        partial_count,
        partial_index,
        full_count,
        full_index,
        BLOCK_SIZE=block_size,
        mask_mod=token_mask(pattern, query_length, tokens=tokens, blocks=blocks),
        seq_lengths=(queries, keys),
        compute_q_blocks=False,
    ).to(device)
