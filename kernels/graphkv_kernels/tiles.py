"""How `gather` cuts a pattern into calls: pure bookkeeping, computed once per pattern.

A **tile** is a run of at most `TILE` query tokens that read the same keys in full, and then one another causally. Long blocks
are several tiles, each reading the ones before it in full. Blocks in a chain (each reads the block before it and all that one
reads) are first joined to one long block, so a plain causal text costs no more than its tiles.
A **group** is a run of tiles with the same keys; its keys are gathered once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from graphkv_kernels.pattern import BlockPattern, ContextWeight

Runs = tuple[tuple[int, int], ...]

# Query tokens in a tile, and in a group that reads something or nothing besides itself. Measured on two AVX2 cores: smaller
# tiles waste less of the causal square but leave short matrix products; larger groups no longer fit the level-2 cache.
TILE = 256
GROUP = 512


@dataclass(frozen=True)
class Causal:
    """`count` tiles of `length` tokens one after the other, from token `start`: one batched causal call."""

    start: int
    count: int
    length: int


@dataclass(frozen=True)
class Group:
    """Queries [start, end) that read `runs` in full, `context` in full and weighted, and their own tiles causally."""

    start: int
    end: int
    runs: Runs
    context: Runs
    weight: ContextWeight | None
    causal: tuple[Causal, ...]


@dataclass(frozen=True)
class _Tile:
    start: int
    end: int
    runs: Runs
    context: Runs
    weight: ContextWeight | None


@lru_cache(maxsize=64)
def plan(pattern: BlockPattern, query_length: int) -> tuple[Group, ...]:
    """The groups that together answer the last `query_length` queries of a pattern.

    Raises:
        ShapeError: no trailing blocks hold that many tokens.
    """
    groups: list[Group] = []
    for tile in _tiles(pattern, pattern.first_query_block(query_length)):
        last = groups[-1] if groups else None
        same = last is not None and (last.runs, last.context, last.weight) == (tile.runs, tile.context, tile.weight)
        if last is not None and same and tile.end - last.start <= GROUP:
            groups[-1] = replace(last, end=tile.end, causal=_with(last.causal, tile.start, tile.end - tile.start))
        else:
            groups.append(Group(tile.start, tile.end, tile.runs, tile.context, tile.weight, _with((), tile.start, tile.end - tile.start)))
    return tuple(groups)


def _with(causal: tuple[Causal, ...], start: int, length: int) -> tuple[Causal, ...]:
    if causal and causal[-1].length == length:
        return (*causal[:-1], replace(causal[-1], count=causal[-1].count + 1))
    return (*causal, Causal(start, 1, length))


def _tiles(pattern: BlockPattern, first: int) -> list[_Tile]:
    tiles = []
    for head, end in _chains(pattern, first):
        begin, stop = pattern.starts[head], pattern.starts[end]
        weight = pattern.weight(head)
        named = set(weight.blocks) if weight else set()
        context = pattern.runs(tuple(block for block in pattern.reads[head] if block in named))
        others = pattern.runs(tuple(block for block in pattern.reads[head] if block not in named))
        for start in range(begin, stop, TILE):
            before: Runs = ((begin, start),) if start > begin else ()
            runs = (*others[:-1], (others[-1][0], start)) if before and others and others[-1][1] == begin else (*others, *before)
            tiles.append(_Tile(start, min(start + TILE, stop), runs, context, weight))
    return tiles


def _chains(pattern: BlockPattern, first: int) -> list[tuple[int, int]]:
    """Blocks [head, end) joined where each reads the one before and whatever that one reads, and none is weighted."""
    chains: list[tuple[int, int]] = []
    for block in range(first, len(pattern.lengths)):
        head = chains[-1][0] if chains else block
        joins = head < block and pattern.weight(block) is None and pattern.weight(head) is None
        if joins and pattern.reads[block] == (*pattern.reads[block - 1], block - 1):
            chains[-1] = (head, block + 1)
        else:
            chains.append((block, block + 1))
    return chains
