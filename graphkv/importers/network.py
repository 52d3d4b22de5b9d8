"""Nodes and edges of a graph file as records and links, whatever format they came in."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Link, Record, Section

TEXT = ("text", "abstract", "content", "body", "description")
"""Attributes of a node that may hold its text; the first that does counts."""

TITLE = ("title", "label", "name")
"""Attributes of a node that may hold its title."""

KIND = ("kind", "type", "label", "relation")
"""Attributes of an edge that may say what it is."""

WEIGHT = ("weight", "value")
"""Attributes of an edge that may hold its weight; D3 writes ``value``."""

METADATA = "metadata"
"""The attribute of a node that holds further metadata as an object, or as the JSON text of one; :mod:`graphkv.export` writes it."""


def items(
    nodes: Iterable[tuple[Any, Mapping[str, Any]]],
    edges: Iterable[tuple[Any, Any, Mapping[str, Any]]],
    reading: Reading,
    where: str,
    *,
    directed: bool,
) -> Iterator[Item]:
    """A record for each node that has a text or a title, and a link for each edge; in an undirected graph one in either direction.

    Args:
        nodes: (id, attributes); ids may be any hashable, records are called ``str(id)``. edges: (source, target, attributes).
        where: the file, for messages.

    Raises:
        DocumentError: two nodes with the same id as text, such as 1 and "1".
    """
    names: dict[Hashable, str] = {}
    taken: set[str] = set()
    kept: list[tuple[str, Mapping[str, Any]]] = []
    for node, attributes in nodes:
        try:
            known, name = node in names, str(node)
        except (TypeError, RecursionError):  # not hashable, or nested without end
            reading.skip(where, f"a node's id must be a string or a number, got {type(node).__name__}; its attributes are {_keys(attributes)}")
            continue
        if known or not name:
            reading.skip(f"{where}, node {name!r}", "duplicate id: the first node with it stays" if known else "an empty id")
            continue
        if name in taken:
            raise DocumentError(f"{where}: two nodes have the same id as text, {name!r}: rename one")
        names[node] = name
        taken.add(name)
        kept.append((name, attributes))
    yield from records(((name, attributes, f"{where}, node {name!r}") for name, attributes in kept), reading, where)
    for source, target, attributes in edges:
        try:
            u, v = names.get(source, str(source)), names.get(target, str(target))
        except (TypeError, RecursionError):
            reading.skip(where, f"an edge's ends must be ids of nodes, got {type(source).__name__} and {type(target).__name__}")
            continue
        forth = link(u, v, attributes, f"{where}, edge {u!r} → {v!r}", reading)
        yield forth
        if not directed and u != v:
            yield Link(forth.target, forth.source, forth.kind, forth.weight, forth.where)


def records(nodes: Iterable[tuple[str, Mapping[str, Any], str]], reading: Reading, where: str) -> Iterator[Record]:
    """The records of nodes that have a text or a title; how many have neither is noted.

    Args:
        nodes: (name, attributes, place). where: the file, for messages.
    """
    bare = 0
    for name, attributes, place in nodes:
        if not isinstance(attributes.get("text"), str | None):
            reading.skip(place, f"'text' must be a string, got {type(attributes['text']).__name__}")
            continue
        found = _record(name, attributes, place, reading)
        if found is not None:
            yield found
        else:
            bare += 1
    if bare:
        reading.note(where, f"{bare} nodes have neither text nor title; their texts may come from other sources")


def _record(name: str, attributes: Mapping[str, Any], where: str, reading: Reading) -> Record | None:
    """The record of a node; None for one that has neither text nor title."""
    text_key = next((key for key in TEXT if isinstance(attributes.get(key), str) and attributes[key].strip()), "text")
    title_key = next((key for key in TITLE if attributes.get(key) not in (None, "")), "title")
    title = attributes.get(title_key)
    if isinstance(title, int | float):
        title = str(title)
    elif not isinstance(title, str | None):
        reading.note(where, f"{title_key!r} must be a string, got {type(title).__name__}; taken without a title")
        title = None
    text = attributes.get(text_key) or title or ""
    if not text.strip():
        return None
    metadata = {key: value for key, value in attributes.items() if key not in (text_key, title_key, "text", "score", METADATA)}
    return Record(
        id=name,
        title=title or None,
        sections=(Section("", text),),
        where=where,
        score=_number("score", attributes, where, reading),
        metadata=metadata | _further(attributes.get(METADATA)),
    )


def link(source: str, target: str, attributes: Mapping[str, Any], where: str, reading: Reading) -> Link:
    """The link of an edge as it stands in the file: the target reads the source, unless the edges are to be reversed."""
    kind = next((value for key in KIND if (value := attributes.get(key)) not in (None, "")), None)
    if not isinstance(kind, str | None):
        reading.note(where, f"its kind must be a string, got {type(kind).__name__}; taken without one")
        kind = None
    if reading.reverse:
        source, target = target, source
    weight = next((key for key in WEIGHT if attributes.get(key) not in (None, "")), "weight")
    return Link(source, target, kind, _number(weight, attributes, where, reading), where)


def _number(key: str, attributes: Mapping[str, Any], where: str, reading: Reading) -> float | None:
    value = attributes.get(key)
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number):
        return number
    reading.note(where, f"{key!r} must be a finite number, got {str(value)[:40]!r}; taken without one")
    return None


def _further(value: object) -> dict[str, Any]:
    """What the attribute `metadata` adds."""
    if isinstance(value, str):
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            read = None
        value = read if isinstance(read, dict) else value
    if isinstance(value, Mapping):
        return {str(key): kept for key, kept in value.items()}
    return {} if value is None or value == "" else {METADATA: value}


def _keys(attributes: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, attributes))[:8]) or "none"
