"""Node-link JSON, as networkx and D3 write it: ``{"directed", "nodes": [{"id", ...}], "edges": [{"source", "target", ...}]}``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers import network
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a graph: lists of nodes and of edges (older files say ``links``), at the top or under ``graph``."""
    graph = _graph(row)
    return isinstance(graph.get("nodes"), list) and isinstance(graph.get("edges", graph.get("links")), list)


def read(row: Mapping[str, Any], where: str, reading: Reading) -> Iterator[Item]:
    """The nodes and edges; an edge source→target says that the target reads the source.

    A node without an id has its place in the list as its id, from 0, as in networkx.

    Raises:
        DocumentError: ``directed`` is neither true nor false, or two nodes have the same id as text.
    """
    graph = _graph(row)
    directed = graph.get("directed")
    if directed is None:
        reading.note(where, "does not say whether it is directed: every edge is read both ways")
        directed = False
    if not isinstance(directed, bool):
        raise DocumentError(f"{where}: 'directed' must be true or false, got {directed!r}")
    nodes, edges = [], []
    for number, node in enumerate(graph["nodes"]):
        if isinstance(node, Mapping):
            nodes.append((_hashable(node.get("id", number)), {key: value for key, value in node.items() if key != "id"}))
        else:
            reading.skip(f"{where}, node {number}", f"expected an object, got {type(node).__name__}")
    for number, edge in enumerate(graph.get("edges", graph.get("links"))):
        if isinstance(edge, Mapping) and edge.get("source") is not None and edge.get("target") is not None:
            edges.append((_hashable(edge["source"]), _hashable(edge["target"]), edge))
        else:
            reading.skip(f"{where}, edge {number}", "expected an object with source and target")
    yield from network.items(nodes, edges, reading, where, directed=directed)


def _graph(row: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = row.get("graph")
    return inner if "nodes" not in row and isinstance(inner, Mapping) else row


def _hashable(id: Any) -> Any:
    """JSON has no tuples: a list that is an id was one. What cannot be an id (an object, null, nesting without end) stays what it is."""
    try:
        return tuple(_hashable(part) for part in id) if isinstance(id, list) else {} if id is None else id
    except RecursionError:
        return {}
