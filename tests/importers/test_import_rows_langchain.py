"""LangChain documents: rows and objects, links, and edges from metadata."""

import json
import time
from types import SimpleNamespace

import pytest

from graphkv import SegmentGraph
from graphkv.errors import DocumentError, InputError
from graphkv.export import write_graph
from graphkv.importers import langchain
from graphkv.importers.build import build_graph
from graphkv.importers.langchain import from_langchain
from graphkv.importers.reading import Reading
from graphkv.importers.record import Section


def read(row, **settings):
    assert langchain.matches(row)
    reading = Reading(**settings)
    return list(langchain.read(row, "file, line 1", reading)), reading


def one(row, **settings):
    (record,), reading = read(row, **settings)
    assert not reading.skipped
    return record


def plain(text, id=None, **metadata):
    return {"page_content": text, "metadata": metadata, "id": id}


def written(text, id=None, **metadata):
    kwargs = {"page_content": text, "metadata": metadata, "type": "Document"} | ({"id": id} if id else {})
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "document", "Document"], "kwargs": kwargs}


@pytest.mark.parametrize("make", [plain, written, lambda text, id=None, **metadata: {"pageContent": text, "metadata": metadata, "id": id}])
def test_a_langchain_document_in_each_of_its_forms(make):
    record = one(make("Text.", "d1", title="T", source="a.md", score=0.5))
    assert (record.id, record.title, record.score, record.sections, record.metadata) == ("d1", "T", 0.5, (Section("", "Text."),), {"source": "a.md"})
    assert [one(make("Text.", **m)).id for m in ({"id": 3, "source": "a"}, {"source": "a"})] == ["3", "a"]
    assert one(make("Text.")).id == one(make("Text.")).id != one(make("Other.")).id


def test_legacy_links_become_aliases_and_references():
    links = [{"kind": "kw", "direction": "bidir", "tag": "x"}, {"kind": "href", "direction": "in", "tag": "u"}, {"kind": "href", "direction": "out", "tag": "v"}, {"kind": 1}]
    (record,), reading = read(plain("T.", "a", links=links))
    assert record.aliases == ("link:kw:x", "link:href:u")
    assert [(r.target, r.kind) for r in record.references] == [("link:kw:x", "kw"), ("link:href:v", "href")]
    assert len(reading.skipped) == 1 and "links" not in record.metadata
    (record,), reading = read(plain("T.", "a", links=["http://x"]))
    assert record.metadata == {"links": ["http://x"]} and len(reading.skipped) == 1  # perhaps somebody's own field


def printed(text):
    return {"lc": 1, "type": "not_implemented", "id": ["langchain_core", "graph_vectorstores", "links", "Link"], "repr": text}


@pytest.mark.parametrize("tag", ["x", "it's", 'a "b"', "it's \"both\"", "back\\slash\n", "ü 漢 \U0001f600 \x85\u2028\U000e0001", "', tag='y", ""])
def test_links_that_the_serialiser_prints_are_read(tag):
    record = one(written("T.", "a", links=[printed(f"Link(kind='kw', direction='bidir', tag={tag!r})")]))
    assert record.aliases == (f"link:kw:{tag}",) and [(r.target, r.kind) for r in record.references] == [(f"link:kw:{tag}", "kw")] and record.metadata == {}


@pytest.mark.parametrize("text", ["Link(kind='kw')", "Link(kind='kw', direction='up', tag='x')", "Link(kind='kw', direction='in', tag='\\q')", "Link(kind='kw', direction='in', tag='\\U00110000')", "Link(kind='kw', direction='in', tag='x') ", "Link(kind='kw', direction='in', tag=f(1))", 3])
def test_printed_links_of_another_form_are_counted(text):
    (record,), reading = read(written("T.", "a", links=[printed(text)]))
    assert not record.aliases and not record.references and [s.reason[:8] for s in reading.skipped] == ["1 links:"]


def test_edge_pairs_become_targets_and_shared_names():
    pairs = (("cites", "$id"), ("about.people", "name"))
    record = one(plain("T.", "a", cites=["b", 3, None], about={"people": "Ann"}, name="Bo"), edge_pairs=pairs)
    assert [(r.target, r.kind) for r in record.references] == [("b", "cites"), ("3", "cites"), ("link:name=Ann", "about.people")]
    assert record.aliases == ("link:name=Bo",) and record.metadata == {"name": "Bo"}


@pytest.mark.parametrize(
    ("field", "metadata", "left"),
    [
        ("cites", {"cites": ["b", None], "page": 1}, {"page": 1}),
        ("about.cites", {"about": {"cites": "b", "x": 1}}, {"about": {"x": 1}}),
        ("cites", {"cites": ["b", {"id": "c"}]}, {"cites": ["b", {"id": "c"}]}),  # not all of it became edges
        ("cites", {"cites": []}, {"cites": []}),
        ("title", {"title": "b"}, {}),
        ("$id", {"cites": "b"}, {"cites": "b"}),
    ],
)
def test_a_field_that_became_edges_is_no_metadata(field, metadata, left):
    assert one(plain("T.", "a", **metadata), edge_pairs=((field, "$id"),)).metadata == left


def test_a_field_by_which_others_find_the_document_stays():
    assert one(plain("T.", "a", tags=["x"]), edge_pairs=(("tags", "tags"),)).metadata == {"tags": ["x"]}


@pytest.mark.parametrize("metadata", [{"cites": ["b"], "id": 3, "text": "x"}, {"metadata": {"title": "x"}}, {"title": 3}, {"score": 10**400}, {"score": "high"}, {"rank": float("nan")}])
@pytest.mark.parametrize("pairs", [(), (("cites", "$id"),)])
def test_no_row_stops_a_build(tmp_path, metadata, pairs):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in (plain("A.", "a") | {"metadata": metadata}, plain("B.", "b"))))
    build = build_graph(path, edge_pairs=pairs)
    write_graph(build.graph, tmp_path / "out.jsonl")
    back = SegmentGraph.from_jsonl(tmp_path / "out.jsonl")
    assert back.ids == ("a", "b") and [s.metadata for s in back] == [s.metadata for s in build.graph]
    assert back.edges == ((("b", "a"),) if pairs and "cites" in metadata else ())
    assert len(build.report.skipped) == ("rank" in metadata)


@pytest.mark.parametrize("row", [plain(""), plain(3), plain("T.") | {"metadata": [1]}])
def test_a_langchain_document_without_text_is_an_error(row):
    with pytest.raises(DocumentError):
        read(row)


def doc(text, id=None, **metadata):
    return SimpleNamespace(page_content=text, metadata=metadata, id=id)


def test_objects_become_a_graph_whose_edges_run_from_what_is_named():
    graph = from_langchain([doc("A", "a", cites=["b", "b", "gone", "a"]), doc("B", "b", title="Bee"), doc("C", 7, cites="b")])
    assert sorted(graph.edges) == [("b", "7"), ("b", "a")] and {e.kind for e in graph.edges} == {"cites"}
    assert graph["b"].title == "Bee" and graph["a"].metadata["cites"][0] == "b"


def test_pairs_of_fields_join_all_documents_that_share_a_value():
    docs = [doc("A", "a", tags=["x"]), doc("B", "b", tags={"x", "y"}), doc("C", "c", place={"name": "y"}), doc("D", "d")]
    graph = from_langchain(docs, edges=[("tags", "tags"), ("tags", "place.name")])
    assert sorted(graph.edges) == [("a", "b"), ("b", "a"), ("c", "b")]
    assert from_langchain(docs, edges=[]).edges == ()


def test_legacy_links_of_objects_join_an_out_to_an_in():
    link = SimpleNamespace
    docs = [
        doc("A", "a", links={(1, 2)}),
        doc("B", "b", links=[link(kind="href", direction="out", tag="u")]),
        doc("C", "c", links=[link(kind="href", direction="in", tag="u"), {"kind": "kw", "direction": "bidir", "tag": "t"}]),
        doc("E", "e", links=[link(kind="href", direction="in", tag="u")]),
        doc("D", "d", links=[link(kind="kw", direction="bidir", tag="t")]),
    ]
    graph = from_langchain(docs)
    assert sorted((*edge, edge.kind) for edge in graph.edges) == [("c", "b", "href"), ("c", "d", "kw"), ("d", "c", "kw"), ("e", "b", "href")]


def test_chunks_of_one_source_get_ids_of_their_own():
    assert from_langchain([doc("A", source="a.md"), doc("B", source="a.md"), doc("C", source="a.md")]).ids == ("a.md", "a.md (2)", "a.md (3)")
    assert from_langchain([doc("A", source="a"), doc("B", source="a (2)"), doc("C", source="a"), doc("D", source="a")]).ids == ("a", "a (2)", "a (3)", "a (4)")
    with pytest.raises(DocumentError, match="there already"):
        from_langchain([doc("A", "a"), doc("B", "a")])


def test_chunks_have_the_same_names_as_in_a_build(tmp_path):
    texts = [f"Chunk {number}." for number in range(5)]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f"{json.dumps(plain(text, source='a.md'))}\n" for text in texts))
    assert build_graph(path).graph.ids == from_langchain(doc(text, source="a.md") for text in texts).ids


def test_many_chunks_of_one_source_are_named_in_linear_time():
    documents = [doc("A", source="a") for _ in range(20_000)]
    start = time.perf_counter()
    assert len(from_langchain(documents)) == 20_000
    assert time.perf_counter() - start < 8  # half a minute, where each name is looked for from the start


@pytest.mark.parametrize("edges", ["cites", [("cites",)], [("cites", 3)], None, [("", "$id")]])
def test_edges_that_are_no_pairs_are_refused(edges):
    with pytest.raises(InputError, match="edges must be pairs"):
        from_langchain([doc("A", "a")], edges=edges)


@pytest.mark.parametrize("document", [{"page_content": "A"}, doc(3), "A"])
def test_objects_that_are_no_documents_are_refused(document):
    with pytest.raises(DocumentError, match="document 0"):
        from_langchain([document])
