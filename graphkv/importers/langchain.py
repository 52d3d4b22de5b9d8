"""LangChain documents: rows of JSON, or objects; edges from metadata fields in graph-retriever's manner, and from legacy links."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from graphkv.errors import DocumentError, InputError
from graphkv.graph import Edge, SegmentGraph
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Record, Reference, Section
from graphkv.segments import Segment

ID = "$id"
"""The field that is the document's id."""

Pairs = Sequence[tuple[str, str]]


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a row is a document, plain (``page_content``) or as LangChain's serialiser writes it (``lc``, ``kwargs``)."""
    row = _plain(row)
    return "page_content" in row or "pageContent" in row


def read(row: Mapping[str, Any], where: str, reading: Reading) -> Iterator[Item]:
    """The document in a row. The pairs in ``reading.edge_pairs`` say which metadata fields name other documents.

    What several documents may share (a field's value, a link's tag) becomes an alias that begins with ``link:``; a reference with such a
    target means all of them.

    Raises:
        DocumentError: no text, or malformed metadata.
    """
    row = _plain(row)
    text, metadata = row.get("page_content", row.get("pageContent")), row.get("metadata") or {}
    if not isinstance(text, str) or not text.strip():
        raise DocumentError(f"{where}: expected some text in page_content, got {'an empty one' if isinstance(text, str) else type(text).__name__}")
    if not isinstance(metadata, Mapping):
        raise DocumentError(f"{where}: expected metadata to be an object, got {type(metadata).__name__}")
    id = _id(row.get("id"), text, metadata)
    links = _links(metadata)
    if links and (unread := len(_listed(metadata)) - len(links)):
        reading.skip(where, f"{unread} links: expected kind, tag, and a direction of in, out or bidir")
    aliases = [_shared(kind, tag) for kind, way, tag in links if way != "out"]
    references = {_shared(kind, tag): kind for kind, way, tag in links if way != "in"}
    for source, target in reading.edge_pairs:
        aliases += [_equal(target, value) for value in _values(metadata, id, target) if target != ID]
        references |= {value if target == ID else _equal(target, value): _kind(source) for value in _values(metadata, id, source)}
    title, score = metadata.get("title"), metadata.get("score")
    good_score = isinstance(score, int | float) and not isinstance(score, bool) and abs(score) < math.inf
    used = {"title", *(["links"] if links else []), *(["score"] if good_score else [])}
    yield Record(
        id=id,
        title=title if isinstance(title, str) and title.strip() else None,
        sections=(Section("", text),),
        references=tuple(Reference(target, target=target, kind=kind) for target, kind in references.items()),
        aliases=tuple(dict.fromkeys(aliases)),
        where=where,
        role="document",
        score=score if good_score else None,
        metadata={key: value for key, value in metadata.items() if key not in used},
    )


def from_langchain(documents: Iterable[Any], edges: Pairs = (("cites", ID),)) -> SegmentGraph:
    """A graph of LangChain documents (anything with ``page_content``, ``metadata`` and perhaps ``id``).

    Args:
        documents: without an id of their own they are named by ``metadata["id"]``, ``metadata["source"]`` (``source#2`` for its second chunk ...),
            or else by their text.
        edges: pairs (source field, target field) as graph-retriever takes them: a metadata key, with dots into nested ones, or ``"$id"``.
            A document with a value in the source field that another has in the target field reads that other one; the edge's kind is
            the source field. A value that no other document has makes no edge. Legacy ``metadata["links"]`` count too, with their own kind.

    Raises:
        DocumentError: an object without text, or an id that is there twice. InputError: `edges` that are not pairs of names.

    Example:
        >>> from types import SimpleNamespace as Doc
        >>> graph = from_langchain([Doc(page_content="New.", metadata={"cites": ["b"]}, id="a"), Doc(page_content="Old.", metadata={}, id="b")])
        >>> graph.edges, graph.edges[0].kind
        ((('b', 'a'),), 'cites')
    """
    if isinstance(edges, str) or not isinstance(edges, Iterable) or not all(map(_is_pair, edges := list(edges))):
        raise InputError(f"edges must be pairs (metadata field, metadata field or {ID!r}), got {edges!r}")
    segments: dict[str, Segment] = {}
    for number, document in enumerate(documents):
        text, metadata = getattr(document, "page_content", None), getattr(document, "metadata", None) or {}
        if not isinstance(text, str) or not isinstance(metadata, Mapping):
            raise DocumentError(f"document {number}: expected an object with a text page_content and metadata, got {type(document).__name__}")
        own = getattr(document, "id", None)
        id = _id(own, text, metadata)
        if own is None and id in segments:
            id = next(name for n in range(2, len(segments) + 3) if (name := f"{id}#{n}") not in segments)
        if id in segments:
            raise DocumentError(f"document {number}: the id {id!r} is there already; every document needs one of its own")
        title = metadata.get("title")
        segments[id] = Segment(id, text=text, title=title if isinstance(title, str) and title else None, metadata=dict(metadata))
    return SegmentGraph(segments.values(), _edges(segments, edges))


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(field, str) and field for field in pair)


def _edges(segments: Mapping[str, Segment], pairs: Pairs) -> Iterator[Edge]:
    for source, target in pairs:
        holders = _holders((value, id) for id, segment in segments.items() for value in _values(segment.metadata, id, target))
        for id, segment in segments.items():
            for value in _values(segment.metadata, id, source):
                yield from (Edge(other, id, kind=_kind(source)) for other in holders.get(value, ()) if other != id)
    links = {id: _links(segment.metadata) for id, segment in segments.items()}
    holders = _holders((_shared(kind, tag), id) for id, found in links.items() for kind, way, tag in found if way != "out")
    for id, found in links.items():
        for kind, way, tag in found:
            yield from (Edge(other, id, kind=kind) for other in holders.get(_shared(kind, tag), ()) if way != "in" and other != id)


def _holders(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for value, id in pairs:
        found.setdefault(value, []).append(id)
    return found


def _plain(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document itself, where a row is what LangChain's serialiser makes of one."""
    path = row.get("id")
    written = row.get("lc") == 1 and row.get("type") == "constructor" and isinstance(path, list) and path[-1:] == ["Document"]
    inner = row.get("kwargs")
    return inner if written and isinstance(inner, Mapping) else row


def _id(own: object, text: str, metadata: Mapping[str, Any]) -> str:
    names = (str(name) for name in (own, metadata.get("id"), metadata.get("source")) if isinstance(name, str | int) and not isinstance(name, bool))
    return next(filter(str.strip, names), "") or f"document {blake2b(text.encode('utf-8', 'replace'), digest_size=6).hexdigest()}"


def _values(metadata: Mapping[str, Any], id: str, field: str) -> list[str]:
    """What a document has in a field: each member of a list, or the one value; numbers as text, so that they equal ids."""
    found: Any = id if field == ID else metadata
    for name in field.split(".") if field != ID else ():
        found = found.get(name) if isinstance(found, Mapping) else None
    members = found if isinstance(found, list | tuple | set | frozenset) else [found]
    return list(dict.fromkeys(str(member) for member in members if isinstance(member, str | int | float) and str(member)))


def _kind(field: str) -> str:
    return "id" if field == ID else field


def _listed(metadata: Mapping[str, Any]) -> list[Any]:
    links = metadata.get("links")
    return list(links) if isinstance(links, list | tuple | set | frozenset) else []


def _links(metadata: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Legacy links as (kind, direction, tag)."""
    found = []
    for link in _listed(metadata):
        kind, way, tag = (link.get(name) if isinstance(link, Mapping) else getattr(link, name, None) for name in ("kind", "direction", "tag"))
        if isinstance(kind, str) and kind and isinstance(tag, str) and way in ("in", "out", "bidir"):
            found.append((kind, str(way), tag))
    return found


def _shared(kind: str, tag: str) -> str:
    return f"link:{kind}:{tag}"


def _equal(field: str, value: str) -> str:
    return f"link:{field}={value}"
