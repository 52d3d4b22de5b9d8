"""GraphML: nodes with texts, and edges, read with networkx."""

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
    """The nodes and edges of a GraphML file; an edge source→target says that the target reads the source.

    Raises:
        DocumentError: not GraphML, or a graph that networkx does not read (hyperedges, malformed values).
    """
    yield from graph_xml.read(path, reading, "graphml", "http://graphml.graphdrawing.org/xmlns", _parse)


def _parse(data: BytesIO) -> nx.Graph[Any]:
    graph: nx.Graph[Any] = nx.read_graphml(data, force_multigraph=True)
    return graph
