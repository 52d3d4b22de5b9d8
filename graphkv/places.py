"""Where the nodes of a drawn graph stand, what their colours say, and what of a large graph is shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import networkx as nx

from graphkv.edges import paper_of
from graphkv.graph import Edge, SegmentGraph

NODE_COLOURS = {
    "paper": "#e76f51",
    "section": "#e9a17c",
    "reference": "#2a9d8f",
    "document": "#457b9d",
}
"""By the role of a segment, where segments have roles."""

READER_COLOURS = {"reads others": "#e76f51", "reads no other": "#2a9d8f"}
"""By what a segment does, where they have none. The same colours as targets and sources have in a mask."""

EDGE_COLOURS = {
    "cites": "#6c757d",
    "links": "#2a6f97",
    "section_of": "#d8b08c",
    "next": "#c9ada7",
    "cited_by": "#9b5de5",
    "co_citation": "#00a6d6",
    "nearest": "#43aa8b",
    "mentions": "#f9a03f",
}
"""By the kind of an edge; any other kind, and none, is grey."""

SHOWN = 200
"""Nodes up to which a graph is drawn as it is; of a larger one the sections are folded into their papers."""

CIRCLE = 60
"""Nodes up to which a graph with a cycle is drawn around a circle, if most of them have edges."""

MOST = 600
"""The most nodes of one drawing: the best-connected ones."""


@dataclass(frozen=True)
class Overview:
    """What is drawn of a graph, and a line that says what is not."""

    graph: SegmentGraph
    note: str | None = None


def overview(graph: SegmentGraph, *, shown: int = SHOWN, most: int = MOST) -> Overview:
    """The graph itself, or of a large one its papers, or of a very large one the papers with the most edges.

    Example:
        >>> overview(SegmentGraph.from_documents([{"id": "a", "text": "x"}])).note is None
        True
    """
    if len(graph) <= shown:
        return Overview(graph)
    notes = []
    folded = _folded(graph)
    if len(folded) < len(graph):
        notes.append(f"{len(graph) - len(folded):,} sections are folded into their papers")
    if len(folded) > most:
        degree = folded.networkx.degree
        kept = sorted(folded.ids, key=lambda id: -degree(id))[:most]
        notes.append(f"{most:,} of {len(folded):,} nodes, those with the most edges")
        folded = folded.subgraph(kept)
    return Overview(folded, "; ".join(notes) or None)


def _folded(graph: SegmentGraph) -> SegmentGraph:
    """Each paper as one node; an edge between two papers where any of their segments are joined."""
    home = {id: paper if (paper := paper_of(graph, id)) in graph and paper_of(graph, paper) == paper else id for id in graph.ids}
    count = Counter(home.values())
    heads = [replace(s, title=f"{shorten(s.title or s.id, 17)} +{count[s.id] - 1}") if count[s.id] > 1 else s for s in graph if home[s.id] == s.id]
    edges = (edge.between(home[edge[0]], home[edge[1]]) for edge in graph.edges if home[edge[0]] != home[edge[1]])
    return SegmentGraph(heads, edges)


def node_colours(graph: SegmentGraph) -> dict[str, str]:
    """What the colour of each node says (a key of :func:`colour_names`), by id."""
    roles = {s.id: str(s.metadata.get("role")) for s in graph}
    if any(role in NODE_COLOURS for role in roles.values()):
        return {id: role if role in NODE_COLOURS else "document" for id, role in roles.items()}
    return {id: "reads others" if graph.sources(id) else "reads no other" for id in graph.ids}


def colour_names() -> Mapping[str, str]:
    """Every colour of a node by its meaning."""
    return NODE_COLOURS | READER_COLOURS


def edge_colour(edge: Edge) -> str:
    """The colour of an edge, by its kind."""
    return EDGE_COLOURS.get(edge.kind or "", EDGE_COLOURS["cites"])


def hop_of(graph: SegmentGraph, id: str) -> int | None:
    """How far a segment is from what was asked for (an ego graph, a retrieval); None where nobody said."""
    hop = graph[id].metadata.get("hop")
    return hop if isinstance(hop, int) else None


@dataclass(frozen=True)
class Places:
    """Where the nodes of a drawing stand, in units of one label's height (y grows downwards).

    Attributes:
        xy: centre of each node, by id. width, height: extent of the drawing.
        angles: direction of each label in degrees for a circle; empty if the labels stand to the right of their nodes.
    """

    xy: dict[str, tuple[float, float]]
    width: float
    height: float
    angles: dict[str, float]


def node_places(graph: SegmentGraph, *, column: float = 15.0, rows: int = 48) -> Places:
    """Places for the nodes: columns from sources to targets, or a circle for a small graph with a cycle.

    The nodes of a cycle of a larger graph share a column. Every node gets a line of its own, so labels do not collide however many nodes there are.

    Args:
        column: width of a column, in label heights. rows: the most nodes in one column; longer ones are wrapped.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "x", "sources": ["b"]}, {"id": "b", "text": "y"}])
        >>> places = node_places(graph).xy
        >>> places["b"][0] < places["a"][0]
        True
    """
    network = graph.networkx
    network.remove_edges_from(list(nx.selfloop_edges(network)))
    loose = [id for id in graph.ids if network.degree(id) == 0]
    if not nx.is_directed_acyclic_graph(network) and len(graph) <= CIRCLE and 2 * len(loose) <= len(graph):
        return _circle(graph)
    linked = network.subgraph([id for id in graph.ids if network.degree(id) > 0])
    rank = {id: i for i, id in enumerate(graph.ids)}
    columns: list[list[str]] = []
    height: dict[str, float] = {}
    for layer in [*_layers(linked), loose]:
        for id in layer:  # next to what it reads, so that arrows cross less
            above = [height[s] for s in network.predecessors(id) if s in height]
            height[id] = sum(above) / len(above) if above else rank[id] / len(rank)
        layer.sort(key=lambda id: (height[id], rank[id]))
        for i, id in enumerate(layer):
            height[id] = (i + 0.5) / len(layer)
        parts = math.ceil(len(layer) / rows)
        columns += [layer[i::parts] for i in range(parts)]  # dealt out in turn: each column spans the whole height
    span = max(4, *map(len, columns)) * 1.6
    xy = {
        id: (1.0 + x * column, (i + 0.5) / len(ids) * span + 0.45 * (x % 2))  # neighbouring columns half a line apart
        for x, ids in enumerate(columns)
        for i, id in enumerate(ids)
    }
    return Places(xy, column * len(columns) - 1.0, span + 1.0, {})


def _layers(network: nx.DiGraph[str]) -> list[list[str]]:
    """Sources first; nodes that read each other in a circle stand together."""
    groups = nx.condensation(network)
    return [[id for group in layer for id in groups.nodes[group]["members"]] for layer in nx.topological_generations(groups)]


def _circle(graph: SegmentGraph) -> Places:
    """Around a circle, labels pointing outwards; its size grows with the number of nodes."""
    count = len(graph)
    radius = max(6.0, count * 1.5 / math.tau)
    middle = radius + 2.0 + 0.58 * max(len(label_of(graph, id)) for id in graph.ids)  # room for the longest label
    turns = [math.tau * i / count - math.pi / 2 for i in range(count)]
    xy = {id: (middle + radius * math.cos(t), middle + radius * math.sin(t)) for id, t in zip(graph.ids, turns, strict=True)}
    return Places(xy, 2 * middle, 2 * middle, {id: math.degrees(t) for id, t in zip(graph.ids, turns, strict=True)})


def label_of(graph: SegmentGraph, id: str) -> str:
    """What stands beside a node: a section's heading, a segment's title, the printed entry of a work without one, or else the id."""
    segment = graph[id]
    role = segment.metadata.get("role")
    if role == "section" and segment.metadata.get("section"):
        return shorten(f"§ {segment.metadata['section']}")
    return shorten(segment.title or (role == "reference" and segment.text) or id)


def shorten(text: str, limit: int = 22) -> str:
    """`text` on one line, cut with an ellipsis if it is longer than `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
