"""What a kernel needs of a layout: how long the blocks are and who reads whom."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate

from graphkv_kernels.errors import PatternError, ShapeError


@dataclass(frozen=True)
class ContextWeight:
    """How one block weighs some of the blocks that it reads (APE).

    The logits of the keys in `blocks` are divided by `temperature`, and the log-sum-exp of that group is multiplied by
    `scale` before the group meets the other keys:

        logit' = logit / temperature + (scale - 1) * logsumexp_group(logit / temperature)

    Source: APE, arXiv 2502.05431, section 4 (adaptive parallel encoding; its default is temperature = scale = 0.9).

    Args:
        blocks: indices of blocks, each among the reader's reads.
        temperature: T, above zero.
        scale: S, finite.
    """

    blocks: tuple[int, ...]
    temperature: float = 1.0
    scale: float = 1.0


@dataclass(frozen=True)
class BlockPattern:
    """Blocks of tokens in packed order, and which earlier blocks each of them reads.

    Every block attends to itself causally and to each block in `reads` in full. Two patterns with equal fields are equal
    and hash alike, so whatever is computed from a pattern can be cached under it. `reads` is kept sorted.

    Args:
        lengths: tokens in each block, at least 1.
        reads: for each block, the indices of the earlier blocks that it reads.
        context: for each block its `ContextWeight` or None; empty when no block has one.

    Raises:
        PatternError: the fields have unequal lengths, a length is below 1, a block reads itself, a later block or one
            block twice, or a context names a block that is not read.

    Example:
        A prefix of one token, two passages of two, and a question of one token that reads all of them:

        >>> pattern = BlockPattern(lengths=(1, 2, 2, 1), reads=((), (0,), (0,), (0, 1, 2)))
        >>> pattern.tokens
        6
    """

    lengths: tuple[int, ...]
    reads: tuple[tuple[int, ...], ...]
    context: tuple[ContextWeight | None, ...] = ()
    starts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.reads) != len(self.lengths):
            raise PatternError(f"expected one tuple of reads for each of the {len(self.lengths)} blocks, got {len(self.reads)}")
        if self.context and len(self.context) != len(self.lengths):
            raise PatternError(f"expected no context or one entry for each of the {len(self.lengths)} blocks, got {len(self.context)}")
        for block, length in enumerate(self.lengths):
            if length < 1:
                raise PatternError(f"expected every block to hold at least 1 token, got {length} in block {block}")
        for block, sources in enumerate(self.reads):
            if sources and not (min(sources) >= 0 and max(sources) < block):
                raise PatternError(f"block {block} may read blocks 0 to {block - 1}, got {tuple(sources)}")
            if len(set(sources)) != len(sources):
                raise PatternError(f"block {block} reads a block twice: {tuple(sources)}")
        for block, weight in enumerate(self.context):
            if weight is not None:
                self._check_context(block, weight)
        # Sorted once here: equal graphs compare equal, and contiguous sources are found by looking at neighbours.
        object.__setattr__(self, "lengths", tuple(self.lengths))
        object.__setattr__(self, "reads", tuple(tuple(sorted(sources)) for sources in self.reads))
        object.__setattr__(self, "context", tuple(self.context) if any(self.context) else ())
        object.__setattr__(self, "starts", tuple(accumulate(self.lengths, initial=0)))
        # A kernel looks its plan up once a layer; hashing 100,000 edges every time would show.
        object.__setattr__(self, "_hash", hash((self.lengths, self.reads, self.context)))

    def __hash__(self) -> int:
        return self._hash

    def _check_context(self, block: int, weight: ContextWeight) -> None:
        stray = sorted(set(weight.blocks) - set(self.reads[block]))
        if stray or not weight.blocks or len(set(weight.blocks)) != len(weight.blocks):
            among = tuple(self.reads[block])
            raise PatternError(f"expected the context of block {block} to name some of {among} once each, got {weight.blocks}")
        if not (weight.temperature > 0 and math.isfinite(weight.temperature) and math.isfinite(weight.scale)):
            raise PatternError(f"block {block}: expected temperature > 0 and a finite scale, got {weight.temperature} and {weight.scale}")

    @property
    def tokens(self) -> int:
        """Tokens of all blocks together, the length of key and value."""
        return self.starts[-1]

    def span(self, block: int) -> tuple[int, int]:
        """First token of a block and the one after its last."""
        return self.starts[block], self.starts[block + 1]

    def weight(self, block: int) -> ContextWeight | None:
        """The context weight of a block, if it has one."""
        return self.context[block] if self.context else None

    def first_query_block(self, query_length: int) -> int:
        """The first of the trailing blocks that hold `query_length` tokens; the blocks before it are keys only.

        Raises:
            ShapeError: no number of trailing blocks holds just that many tokens.
        """
        start = self.tokens - query_length
        for block in range(len(self.lengths), -1, -1):
            if self.starts[block] == start and block < len(self.lengths):
                return block
            if self.starts[block] < start:
                break
        sums = list(accumulate(reversed(self.lengths)))
        near = ", ".join(str(total) for total in sums[:6]) + (", …" if len(sums) > 6 else "")
        raise ShapeError(f"expected as many query tokens as some trailing blocks hold ({near}), got {query_length}")

    def runs(self, blocks: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The tokens of sorted blocks as spans, neighbouring blocks joined.

        >>> BlockPattern(lengths=(1, 2, 3, 1), reads=((), (), (), (0, 1))).runs((0, 1, 3))
        ((0, 3), (6, 7))
        """
        joined: list[tuple[int, int]] = []
        for block in blocks:
            start, end = self.span(block)
            if joined and joined[-1][1] == start:
                start = joined.pop()[0]
            joined.append((start, end))
        return tuple(joined)

    def allowed_pairs(self, query_length: int | None = None) -> int:
        """How many (query, key) pairs may meet; a pair costs 4·D floating-point operations a head."""
        first = 0 if query_length is None else self.first_query_block(query_length)
        pairs = 0
        for block in range(first, len(self.lengths)):
            length = self.lengths[block]
            pairs += length * sum(self.lengths[source] for source in self.reads[block]) + length * (length + 1) // 2
        return pairs
