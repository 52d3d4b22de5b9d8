"""Edges from a title that stands in a text: who mentions a segment reads it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from graphkv.graph import Edge, SegmentGraph

_WORD = re.compile(r"\w+")
_HERE = ""
"""Key of the titles that end at a place in the tree of words; no word is empty."""
SHORTEST = 6
"""Characters of a title that is one word; shorter ones are too often just words."""


def mention_edges(graph: SegmentGraph) -> list[Edge]:
    """Edges of kind "mentions" to each segment from those whose title its text mentions; the weight is how often.

    A title is found by its words, whatever their case and the marks between them; where several begin at one place the longest
    counts, and what it covers is not looked at again. Titles of one word count from six characters on. Segments that share a title
    (the parts of a document) are all read by who mentions it, and do not mention each other by it. The time grows with the texts, not
    with the number of titles.

    Example:
        >>> graph = SegmentGraph.from_documents([
        ...     {"id": "a", "title": "Night Maple", "text": "On leaves."},
        ...     {"id": "b", "title": "Quiet Dawn", "text": "Night Maple was first; we extend night maple."},
        ... ])
        >>> [(edge, edge.weight) for edge in mention_edges(graph)]
        [(('a', 'b'), 2.0)]
    """
    by_title: dict[tuple[str, ...], list[str]] = {}
    for segment in graph:
        words = _words(segment.title or "")
        if len(words) > 1 or (words and len(words[0]) >= SHORTEST):
            by_title.setdefault(words, []).append(segment.id)
    tree: dict[str, Any] = {}
    for words in by_title:
        place = tree
        for word in words:
            place = place.setdefault(word, {})
        place[_HERE] = words
    edges = []
    for segment in graph:
        own = _words(segment.title or "")
        for title, times in Counter(_titles(tree, _words(segment.text or ""))).items():
            if title != own:
                edges += [Edge(source, segment.id, kind="mentions", weight=times) for source in by_title[title]]
    return edges


def _titles(tree: dict[str, Any], words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The titles in a text, in order, the longest at each place."""
    at = 0
    while at < len(words):
        place, end, longest = tree, at, None
        while end < len(words) and words[end] in place:
            place = place[words[end]]
            end += 1
            longest = place.get(_HERE, longest)
        if longest is not None:
            yield longest
        at += len(longest) if longest is not None else 1


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))
