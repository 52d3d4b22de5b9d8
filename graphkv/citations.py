"""Which segments an answer's words were written from: the attention that was noted, made into citations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from graphkv.engine import GraphKV
from graphkv.graph import SegmentGraph
from graphkv.strategy import Citation

LEAST = 0.3
"""The share of the attention that a segment must have for words to be cited from it: below, the model wrote them from the question or from what it knows."""

_BESIDE = 0.5
"""A second segment is named too if it had at least this much of the first one's share."""


def watched_heads(engine: GraphKV) -> dict[int, tuple[int, ...]]:
    """Layer → heads that tell which segment an answer is copied from: the model's saved retrieval heads (``graphkv heads``), else all heads of its upper half."""
    from graphkv_retrieval.head_file import saved_heads

    saved = saved_heads(engine.model)
    if saved is not None and saved.heads:
        return {layer: tuple(head for of, head in saved.heads if of == layer) for layer in sorted({layer for layer, _ in saved.heads})}
    layers, heads = len(engine.model.ropes), int(engine.model.config.num_attention_heads)
    return {layer: tuple(range(heads)) for layer in range(layers // 2, layers)}


def by_segment(looks: Sequence[float], segments: Sequence[str]) -> dict[str, float]:
    """Shares of blocks as shares of segments, largest first.

    Example:
        >>> by_segment([0.1, 0.2, 0.5], ["a", "b", "a"])
        {'a': 0.6, 'b': 0.2}
    """
    found: dict[str, float] = {}
    for share, segment in zip(looks, segments, strict=True):
        found[segment] = found.get(segment, 0.0) + share
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def citations_of(text: str, reach: Sequence[int], looks: Sequence[Mapping[str, float]], graph: SegmentGraph) -> tuple[Citation, ...]:
    """Runs of words that were written from the same segment.

    Args:
        text: the answer. reach: characters of the text after each token. looks: for each token, the segments' shares of its attention, largest first.
        graph: the segments.

    A word goes by the token of it that looked hardest at a segment, since the rest of a name often follows from its beginning. A target may have
    the words from a source that it read, and that from one of its own: if they stand there and nowhere nearer, that one is named first, with the target's share. A
    run that is only short words (``in``, ``of the``) says nothing and is left out.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "p", "text": "It is by Ada."}])
        >>> citations_of("by Ada", [2, 4, 6], [{"p": 0.1}, {"p": 0.9}, {"p": 0.2}], graph)
        (Citation(start=3, end=6, text='Ada', segments=(('p', 0.9),)),)
    """
    words = [(start, end, _best(start, end, reach, looks)) for start, end in _words(text)]
    found = []
    for top, run in groupby(words, key=lambda word: next(iter(word[2]), None)):
        spans = list(run)
        start, end = spans[0][0], spans[-1][1]
        if top is None or not _says_something(words_here := text[start:end]):
            continue
        shares: dict[str, float] = {}
        for _, _, found_in in spans:
            for segment, share in found_in.items():
                shares[segment] = max(share, shares.get(segment, 0.0))
        kept = {segment: round(share, 4) for segment, share in sorted(shares.items(), key=lambda item: -item[1]) if share >= _BESIDE * shares[top]}
        through = {source: kept[top] for source in _nearest(graph, top, words_here) if source != top}
        found.append(Citation(start, end, words_here, tuple({**through, **{k: v for k, v in kept.items() if k not in through}}.items())))
    return tuple(found)


def _says_something(words: str) -> bool:
    """Whether there is a word of four letters or more, a number, a capital, or a letter of a script that needs no spaces."""
    return any(len(word) >= 4 or any(c.isdigit() or c.isupper() or ord(c) > 0x2E80 for c in word) for word in words.split())


def _holds(graph: SegmentGraph, id: str, words: str) -> bool:
    segment = graph[id]
    stripped = words.strip(" .,;:!?\"'()[]").casefold()
    return bool(stripped) and stripped in f"{segment.title or ''} {segment.text or ''}".casefold()


def _nearest(graph: SegmentGraph, id: str, words: str) -> list[str]:
    """The segments that hold the words: this one, else those of its sources that do, else of their sources, and so on; none if the words stand nowhere behind it."""
    seen, level = {id}, [id]
    while level:
        if found := [segment for segment in level if _holds(graph, segment, words)]:
            return found
        level = list(dict.fromkeys(source for segment in level for source in graph.sources(segment) if source not in seen))
        seen.update(level)
    return []


def _words(text: str) -> list[tuple[int, int]]:
    words, start = [], None
    for place, letter in enumerate(f"{text} "):
        if letter.isspace():
            if start is not None:
                words.append((start, place))
            start = None
        elif start is None:
            start = place
    return words


def _best(start: int, end: int, reach: Sequence[int], looks: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The shares of the token, among those that wrote into [start, end), whose first segment has most; empty if that is too little."""
    before = 0
    best: Mapping[str, float] = {}
    for after, shares in zip(reach, looks, strict=False):
        if after > start and before < end and after > before and shares and max(shares.values()) > max(best.values(), default=0.0):
            best = shares
        before = max(before, after)
    return best if max(best.values(), default=0.0) >= LEAST else {}
