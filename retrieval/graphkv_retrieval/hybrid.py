"""Several retrievers as one, by reciprocal rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphkv.errors import InputError
from graphkv_retrieval.base import Hit, Retriever
from graphkv_retrieval.manifest import Manifest, begin, finish, write_ids

CONSTANT = 60
"""Of the formula, as its authors set it."""
DEPTH = 100
"""So many hits of every retriever count, or `k` if that is more."""


class HybridRetriever(Retriever):
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009): a segment's score is the sum of 1 / (60 + rank).

    Args:
        parts: retrievers of the same segments; the rank is 1 for a part's best hit, and a part that did not find a segment adds nothing.

    Raises:
        InputError: no parts, or parts of different segments.

    Example:
        >>> HybridRetriever([BM25Retriever.build(graph), DenseRetriever.build(graph, embedder)]).search(["Which river?"], k=2)  # doctest: +SKIP
    """

    def __init__(self, parts: Sequence[Retriever]) -> None:
        if not parts:
            raise InputError("a hybrid retriever needs at least one retriever, got none")
        if len({(part.ids, part.digest) for part in parts}) > 1:
            raise InputError("the retrievers of a hybrid must be built from the same segments: build them again from one graph")
        super().__init__(parts[0].ids, parts[0].digest)
        self.parts = tuple(parts)
        self._rank = {id: i for i, id in enumerate(self.ids)}

    def save(self, folder: str | Path) -> None:
        """Write every part into a folder of its own. Raises InputError if other files are there."""
        place = begin(folder, "hybrid")
        for part, name in zip(self.parts, part_names(len(self.parts)), strict=True):
            part.save(place / name)
        finish_hybrid(place, self.ids, self.digest, len(self.parts))

    def _search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        return self._fused([part.search(questions, max(k, DEPTH)) for part in self.parts], k)

    def _neighbours(self, texts: Sequence[str], first: int, k: int) -> list[list[Hit]]:
        return self._fused([part._neighbours(texts, first, max(k, DEPTH)) for part in self.parts], k)

    def _fused(self, found: Sequence[list[list[Hit]]], k: int) -> list[list[Hit]]:
        fused = []
        for rankings in zip(*found, strict=True):
            scores: dict[str, float] = {}
            for ranking in rankings:
                for rank, hit in enumerate(ranking, start=1):
                    scores[hit.id] = scores.get(hit.id, 0.0) + 1 / (CONSTANT + rank)
            best = sorted(scores, key=lambda id: (-scores[id], self._rank[id]))[:k]
            fused.append([Hit(id, scores[id]) for id in best])
        return fused


def part_names(count: int) -> list[str]:
    """The folders of a hybrid's parts, in its own."""
    return [f"part{number}" for number in range(1, count + 1)]


def finish_hybrid(place: Path, ids: Sequence[str], digest: str, parts: int) -> None:
    """Write what makes whole parts a whole hybrid."""
    write_ids(place, ids)
    finish(place, Manifest("hybrid", len(ids), digest, {"parts": parts}), ())
