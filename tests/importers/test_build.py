"""From records to a graph: what is merged, matched, kept as a printed entry, and where the edges go; sources that cannot be used."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv.errors import DocumentError, GraphKVError, InputError
from graphkv.graph import SegmentGraph
from graphkv.importers.build import Build, build_graph, build_records
from graphkv.importers.gather import Found
from graphkv.importers.match import same_work, unique
from graphkv.importers.reading import Reading
from graphkv.importers.record import Citation, Link, Record, Reference, Section, normal_arxiv, normal_doi, normal_title


def built(*items: Record | Link, **settings: object) -> Build:
    return build_records([Found(item, item.where.partition(",")[0], "folder") for item in items], **settings)  # type: ignore[arg-type]


def edges_of(graph: SegmentGraph) -> dict[tuple[str, str], tuple[str | None, float | None]]:
    return {edge: (edge.kind, edge.weight) for edge in graph.edges}


def paper(id: str, *references: Reference, cites: str = "", **fields: object) -> Record:
    """A paper with one section that cites each key of `cites` once a mention."""
    text, citations = "Text.", []
    for key in cites.split():
        citations.append(Citation(len(text) + 1, len(text) + 3 + len(key), key))
        text += f" [{key}]"
    defaults = {"title": f"The long title of paper {id}", "abstract": f"What {id} is about.", "role": "paper", "where": f"{id}.tex"}
    return Record(id, sections=(Section("Body", text, tuple(citations)),), references=references, **{**defaults, **fields})  # type: ignore[arg-type]


def test_a_section_reads_the_head_of_what_it_cites() -> None:
    found = built(paper("p", Reference("k", title="The long title of paper q"), cites="k k"), paper("q"))
    assert found.graph.ids == ("p", "p/1", "q", "q/1")
    assert edges_of(found.graph) == {("q", "p/1"): ("cites", 2.0), ("p", "p/1"): ("section_of", None), ("q", "q/1"): ("section_of", None)}
    body = found.graph["p/1"]
    assert body.title == "The long title of paper p – Body" and body.metadata["number"] == 1
    assert [body.text[c["start"] : c["end"]] for c in body.metadata["citations"]] == ["[k]", "[k]"]  # type: ignore[index]
    assert {c["source"] for c in body.metadata["citations"]} == {"q"}
    assert found.report.total("citations") == found.report.total("resolved") == 2 and found.report.matched == {"title": 1}


def test_one_segment_a_paper_moves_the_citations_along() -> None:
    found = built(paper("p", Reference("k", title="The long title of paper q"), cites="k"), paper("q"), sections=False)
    assert found.graph.ids == ("p", "q") and edges_of(found.graph) == {("q", "p"): ("cites", 1.0)}
    (place,) = found.graph["p"].metadata["citations"]
    assert found.graph["p"].text[place["start"] : place["end"]] == "[k]" and "Body" in found.graph["p"].text  # type: ignore[index]


@pytest.mark.parametrize(
    ("reference", "how"),
    [
        (Reference("k", doi="https://doi.org/10.1000/ABC."), "doi"),
        (Reference("k", arxiv="arXiv:2506.07334v3"), "arxiv"),
        (Reference("k", doi="10.48550/arXiv.2506.07334"), "arxiv"),
        (Reference("k", title="{Graph}s of  TEXT: a study"), "title"),
        (Reference("k", target="corpus-7"), "name"),
    ],
)
def test_works_are_matched_by_name_doi_arxiv_then_title(reference: Reference, how: str) -> None:
    work = paper("q", title="Graphs of Text: A Study", doi="10.1000/abc", arxiv="2506.07334", aliases=("corpus-7",))
    found = built(paper("p", reference, cites="k"), work)
    assert ("q", "p/1") in found.graph.edges and found.report.matched == {how: 1} and not found.report.unresolved


def test_an_identifier_that_differs_outweighs_an_equal_title() -> None:
    found = built(paper("p", Reference("k", title="The long title of paper q", doi="10.1000/other"), cites="k"), paper("q", doi="10.1000/abc"))
    assert ("q", "p/1") not in found.graph.edges and ("doi:10.1000/other", "p/1") in found.graph.edges
    assert not same_work(Reference("a", title="A study of graphs", arxiv="2506.07334"), Reference("b", title="A study of graphs", arxiv="2506.07335"))


def test_a_work_outside_is_one_segment_of_its_entry_for_all_who_cite_it() -> None:
    entry = Reference("k", title="A work from elsewhere", text="N. N. 1999. A work from elsewhere. Journal.", authors=("N. N.",), year=1999)
    other = Reference("z", title="A WORK from elsewhere!", text="another spelling")
    found = built(paper("p", entry, cites="k"), paper("q", other, cites="z"))
    (stub,) = [s for s in found.graph if s.metadata.get("role") == "reference"]
    assert stub.text == "N. N. 1999. A work from elsewhere. Journal." and stub.title == "A work from elsewhere"
    assert found.graph.targets(stub.id) == ("p/1", "q/1") and found.report.entries == 1 and found.report.total("matched") == 0
    without = built(paper("p", entry, cites="k"), references="matched")
    assert len(without.graph) == 2 and [u.name for u in without.report.unmatched] == ["A work from elsewhere"]


def test_citations_and_links_that_lead_nowhere_are_listed() -> None:
    found = built(paper("p", Reference("k", target="gone"), cites="k missing"), Link("p", "ghost", where="edges.csv, line 3"))
    reasons = {(u.where, u.name) for u in found.report.unresolved}
    assert reasons == {("p.tex", "gone"), ("p.tex", "missing"), ("edges.csv, line 3", "p → ghost")}
    assert (found.report.total("citations"), found.report.total("resolved")) == (2, 0)
    assert "3 unresolved" in str(found.report) and json.loads(json.dumps(found.report.as_json()))["unresolved"][0]["name"]


def test_what_is_cited_nowhere_in_the_text_is_read_by_the_head() -> None:
    found = built(paper("p", Reference("k", title="The long title of paper q")), paper("q"))
    assert edges_of(found.graph)["q", "p"] == ("cites", None)


def test_a_document_may_read_itself_if_it_says_so() -> None:
    found = built(Record("a", sections=(Section("", "Text."),), references=(Reference("a", target="a", kind=""),)))
    assert edges_of(found.graph) == {("a", "a"): (None, None)}
    assert not built(paper("p", Reference("k", title="The long title of paper p"))).graph.edges[1:]


def test_a_title_alone_does_not_merge_two_texts() -> None:
    def supplement(id: str, text: str, **fields: object) -> Record:
        return Record(id, title="Supplementary Material", sections=(Section("Body", text),), role="paper", where=f"{id}.tex", **fields)  # type: ignore[arg-type]

    assert len(built(supplement("a", "One."), supplement("b", "Two.")).report.papers) == 2
    assert len(built(supplement("a", "One.", year=2001), supplement("b", "Two.", year=2015)).report.papers) == 2
    assert len(built(supplement("a", "One.", authors=("A. Lo",)), supplement("b", "Two.", authors=("B. Wu",), year=2001)).report.papers) == 2
    same = built(supplement("a", "One.", authors=("Ann Färber",)), supplement("b", "Two, and longer.", authors=("Farber, A.",)))
    assert len(same.report.papers) == 1 and same.graph["a/1"].text == "Two, and longer."
    assert same.report.notes[0].where == "a.tex" and "is the same work as b.tex" in same.report.notes[0].reason
    entries = [Record(str(y), title="Introduction to the special issue", abstract=f"Entry of {y}.", year=y, role="reference") for y in (2001, 2015)]
    assert len(built(*entries).report.papers) == 2


def test_records_of_one_work_are_merged() -> None:
    entry = Record("Doe2020", title="The long title of paper p", doi="10.1000/abc", role="reference", abstract="Entry.", year=2020, where="refs.bib")
    found = built(entry, paper("p", Reference("k", title="The long title of paper q"), cites="k"), paper("q"), Link("p", "q", kind="follows"))
    assert found.report.merged == 1 and found.graph.ids[:2] == ("Doe2020", "Doe2020/1")
    head = found.graph["Doe2020"]
    assert (head.metadata["year"], head.metadata["role"]) == (2020, "paper") and "What p is about." in (head.text or "")
    assert ("Doe2020", "q") in found.graph.edges  # the link names an alias


def test_one_id_for_two_texts_is_told_apart_and_noted() -> None:
    first = Record("a", sections=(Section("", "One."),), where="x.jsonl, line 1")
    found = built(first, Record("a", sections=(Section("", "Two."),), where="x.jsonl, line 2"), Record("a", sections=(Section("", "One."),), where="y.jsonl, line 9"))
    assert [(s.id, s.text) for s in found.graph] == [("a", "One."), ("a (2)", "Two.")]
    assert found.report.merged == 1 and "they are called a (2)" in found.report.notes[0].reason


def test_names_mean_what_is_in_their_own_file_then_in_their_own_folder() -> None:
    """Two sources of equal ids: each one's links and references stay within it."""

    def note(file: str, id: str, *targets: str) -> Found:
        references = tuple(Reference(t, target=t, kind="links") for t in targets)
        return Found(Record(id, sections=(Section("", f"{id} of {file}."),), references=references, where=file), f"{file}/x", file)

    found = build_records(
        [note("one", "0"), note("one", "1", "0"), note("two", "0"), note("two", "1", "0"), Found(Link("0", "1", "after", 2.0), "two/x", "two"), Found(Link("1", "0"), "one/x", "one")]
    )
    assert found.graph.ids == ("0", "1", "two/0", "two/1")
    assert set(found.graph.edges) == {("0", "1"), ("1", "0"), ("two/0", "two/1")}
    assert [found.graph[u].text[-4:] == found.graph[v].text[-4:] for u, v in found.graph.edges] == [True] * 3  # type: ignore[index]
    assert "two kinds, 'links' and 'after'" in " ".join(n.reason for n in found.report.notes)


def test_many_records_of_one_id_take_no_longer_each(tmp_path: Path) -> None:
    rows = [json.dumps({"page_content": f"Chunk {i}.", "metadata": {"source": "d.html"}}) for i in range(4000)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    started = time.process_time()
    found = build_graph(tmp_path / "a.jsonl")
    assert len(found.graph) == 4000 and {"d.html", "d.html (2)", "d.html (4000)"} <= set(found.graph.ids)
    assert len(found.report.notes) == 1 and time.process_time() - started < 8  # quadratic: over a minute


def test_ids_that_others_would_be_given_are_kept_apart() -> None:
    part = Record("p/1", sections=(Section("", "A record that is called like a section."),))
    second = Record("a (2)", sections=(Section("", "Called like a second a."),), where="f, line 3")
    twice = [Record("a", sections=(Section("", text),), where=f"f, line {i}") for i, text in enumerate(("One.", "Two."))]
    found = built(paper("p"), part, *twice, second)
    assert len(found.graph) == 6 and len({s.text for s in found.graph}) == 6
    assert {"p", "p/1", "p/1 (2)", "a", "a (2)", "a (2) (2)"} == set(found.graph.ids)


def test_a_link_to_a_section_is_read_as_that_section() -> None:
    page = Record("b", title="B", sections=(Section("", "Start."), Section("Part", "Middle.", anchor="part")), aliases=("b.md",))
    links = (Reference("l", target="b.md#part", kind="links"), Reference("m", target="b.md#nothing", kind="links"))
    note = Record("a", sections=(Section("", "See part and b.", (Citation(4, 8, "l"), Citation(13, 14, "m"))),), references=links)
    assert edges_of(built(note, page).graph) == {("b/1", "a"): ("links", 1.0), ("b", "a"): ("links", 1.0), ("b", "b/1"): ("section_of", None)}


def test_a_name_that_several_records_have_means_the_nearest_and_is_noted() -> None:
    def note(id: str, *references: Reference) -> Record:
        return Record(id, sections=(Section("", f"Text of {id}."),), aliases=("Plan",) if id.endswith("plan") else (), references=references)

    found = built(note("x/plan"), note("y/plan"), note("y/start", Reference("l", target="Plan", kind="links")))
    assert edges_of(found.graph) == {("y/plan", "y/start"): ("links", None)}
    assert "could mean y/plan, x/plan" in found.report.notes[0].reason


def test_tags_of_links_join_all_that_have_them() -> None:
    rows = [Record(id, sections=(Section("", id),), aliases=("link:topic:maple",)) for id in "ab"]
    asker = Record("c", sections=(Section("", "c"),), references=(Reference("l", target="link:topic:maple", kind="topic"),))
    assert set(built(*rows, asker).graph.edges) == {("a", "c"), ("b", "c")}


def test_policies_and_settings_are_checked_before_anything_is_read() -> None:
    for wrong in ({"edges": ["site"]}, {"references": "some"}):
        with pytest.raises(InputError, match="unknown"):
            build_records(iter(lambda: pytest.fail("read"), None), **wrong)  # type: ignore[arg-type]
    found = built(paper("p", Reference("k", title="The long title of paper q"), cites="k"), paper("q"), edges=["next"])
    assert edges_of(found.graph) == {("p", "p/1"): ("next", None), ("q", "q/1"): ("next", None)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]), st.lists(st.sampled_from(["a", "b", "zz"]), max_size=3)), min_size=1, max_size=8))
def test_nothing_is_lost(rows: list[tuple[str, str, list[str]]]) -> None:
    """Every text is in the graph once; every reference of the records that gave the texts is an edge or unresolved."""
    records = [
        Record(id, sections=(Section("", text),), references=tuple(Reference(str(n), target=t) for n, t in enumerate(targets)), where=f"f, line {i}")
        for i, (id, text, targets) in enumerate(rows)
    ]
    found = built(*records)
    assert sorted({(id, text) for id, text, _ in rows}) == sorted((s.id.partition(" (")[0], s.text) for s in found.graph)
    assert len(found.graph) + found.report.merged == len(rows)
    kept = {(s.id.partition(" (")[0], s.text): s.id for s in found.graph}
    known = {id for id, _, _ in rows}
    said: dict[tuple[str, str], list[str]] = {}
    for id, text, targets in rows:  # of several records with one text the first that has references has the word
        said[id, text] = said.get((id, text)) or targets
    for key, targets in said.items():
        assert set(found.graph.sources(kept[key])) == {t for t in targets if t in known}
    assert {u.name for u in found.report.unresolved} == {t for targets in said.values() for t in targets} - known


def test_sources_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.png").write_bytes(b"x")
    for source, message in (("gone", "no such file or folder"), ("empty", "no documents in .*no file of a known format"), ("a.png", "the ending .png says no format")):
        with pytest.raises(DocumentError, match=message):
            build_graph(tmp_path / source)
    with pytest.raises(InputError, match="unknown format 'papers'; valid: bbl, bibtex"):
        build_graph(tmp_path / "a.png", format="papers")
    with pytest.raises(InputError, match="no sources"):
        build_graph([])


def test_a_folder_is_read_whatever_some_files_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Plain.")
    (tmp_path / "b.txt").write_bytes(b"Caf\xe9 au lait.")
    (tmp_path / "c.txt").write_bytes(b"\x00\x01\x02")
    (tmp_path / "d.png").write_bytes(b"x")
    (tmp_path / ".hidden.txt").write_text("No.")
    outside = tmp_path.parent / f"{tmp_path.name}-outside.txt"
    outside.write_text("Secret.")
    os.symlink(outside, tmp_path / "link.txt")
    found = build_graph(tmp_path)
    assert {s.text for s in found.graph} == {"Plain.", "Café au lait."}
    assert {Path(s.where).name: s.reason for s in found.report.skipped}.keys() == {"c.txt", "link.txt"}
    assert any("cp1252" in n.reason for n in found.report.notes) and any(".png" in n.reason for n in found.report.notes)


def test_long_lines_and_large_files_stay_outside(tmp_path: Path) -> None:
    """A line of 8 MB where 1 MB is allowed: skipped, and the line behind it is read; never more than the limit and a block in memory."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "a", "text": "' + b"x" * 2**23 + b'"}\n{"id": "b", "text": "short"}\n')
    reading = Reading(max_bytes=2**20)
    assert [number for number, _ in reading.lines(path)] == [2]
    assert "longer than 1,048,576 bytes" in reading.skipped[0].reason
    with pytest.raises(DocumentError, match="larger than 1,048,576 bytes"):
        reading.raw(path)
    assert reading.beside(tmp_path, tmp_path, "../../etc/passwd") is None and reading.beside(tmp_path, tmp_path, "a.jsonl") == path.resolve()
    assert "leads out of the folder" in reading.notes[0].reason


def test_xml_with_entities_is_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE t [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><t>&b;</t>'
    (tmp_path / "a.xml").write_text(bomb)
    (tmp_path / "b.xml").write_text("<t><unclosed></t>")
    (tmp_path / "x.dtd").write_text('<!ENTITY x "read from outside">')
    (tmp_path / "c.xml").write_text(f'<!DOCTYPE t SYSTEM "file://{tmp_path}/x.dtd"><t>&x;</t>')
    (tmp_path / "d.xml").write_text(f'<!DOCTYPE t SYSTEM "file://{tmp_path}/x.dtd"><t>plain</t>')
    for name, message in (("a.xml", "has XML entities"), ("b.xml", "not well-formed"), ("c.xml", "has XML entities")):
        with pytest.raises(DocumentError, match=message):
            Reading().xml(tmp_path / name)
    assert Reading().xml(tmp_path / "d.xml").text == "plain"  # a DTD is named, and not read


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_a_clear_error(data: bytes) -> None:
    try:
        assert isinstance(Reading().decode(data, "x"), str)
    except GraphKVError as error:
        assert "x" in str(error)


def test_identifiers() -> None:
    assert normal_doi("doi:10.1016/S0140-6736(20)30183-5)") == "10.1016/s0140-6736(20)30183-5"
    assert normal_doi("no doi") is None and normal_doi(None) is None
    assert normal_arxiv("see arXiv:1706.03762v5, and more") == "1706.03762" and normal_arxiv("hep-th/9901001v2") == "hep-th/9901001"
    assert normal_arxiv("10.1234/56789") is None and normal_arxiv("1234567.12345678") is None
    assert normal_title("Über Größe und Maß") == normal_title("uber grosse UND mass") and normal_title("Introduction") is None
    assert unique("a", {"b"}) == "a"
