"""A row of a task → the graph of its documents. Rows with equal documents get the same graph, so that it is encoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from graphkv.errors import DocumentError, GraphError
from graphkv.graph import SegmentGraph


class RowGraphs:
    """Graphs of rows, by the digest of what they hold.

    Args:
        documents_key: where a row has its documents, a list as :meth:`SegmentGraph.from_documents` takes it.
        edges_key: where it has edges between them, ``[[source id, target id], ...]``, in addition to the documents' own sources.
        graph_key: where it has a whole graph as node-link JSON, in place of documents and edges. None for each: never.

    Example:
        >>> graphs = RowGraphs()
        >>> row = {"documents": [{"id": "a", "text": "It rains."}, {"id": "b", "text": "So it is wet."}], "edges": [["a", "b"]]}
        >>> graphs.of(row)
        SegmentGraph(2 segments, 1 edges)
        >>> graphs.of(dict(row)) is graphs.of(row), graphs.of({"question": "Is it wet?"})
        (True, None)
    """

    def __init__(self, documents_key: str | None = "documents", edges_key: str | None = "edges", graph_key: str | None = "graph") -> None:
        self.documents_key, self.edges_key, self.graph_key = documents_key, edges_key, graph_key
        self._graphs: dict[str, SegmentGraph] = {}

    def of(self, row: Mapping[str, Any]) -> SegmentGraph | None:
        """The graph of a row; None if it has no documents.

        Raises:
            DocumentError: documents, edges or the graph are not of the form described above, or edges come without documents.
            GraphError: an edge to an unknown id.
        """
        documents, edges, graph = (_value(row, key) for key in (self.documents_key, self.edges_key, self.graph_key))
        if documents is None and self.documents_key is not None and edges not in (None, [], ()):
            keys = " or ".join(repr(key) for key in (self.documents_key, self.graph_key) if key is not None)
            what = "in addition to a graph, which has its own" if graph is not None else f"without documents: there is nothing under {keys}"
            raise DocumentError(f"edges under {self.edges_key!r} {what}; name the keys that the row has (documents_key=..., graph_key=...), or edges_key=none")
        if documents is None and graph is None:
            return None
        if documents is not None and graph is not None:
            both = f"both {self.documents_key!r} and {self.graph_key!r} are given"
            raise DocumentError(f"{both}: keep one, or switch one off (documents_key=none, graph_key=none)")
        parts = [documents, edges if documents is not None else None, graph]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
        if digest not in self._graphs:
            self._graphs[digest] = self._from_node_link(graph) if documents is None else self._from_documents(documents, edges)
        return self._graphs[digest]

    def _from_documents(self, documents: Any, edges: Any) -> SegmentGraph:
        if not isinstance(documents, list):
            what = f"expected a list of documents under {self.documents_key!r}, each {{'id', 'text', ...}}, got {_short(documents)}"
            raise DocumentError(f"{what}; if it is something else, name another key (documents_key=...) or none (documents_key=none)")
        if not documents:
            raise DocumentError(f"the list of documents under {self.documents_key!r} is empty: leave it out, or give at least one document")
        graph = SegmentGraph.from_documents([_without_nulls(d) for d in documents])
        if edges is None:
            return graph
        if not isinstance(edges, list):
            raise DocumentError(f"expected a list of [source id, target id] under {self.edges_key!r}, got {_short(edges)}")
        return graph.with_edges([*graph.edges, *(_ends(edge) for edge in edges)])

    def _from_node_link(self, value: Any) -> SegmentGraph:
        graph = _parsed(value)
        nodes, links = (graph.get("nodes"), graph.get("edges", graph.get("links"))) if isinstance(graph, Mapping) else (None, None)
        if not isinstance(nodes, list) or not isinstance(links, list) or not nodes:
            what = f"expected node-link JSON under {self.graph_key!r}, {{'directed', 'nodes': [...], 'edges': [...]}}, got {_short(value)}"
            raise DocumentError(f"{what}; if it is something else, switch it off (graph_key=none)")
        directed = graph.get("directed")
        if not isinstance(directed, bool):
            raise DocumentError(f"the graph under {self.graph_key!r}: 'directed' must be true or false, got {directed!r}")
        pairs = [_ends(edge) for edge in links]
        if not directed:
            pairs += [(target, source) for source, target in pairs]
        documents = [_without_nulls(node, ("sources", "cites")) for node in nodes]
        return SegmentGraph.from_documents(documents).with_edges(pairs)


def _value(row: Mapping[str, Any], key: str | None) -> Any:
    return row.get(key) if key is not None else None


def _without_nulls(document: Any, left_out: Sequence[str] = ()) -> Any:
    """A table has every column in every row: what a document does not have comes as null."""
    return {k: v for k, v in document.items() if v is not None and k not in left_out} if isinstance(document, Mapping) else document


def _ends(edge: Any) -> tuple[str, str]:
    """(source, target) of a pair, or of an object with these two."""
    ends = [edge.get("source"), edge.get("target")] if isinstance(edge, Mapping) else list(edge) if isinstance(edge, list | tuple) else []
    if len(ends) != 2 or any(isinstance(end, bool) or not isinstance(end, str | int) for end in ends):
        raise GraphError(f"an edge is a pair [source id, target id], got {_short(edge)}")
    return str(ends[0]), str(ends[1])


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _short(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}{'...' if len(text) > 60 else ''}"
