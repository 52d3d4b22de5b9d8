"""What a retriever is: questions in, hits out; and how a segment becomes text that can be searched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_128

from graphkv.errors import InputError, check_count
from graphkv.graph import SegmentGraph

_BLOCK = 256
"""Segments whose neighbours are looked for at once: what a retriever needs meanwhile does not grow with the graph."""


class Hit(NamedTuple):
    """A segment that was found, and how well it fits: higher is better, on the retriever's own scale."""

    id: str
    score: float


class Retriever(ABC):
    """Finds segments of the graph that it was built from.

    Args:
        ids: the segments' ids, in the graph's order. digest: of ids and texts, as :func:`corpus_digest` makes it.
    """

    def __init__(self, ids: Sequence[str], digest: str) -> None:
        self.ids, self.digest = tuple(ids), digest

    def search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """The `k` best segments for each question, best first; equal scores stand in the graph's order.

        Returns:
            One list a question. It is shorter than `k` if the graph is, or if fewer segments have anything in common with
            the question.

        Raises:
            InputError: no list of questions, an empty question, or a `k` below 1.

        Example:
            >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "Maples at night."}, {"id": "b", "text": "A river."}])
            >>> [[hit.id for hit in hits] for hits in BM25Retriever.build(graph).search(["Which river?"], k=2)]  # doctest: +SKIP
            [['b']]
        """
        if isinstance(questions, str) or not isinstance(questions, Sequence):
            raise InputError(f"expected a list of questions, got {questions!r}; for one question pass [question]")
        for question in questions:
            if not isinstance(question, str) or not question.strip():
                raise InputError(f"a question must be some text, got {question!r}")
            _encoded(question, "the question")
        check_count("k", k)
        return self._search(questions, k) if questions else []

    def neighbours(self, graph: SegmentGraph, k: int, progress: Callable[[int, int], None] | None = None) -> list[list[Hit]]:
        """For every segment the `k` others that are most like it, best first.

        Args:
            progress: called with (segments done, segments to do), every few hundred.

        Raises:
            InputError: `graph` is not what the retriever was built from, or a `k` below 1.
        """
        check_count("k", k)
        self.check(graph)
        texts, found = searchable_texts(graph), []
        for first in range(0, len(texts), _BLOCK):
            found += self._neighbours(texts[first : first + _BLOCK], first, k)
            if progress:
                progress(len(found), len(texts))
        return found

    def check(self, graph: SegmentGraph) -> None:
        """Raises InputError unless `graph` has the ids and texts that the retriever was built from."""
        if self.ids != graph.ids:
            new, gone = set(graph.ids) - set(self.ids), set(self.ids) - set(graph.ids)
            raise InputError(
                f"the index was built from other segments ({len(new):,} of the graph are not in it, {len(gone):,} of it are not in the graph, "
                f"or their order differs); build it again"
            )
        if self.digest != corpus_digest(graph.ids, searchable_texts(graph)):
            raise InputError("a text or a title has changed since the index was built; build it again")

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the index to a folder, for :func:`graphkv_retrieval.open_index`. Raises InputError if other files are there."""

    @abstractmethod
    def _search(self, questions: Sequence[str], k: int) -> list[list[Hit]]: ...

    @abstractmethod
    def _neighbours(self, texts: Sequence[str], first: int, k: int) -> list[list[Hit]]:
        """The neighbours of a few segments that stand next to each other, of which `first` is the first one's row."""


def searchable_texts(graph: SegmentGraph) -> list[str]:
    """What is searched of each segment: title and text.

    Raises:
        InputError: a segment that is made of token ids and so has no text.
    """
    texts = []
    for segment in graph.segments:
        if segment.text is None:
            raise InputError(f"segment {segment.id!r} is made of token ids: searching needs text; leave it out, or make it from text")
        texts.append(f"{segment.title} {segment.text}" if segment.title else segment.text)
    return texts


def corpus_digest(ids: Iterable[str], texts: Iterable[str]) -> str:
    """Tells whether a graph's ids and searchable texts are those that were indexed. Raises InputError for text that cannot be encoded."""
    digest = xxh3_128()
    for id, text in zip(ids, texts, strict=True):
        for part in (id, text):
            data = _encoded(part, f"segment {id!r}")
            digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _encoded(text: str, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where} cannot be encoded: {error.object[error.start]!r} at character {error.start} is half of a character; remove it") from None
