"""Layout: which blocks exist, where they stand, and which block reads which. Pure data.

The packed order is ``[prefix] [round 0 blocks] [round 1 blocks] ... [question]``. Every block attends causally to
itself and in full to the blocks it reads. Encoder, kernels, trainer, plots and benchmarks all read this one object.

Two segments, ``b → a`` (a reads b), prefix P, question Q, one token each, drawn as the packed mask (row reads column)::

          P b0 a1 Q
    P     1
    b0    0  1
    a1    0  1  1
    Q     1  1  1  1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch

from graphkv.errors import GraphError, LayoutError, one_of
from graphkv.graph import SegmentGraph

if TYPE_CHECKING:
    from pathlib import Path

Role = Literal["prefix", "source", "target", "question"]
Rounds = int | Literal["topological"]
Positions = int | str
"""``tight``, ``paper``, ``sequential``, or a number of positions a round; see :func:`place`."""
Reads = tuple[str, int]  # a block, named by segment and round


@dataclass(frozen=True)
class Block:
    """A run of tokens that is encoded in one go.

    Attributes:
        segment: the segment's id; None for prefix and question.
        role: prefix, source (reads no segment), target (reads some), question.
        round: 0 for what is encoded alone; the prefix has 0, the question the last.
        length: tokens.
        position: position id of the first token when it is encoded and when other segments read it.
        reads: indices (into ``Layout.blocks``) of the blocks it reads in full; all stand before it.
        answer_position: position id of the first token when the question reads it; differs from `position` only in
            staged layouts, where keys are moved in between.
    """

    segment: str | None
    role: Role
    round: int
    length: int
    position: int
    reads: tuple[int, ...]
    answer_position: int

    @property
    def name(self) -> str:
        """Short label: ``prefix``, ``question``, ``a@0`` (segment a, round 0)."""
        return self.role if self.segment is None else f"{self.segment}@{self.round}"


@dataclass(frozen=True)
class Layout:
    """Blocks in packed order, prefix first (if any), question last.

    Attributes:
        name: the layout's name, for example ``graph``.
        blocks: see :class:`Block`; the question is always the last one, with length 0 if there is none yet.
        temperature, scale: APE: the question's logits over segments are divided by `temperature`, their log-sum-exp is
            multiplied by `scale`. Both 1 everywhere else.
        options: the options it was made with.

    Example:
        >>> from graphkv.layouts import make_layout
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "x", "sources": ["b"]}, {"id": "b", "text": "y"}])
        >>> print(make_layout("graph", graph, {"a": 1, "b": 1}, prefix=1, question=1).drawing())
                   1 2 3 4
        1 prefix   1 0 0 0
        2 b@0      0 1 0 0
        3 a@1      0 1 1 0
        4 question 1 1 1 1
    """

    name: str
    blocks: tuple[Block, ...]
    temperature: float = 1.0
    scale: float = 1.0
    options: Mapping[str, object] = field(default_factory=dict, compare=False)

    @property
    def question(self) -> Block:
        """The question's block."""
        return self.blocks[-1]

    @property
    def context(self) -> tuple[int, ...]:
        """Indices of all blocks but the question."""
        return tuple(range(len(self.blocks) - 1))

    @property
    def exposed(self) -> tuple[int, ...]:
        """Indices of the blocks that the question reads."""
        return self.question.reads

    @property
    def packable(self) -> bool:
        """True if the layout is also one packed forward; False if keys are moved between phases (`graph_sequential`)."""
        return all(block.position == block.answer_position for block in self.blocks)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First packed index of each block, and the total at the end."""
        starts = [0]
        for block in self.blocks:
            starts.append(starts[-1] + block.length)
        return tuple(starts)

    @property
    def total_tokens(self) -> int:
        """Tokens of all blocks, prefix and question included."""
        return self.starts[-1]

    @property
    def window(self) -> int:
        """Positions in use: one more than the highest position id."""
        return max(max(b.position, b.answer_position) + b.length for b in self.blocks)

    def with_question(self, length: int) -> Layout:
        """The same layout for a question of another length."""
        return replace(self, blocks=(*self.blocks[:-1], replace(self.question, length=length)))

    def position_ids(self) -> torch.Tensor:
        """Position ids of the packed tokens, int64 ``[T]``.

        Raises:
            LayoutError: the layout exists only as a staged procedure.
        """
        self.require_packable("position_ids()")
        return torch.cat([torch.arange(b.position, b.position + b.length) for b in self.blocks])

    def mask(self) -> torch.Tensor:
        """The packed mask by tokens, bool ``[T, T]``, row reads column. For looking and for tests: it is T × T.

        Raises:
            LayoutError: the layout exists only as a staged procedure.
        """
        self.require_packable("mask()")
        mask = torch.zeros(self.total_tokens, self.total_tokens, dtype=torch.bool)
        for i, block in enumerate(self.blocks):
            rows = slice(self.starts[i], self.starts[i + 1])
            for j in block.reads:
                mask[rows, self.starts[j] : self.starts[j + 1]] = True
            mask[rows, rows] = torch.ones(block.length, block.length, dtype=torch.bool).tril()
        return mask

    def block_rows(self) -> list[list[int]]:
        """Who reads whom, by blocks: a 1 where row reads column (itself included)."""
        return [[int(j in block.reads or j == i) for j in range(len(self.blocks))] for i, block in enumerate(self.blocks)]

    def drawing(self) -> str:
        """:meth:`block_rows` as text, rows labelled."""
        width = max(len(b.name) for b in self.blocks)
        digits = len(str(len(self.blocks)))
        head = " " * (digits + 1 + width) + "".join(f" {i:>{digits}}" for i in range(1, len(self.blocks) + 1))
        rows = [
            f"{i:>{digits}} {block.name:<{width}}" + "".join(f" {cell:>{digits}}" for cell in row)
            for i, (block, row) in enumerate(zip(self.blocks, self.block_rows(), strict=True), start=1)
        ]
        return "\n".join([head, *rows])

    @property
    def pairs(self) -> int:
        """Query-key pairs that the mask allows, the question's included."""
        return sum(b.length * (sum(self.blocks[j].length for j in b.reads) + (b.length + 1) / 2) for b in self.blocks).__trunc__()

    @property
    def sequential_tokens(self) -> int:
        """Tokens that plain sequential prefill would encode: prefix, every segment once, question."""
        lengths = {b.segment: b.length for b in self.blocks if b.segment is not None}
        return sum(lengths.values()) + sum(b.length for b in self.blocks if b.segment is None)

    @property
    def sequential_pairs(self) -> int:
        """Query-key pairs of plain sequential prefill over the same segments."""
        total = self.sequential_tokens
        return total * (total + 1) // 2

    def __str__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.options.items())
        lines = [f"layout {self.name}" + (f" ({options})" if options else "")]
        width = max(5, *(len(b.name) for b in self.blocks))
        lines.append(f"  {'block':<{width}}  role      tokens  positions      reads")
        for b in self.blocks:
            names = ", ".join(self.blocks[j].name for j in b.reads[:6]) + (f" and {len(b.reads) - 6} more" if len(b.reads) > 6 else "")
            place = f"{b.position}–{b.position + b.length - 1}" if b.length else f"{b.position}–"
            place += f" → {b.answer_position}" if b.answer_position != b.position else ""
            lines.append(f"  {b.name:<{width}}  {b.role:<8}  {b.length:>6}  {place:<13}  {names or '–'}")
        lines.append(
            f"  {self.total_tokens} tokens in {len(self.blocks)} blocks, window {self.window}; sequential prefill: {self.sequential_tokens} tokens. "
            f"Attention pairs {self.pairs:,} against {self.sequential_pairs:,}"
        )
        return "\n".join(lines)

    def draw(self, path: str | Path) -> Path:
        """Draw the block mask as a PNG (needs matplotlib: ``pip install graphkv[viz]``). Returns the path."""
        from graphkv.plot import draw_layout

        return draw_layout(self, path)

    def require_packable(self, what: str) -> None:
        """Raises LayoutError if the layout exists only as a staged procedure; `what` is what was asked for."""
        if not self.packable:
            raise LayoutError(f"layout {self.name!r} moves keys between its phases: it has no {what}; run it through the staged procedure (engine.ask, engine.logits)")


def rounds_of(graph: SegmentGraph, rounds: Rounds) -> dict[Reads, tuple[Reads, ...]]:
    """The blocks of a graph and what each reads, as ``{(segment, round): ((segment, round), ...)}``, by round.

    With a number of rounds, round r's target reads its sources' latest blocks of rounds < r. ``"topological"`` updates
    each segment once, in order, reading its sources' final blocks. Blocks that nobody reads and that are not their
    segment's last are dropped.

    Raises:
        GraphError: a cycle in topological mode. LayoutError: `rounds` is neither a number ≥ 0 nor ``"topological"``.
    """
    reads: dict[Reads, tuple[Reads, ...]] = {}
    last: dict[str, int] = {}
    if rounds == "topological":
        for id in graph.topological():
            sources = graph.sources(id)
            last[id] = 1 + max(last[s] for s in sources) if sources else 0
            reads[id, last[id]] = tuple((s, last[s]) for s in sources)
    elif isinstance(rounds, int) and not isinstance(rounds, bool) and rounds >= 0:
        sources_of = {id: graph.sources(id) for id in graph.ids}
        for id, sources in sources_of.items():
            last[id] = rounds if sources else 0
            reads[id, 0] = ()
            for r in range(1, last[id] + 1):
                reads[id, r] = tuple((s, r - 1 if sources_of[s] else 0) for s in sources)
    else:
        raise LayoutError(f"rounds must be a number of rounds or 'topological', got {rounds!r}")

    kept: set[Reads] = set()
    todo = list(last.items())
    while todo:  # everything that a last block reaches through what it reads
        block = todo.pop()
        if block not in kept:
            kept.add(block)
            todo.extend(reads[block])
    rank = {id: i for i, id in enumerate(graph.ids)}
    return {b: reads[b] for b in sorted(kept, key=lambda b: (b[1], rank[b[0]]))}


def place(
    name: str,
    reads: Mapping[Reads, Sequence[Reads]],
    lengths: Mapping[str, int],
    *,
    prefix: int,
    question: int,
    positions: Positions = "tight",
    view: str = "all",
    prefix_visible: bool = False,
    max_round: int | None = None,
    temperature: float = 1.0,
    scale: float = 1.0,
    options: Mapping[str, object] | None = None,
) -> Layout:
    """Give the blocks of `reads` (as :func:`rounds_of` makes them) their positions, and the question its view.

    Args:
        lengths: tokens of each segment. prefix, question: tokens of each; 0 for none.
        positions: ``tight``: each round starts where the longest block of the round before ends (official Arxiv-QA
            code). ``paper``: round r starts at P + r·L, the question at P + (rounds+1)·L, L the longest segment.
            ``sequential``: one block after the other. A number N: as ``paper`` with L = N, whatever the longest segment is, so that
            a target's distance to its sources, and with it its key in a store, is the same in every graph.
        view: ``all``: the question reads prefix and every block. ``final``: prefix and each segment's last block.
        prefix_visible: whether the segments read the prefix (as in PCW and APE).
        max_round: the number of rounds, for ``paper`` positions; by default the highest round that has a block.

    Raises:
        LayoutError: an unknown option value. GraphError: no blocks.
    """
    longest = max(lengths.values(), default=0)
    if isinstance(positions, int) and not isinstance(positions, bool):
        if positions < longest:
            raise LayoutError(f"positions={positions} must be at least the longest segment, which has {longest} tokens; cut it with max_segment_tokens")
        longest, positions = positions, "paper"
    for kind, got, valid in (("positions", positions, ("tight", "paper", "sequential")), ("view", view, ("all", "final"))):
        if got not in valid:
            raise LayoutError(one_of(f"{kind} option", got, valid))
    if not isinstance(prefix_visible, bool):
        raise LayoutError(f"prefix_visible must be True or False, got {prefix_visible!r}")
    if not reads:
        raise GraphError("the graph has no segments: expected at least one")
    offset = int(prefix > 0)
    index = {block: i + offset for i, block in enumerate(reads)}
    rounds = max(r for _, r in reads)
    longest_in: dict[int, int] = {}
    for segment, r in reads:
        longest_in[r] = max(longest_in.get(r, 0), lengths[segment])
    round_start: dict[int, int] = {0: prefix}
    for r in range(1, rounds + 2):
        tight = round_start[r - 1] + longest_in.get(r - 1, 0)
        round_start[r] = prefix + r * longest if positions == "paper" else tight

    blocks = [Block(None, "prefix", 0, prefix, 0, (), 0)] if prefix else []
    running = prefix
    for (segment, r), sources in reads.items():
        start = running if positions == "sequential" else round_start[r]
        seen = tuple(sorted(index[s] for s in sources))
        if prefix and prefix_visible:
            seen = (0, *seen)
        blocks.append(Block(segment, "target" if sources else "source", r, lengths[segment], start, seen, start))
        running += lengths[segment]

    last = {segment: i for (segment, _), i in index.items()}  # by round, so the last one stays
    shown = sorted(last.values()) if view == "final" else list(index.values())
    exposed = (0, *shown) if prefix else tuple(shown)
    end = {"tight": round_start[rounds + 1], "sequential": running, "paper": prefix + ((max_round if max_round is not None else rounds) + 1) * longest}[str(positions)]
    blocks.append(Block(None, "question", rounds, question, end, exposed, end))
    return Layout(name, tuple(blocks), temperature, scale, dict(options or {}))
