"""GEXF, Gephi's format: nodes with texts, and edges, read with networkx."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import networkx as nx

from graphkv.importers import graph_xml
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item


def read(path: Path, root: Path, reading: Reading) -> Iterator[Item]:
    """The nodes and edges of a GEXF file; an edge source→target says that the target reads the source.

    A label that only repeats the node's id, as networkx writes it, is no title; one that repeats the title is no metadata.

    Raises:
        DocumentError: not GEXF, or a graph that networkx does not read (malformed values).
    """
    yield from graph_xml.read(path, reading, "gexf", "http://www.gexf.net/1.2draft", _parse)


def _parse(data: BytesIO) -> nx.Graph[Any]:
    graph: nx.Graph[Any] = nx.read_gexf(data)
    for node, attributes in graph.nodes(data=True):
        if attributes.get("label") in (None, node, attributes.get("title")):
            attributes.pop("label", None)
    return graph
