"""LangChain documents: rows of JSON, or objects; edges from metadata fields in graph-retriever's manner, and from legacy links."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from graphkv.errors import DocumentError, InputError
from graphkv.graph import Edge, SegmentGraph
from graphkv.importers.json_values import writable
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Record, Reference, Section
from graphkv.segments import Segment

ID = "$id"
"""The field that is the document's id."""

_ESCAPE = r"\\(?:[\\'\"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})"
_QUOTED = rf"('(?:[^'\\\x00-\x1f\x7f]|{_ESCAPE})*'|\"(?:[^\"\\\x00-\x1f\x7f]|{_ESCAPE})*\")"
_PRINTED_LINK = re.compile(rf"Link\(kind={_QUOTED}, direction={_QUOTED}, tag={_QUOTED}\)")
"""A link as LangChain's serialiser writes it, which has no form for links."""

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
    if unread := len(_listed(metadata)) - len(links):
        reading.skip(where, f"{unread} links: expected kind, tag, and a direction of in, out or bidir")
    aliases = [_shared(kind, tag) for kind, way, tag in links if way != "out"]
    references = {_shared(kind, tag): kind for kind, way, tag in links if way != "in"}
    for source, target in reading.edge_pairs:
        aliases += [_equal(target, value) for value in _values(metadata, id, target) if target != ID]
        references |= {value if target == ID else _equal(target, value): _kind(source) for value in _values(metadata, id, source)}
    title, score = metadata.get("title"), metadata.get("score")
    good_score = isinstance(score, int | float) and not isinstance(score, bool) and abs(score) <= sys.float_info.max
    good_title = title is None or isinstance(title, str)
    used = [*(["title"] if good_title else []), *(["links"] if links else []), *(["score"] if good_score else [])]
    kept = {key: value for key, value in metadata.items() if key not in used}
    for field in {source for source, _ in reading.edge_pairs} - {target for _, target in reading.edge_pairs} - {ID}:
        if _names_only(kept, field):
            kept = _without(kept, field.split("."))
    yield Record(
        id=id,
        title=title if isinstance(title, str) and title.strip() else None,
        sections=(Section("", text),),
        references=tuple(Reference(target, target=target, kind=kind) for target, kind in references.items()),
        aliases=tuple(dict.fromkeys(aliases)),
        where=where,
        role="document",
        score=score if good_score else None,
        metadata=writable(kept, where, reading),
    )


def from_langchain(documents: Iterable[Any], edges: Pairs = (("cites", ID),)) -> SegmentGraph:
    """A graph of LangChain documents (anything with ``page_content``, ``metadata`` and perhaps ``id``).

    Args:
        documents: without an id of their own they are named by ``metadata["id"]``, ``metadata["source"]`` (``source (2)`` for its second
            chunk ...), or else by their text.
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
    chunks: dict[str, int] = {}  # so far, by the name that they share
    for number, document in enumerate(documents):
        text, metadata = getattr(document, "page_content", None), getattr(document, "metadata", None) or {}
        if not isinstance(text, str) or not isinstance(metadata, Mapping):
            raise DocumentError(f"document {number}: expected an object with a text page_content and metadata, got {type(document).__name__}")
        own = getattr(document, "id", None)
        id = _id(own, text, metadata)
        if own is None and id in segments:
            shared, chunks[id] = id, chunks.get(id, 1) + 1
            while (id := f"{shared} ({chunks[shared]})") in segments:
                chunks[shared] += 1
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
    members = [id] if field == ID else _members(metadata, field)
    return list(dict.fromkeys(str(member) for member in members if _is_name(member)))


def _members(metadata: Mapping[str, Any], field: str) -> list[Any]:
    found: Any = metadata
    for name in field.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return list(found) if isinstance(found, list | tuple | set | frozenset) else [found]


def _is_name(member: object) -> bool:
    return isinstance(member, str | int | float) and bool(str(member))


def _names_only(metadata: Mapping[str, Any], field: str) -> bool:
    """Whether a field says nothing that edges do not say."""
    members = [member for member in _members(metadata, field) if member is not None and member != ""]
    return bool(members) and all(map(_is_name, members))


def _without(metadata: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """The metadata without the field at a path, and without what is empty then."""
    left = dict(metadata)
    inner = _without(left[path[0]], path[1:]) if len(path) > 1 else {}
    if inner:
        left[path[0]] = inner
    else:
        del left[path[0]]
    return left


def _kind(field: str) -> str:
    return "id" if field == ID else field


def _listed(metadata: Mapping[str, Any]) -> list[Any]:
    links = metadata.get("links")
    return list(links) if isinstance(links, list | tuple | set | frozenset) else []


def _links(metadata: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Legacy links as (kind, direction, tag)."""
    found = []
    for link in map(_link, _listed(metadata)):
        kind, way, tag = (link.get(name) if isinstance(link, Mapping) else getattr(link, name, None) for name in ("kind", "direction", "tag"))
        if isinstance(kind, str) and kind and isinstance(tag, str) and way in ("in", "out", "bidir"):
            found.append((kind, str(way), tag))
    return found


def _link(link: Any) -> Any:
    """A link, also one that was written as what Python prints of it."""
    printed = link.get("repr") if isinstance(link, Mapping) and link.get("type") == "not_implemented" else None
    found = _PRINTED_LINK.fullmatch(printed) if isinstance(printed, str) else None
    if found is None:
        return link
    kind, way, tag = (part[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape") for part in found.groups())
    return {"kind": kind, "direction": way, "tag": tag}


def _shared(kind: str, tag: str) -> str:
    return f"link:{kind}:{tag}"


def _equal(field: str, value: str) -> str:
    return f"link:{field}={value}"
