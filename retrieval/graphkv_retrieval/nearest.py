"""Edges between segments that are alike: each reads its nearest others."""

from __future__ import annotations

from collections.abc import Callable

from graphkv.graph import Edge, SegmentGraph
from graphkv_retrieval.base import Retriever
from graphkv_retrieval.bm25 import BM25Retriever


def nearest_edges(
    graph: SegmentGraph,
    k: int,
    *,
    retriever: Retriever | None = None,
    mutual: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Edge]:
    """Edges of kind "nearest" from the `k` nearest others to each segment; a caller adds them with ``graph.with_edges([*graph.edges, *new])``.

    Their weight is the similarity: the cosine with a dense retriever; with BM25 the score over what the segment gets for its own words,
    0 to 1; with a hybrid the sum of reciprocal ranks. With BM25 a segment that shares no word with another has no edge.

    Args:
        retriever: an index of the graph; BM25 without it (10,000 segments take some seconds, 100,000 a minute or so).
        mutual: only between two segments of which each is among the other's nearest.
        progress: called with (segments done, segments to do), every few hundred.

    Raises:
        InputError: the index is of another graph, a segment without text, or a `k` below 1.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "red maples"}, {"id": "b", "text": "red maples too"}, {"id": "c", "text": "night"}])
        >>> nearest_edges(graph, 1)
        [('b', 'a'), ('a', 'b')]
    """
    found = (retriever or BM25Retriever.build(graph)).neighbours(graph, k, progress)
    pairs = {(hit.id, target): hit.score for target, hits in zip(graph.ids, found, strict=True) for hit in hits}
    kept = (pair for pair in pairs if not mutual or pair[::-1] in pairs)
    return [Edge(*pair, kind="nearest", weight=pairs[pair]) for pair in kept]
