"""Documents of every form that people have → a graph, and a graph's segments → LangChain documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.documents import Document as LangChainDocument

from graphkv.errors import DocumentError, InputError
from graphkv.graph import Edge, SegmentGraph
from graphkv.importers.langchain import ID, Pairs, from_langchain
from graphkv.segments import Document, Segment, finite

CITES: Pairs = (("cites", ID),)
"""Edges unless others are asked for: a document reads those whose ids stand in its metadata under ``cites``."""


@dataclass(frozen=True)
class Found:
    """A document, whatever it was: what :func:`graphkv.importers.langchain.from_langchain` reads, and edges that it names itself."""

    page_content: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    sources: tuple[Edge, ...] = ()
    """With the source's id in front; the second id is filled in when all documents have theirs."""


def graph_of(documents: Any, edges: Pairs = CITES, graph_edges: Iterable[tuple[str, str]] = ()) -> SegmentGraph | None:
    """One graph of documents.

    Args:
        documents: a :class:`SegmentGraph`; or a list of LangChain documents, documents of ours, dicts (``page_content`` or ``text``, and what else
            they have), texts, all of them mixed as they come. A document that is there twice, with one id, title and text, counts once.
        edges: pairs as :func:`graphkv.importers.langchain.from_langchain` takes them; legacy ``metadata["links"]`` count too. A graph has its own.
        graph_edges: further edges, pairs (source id, target id).

    Returns:
        The graph, its segments in the order of the documents, with ``metadata["score"]`` (or ``relevance_score``) as their score; None if there are none.

    Raises:
        DocumentError: what is no document, or two documents with one id. GraphError: an edge without one of its ends. InputError: `edges` that are no pairs.
    """
    if isinstance(documents, SegmentGraph):
        return _with_more(documents, list(graph_edges))
    found = once(read_documents(documents))
    if not found:
        if wanted := list(graph_edges):
            raise DocumentError(f"there are edges ({wanted[0]!r} ...) and no documents: give documents, or leave the edges out")
        return None
    plain = from_langchain(found, edges)
    segments = [replace(segment, score=_score(segment)) for segment in plain.segments]
    own = (edge.between(edge[0], id) for id, document in zip(plain.ids, found, strict=True) for edge in document.sources)
    # Of two edges between the same two the first counts: what was said outright knows more than a metadata field.
    return SegmentGraph(segments, [*own, *graph_edges, *plain.edges])


def read_documents(documents: Any) -> Iterator[Found]:
    """Each document of a list in one form. Raises DocumentError for what is none."""
    if isinstance(documents, str | bytes | Mapping) or not isinstance(documents, Iterable):
        raise DocumentError(f"expected a list of documents or a SegmentGraph, got {type(documents).__name__}; one document goes in as [document]")
    for number, document in enumerate(documents):
        where = f"document {number}"
        if isinstance(document, Found):
            yield document
        elif isinstance(document, str):
            yield Found(document)
        elif isinstance(document, Document):
            yield _of_ours(document, document.id)
        elif isinstance(document, Segment):
            yield _of_segment(document)
        elif isinstance(document, Mapping) and "page_content" not in document:
            id = document.get("id")
            yield _of_ours(Document.from_dict({**document, "id": "?" if id is None else id}, where), None if id is None else str(id))
        else:
            yield _of_langchain(document, where)


def once(documents: Iterable[Found]) -> list[Found]:
    """The documents without repetitions: of two with one id, title and text the later one's metadata counts, and both their edges."""
    kept: list[Found] = []
    places: dict[tuple[Any, ...], list[int]] = {}
    for document in documents:
        same = places.setdefault((document.id, str(document.metadata.get("title")), document.page_content), [])
        # Without ids of their own two are one only if they are alike in everything: the same words may come from two places.
        known = next((i for i in same if document.id is not None or kept[i].metadata == document.metadata), None)
        if known is None:
            same.append(len(kept))
            kept.append(document)
        else:
            kept[known] = replace(document, sources=tuple(dict.fromkeys((*kept[known].sources, *document.sources))))
    return kept


def langchain_documents(graph: SegmentGraph, ids: Sequence[str]) -> list[LangChainDocument]:
    """Segments as LangChain documents, in the order of `ids`.

    Their metadata is the segment's, with its ``title`` and ``score``; under ``cites`` stand the ids of those of its sources that are among `ids`, so that
    whoever reads these documents under the default edges finds the edges between them.

    Raises:
        DocumentError: a segment that is made of token ids.
    """
    there, made = set(ids), []
    for id in ids:
        segment = graph[id]
        if segment.text is None:
            raise DocumentError(f"segment {id!r} is made of token ids: a LangChain document needs text")
        known = {"title": segment.title, "score": segment.score, "cites": [source for source in graph.sources(id) if source in there] or None}
        metadata = {key: value for key, value in segment.metadata.items() if key not in known}
        made.append(LangChainDocument(id=id, page_content=segment.text, metadata=metadata | {key: value for key, value in known.items() if value is not None}))
    return made


def _of_ours(document: Document, id: str | None) -> Found:
    title = {} if document.title is None else {"title": document.title}
    score = {} if document.score is None else {"score": document.score}
    sources = tuple(Edge(source, id or "", **document.edges.get(source, {})) for source in document.sources)
    return Found(document.text, {**document.metadata, **title, **score}, id, sources)


def _of_segment(segment: Segment) -> Found:
    if segment.text is None:
        raise DocumentError(f"segment {segment.id!r} is made of token ids: put such segments into a SegmentGraph")
    return _of_ours(Document(segment.id, segment.text, segment.title, score=segment.score, metadata=segment.metadata), segment.id)


def _of_langchain(document: Any, where: str) -> Found:
    def part(name: str) -> Any:
        return document.get(name) if isinstance(document, Mapping) else getattr(document, name, None)

    text, metadata, id = part("page_content"), part("metadata"), part("id")
    metadata = {} if metadata is None else metadata
    if not isinstance(text, str) or not isinstance(metadata, Mapping):
        raise DocumentError(f"{where}: expected a LangChain document, a graphkv document, a dict with text, or a text, got {type(document).__name__}")
    return Found(text, metadata, None if id is None else str(id))


def _score(segment: Segment) -> float | None:
    """What a retriever or a reranker made of it."""
    return next((score for name in ("score", "relevance_score") if (score := finite(segment.metadata.get(name))) is not None), None)


def _with_more(graph: SegmentGraph, edges: Sequence[tuple[str, str]]) -> SegmentGraph:
    return graph.with_edges([*graph.edges, *edges]) if edges else graph


def check_pairs(edges: Any) -> Pairs:
    """`edges` as pairs of metadata fields. Raises InputError if they are none."""
    pairs = [tuple(pair) if isinstance(pair, list | tuple) else pair for pair in edges] if isinstance(edges, Iterable) and not isinstance(edges, str) else edges
    if not isinstance(pairs, list) or any(not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(f, str) and f for f in pair) for pair in pairs):
        raise InputError(f"edges must be pairs (metadata field, metadata field or {ID!r}), got {edges!r}")
    return tuple((str(source), str(target)) for source, target in pairs)
