"""What every way of reading answers with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SegmentUse:
    """One segment that the question could read.

    Attributes:
        id: the segment's id. tokens: tokens it was given, counted once for each of its blocks.
        blocks: names of its blocks, for example ``("a@0", "a@1")``.
        reads: ids of the segments it was re-encoded on.
        reused: True if all of its KV was there already.
        score: how much the strategy made of it: the retrieval score it came with (graph, full_context), the attention of the question on
            what was kept of it (infini_retri), its share of the blocks that were fetched (landmark); None where there is none.
    """

    id: str
    tokens: int
    blocks: tuple[str, ...]
    reads: tuple[str, ...]
    reused: bool
    score: float | None = None


@dataclass(frozen=True)
class Timings:
    """Seconds.

    Attributes:
        plan: tokenising and laying out. encode: blocks that were not in the store. assemble: stored KV into one cache.
        first_token: from the call to the first new token (TTFT); in a batch it is the batch's.
        total: from the call to the whole answer.
    """

    plan: float
    encode: float
    assemble: float
    first_token: float
    total: float


@dataclass(frozen=True)
class Citation:
    """A stretch of an answer, and the segments that the model looked at while it wrote it.

    Attributes:
        start, end: characters of the answer's text. text: what stands there.
        segments: (segment id, the largest share of a token's attention that it had, 0 to 1), best first.

    Example:
        >>> Citation(0, 3, "Ada", (("paper1", 0.9),)).segments[0][0]
        'paper1'
    """

    start: int
    end: int
    text: str
    segments: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Answer:
    """What :meth:`graphkv.GraphKV.ask` gives back; ``str(answer)`` is its text.

    Attributes:
        text: the answer, special tokens left out.
        token_ids: the generated ids. finish_reason: ``"stop"`` (end token or stop string) or ``"length"``.
        segments: the segments that the question read.
        layout: name of the layout that the answer was read under. tokens_reused: context tokens whose KV came from the store.
        tokens_computed: tokens that were encoded for this answer, the question included, the answer not.
        tokens_generated: new tokens. timings: seconds by part.
        strategy: its name. query_aware: True if the documents were read with the question in sight: nothing of it serves another question.
        tokens_read: tokens of the documents that the model was shown on the way, now or when they were encoded, a token once for
            every time. tokens_kept: tokens of the documents that were before the model when it answered (landmark: that could be
            fetched for one token and head).
        notes: what the reader of a result should know, for example that text was left out; mostly empty.
        citations: which segments were looked at for which words, where somebody watched (:class:`graphkv.scheduler.Scheduler` does).
        tokens_exact: of `tokens_reused` those that came as part of the very same context, assembled for an earlier question; the rest was
            composed, block by block, from the store.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    segments: tuple[SegmentUse, ...]
    layout: str
    tokens_reused: int
    tokens_computed: int
    tokens_generated: int
    timings: Timings
    strategy: str = "graph"
    query_aware: bool = False
    tokens_read: int = 0
    tokens_kept: int = 0
    notes: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    tokens_exact: int = 0

    def __str__(self) -> str:
        return self.text


class Score(float):
    """A log-likelihood (natural log, summed over the continuation's tokens), with what lm_eval also wants to know.

    Attributes:
        tokens: how many tokens the continuation has.
        is_greedy: True if greedy decoding would produce exactly this continuation.

    Example:
        >>> s = Score(-1.5, tokens=3, is_greedy=True)
        >>> s / s.tokens
        -0.5
    """

    tokens: int
    is_greedy: bool

    def __new__(cls, value: float, *, tokens: int = 0, is_greedy: bool = False) -> Score:
        self = super().__new__(cls, value)
        self.tokens, self.is_greedy = tokens, is_greedy
        return self
