"""Which segments an answer's words were written from: the attention that was noted, made into citations."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from graphkv.engine import GraphKV
from graphkv.graph import SegmentGraph
from graphkv.strategy import Citation

LEAST = 0.3
"""The share of the attention that a segment must have for words to be cited from it: below, the model wrote them from the question or from what it knows."""

_BESIDE = 0.5
"""A second segment is named too if it had at least this much of the first one's share."""

_LOOKED_THROUGH = 256
"""Segments in which words are looked for, from the one that was looked at backwards."""


def watched_heads(engine: GraphKV) -> dict[int, tuple[int, ...]]:
    """Layer → heads that tell which segment an answer is copied from: the model's saved retrieval heads (``graphkv heads``), else all heads of its upper half."""
    from graphkv_retrieval.head_file import saved_heads

    saved = saved_heads(engine.model)
    if saved is not None and saved.heads:
        return {layer: tuple(head for of, head in saved.heads if of == layer) for layer in sorted({layer for layer, _ in saved.heads})}
    layers, heads = len(engine.model.ropes), int(engine.model.config.num_attention_heads)
    return {layer: tuple(range(heads)) for layer in range(layers // 2, layers)}


def by_segment(looks: Mapping[int, float], segments: Sequence[str]) -> dict[str, float]:
    """Shares of blocks, by their number, as shares of segments, largest first.

    Example:
        >>> by_segment({2: 0.5, 1: 0.2, 0: 0.1}, ["a", "b", "a"])
        {'a': 0.6, 'b': 0.2}
    """
    found: dict[str, float] = {}
    for block, share in looks.items():
        found[segments[block]] = found.get(segments[block], 0.0) + share
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
    words, found, holds = _looked(_words(text), reach, looks), [], _Texts(graph)
    for top, run in itertools.groupby(words, key=lambda word: next(iter(word[2]), None)):
        spans = list(run)
        start, end = spans[0][0], spans[-1][1]
        if top is None or not _says_something(words_here := text[start:end]):
            continue
        shares: dict[str, float] = {}
        for _, _, found_in in spans:
            for segment, share in found_in.items():
                shares[segment] = max(share, shares.get(segment, 0.0))
        kept = {segment: round(share, 4) for segment, share in sorted(shares.items(), key=lambda item: -item[1]) if share >= _BESIDE * shares[top]}
        through = {source: kept[top] for source in holds.nearest(top, words_here) if source != top}
        found.append(Citation(start, end, words_here, tuple({**through, **{k: v for k, v in kept.items() if k not in through}}.items())))
    return tuple(found)


def _says_something(words: str) -> bool:
    """Whether there is a word of four letters or more, a number, a capital, or a letter of a script that needs no spaces."""
    return any(len(word) >= 4 or any(c.isdigit() or c.isupper() or ord(c) > 0x2E80 for c in word) for word in words.split())


class _Texts:
    """Where words stand. Each text is looked at in lower case once, however many words are looked for."""

    def __init__(self, graph: SegmentGraph) -> None:
        self.graph = graph
        self._texts: dict[str, str] = {}

    def nearest(self, id: str, words: str) -> list[str]:
        """The segments that hold the words: this one, else those of its sources that do, else of their sources, and so on as far as a few hundred; none if the words stand nowhere there."""
        wanted = words.strip(" .,;:!?\"'()[]").casefold()
        seen, level = {id}, [id]
        while wanted and level and len(seen) <= _LOOKED_THROUGH:
            if found := [segment for segment in level if wanted in self._text(segment)]:
                return found
            level = list(dict.fromkeys(source for segment in level for source in self.graph.sources(segment) if source not in seen))
            seen.update(level)
        return []

    def _text(self, id: str) -> str:
        if id not in self._texts:
            segment = self.graph[id]
            self._texts[id] = f"{segment.title or ''} {segment.text or ''}".casefold()
        return self._texts[id]


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


def _looked(
    words: Sequence[tuple[int, int]], reach: Sequence[int], looks: Sequence[Mapping[str, float]]
) -> list[tuple[int, int, Mapping[str, float]]]:
    """Each word with the shares of the token, among those that wrote into it, whose first segment has most; with none if that is too little."""
    spans, before = [], 0  # (first character, behind the last, shares) of every token that wrote some
    for after, shares in zip(reach, looks, strict=False):
        if after > before and shares:
            spans.append((before, after, shares))
        before = max(before, after)
    found, token = [], 0
    for start, end in words:
        while token < len(spans) and spans[token][1] <= start:
            token += 1
        writing = itertools.takewhile(lambda span: span[0] < end, itertools.islice(spans, token, None))  # noqa: B023 - used up before `end` changes
        best = max((shares for _, _, shares in writing), key=_most, default={})
        found.append((start, end, best if _most(best) >= LEAST else {}))
    return found


def _most(shares: Mapping[str, float]) -> float:
    return max(shares.values(), default=0.0)
