"""Our own rows: ``{"id", "text", "title", "sources", "score"}``, also as a graph was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graphkv.errors import DocumentError, GraphError
from graphkv.graph import Edge
from graphkv.importers.json_values import writable
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Record, Reference, Section
from graphkv.segments import Document


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a row has an id and a text."""
    return "id" in row and "text" in row


def read(row: Mapping[str, Any], where: str, reading: Reading) -> Iterator[Item]:
    """The document in a row: one section without a heading, a reference for each source, and all other keys as metadata.

    The kind of a source that names none is empty: nobody said.

    Raises:
        DocumentError: a row that :meth:`graphkv.segments.Document.from_dict` does not take, or a malformed kind or weight.
    """
    document = Document.from_dict(row, where)
    edges = []
    for source in document.sources:
        try:
            edges.append(Edge(source, document.id, **document.edges.get(source, {})))
        except GraphError as error:
            raise DocumentError(f"{where}: {error}") from None
    yield Record(
        id=document.id,
        title=document.title,
        sections=(Section("", document.text),),
        references=tuple(Reference(edge[0], target=edge[0], kind=edge.kind or "", weight=edge.weight) for edge in edges),
        where=where,
        role="document",
        score=document.score,
        metadata=writable(document.metadata, where, reading),
    )
