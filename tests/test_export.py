"""Graphs to files and back: whatever a graph holds, each format gives it back or says why it cannot."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv import DocumentError, GraphError, InputError, Segment, SegmentGraph
from graphkv.export import FORMATS, check_ending, files_of, write_graph
from graphkv.graph import Edge
from graphkv.importers.build import build_graph

IDS = ["1", "1.0", "None", "True", "nan", "a b", " a", "a ", "../b", "/etc/passwd", "a/b.md#c", 'say "no"', "it's", "a,b;c\td", "ü 漢字 \U0001f600", "a\nb", "{x}", "<x>&amp;"]
NAMES = ["id", "text", "title", "sources", "cites", "score", "label", "name", "metadata", "abstract", "viz", "start", "key", "pid", "weight", "year", "ü <x>", "two\nlines", "role"]
XML = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from("\n\t\r \x85\u2028\"'<&]>,;")
ANY = st.characters(exclude_categories=[]) | st.sampled_from("\x00\x01\n\ud800\r\"\\")
CSV = st.characters(exclude_categories=["Cs"], exclude_characters="\x00") | st.sampled_from("\x01\n\r\"',;\t ")
LETTERS = {"graphml": XML, "gexf": XML, "csv": CSV, "documents": ANY, "node-link": ANY}
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(ANY, max_size=6)
KEYS = st.text(max_size=3) | st.sampled_from(["title", "cites", "metadata"])
JSON = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=4)


@st.composite
def graphs(draw: st.DrawFn, letters: st.SearchStrategy[str]) -> SegmentGraph:
    text = st.text(letters, min_size=1, max_size=12)
    ids = draw(st.lists(st.sampled_from(IDS) | text, min_size=1, max_size=5, unique=True))
    segments = [
        Segment(
            id,
            text=draw(text.filter(str.strip)),
            title=draw(st.none() | st.just("") | st.just(id) | text),
            score=draw(st.none() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)),
            metadata=draw(st.dictionaries(st.sampled_from(NAMES) | st.text(letters, max_size=4).map(lambda s: f"m{s}"), JSON, max_size=3)),
        )
        for id in ids
    ]
    ends, weight = st.sampled_from(ids), st.none() | st.floats(allow_nan=False, allow_infinity=False)
    edges = draw(st.lists(st.builds(lambda u, v, kind, weight: Edge(u, v, kind=kind, weight=weight), ends, ends, st.none() | text, weight), max_size=8, unique=True))
    return SegmentGraph(segments, edges)


def content(graph: SegmentGraph) -> Any:
    """All that a file should keep. An empty title is none; metadata is as JSON has it, so 1, 1.0 and true are told apart."""
    nodes = [(s.id, s.title or None, s.text, s.score, json.dumps(dict(s.metadata), sort_keys=True)) for s in graph]
    return nodes, [(edge[0], edge[1], edge.kind, edge.weight) for edge in sorted(graph.edges)]


def read_back(path: Path, format: str) -> SegmentGraph:
    """By the importer; documents also without one."""
    build = build_graph(files_of(path, format), format=format)
    assert not build.report.skipped and not build.report.notes and not build.report.unresolved
    if format == "documents":
        graph = SegmentGraph.from_jsonl(path)
        assert content(graph) == content(build.graph)
        return graph
    return build.graph


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_every_format_gives_the_graph_back(format: str, data: st.DataObject) -> None:
    graph = data.draw(graphs(LETTERS[format]))
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"graph{FORMATS[format]}"
        write_graph(graph, path)
        assert sorted(Path(folder).iterdir()) == sorted(files_of(path))
        assert content(read_back(path, format)) == content(graph)


@given(graph=graphs(ANY), format=st.sampled_from(sorted(FORMATS)))
@settings(max_examples=50, deadline=None)
def test_any_text_is_written_or_refused(graph: SegmentGraph, format: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph"
        try:
            write_graph(graph, path, format)
        except InputError as error:
            assert "U+" in str(error) and "write .jsonl" in str(error)
            assert list(Path(folder).iterdir()) == [] and format not in ("documents", "node-link")
        else:
            assert content(read_back(path, format)) == content(graph)


@pytest.mark.parametrize("format", FORMATS)
def test_values_that_look_alike_stay_apart(tmp_path: Path, format: str) -> None:
    values: list[Any] = [1, 1.0, True, "1", "", None, 10**20, -0.5, [1], {"a": None}, "\x00", "\ud800", "</x>"]
    graph = SegmentGraph((Segment(str(i), text="x", metadata={"v": value, "label": "l", "year": 1999} | ({"plain": value} if i < 5 else {})) for i, value in enumerate(values)), [])
    write_graph(graph, tmp_path / f"g{FORMATS[format]}")
    assert content(read_back(tmp_path / f"g{FORMATS[format]}", format)) == content(graph)


def small() -> SegmentGraph:
    segments = [Segment("a", text="One.", title="First", score=0.5, metadata={"year": 1999, "tags": ["x"]}), Segment("b", text="Two.", metadata={"year": 2000})]
    return SegmentGraph(segments, [Edge("a", "b", kind="cites", weight=2), Edge("b", "b")])


def test_what_the_files_look_like(tmp_path: Path) -> None:
    write_graph(small(), tmp_path / "deep" / "g.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "deep" / "g.jsonl").read_text().splitlines()]
    assert rows == [
        {"id": "a", "title": "First", "text": "One.", "score": 0.5, "year": 1999, "tags": ["x"]},
        {"id": "b", "text": "Two.", "sources": [{"id": "a", "kind": "cites", "weight": 2.0}, "b"], "year": 2000},
    ]
    write_graph(small(), tmp_path / "g.json")
    graph = nx.node_link_graph(json.loads((tmp_path / "g.json").read_text()))
    assert graph.nodes["a"] == {"title": "First", "text": "One.", "score": 0.5, "year": 1999, "tags": ["x"]} and graph.edges["a", "b"]["kind"] == "cites"
    for name, read in (("g.graphml", nx.read_graphml), ("g.gexf", nx.read_gexf)):
        write_graph(small(), tmp_path / name)
        graph = read(tmp_path / name)
        assert graph.is_directed() and graph.nodes["b"]["year"] == 2000 and graph.nodes["a"]["metadata"] == '{"tags": ["x"]}'
        assert graph.edges["a", "b"]["weight"] == 2.0
    assert graph.nodes["a"]["label"] == "First" and graph.nodes["b"]["label"] == "b"
    write_graph(small(), tmp_path / "g.csv")
    assert (tmp_path / "g.csv").read_text().splitlines() == ['"source","target","kind","weight"', '"a","b","cites","2.0"', '"b","b","",""']
    assert (tmp_path / "g.nodes.csv").read_text().startswith('"id","title","score","text","metadata"\n"a","First","0.5","One.","{""year"": 1999')


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("metadata", [{"cites": ["b"]}, {"id": 3, "x": 1}, {"metadata": {}}, {"metadata": {"title": "T"}}, {"metadata": {"metadata": {"score": 1}, "x": 2}, "text": "y"}, {"metadata": None}])
def test_metadata_called_like_our_own_keys_comes_back(tmp_path: Path, format: str, metadata: dict[str, Any]) -> None:
    graph = SegmentGraph([Segment("a", text="x", metadata=metadata)], [])
    write_graph(graph, tmp_path / f"g{FORMATS[format]}")
    assert content(read_back(tmp_path / f"g{FORMATS[format]}", format)) == content(graph)


def test_metadata_that_holds_other_things_is_a_key_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text('{"id": "a", "text": "x", "metadata": {"title": "T", "year": 1999}}\n{"id": "b", "text": "y", "metadata": {"title": "T", "cites": ["z"]}, "year": 2}\n')
    assert [s.metadata for s in read_back(path, "documents")] == [{"metadata": {"title": "T", "year": 1999}}, {"title": "T", "cites": ["z"], "year": 2}]


@pytest.mark.parametrize(
    ("segment", "name", "message"),
    [
        (Segment.from_tokens("a", [1]), "g.json", "segment 'a' is made of token ids"),
        (Segment("a", text="x\x00"), "g.graphml", r"segment 'a': its text holds the character U\+0000 at place 1, which XML cannot hold; .* write .jsonl"),
        (Segment("a", text="x", title="\ud800"), "g.gexf", r"segment 'a': its title holds the character U\+D800 at place 0"),
        (Segment("\x1b", text="x"), "g.graphml", r"segment '\\x1b': its id holds the character U\+001B"),
        (Segment("a", text="\ud800"), "g.csv", r"U\+D800 at place 0, which CSV cannot hold"),
        (Segment("a", text="x", metadata={"when": {1, 2}}), "g.gexf", "segment 'a': the metadata 'when' is no JSON value .*set"),
        (Segment("a", text="x", metadata={"x": float("nan")}), "g.json", "metadata 'x' is no JSON value"),
        (Segment("a", text="x", metadata={7: 1}), "g.csv", "its name is no string but 7"),  # type: ignore[dict-item]
        (Segment("a", text="x"), "g.txt", r"g.txt: expected a file that ends in .jsonl, .graphml, .gexf, .json, .csv, got '.txt'"),
        (Segment("a", text="x"), "g", "got 'no ending'"),
        (Segment("a", text="x"), "folder.json", "is a folder"),
        (Segment("a", text="x"), "file/g.json", "cannot be written: "),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, segment: Segment, name: str, message: str) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=message):
        write_graph(SegmentGraph([segment], []), tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.json"]


def test_formats_by_name_and_ending(tmp_path: Path) -> None:
    assert {check_ending(Path(f"x{ending.upper()}")) for ending in FORMATS.values()} == set(FORMATS)
    with pytest.raises(InputError, match="unknown format 'dot'; valid: csv, documents"):
        write_graph(small(), tmp_path / "g.json", "dot")
    write_graph(small(), tmp_path / "g.data", "csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.data", "g.nodes.data"]


def test_a_file_stays_whole_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two files neither is there until both are written."""
    write_graph(small(), tmp_path / "g.csv")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(self: Path, data: bytes) -> int:
        if "nodes" not in self.name:
            raise OSError(28, "No space left on device")
        return os.write(os.open(self, os.O_WRONLY | os.O_CREAT), data[:3])

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"g.csv cannot be written: No space left"):
        write_graph(small().subgraph(["a"]), tmp_path / "g.csv")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


NODES = st.integers() | st.tuples(st.text(max_size=2), st.integers(0, 3)) | st.frozensets(st.integers(0, 3), max_size=3) | st.booleans() | st.text(min_size=1, max_size=3)


@given(nodes=st.lists(NODES | st.sampled_from(["None", "nan", 1.5, ("a", (1, 2))]), min_size=1, max_size=6, unique=True), data=st.data(), kind=st.sampled_from([nx.DiGraph, nx.MultiDiGraph, nx.Graph]))
@settings(max_examples=50, deadline=None)
def test_networkx_graphs_of_any_nodes(nodes: list[Hashable], data: st.DataObject, kind: type[nx.Graph[Any]]) -> None:
    """The same graph under the nodes' string forms; taken from its own networkx graph it stays the same."""
    source = kind()
    source.add_nodes_from((node, {"text": f"text of {node}", "title": "t", "year": 1}) for node in nodes)
    source.add_edges_from(data.draw(st.lists(st.tuples(st.sampled_from(nodes), st.sampled_from(nodes)), max_size=6)), kind="cites", weight=0.5)
    if len({str(node) for node in nodes}) < len(nodes):
        with pytest.raises(GraphError, match="same id as text"):
            SegmentGraph.from_networkx(source)
        return
    graph = SegmentGraph.from_networkx(source)
    assert graph.ids == tuple(map(str, nodes)) and all(s.text == f"text of {s.id}" and s.metadata == {"year": 1} for s in graph)
    pairs = {(str(u), str(v)) for u, v in source.edges()}
    assert set(graph.edges) == pairs | (set() if source.is_directed() else {(v, u) for u, v in pairs})
    assert all((edge.kind, edge.weight) == ("cites", 0.5) for edge in graph.edges)
    assert content(SegmentGraph.from_networkx(graph.networkx)) == content(graph)


def test_networkx_nodes_that_are_not_documents() -> None:
    source: nx.DiGraph[Any] = nx.DiGraph()
    source.add_node(frozenset({1}), text=" ")
    with pytest.raises(DocumentError, match=r"node frozenset\(\{1\}\).*is empty"):
        SegmentGraph.from_networkx(source)
    source = nx.DiGraph()
    source.add_node("a", text="x")
    source.add_edge("a", "b")
    with pytest.raises(DocumentError, match="node 'b' has no 'text' attribute"):
        SegmentGraph.from_networkx(source)
    with pytest.raises(GraphError, match="expected a networkx graph, got dict"):
        SegmentGraph.from_networkx({})  # type: ignore[arg-type]
