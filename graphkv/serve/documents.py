"""A request's documents and edges → the graph that is read; documents that are named only come from the library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphkv.errors import DocumentError, GraphError
from graphkv.graph import Edge, SegmentGraph
from graphkv.segments import Document, Segment
from graphkv.serve.document_forms import Given, read_given
from graphkv.serve.errors import ApiError
from graphkv.serve.library import Library
from graphkv.serve.schema import GraphField
from graphkv.serve.settings import Settings


@dataclass(frozen=True)
class Shelf:
    """Where documents of a request may come from, and how many it may have."""

    library: Library
    scope: str
    settings: Settings


def read_graph(documents: Sequence[object] | None, blocks: Sequence[Given], graph: GraphField | None, shelf: Shelf) -> SegmentGraph | None:
    """The graph of a request: its `documents`, then those of the library, then those in its messages; None if there are none.

    A document without an id is called ``doc_0``, ``doc_1`` ... by its place among all of them. Edges are made of each document's own sources
    and of the graph's. What a document of the library cites is read where it is part of the request, and left out where it is not.

    Args:
        documents: as they were sent. blocks: those that stood in messages. graph: the request's `graph`.

    Raises:
        ApiError: 400, a malformed, empty or doubled document, an edge that has no end, or too much of something; 404, a document that is not in the library.
    """
    named = graph.documents if graph else []
    count = len(documents or ()) + len(named) + len(blocks)
    most = shelf.settings.max_documents
    if count > most:
        raise ApiError(400, f"{count:,} documents: at most {most:,} are read at once", param="documents")
    given = read_documents(documents or ())
    given += [Given(f"graph.documents[{i}]", id) for i, id in enumerate(named)]
    given += blocks
    if not given:
        if graph and graph.edges:
            raise ApiError(400, "graph.edges: there are edges, but no documents", param="graph.edges")
        return None
    taken: dict[str, str] = {}
    for i, one in enumerate(given):
        id = one.id or f"doc_{i}"
        if id in taken:
            raise ApiError(400, f"{one.place}: the id {id!r} is that of {taken[id]} already: every document needs one of its own", param=one.place)
        taken[id] = one.place
    found = _with_texts(given, list(taken), shelf)
    check_size(found, shelf.settings)
    return _joined(found, [one.stored for one in given], read_edges(graph.edges if graph else []), shelf.settings)


def read_documents(documents: Sequence[object], place: str = "documents") -> list[Given]:
    """Each of them in its form. Raises ApiError (400) for one that has none."""
    return [read_given(value, f"{place}[{i}]") for i, value in enumerate(documents)]


def check_size(documents: Iterable[Document], settings: Settings) -> None:
    """Raises ApiError (400) if documents hold too many characters."""
    check_characters(sum(len(d.text) + len(d.title or "") for d in documents), settings)


def check_characters(size: int, settings: Settings, what: str = "documents") -> None:
    """Raises ApiError (400) if the documents, or whatever else of a request is tokenised, have too many characters."""
    if size > settings.max_document_chars:
        raise ApiError(400, f"the {what} have {size:,} characters, at most {settings.max_document_chars:,} are read at once", param=what)


def _with_texts(given: Sequence[Given], ids: Sequence[str], shelf: Shelf) -> list[Document]:
    """The documents, those of the library among them."""
    wanted = [id for one, id in zip(given, ids, strict=True) if one.stored]
    if wanted:
        check_characters(shelf.library.characters(shelf.scope, wanted), shelf.settings)  # before any of them is in memory
    stored = shelf.library.get(shelf.scope, wanted) if wanted else {}
    documents = []
    for one, id in zip(given, ids, strict=True):
        if not one.stored:
            documents.append(one.document(id))
        elif id in stored:
            documents.append(stored[id].document)
        else:
            raise ApiError(404, f"{one.place}: there is no document {id!r} in the library", code="document_not_found", param=one.place)
    return documents


def read_edges(edges: Sequence[object], place: str = "graph.edges") -> list[Edge]:
    """Pairs ``[source, target]``, or objects with source, target, kind and weight.

    Raises:
        ApiError: 400, an edge that is neither.

    Example:
        >>> read_edges([["first", "survey"], {"source": "a", "target": "b", "kind": "cites"}])
        [('first', 'survey'), ('a', 'b')]
    """
    read = []
    for i, edge in enumerate(edges):
        where = f"{place}[{i}]"
        fields: Mapping[str, Any]
        if isinstance(edge, Mapping):
            fields = edge
            if unknown := [name for name in edge if name not in ("source", "target", "kind", "weight")]:
                raise ApiError(400, f"{where}: an edge has source, target, kind and weight, not {unknown[0]!r}", param=where)
        elif isinstance(edge, list) and len(edge) == 2:
            fields = {"source": edge[0], "target": edge[1]}
        else:
            raise ApiError(400, f'{where}: expected [source, target] or {{"source", "target", "kind", "weight"}}', param=where)
        for name in ("source", "target"):
            if not isinstance(fields.get(name), str):
                raise ApiError(400, f"{where}: the {name} must be a document's id, got {str(fields.get(name))[:60]!r}", param=where)
        try:
            read.append(Edge(fields["source"], fields["target"], kind=fields.get("kind"), weight=fields.get("weight")))
        except GraphError as error:
            raise ApiError(400, f"{where}: {error}", param=where) from None
    return read


def _joined(documents: Sequence[Document], stored: Sequence[bool], edges: Sequence[Edge], settings: Settings) -> SegmentGraph:
    """Documents and all their edges."""
    here = {d.id for d in documents}
    own = [(d, source) for d, kept in zip(documents, stored, strict=True) for source in d.sources if not kept or source in here]
    count, most = len(own) + len(edges), settings.max_edges
    if count > most:
        raise ApiError(400, f"{count:,} edges: at most {most:,} are read at once", param="graph.edges")
    for i, edge in enumerate(edges):
        if unknown := [end for end in edge if end not in here]:
            place = f"graph.edges[{i}]"
            raise ApiError(400, f"{place}: there is no document {unknown[0]!r} among the {len(here):,} of this request", param=place)
    try:
        joined = [*(Edge(source, d.id, **d.edges.get(source, {})) for d, source in own), *edges]
        return SegmentGraph((Segment.from_document(d) for d in documents), joined)
    except (DocumentError, GraphError) as error:
        raise ApiError(400, str(error), param="documents") from None


def document_of(graph: SegmentGraph, segment: str) -> str:
    """The id of the document that a segment is, or is a part of.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "x"}])
        >>> document_of(graph, "a"), document_of(graph, "a#2")
        ('a', 'a')
    """
    return segment if segment in graph else segment.rpartition("#")[0]


def with_sources(documents: Sequence[Document], shelf: Shelf) -> SegmentGraph | None:
    """Documents that are put into the library, with those of their sources that are in it, and the edges between them; None if there is no edge."""
    own = {d.id: d for d in documents}
    missing = [source for d in documents for source in d.sources if source not in own]
    most = shelf.settings.max_documents
    if len(own) + len(set(missing)) > most:
        raise ApiError(400, f"{len(own) + len(set(missing)):,} documents with their sources: at most {most:,} are encoded at once", param="documents")
    check_characters(shelf.library.characters(shelf.scope, missing), shelf.settings)
    further = shelf.library.get(shelf.scope, missing)
    more = [replace(s.document, sources=(), edges={}) for s in further.values()]
    known = {*own, *further}
    edges = [(source, d.id) for d in documents for source in d.sources if source in known]
    if not edges:
        return None
    return SegmentGraph.from_segments([Segment.from_document(d) for d in (*documents, *more)], edges)
