"""How `gather` cuts a pattern into calls: pure bookkeeping, computed once per pattern.

A **tile** is a run of at most `TILE` query tokens that read the same keys in full, and then one another causally. Long blocks
are several tiles, each reading the ones before it in full. Blocks in a chain (each reads the block before it and all that one
reads) are first joined to one long block, so a plain causal text costs no more than its tiles.
A **group** is a run of tiles that are answered by the same calls: they read the same keys, or equally many different ones.
Few large calls matter as much as few multiplications: each call makes the threads wait for one another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from graphkv_kernels.pattern import BlockPattern, ContextWeight

Runs = tuple[tuple[int, int], ...]

# Query tokens in a tile, and in a group. Measured on two AVX2 cores: smaller tiles waste less of the causal square but leave
# short matrix products; groups beyond this no longer fit the level-2 cache.
TILE = 256
GROUP = 1024
# Keys copied together for a group whose tiles read different ones.
GATHER = 4096


@dataclass(frozen=True)
class Causal:
    """`count` tiles of `length` tokens one after the other, from token `start`: one batched causal call."""

    start: int
    count: int
    length: int


@dataclass(frozen=True)
class Group:
    """Queries [start, end) that read `runs` in full, `context` in full and weighted, and their own tiles causally.

    `runs` and `context` hold one entry that all tiles share, or one for each tile: then the tiles are equally long and their
    entries have equally many tokens.
    """

    start: int
    end: int
    runs: tuple[Runs, ...]
    context: tuple[Runs, ...]
    weight: ContextWeight | None
    causal: tuple[Causal, ...]


@dataclass(frozen=True)
class _Tile:
    start: int
    end: int
    runs: Runs
    context: Runs
    weight: ContextWeight | None

    @property
    def shape(self) -> tuple[int, int, int, float, float]:
        """What tiles that read different keys must have in common to be answered by one call."""
        factors = (self.weight.temperature, self.weight.scale) if self.weight else (1.0, 1.0)
        return (self.end - self.start, tokens(self.runs), tokens(self.context), *factors)


def tokens(runs: Runs) -> int:
    """How many tokens some runs hold."""
    return sum(end - start for start, end in runs)


@lru_cache(maxsize=64)
def plan(pattern: BlockPattern, query_length: int) -> tuple[Group, ...]:
    """The groups that together answer the last `query_length` queries of a pattern.

    Raises:
        ShapeError: no trailing blocks hold that many tokens.
    """
    gathered: list[list[_Tile]] = []
    for tile in _tiles(pattern, pattern.first_query_block(query_length)):
        if gathered and _joins(gathered[-1], tile):
            gathered[-1].append(tile)
        else:
            gathered.append([tile])
    return tuple(map(_group, gathered))


def _same_reads(one: _Tile, other: _Tile) -> bool:
    return (one.runs, one.context, one.shape[1:]) == (other.runs, other.context, other.shape[1:])


def _joins(group: list[_Tile], tile: _Tile) -> bool:
    first = group[0]
    if tile.end - first.start > GROUP:
        return False
    if _same_reads(first, tile) and _same_reads(first, group[-1]):
        return True
    copied = (len(group) + 1) * (tokens(tile.runs) + tokens(tile.context))
    return copied <= GATHER and all(other.shape == tile.shape for other in group)


def _group(tiles: list[_Tile]) -> Group:
    first = tiles[0]
    causal: tuple[Causal, ...] = ()
    for tile in tiles:
        causal = _with(causal, tile.start, tile.end - tile.start)
    distinct = tiles[:1] if all(_same_reads(first, tile) for tile in tiles) else tiles
    runs, context = tuple(tile.runs for tile in distinct), tuple(tile.context for tile in distinct)
    return Group(first.start, tiles[-1].end, runs, context, first.weight, causal)


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
