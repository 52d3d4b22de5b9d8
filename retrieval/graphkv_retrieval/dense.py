"""Dense retrieval: an embedder and a FAISS index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphkv.errors import InputError
from graphkv.graph import SegmentGraph
from graphkv_retrieval.base import Hit, Retriever, corpus_digest, searchable_texts
from graphkv_retrieval.embedders import Embedder, checked, load_embedder
from graphkv_retrieval.manifest import Manifest, begin, damaged, finish, read_ids, write_ids
from graphkv_retrieval.shards import embed_in_shards
from graphkv_retrieval.vectors import VectorIndex, check_kind

if TYPE_CHECKING:
    from graphkv.model import GraphModel

INDEX = "vectors.faiss"
SHARDS = "shards"


class DenseRetriever(Retriever):
    """Segments whose vectors are nearest to the question's; a score is the cosine.

    Example:
        >>> DenseRetriever.build(graph, load_embedder("minilm"), "hnsw").search(["Which river?"], k=2)  # doctest: +SKIP
    """

    def __init__(self, ids: Sequence[str], digest: str, embedder: Embedder, index: VectorIndex) -> None:
        super().__init__(ids, digest)
        self.embedder, self.index = embedder, index

    @classmethod
    def build(
        cls,
        graph: SegmentGraph,
        embedder: Embedder,
        kind: str = "flat",
        *,
        folder: str | Path | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> DenseRetriever:
        """Embed and index a graph.

        Args:
            embedder: see :func:`load_embedder`. kind: flat, hnsw or ivfpq.
            folder: where to keep vectors and index. An interrupted build goes on there, and vectors that are there are used again;
                without it everything stays in memory.
            report: called with (done, to do), each segment counting once when it is embedded and once when it is indexed.

        Raises:
            InputError: a segment without text, an unknown kind, too few segments for ivfpq, or other files in the folder.
        """
        texts = searchable_texts(graph)
        digest = corpus_digest(graph.ids, texts)
        check_kind(kind, len(texts))
        count = len(texts)
        embedded = (lambda done, total: report(count - total + done, 2 * count)) if report else None  # of equal texts only one is embedded
        indexed = (lambda done, total: report(count + done, 2 * count)) if report else None
        if folder is None:
            vectors = checked(embedder, texts)
            return cls(graph.ids, digest, embedder, VectorIndex.build(kind, vectors.__getitem__, count, embedder.dimension, indexed))
        place = begin(folder, "dense")
        shards = embed_in_shards(texts, embedder, place / SHARDS, embedded)
        built = cls(graph.ids, digest, embedder, VectorIndex.build(kind, shards.take, count, embedder.dimension, indexed))
        built._finish(place)
        return built

    @classmethod
    def load(cls, folder: Path, manifest: Manifest, embedder: str | Embedder | None = None, model: GraphModel | None = None) -> DenseRetriever:
        """Open a saved index, memory-mapped, with its embedder.

        Raises:
            InputError: it is damaged, or `embedder` is not the one that it was built with, or is missing.
        """
        ids = read_ids(folder, manifest)
        with damaged(folder):
            name, identity, kind = (str(manifest.settings[key]) for key in ("embedder", "identity", "kind"))
            index = VectorIndex.load(kind, folder / INDEX)
            if len(index) != len(ids):
                raise ValueError(f"{len(index)} vectors for {len(ids)} segments")
        ready = load_embedder(name if embedder is None else embedder, model=model)
        if (ready.identity, ready.dimension) != (identity, index.dimension):
            raise InputError(f"the index in {folder} was built with the embedder {identity!r}, got {ready.identity!r}: pass that one, or build the index again")
        return cls(ids, manifest.digest, ready, index)

    def save(self, folder: str | Path) -> None:
        """Write the index. Raises InputError if other files are there."""
        self._finish(begin(folder, "dense"))

    def _finish(self, place: Path) -> None:
        self.index.save(place / INDEX)
        write_ids(place, self.ids)
        settings = {"embedder": self.embedder.name, "identity": self.embedder.identity, "kind": self.index.kind}
        finish(place, Manifest("dense", len(self.ids), self.digest, settings), (INDEX,))

    def _search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        scores, rows = self.index.search(checked(self.embedder, questions), k)
        return [self._hits(*pair) for pair in zip(scores, rows, strict=True)]

    def _neighbours(self, texts: Sequence[str], first: int, k: int) -> list[list[Hit]]:
        found = []
        scores, rows = self.index.search(self.index.vectors(first, first + len(texts)), k + 1)
        for number, (row_scores, row) in enumerate(zip(scores, rows, strict=True), start=first):
            others = row != number
            found.append(self._hits(row_scores[others], row[others])[:k])
        return found

    def _hits(self, scores: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> list[Hit]:
        return [Hit(self.ids[row], float(score)) for row, score in zip(rows, scores, strict=True) if row >= 0]
