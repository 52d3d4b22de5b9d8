"""One question over a large corpus: the part of the graph that goes into a layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphkv.errors import GraphError, InputError
from graphkv.graph import SegmentGraph
from graphkv.segments import Segment
from graphkv_retrieval.base import Retriever
from graphkv_retrieval.bm25 import BM25Retriever
from graphkv_retrieval.expand import expand as expand_seeds
from graphkv_retrieval.links import Links


def retrieve(
    graph: SegmentGraph,
    question: str,
    k: int = 10,
    *,
    retriever: Retriever | None = None,
    expand: str = "none",
    hops: int = 1,
    max_tokens: int | None = None,
    count: Callable[[Segment], int] | None = None,
    max_segments: int | None = None,
) -> SegmentGraph:
    """The segments that a question needs, and the edges between them.

    The `k` best hits, then what stands near them along the edges, as far as the budget goes. Every segment has its `score` (the layouts
    `graph_topk` and `graph_hops` rank by it) and ``metadata["hop"]``: 0 for a hit, else how many edges it is away from the nearest hit.

    Args:
        retriever: an index of the graph; without it BM25 is built for this one question (for several build it once:
            ``BM25Retriever.build(graph)``). k: so many hits.
        expand: "none", "ppr" or "hops"; see :func:`~graphkv_retrieval.expand.expand` for it, `hops`, and the budget: `max_tokens`, `count`,
            `max_segments`.

    Returns:
        A graph in the corpus' order.

    Raises:
        InputError: an empty question, one that nothing fits, or a wrong option. GraphError: the index has a segment that the graph lacks.
        LengthError: not a single segment fits into the budget.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "A river.", "cites": ["b"]}, {"id": "b", "text": "Maples."}, {"id": "c", "text": "Night."}])
        >>> found = retrieve(graph, "Which river?", k=1, expand="hops")
        >>> [(segment.id, segment.metadata["hop"]) for segment in found], found.edges
        ([('a', 0), ('b', 1)], (('b', 'a'),))
    """
    if not isinstance(question, str):
        raise InputError(f"a question must be some text, got {question!r}")
    found = (retriever or BM25Retriever.build(graph)).search([question], k)[0]
    if not found:
        raise InputError(f"nothing was found for {question[:200]!r}: no segment shares a word with it; ask in the documents' words, or with a dense retriever")
    seeds = {hit.id: hit.score for hit in found}
    if foreign := [id for id in seeds if id not in graph]:
        raise GraphError(f"the index has a segment {foreign[0]!r} that the graph lacks: build the index again from this graph")
    scores = expand_seeds(graph, seeds, how=expand, hops=hops, max_tokens=max_tokens, count=count, max_segments=max_segments)
    distance = Links.of(graph).distances(seeds, to=scores)
    part = graph.subgraph(scores)
    return part.with_segments(replace(segment, score=scores[segment.id], metadata={**segment.metadata, "hop": distance[segment.id]}) for segment in part)
