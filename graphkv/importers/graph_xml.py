"""Graphs in XML: read with our checks first, cleaned of what networkx would misread in silence, then read by networkx."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import networkx as nx

from graphkv.errors import DocumentError
from graphkv.importers import network
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item

_MALFORMED = (nx.NetworkXException, ParseError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What networkx's readers raise for a file that is not as they expect."""


def read(path: Path, reading: Reading, tag: str, namespace: str, parse: Callable[[BytesIO], nx.Graph[Any]]) -> Iterator[Item]:
    """Records and links of an XML graph.

    Args:
        tag: of the root element. namespace: the one that networkx looks for; others, and none, are taken for it.
        parse: networkx's reader.

    Raises:
        DocumentError: as :meth:`Reading.xml`, or the root is another, or networkx cannot read the graph.
    """
    from lxml import etree

    root = reading.xml(path)
    if etree.QName(root).localname != tag:
        raise DocumentError(f"{path}: expected a <{tag}> element, got <{etree.QName(root).localname}>")
    _take_namespace(root, namespace)
    _prepare(root, namespace, path, reading)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            graph = parse(BytesIO(etree.tostring(root)))  # without the DOCTYPE, so there is nothing to expand
    except _MALFORMED as error:
        raise DocumentError(f"{path}: a graph that networkx cannot read ({str(error) or type(error).__name__})") from None
    for message in dict.fromkeys(str(w.message) for w in warned):
        reading.note(str(path), message)
    _count_lost(root, namespace, graph, path, reading)
    usual, of_edges = graph.graph.get("node_default", {}), graph.graph.get("edge_default", {})
    nodes = ((node, {**usual, **data}) for node, data in graph.nodes(data=True))
    edges = ((u, v, {**of_edges, **data}) for u, v, data in graph.edges(data=True))
    yield from network.items(nodes, edges, reading, str(path), directed=graph.is_directed())


def _take_namespace(root: Any, namespace: str) -> None:
    from lxml import etree

    own = etree.QName(root).namespace
    if own != namespace:
        for element in root.iter():
            if isinstance(element.tag, str) and etree.QName(element).namespace == own:
                element.tag = f"{{{namespace}}}{etree.QName(element).localname}"


def _prepare(root: Any, namespace: str, path: Path, reading: Reading) -> None:
    """Take out, and count, what networkx would merge into something else or call "None"; let it look into graphs within nodes."""
    for graph in root.findall(f"{{{namespace}}}graph")[1:]:
        reading.skip(str(path), "a further graph of the file: only the first is read")
        root.remove(graph)
    seen = set()
    for node in list(root.iter(f"{{{namespace}}}node")):
        name = node.get("id")
        if name and name not in seen:
            seen.add(name)
            if node.find(f"{{{namespace}}}graph") is not None:
                node.set("yfiles.foldertype", "group")
            continue
        reading.skip(f"{path}, line {node.sourceline}", f"duplicate id {name!r}: the first node with it stays" if name else "a node without an id")
        node.getparent().remove(node)
    for edge in list(root.iter(f"{{{namespace}}}edge")):
        if not edge.get("source") or not edge.get("target"):
            reading.skip(f"{path}, line {edge.sourceline}", "an edge without source or target")
            edge.getparent().remove(edge)
    _direct(root, namespace)


def _direct(root: Any, namespace: str) -> None:
    """Where some edges are directed and others are not, which networkx refuses, an undirected one becomes two: there and back."""
    graph = root.find(f"{{{namespace}}}graph")
    if graph is None:
        return
    usual, own = ("edgedefault", "directed") if root.tag.endswith("}graphml") else ("defaultedgetype", "type")
    said = {"true": True, "directed": True, "false": False, "undirected": False}
    directed = graph.get(usual) == "directed"
    edges = [(edge, said.get(edge.get(own, ""), directed)) for edge in root.iter(f"{{{namespace}}}edge")]
    if all(one_way == directed for _, one_way in edges):
        return
    graph.set(usual, "directed")
    for edge, one_way in edges:
        if edge.get(own) in said:
            del edge.attrib[own]
        if not one_way and edge.get(own) != "mutual" and edge.get("source") != edge.get("target"):
            back = copy.deepcopy(edge)
            back.set("source", edge.get("target"))
            back.set("target", edge.get("source"))
            back.attrib.pop("id", None)
            edge.addnext(back)


def _count_lost(root: Any, namespace: str, graph: nx.Graph[Any], path: Path, reading: Reading) -> None:
    nodes = sum(node.get("id") not in graph for node in root.iter(f"{{{namespace}}}node"))
    edges = sum(2 if edge.get("type") == "mutual" else 1 for edge in root.iter(f"{{{namespace}}}edge")) - graph.number_of_edges()
    for lost, what in ((nodes, "nodes that stand where networkx does not look for them"), (edges, "edges with the id of another, or where networkx does not look for them")):
        if lost > 0:
            reading.skip(str(path), f"{lost} {what}")
