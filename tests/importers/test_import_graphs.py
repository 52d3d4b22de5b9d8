"""Graph files: GraphML, GEXF, node-link JSON, and CSV, well-formed and not."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv import DocumentError
from graphkv.importers.formats import read_file
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Link, Record, Section

GRAPHML = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key id="t" for="node" attr.name="abstract" attr.type="string"/>
  <key id="n" for="node" attr.name="name" attr.type="string"/>
  <key id="s" for="node" attr.name="score" attr.type="double"/>
  <key id="v" for="node" attr.name="venue" attr.type="string"><default>ACL</default></key>
  <key id="k" for="edge" attr.name="relation" attr.type="string"/>
  <key id="w" for="edge" attr.name="weight" attr.type="double"/>
  <graph edgedefault="directed">
    <node id="n1"><data key="n">Graphs</data><data key="t">Points &amp; lines.</data><data key="s">0.5</data></node>
    <node id="n2"><data key="n">Only a name</data><data key="v">EMNLP</data></node>
    <node id="n3"/>
    <edge source="n1" target="n2"><data key="k">cites</data><data key="w">2</data></edge>
    <edge source="n3" target="n1"/>
  </graph>
</graphml>"""
GEXF = """<?xml version="1.0" encoding="UTF-8"?>
<gexf xmlns="http://gexf.net/1.3" version="1.3">
  <graph defaultedgetype="directed">
    <attributes class="node"><attribute id="0" title="text" type="string"/></attributes>
    <nodes>
      <node id="0" label="Graphs"><attvalues><attvalue for="0" value="Points and lines."/></attvalues></node>
      <node id="1" label="1"/>
      <node id="2" label="Trees"><nodes><node id="3" label="Leaves"/></nodes></node>
    </nodes>
    <edges><edge id="0" source="0" target="1" weight="2.5" label="cites"/><edge id="1" source="2" target="0" type="mutual"/></edges>
  </graph>
</gexf>"""
NODE_LINK = json.dumps(
    {
        "directed": True,
        "multigraph": True,
        "graph": {"name": "g"},
        "nodes": [{"id": 1, "text": "One.", "title": "First", "year": 1999}, {"id": ["a", [2]], "body": "Two."}, {"label": "Without id"}, {"id": 4}],
        "links": [{"source": 1, "target": ["a", [2]], "key": 0, "type": "cites", "weight": "0.5"}, {"source": 4, "target": 1, "key": 0}],
    }
)
CSV = "id;Text;year\np1;One, two.;1999\np2;Two.;\n"


def read(text: str | bytes, name: str, format: str, reading: Reading | None = None) -> list[Item]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return list(read_file(path, path.parent, reading or Reading(), format))


def links(items: list[Item]) -> list[tuple[str, str, str | None, float | None]]:
    return [(i.source, i.target, i.kind, i.weight) for i in items if isinstance(i, Link)]


def texts(items: list[Item]) -> dict[str, tuple[str | None, str]]:
    return {i.id: (i.title, i.sections[0].text) for i in items if isinstance(i, Record)}


def reasons(reading: Reading) -> str:
    return "; ".join(s.reason for s in reading.skipped)


def test_graphml() -> None:
    reading = Reading()
    found = read(GRAPHML, "g.graphml", "graphml", reading)
    assert texts(found) == {"n1": ("Graphs", "Points & lines."), "n2": ("Only a name", "Only a name")}
    first = found[0]
    assert isinstance(first, Record) and first.sections == (Section("", "Points & lines."),) and first.role == "document"
    assert (first.score, dict(first.metadata)) == (0.5, {"venue": "ACL"}) and "node 'n1'" in first.where
    assert links(found) == [("n1", "n2", "cites", 2.0), ("n3", "n1", None, None)]
    assert not reading.skipped and [n.reason for n in reading.notes] == ["1 nodes have neither text nor title; their texts may come from other sources"]
    assert links(read(GRAPHML, "g.graphml", "graphml", Reading(reverse=True)))[0] == ("n2", "n1", "cites", 2.0)
    undirected = links(read(GRAPHML.replace('"directed"', '"undirected"'), "g.graphml", "graphml"))
    assert undirected[:2] == [("n1", "n2", "cites", 2.0), ("n2", "n1", "cites", 2.0)] and len(undirected) == 4
    bare = GRAPHML.replace(' xmlns="http://graphml.graphdrawing.org/xmlns"', "")
    assert read(bare, "g.xml", "graphml")[-1].where.endswith("edge 'n3' → 'n1'")


def test_graphml_that_networkx_would_misread() -> None:
    reading = Reading()
    inner = '<node id="n3"><graph edgedefault="directed"><node id="n4"><data key="n">Within</data></node></graph></node>'
    text = GRAPHML.replace('<node id="n3"/>', f'{inner}<node/><node id="n1"/><edge source="n1"/>').replace("</graphml>", '<graph edgedefault="directed"><node id="x"/></graph></graphml>')
    found = read(text, "g.graphml", "graphml", reading)
    assert set(texts(found)) == {"n1", "n2", "n4"} and len(links(found)) == 2
    assert sorted(s.reason for s in reading.skipped) == [
        "a further graph of the file: only the first is read",
        "a node without an id",
        "an edge without source or target",
        "duplicate id 'n1': the first node with it stays",
    ]


def test_gexf() -> None:
    reading = Reading()
    found = read(GEXF, "g.gexf", "gexf", reading)
    assert texts(found) == {"0": ("Graphs", "Points and lines."), "2": ("Trees", "Trees"), "3": ("Leaves", "Leaves")}
    assert links(found) == [("0", "1", "cites", 2.5), ("0", "2", None, None), ("2", "0", None, None)]
    assert not reading.skipped
    doubled = GEXF.replace("</edges>", '<edge id="0" source="0" target="1"/></edges>')
    read(doubled, "g.gexf", "gexf", reading)
    assert reasons(reading) == "1 edges with the id of another, or where networkx does not look for them"


@pytest.mark.parametrize(
    ("usual", "attribute", "said"),
    [
        ("directed", "type", ["undirected", "", "directed", "undirected"]),
        ("undirected", "type", ["", "directed", "directed", ""]),
        ("directed", "directed", ["false", "", "true", "false"]),
        ("undirected", "directed", ["", "true", "true", "false"]),
    ],
)
def test_graphs_that_are_directed_in_part(usual: str, attribute: str, said: list[str]) -> None:
    """As Gephi writes them: an undirected edge is read both ways, the others one way."""
    ends = ["ab", "bc", "ca", "cc"]
    words = [f' {attribute}="{word}"' if word else "" for word in said]
    edges = "".join(f'<edge id="{u}{v}" source="{u}" target="{v}"{word}/>' for (u, v), word in zip(ends, words, strict=True))
    nodes = "".join(f'<node id="{name}"/>' for name in "abc")
    format, text = "graphml", f'<graphml><graph edgedefault="{usual}">{nodes}{edges}</graph></graphml>'
    if attribute == "type":
        format, text = "gexf", f'<gexf version="1.3"><graph defaultedgetype="{usual}"><nodes>{nodes}</nodes><edges>{edges}</edges></graph></gexf>'
    reading = Reading()
    found = links(read(text, f"g.{format}", format, reading))
    assert sorted(link[0] + link[1] for link in found) == ["ab", "ba", "bc", "ca", "cc"] and not reading.skipped


@pytest.mark.parametrize(
    ("text", "name", "format"),
    [
        (json.dumps({"directed": True, "nodes": [{"id": 1}, {"id": 2, "year": 1}, {"id": 3, "text": 5}, {"id": 4, "text": "x"}], "edges": []}), "g.json", "node-link"),
        (GEXF.replace("Trees", "2"), "g.gexf", "gexf"),
        (GRAPHML.replace('<node id="n3"/>', '<node id="n3"/><node id="n4"/>'), "g.graphml", "graphml"),
        ("id,text\na,\nb,\nc,x\n", "n.csv", "csv"),
    ],
)
def test_nodes_without_text_are_counted_once_a_file(text: str, name: str, format: str) -> None:
    reading = Reading()
    read(text, name, format, reading)
    (note,) = reading.notes
    assert note.reason == "2 nodes have neither text nor title; their texts may come from other sources" and name in note.where


def test_descriptions_are_texts_and_values_are_weights() -> None:
    graph = {
        "directed": True,
        "nodes": [{"id": 1, "name": "One", "description": "D1."}, {"id": 2, "description": "D2.", "text": "T2."}],
        "links": [{"source": 1, "target": 2, "value": 5}, {"source": 2, "target": 1, "value": 5, "weight": 0}],
    }
    found = read(json.dumps(graph), "g.json", "node-link")
    assert texts(found) == {"1": ("One", "D1."), "2": (None, "T2.")}
    assert isinstance(found[1], Record) and dict(found[1].metadata) == {"description": "D2."}
    assert links(found) == [("1", "2", None, 5.0), ("2", "1", None, 0.0)]
    assert links(read("Source,Target,Value\na,b,3\n", "e.csv", "csv")) == [("a", "b", None, 3.0)]
    assert texts(read("ID,Description\na,A.\n", "n.csv", "csv")) == {"a": (None, "A.")}


def test_node_link() -> None:
    reading = Reading()
    found = read(NODE_LINK, "g.json", "node-link", reading)
    assert texts(found) == {"1": ("First", "One."), "('a', (2,))": (None, "Two."), "2": ("Without id", "Without id")}
    assert isinstance(found[0], Record) and dict(found[0].metadata) == {"year": 1999}
    assert links(found) == [("1", "('a', (2,))", "cites", 0.5), ("4", "1", None, None)]
    assert not reading.skipped and [n.reason.partition(";")[0] for n in reading.notes] == ["1 nodes have neither text nor title"]
    newer = read(NODE_LINK.replace('"links"', '"edges"'), "g.json", "node-link")
    assert links(newer) == links(found) and texts(newer) == texts(found)
    wrapped = read(json.dumps({"graph": json.loads(NODE_LINK)}), "g.json", "node-link")
    assert links(wrapped) == links(found)


def test_node_link_rows_that_are_malformed() -> None:
    reading = Reading()
    row: dict[str, Any] = {
        "nodes": [
            {"id": "a", "text": 5},
            {"id": "b", "text": "B.", "score": "high", "title": ["x"]},
            {"id": "b", "text": "B again."},
            {"id": {"x": 1}, "text": "C."},
            {"id": None},
            {"id": ""},
            "d",
        ],
        "edges": [{"source": "a"}, 3, {"source": {}, "target": "b"}, {"source": "a", "target": "b", "kind": 3, "weight": "much"}, {"source": "b", "target": "b"}],
    }
    found = read(json.dumps(row), "g.json", "node-link", reading)
    assert texts(found) == {"b": (None, "B.")}
    assert links(found) == [("a", "b", None, None), ("b", "a", None, None), ("b", "b", None, None)]
    assert len(reading.skipped) == 9 and "'text' must be a string, got int" in reasons(reading) and "got dict; its attributes are text" in reasons(reading)
    assert [n.reason.partition(",")[0] for n in reading.notes] == [
        "does not say whether it is directed: every edge is read both ways",
        "'title' must be a string",
        "'score' must be a finite number",
        "its kind must be a string",
        "'weight' must be a finite number",
    ]


@pytest.mark.parametrize("nodes", [[{"id": 1, "text": "x"}, {"id": "1", "text": "y"}], [{"id": [1], "text": "x"}, {"id": "(1,)", "text": "x"}]])
def test_two_nodes_with_one_name(nodes: list[dict[str, Any]]) -> None:
    reading = Reading()
    assert read(json.dumps({"directed": True, "nodes": nodes, "edges": []}), "g.json", "node-link", reading) == []
    assert "two nodes have the same id as text" in reasons(reading)


@pytest.mark.parametrize(("header", "first_reads"), [("source,target", False), ("Citing\tCited", True), ("from;to", True), ('"target","source"', True)])
def test_edge_lists(header: str, first_reads: bool) -> None:
    cell = next(c for c in ",\t;" if c in header)
    text = f"{header}{cell}kind{cell}weight\na{cell}b{cell}cites{cell}2\n\nb{cell}b{cell}{cell}\n".replace("\n", "\r\n")
    assert links(read(text, "e.csv", "csv")) == [("b", "a", "cites", 2.0) if first_reads else ("a", "b", "cites", 2.0), ("b", "b", None, None)]
    reverse = links(read(text, "e.csv", "csv", Reading(reverse=True)))[0]
    assert reverse[:2] == (("a", "b") if "target" in header and first_reads else ("b", "a"))  # citing,cited and from,to say the direction


def test_edge_lists_of_gephi_and_without_header() -> None:
    gephi = "Source,Target,Type,Id,Label,Weight\na,b,Directed,0,cites,1.0\nc,d,Undirected,1,,2.0\n"
    assert links(read(gephi, "e.csv", "csv")) == [("a", "b", "cites", 1.0), ("c", "d", None, 2.0), ("d", "c", None, 2.0)]
    reading = Reading()
    assert links(read("p1\tp2\tx\np3\tp4\ty\n", "e.tsv", "csv", reading)) == [("p1", "p2", None, None), ("p3", "p4", None, None)]
    (note,) = reading.notes
    assert note.reason.startswith("has no header that is known") and note.reason.endswith("source and target; the others are not read")


def test_csv_rows_that_are_malformed() -> None:
    reading = Reading()
    assert links(read("source,target\na\na,b,c\n,b\na,b\n", "e.csv", "csv", reading)) == [("a", "b", None, None)]
    assert [s.where.rpartition(" ")[2] for s in reading.skipped] == ["2", "3", "4"]
    for text, message in (("", "is empty"), ("id\na\n", "at least two columns"), ("source,target,kind,kind\na,b,c,d\n", "'kind' is there twice"), ("a,b\x00\n", "is not text")):
        with pytest.raises(DocumentError, match=message):
            read(text, "e.csv", "csv")


def test_node_tables() -> None:
    reading = Reading()
    found = read(CSV + 'p1;again;\n;x;\np3;"two\r\nlines";2001\n', "n.csv", "csv", reading)
    assert texts(found) == {"p1": (None, "One, two."), "p2": (None, "Two."), "p3": (None, "two\r\nlines")}
    assert isinstance(found[0], Record) and dict(found[0].metadata) == {"year": "1999"} and found[0].where.endswith("line 2")
    assert reasons(reading) == "duplicate id 'p1': the first row with it stays; the id is empty"


def test_the_limit_of_csv_is_put_back() -> None:
    before = csv.field_size_limit()
    long = "id,text\na," + "x" * (before + 10)
    assert len(texts(read(long, "n.csv", "csv"))["a"][1]) == before + 10 and csv.field_size_limit() == before
    with pytest.raises(DocumentError, match="larger than 100 bytes"):
        read(long, "n.csv", "csv", Reading(max_bytes=100))
    assert csv.field_size_limit() == before


BOMB = '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(("format", "text"), [("graphml", GRAPHML), ("gexf", GEXF)])
def test_xml_that_cannot_be_read(format: str, text: str) -> None:
    name = f"g.{format}"
    declaration, _, rest = text.partition("\n")
    for bad, message in (
        (declaration + BOMB + rest, "has XML entities of its own"),
        ("<html><body/></html>", f"expected a <{format}> element, got <html>"),
        (text[:-20], "not well-formed XML"),
        (text.replace("Graphs", "&#0;"), "not well-formed XML"),
        (text.replace('type="string"', 'type="colour"'), "a graph that networkx cannot read"),
        (text.replace('"2"', '"&"'), "not well-formed"),
        (f'<{format} xmlns="x"/>', "a graph that networkx cannot read"),
        ("", "not well-formed XML|empty"),
    ):
        if bad != text:
            with pytest.raises(DocumentError, match=message):
                read(bad, name, format)


@pytest.mark.parametrize("format", ["graphml", "gexf"])
def test_external_entities_are_not_read(tmp_path: Path, format: str) -> None:
    (tmp_path / "secret").write_text("secret")
    text = GRAPHML if format == "graphml" else GEXF
    declaration, _, rest = text.partition("\n")
    doctype = f'<!DOCTYPE x SYSTEM "{tmp_path}/secret">'
    assert texts(read(declaration + doctype + rest, "g.xml", format)) == texts(read(text, "g.xml", format))
    with pytest.raises(DocumentError, match=r"XML entities|references external entity"):
        read(f'{declaration}<!DOCTYPE x [<!ENTITY a SYSTEM "file://{tmp_path}/secret">]>{rest.replace("Graphs", "&a;")}', "g.xml", format)


def test_what_networkx_writes(tmp_path: Path) -> None:
    """The same graph by three writers of networkx, with ids of every kind: the same records and links."""
    graph: nx.MultiDiGraph[Any] = nx.MultiDiGraph()
    graph.add_node(("a", 1), text="One.", title="First", year=1999)
    graph.add_node(2, text="Two.")
    graph.add_edge(("a", 1), 2, kind="cites", weight=2.0)
    graph.add_edge(("a", 1), 2, kind="mentions")
    nx.write_graphml(graph, tmp_path / "g.graphml")
    nx.write_gexf(graph, tmp_path / "g.gexf")
    (tmp_path / "g.json").write_text(json.dumps(nx.node_link_data(graph)))
    for name, format in (("g.graphml", "graphml"), ("g.gexf", "gexf"), ("g.json", "node-link")):
        found = list(read_file(tmp_path / name, tmp_path, Reading(), format))
        assert texts(found) == {"('a', 1)": ("First", "One."), "2": (None, "Two.")}
        assert links(found) == [("('a', 1)", "2", "cites", 2.0), ("('a', 1)", "2", "mentions", None)]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A sample with pieces cut out, doubled, or replaced; or anything."""
    format, sample = draw(st.sampled_from([("graphml", GRAPHML), ("gexf", GEXF), ("node-link", NODE_LINK), ("csv", CSV), ("csv", "source,target,weight\na,b,1\n")]))
    data = sample.encode()
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        new = draw(st.sampled_from([b"", b"\x00", b"&x;", b'"', b"<", b"]" * 3, b"[" * 2000, b"\xff\xfe", b"9" * 5000, b"<node>", b"1e999", b"null", b"id"]) | st.binary(max_size=4) | st.just(data[start:end] * 2))
        data = data[:start] + new + data[end:]
    return format, draw(st.sampled_from([data, draw(st.binary(max_size=40))]))


@given(damaged())
@settings(max_examples=200, deadline=None)
def test_nothing_but_a_document_error_comes_out(case: tuple[str, bytes]) -> None:
    format, data = case
    reading = Reading()
    try:
        items: Iterator[Item] | list[Item] = read(data, "g.json" if format == "node-link" else "g.csv", format, reading)
    except DocumentError:
        return
    for item in items:
        if isinstance(item, Record):
            assert item.id and item.sections[0].text.strip()
