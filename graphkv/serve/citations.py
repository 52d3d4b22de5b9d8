"""What an answer rests on, in Cohere's form."""

from __future__ import annotations

from collections.abc import Mapping

from graphkv.graph import SegmentGraph
from graphkv.serve.documents import document_of
from graphkv.serve.replies import CitationReply, CitationSource, CitedDocument
from graphkv.strategy import Answer, Citation

SHOWN = 2000
"""Characters of a document that are repeated in a citation; the client has the rest."""


def cohere_citations(answer: Answer, graph: SegmentGraph) -> list[CitationReply]:
    """The citations of an answer about a graph; parts of one document are one source.

    Example:
        >>> cohere_citations(answer, graph)[0].sources[0].id  # doctest: +SKIP
        'paper3'
    """
    return [_one(citation, graph) for citation in answer.citations]


def _one(citation: Citation, graph: SegmentGraph) -> CitationReply:
    shares: dict[str, float] = {}
    for segment, share in citation.segments:  # each is a share of some token's attention of its own: they do not add up
        id = document_of(graph, segment)
        shares[id] = max(share, shares.get(id, 0.0))
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    return CitationReply(start=citation.start, end=citation.end, text=citation.text, sources=[_source(id, share, graph) for id, share in ranked], type="TEXT_CONTENT")


def _source(id: str, share: float, graph: SegmentGraph) -> CitationSource:
    segment = graph[id]
    text = segment.text or ""
    known = {"id": id, "text": text if len(text) <= SHOWN else text[:SHOWN] + "…"} | ({"title": segment.title} if segment.title else {})
    return CitationSource(type="document", id=id, score=round(share, 4), document=CitedDocument(**known))


def by_document(shares: Mapping[str, float], graph: SegmentGraph) -> dict[str, float]:
    """Shares of one token's attention on segments as shares of the documents that they are parts of.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "x"}])
        >>> by_document({"a#1": 0.25, "a#2": 0.5}, graph)
        {'a': 0.75}
    """
    summed: dict[str, float] = {}
    for segment, share in shares.items():
        id = document_of(graph, segment)
        summed[id] = summed.get(id, 0.0) + share
    return summed
