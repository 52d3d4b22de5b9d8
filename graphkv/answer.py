"""What was read and what was written → an Answer of the graph strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphkv.generate import Completion
from graphkv.graph import SegmentGraph
from graphkv.layout import Layout
from graphkv.strategy import Answer, Citation, SegmentUse, Timings


@dataclass(frozen=True, eq=False)
class Reading:
    """A context as an answer reports it.

    Attributes:
        layout, graph: what was read. reused: for each block but the question whether its KV was there.
        tokens_reused, tokens_computed: of the context. tokens_exact: see :class:`Answer`.
    """

    layout: Layout
    graph: SegmentGraph
    reused: Sequence[bool]
    tokens_reused: int
    tokens_computed: int
    tokens_exact: int = 0


def graph_answer(completion: Completion, reading: Reading, question_tokens: int, timings: Timings, citations: tuple[Citation, ...] = ()) -> Answer:
    """The answer to one question over a context."""
    layout = reading.layout
    read = sum(layout.blocks[i].length for i in layout.context if layout.blocks[i].segment is not None)
    uses = segment_uses(reading)
    return Answer(
        text=completion.text,
        token_ids=completion.token_ids,
        finish_reason=completion.finish_reason,
        segments=uses,
        layout=layout.name,
        tokens_reused=reading.tokens_reused,
        tokens_computed=reading.tokens_computed + question_tokens,
        tokens_generated=len(completion.token_ids),
        timings=timings,
        tokens_read=read,
        tokens_kept=sum(use.tokens for use in uses),
        citations=citations,
        tokens_exact=reading.tokens_exact,
    )


def plain_answer(completion: Completion, question_tokens: int, timings: Timings) -> Answer:
    """The answer to a question without documents."""
    return Answer(completion.text, completion.token_ids, completion.finish_reason, (), "", 0, question_tokens, len(completion.token_ids), timings)


def segment_uses(reading: Reading) -> tuple[SegmentUse, ...]:
    """The segments that the question could read, in packed order."""
    layout, uses = reading.layout, dict[str, SegmentUse]()
    for i in layout.exposed:
        block = layout.blocks[i]
        if block.segment is None:
            continue
        before = uses.get(block.segment)
        seen = tuple(s for j in block.reads if (s := layout.blocks[j].segment) is not None)
        uses[block.segment] = SegmentUse(
            id=block.segment,
            tokens=block.length + (before.tokens if before else 0),
            blocks=(*(before.blocks if before else ()), block.name),
            reads=tuple(dict.fromkeys((*(before.reads if before else ()), *seen))),
            reused=reading.reused[i] and (before.reused if before else True),
            score=reading.graph[block.segment].score,
        )
    return tuple(uses.values())
