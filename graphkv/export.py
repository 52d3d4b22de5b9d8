"""A graph as a file that others read: JSON Lines, GraphML, GEXF, node-link JSON, CSV. :mod:`graphkv.importers` reads each of them back."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx

from graphkv.errors import InputError, one_of
from graphkv.graph import SegmentGraph
from graphkv.segments import Segment

FORMATS = {"documents": ".jsonl", "graphml": ".graphml", "gexf": ".gexf", "node-link": ".json", "csv": ".csv"}
"""Names of the formats, as the importers call them, and the ending that each is chosen by."""

_DOCUMENT = {"id", "text", "title", "sources", "cites", "score"}
_NAMESAKES = _DOCUMENT | {"metadata"}
"""Metadata of such a name goes into an object `metadata`; :meth:`graphkv.segments.Document.from_dict` takes it out again."""

_RESERVED = _DOCUMENT | {"abstract", "content", "body", "label", "name", "metadata"}
_RESERVED |= {"pid", "start", "end", "parents", "slices", "spells", "viz", "key", "networkx_key"}
"""Attributes that mean something to a reader of graphs; metadata of such a name goes into the attribute `metadata`."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_CSV = re.compile("[\x00\ud800-\udfff]")


def write_graph(graph: SegmentGraph, path: Path, format: str | None = None) -> None:
    """Write a graph: segments in order with id, title, text, score and metadata; edges with kind and weight. Whole, or not at all.

    CSV is two files: ``x.csv`` with the edges, and ``x.nodes.csv`` beside it with the segments. An empty title is read back as none.
    That a segment is a part of a longer document, and a limit for segments, are not written.

    Args:
        path: its ending chooses the format. format: a name of :data:`FORMATS`, whatever the ending.

    Raises:
        InputError: an unknown format or ending; a segment of token ids, or with something that the format cannot hold (it is
            named); the file cannot be written.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "One."}, {"id": "b", "text": "Two.", "cites": ["a"]}])
        >>> write_graph(graph, Path("graph.graphml"))  # doctest: +SKIP
    """
    path = Path(path)
    name = format or check_ending(path)
    if name not in FORMATS:
        raise InputError(one_of("format", name, FORMATS))
    for segment in graph:
        if segment.text is None:
            raise InputError(f"segment {segment.id!r} is made of token ids, which graph files cannot hold: expected segments of text")
    if name == "documents":
        contents = [_documents(graph)]
    elif name == "node-link":
        contents = [_node_link(graph)]
    elif name == "csv":
        _check(graph, _NOT_CSV, "CSV")
        contents = [_csv_nodes(graph), _csv_edges(graph)]
    else:
        _check(graph, _NOT_XML, "XML")
        file = io.BytesIO()
        (nx.write_graphml_lxml if name == "graphml" else nx.write_gexf)(_network(graph, label=name == "gexf"), file)
        contents = [file.getvalue()]
    write_files(dict(zip(files_of(path, name), contents, strict=True)))


def check_ending(path: Path) -> str:
    """The name of the format that a file's ending chooses. Raises InputError for any other ending.

    Example:
        >>> check_ending(Path("graph.json"))
        'node-link'
    """
    for name, ending in FORMATS.items():
        if path.suffix.lower() == ending:
            return name
    raise InputError(f"{path}: expected a file that ends in {', '.join(FORMATS.values())}, got {path.suffix or 'no ending'!r}")


def files_of(path: Path, format: str | None = None) -> tuple[Path, ...]:
    """The files that :func:`write_graph` writes, in this order: for CSV segments and edges, else one.

    Example:
        >>> [file.name for file in files_of(Path("graph.csv"))]
        ['graph.nodes.csv', 'graph.csv']
    """
    if (format or check_ending(path)) != "csv":
        return (path,)
    return path.with_name(f"{path.stem}.nodes{path.suffix or '.csv'}"), path


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write files, each under a temporary name first; none is there before all of them are whole. Raises InputError if they cannot be written."""
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in files}
    for path in files:
        if path.is_dir():
            raise InputError(f"{path} is a folder: expected the name of a file to write")
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary[path].write_bytes(data)
        for path in files:
            temporary[path].replace(path)
    except OSError as error:
        raise InputError(f"{', '.join(map(str, files))} cannot be written: {error.strerror or error}") from None
    finally:
        for part in temporary.values():
            with contextlib.suppress(OSError):  # it has its name by now, or never came to be
                part.unlink()


def _documents(graph: SegmentGraph) -> bytes:
    lines = []
    for segment in graph:
        sources = [{"id": source, **data} if (data := graph.edge(source, segment.id).data) else source for source in graph.sources(segment.id)]
        own = {"id": segment.id, "title": segment.title, "text": segment.text, "sources": sources, "score": segment.score}
        lines.append(_json({key: value for key, value in own.items() if value not in (None, [])} | _parted(segment, _NAMESAKES)))
    return "".join(f"{line}\n" for line in lines).encode()


def _node_link(graph: SegmentGraph) -> bytes:
    nodes = []
    for segment in graph:
        nodes.append(_fields(segment) | _parted(segment, _RESERVED))
    edges = [{"source": edge[0], "target": edge[1], **edge.data} for edge in graph.edges]
    return (_json({"directed": True, "multigraph": False, "graph": {}, "nodes": nodes, "edges": edges}) + "\n").encode()


def _csv_nodes(graph: SegmentGraph) -> bytes:
    columns = ("id", "title", "score", "text", "metadata")
    rows = [_fields(segment) | ({"metadata": _json(_checked(segment, segment.metadata))} if segment.metadata else {}) for segment in graph]
    return _csv([columns, *([row.get(column, "") for column in columns] for row in rows)])


def _csv_edges(graph: SegmentGraph) -> bytes:
    return _csv([("source", "target", "kind", "weight"), *((*edge, edge.kind or "", "" if edge.weight is None else edge.weight) for edge in graph.edges)])


def _csv(rows: list[Any]) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return file.getvalue().encode()


def _network(graph: SegmentGraph, *, label: bool) -> nx.DiGraph[str]:
    """The graph as networkx writes it to XML: plain values that are of one type throughout as attributes, the rest as JSON in `metadata`."""
    types: dict[str, set[type]] = {}
    for segment in graph:
        for key, value in segment.metadata.items():
            types.setdefault(key, set()).add(type(value) if not isinstance(value, str) or not _NOT_XML.search(value) else object)
    plain = {key for key, found in types.items() if len(found) == 1 and found <= {str, int, float, bool} and key not in _RESERVED and key and not _NOT_XML.search(key)}
    network: nx.DiGraph[str] = nx.DiGraph()
    for segment in graph:
        metadata = _checked(segment, segment.metadata)
        further = {key: value for key, value in metadata.items() if key not in plain}
        network.add_node(segment.id)
        attributes = network.nodes[segment.id]
        attributes.update(_fields(segment))
        del attributes["id"]
        attributes.update({key: value for key, value in metadata.items() if key in plain})
        if further:
            attributes["metadata"] = json.dumps(further)
        if label and segment.title:
            attributes["label"] = segment.title
    network.add_edges_from((*edge, edge.data) for edge in graph.edges)
    return network


def _fields(segment: Segment) -> dict[str, Any]:
    """What a segment has beside its metadata, as far as it is known."""
    own = {"id": segment.id, "title": segment.title or None, "text": segment.text, "score": None if segment.score is None else float(segment.score)}
    return {key: value for key, value in own.items() if value is not None}


def _parted(segment: Segment, reserved: set[str]) -> dict[str, Any]:
    """A segment's metadata, what has a reserved name in an object `metadata`."""
    metadata = _checked(segment, segment.metadata)
    further = {key: value for key, value in metadata.items() if key in reserved}
    plain = {key: value for key, value in metadata.items() if key not in reserved}
    return plain | ({"metadata": further} if further else {})


def _checked(segment: Segment, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata that JSON can hold, or an InputError."""
    for key, value in metadata.items():
        try:
            if not isinstance(key, str):
                raise TypeError(f"its name is no string but {key!r}")
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"segment {segment.id!r}: the metadata {key!r} is no JSON value ({error}); change it, or take it out") from None
    return dict(metadata)


def _check(graph: SegmentGraph, bad: re.Pattern[str], what: str) -> None:
    """Raises InputError for text with characters that a format cannot hold. Metadata is written as JSON, which can hold them."""
    texts = [(f"segment {s.id!r}: its {name}", text) for s in graph for name, text in (("id", s.id), ("title", s.title), ("text", s.text))]
    texts += [(f"edge {edge[0]!r} → {edge[1]!r}: its kind", edge.kind) for edge in graph.edges]
    for where, text in texts:
        if found := bad.search(text or ""):
            character = ord(found.group())
            raise InputError(f"{where} holds the character U+{character:04X} at place {found.start()}, which {what} cannot hold; take it out, or write .jsonl")


def _json(value: Any) -> str:
    """JSON on one line; readable, unless there are halves of characters in it, which UTF-8 does not know."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return json.dumps(value) if _SURROGATE.search(text) else text
