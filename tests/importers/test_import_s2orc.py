"""S2ORC: the three forms, offsets, and counts against the source."""

import json
import re
from pathlib import Path

import pytest

from graphkv.errors import DocumentError
from graphkv.importers import s2orc
from graphkv.importers.compose import Headings, Mark, compose
from graphkv.importers.parts import parts_of
from graphkv.importers.reading import Reading
from graphkv.importers.record import Record

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "s2orc"


def paragraph(text, *cited, section="Intro", **more):
    spans = [{"start": text.index(words), "end": text.index(words) + len(words), "text": words, "ref_id": key} for words, key in cited]
    return {"text": text, "section": section, "cite_spans": spans, "ref_spans": [], **more}


def paper(**fields):
    return {"paper_id": "7", "title": "Graphs are read", "body_text": [], "bib_entries": {}, "ref_entries": {}, **fields}


def read(row) -> tuple[Record, Reading]:
    assert s2orc.matches(row)
    reading = Reading()
    (record,) = s2orc.read(json.loads(json.dumps(row)), "file, line 1", reading)
    for section in record.sections:
        assert all(0 <= c.start <= c.end <= len(section.text) for c in section.citations)
    return record, reading


def cited(section):
    return [(section.text[c.start : c.end], c.key) for c in section.citations]


def test_paragraphs_of_one_section_are_joined_and_the_offsets_move_along():
    body = [paragraph("We  follow (Lo, 2020) .", ("(Lo, 2020)", "BIBREF0")), paragraph("Later (44a) too.", ("(44a)", None)), paragraph("Other.", section="Method::Data", sec_num="2.1")]
    record, reading = read(paper(body_text=body))
    assert [(s.heading, s.text) for s in record.sections] == [("Intro", "We follow (Lo, 2020).\n\nLater (44a) too."), ("2.1 Data", "Other.")]
    assert cited(record.sections[0]) == [("(Lo, 2020)", "BIBREF0"), ("(44a)", "(44a)")]
    assert not reading.skipped and not reading.notes


def test_offsets_that_do_not_fit_are_found_by_their_text_or_skipped_with_a_count():
    spans = [{"start": 0, "end": 3, "text": "[1]", "ref_id": "A"}, {"start": 900, "end": 903, "text": "[2]", "ref_id": "B"}, {"start": 1, "end": 4, "text": "[9]", "ref_id": "C"}, {"start": None, "end": "x"}]
    record, reading = read(paper(body_text=[{"text": "One [1] and [2] and [1].", "cite_spans": spans}]))
    assert cited(record.sections[0]) == [("[1]", "A"), ("[2]", "B")] and record.sections[0].citations[0].start == 4  # the nearer of two
    assert [s.reason for s in reading.skipped] == ["2 citations of a paragraph that are not in its text"]
    assert "2 citations" in reading.notes[0].reason


@pytest.mark.parametrize(("start", "place"), [(5, 0), (18, 20), (None, 0)])
def test_of_several_places_the_nearest_is_taken(start, place):
    record, _ = read(paper(body_text=[{"text": "[1], and some more, [1].", "cite_spans": [{"start": start, "end": 9, "text": "[1]", "ref_id": "A"}]}]))
    assert record.sections[0].citations[0].start == place


def test_a_span_without_its_text_is_where_its_offsets_say():
    record, reading = read(paper(body_text=[{"text": "As [1] says.", "cite_spans": [{"start": 2, "end": 7, "ref_id": "A"}]}]))
    assert cited(record.sections[0]) == [("[1]", "A")] and not reading.skipped


def test_entries_know_their_ids_in_any_case_and_their_link():
    entries = {
        "B0": {"title": "A", "authors": [{"first": "Ann", "middle": ["B."], "last": "O&apos;Lo", "suffix": ""}], "year": "2019", "venue": "ACL", "other_ids": {"doi": ["10.1/NOT", "x"], "ArXiv": ["1905.00001v2"]}, "link": "12"},
        "B1": {"title": "", "year": None, "other_ids": {"DOI": ["10.1234/ABC"]}, "links": 34, "raw_text": "Raw, arXiv:2001.00002."},
    }
    first, second = read(paper(bib_entries=entries))[0].references
    assert (first.authors, first.year, first.arxiv, first.target, first.text) == (("Ann B. O'Lo",), 2019, "1905.00001", "12", "Ann B. O'Lo. 2019. A. ACL.")
    assert (second.title, second.doi, second.arxiv, second.target, second.text) == (None, "10.1234/abc", "2001.00002", "34", "Raw, arXiv:2001.00002.")


def test_the_parse_with_more_text_is_read_and_said():
    row = {"paper_id": "7", "metadata": {"title": "T", "doi": "10.1234/X", "abstract": "A:::B"}, "pdf_parse": paper(body_text=[paragraph("Short.")]), "latex_parse": paper(body_text=[paragraph("Longer text.")])}
    record, reading = read(row)
    assert record.sections[0].text == "Longer text." and record.abstract == "A\n\nB" and record.doi == "10.1234/x"
    assert "latex_parse" in reading.notes[0].reason
    assert not read({**row, "latex_parse": None})[1].notes


def test_formulas_are_written_out_and_a_citing_abstract_is_in_the_head():
    body = [paragraph("So FORMULA0 holds.", eq_spans=[{"start": 3, "end": 11, "text": "FORMULA0", "latex": "x = y", "ref_id": None}])]
    record, _ = read(paper(body_text=body, abstract=[paragraph("As [1] says.", ("[1]", "B0"))], ref_entries={"F": {"type": "figure", "text": "A cat."}}))
    assert [(s.heading, s.text) for s in record.sections] == [("", "As [1] says."), ("Intro", "So x = y holds."), ("Figures and tables", "A cat.")]
    assert record.abstract == "" and cited(record.sections[0]) == [("[1]", "B0")]
    head = parts_of(record)[0]
    assert head.text == "As [1] says." and [c.key for c in head.citations] == ["B0"]


def test_headings_without_text_stand_in_front_of_the_next():
    body = [paragraph("", section="Method", sec_num="2"), paragraph("a", section="Method::Data", sec_num="2.1"), paragraph(" ", section="Results", sec_num="3."), paragraph("b", section="Talk", sec_num="4.")]
    assert [s.heading for s in read(paper(body_text=body))[0].sections] == ["2 Method: 2.1 Data", "4. Talk"]


@pytest.mark.parametrize(
    ("numbers", "last"),
    [(("2", "2.1"), "2: 2.1"), (("2", "21"), "21"), (("II", "A"), "II: A"), (("II", "III"), "III"), (("A.1", "II"), "II"), (("2", "A"), "A"), (("2", "2.1", "2.2"), "2: 2.2"), (("2", ""), "2: x"), (("", "2"), "x: 2")],
)
def test_numbers_tell_which_headings_can_be_below_others(numbers, last):
    headings = Headings()
    for number in numbers:
        text = headings.read(number or "x", number, "text" if number == numbers[-1] else "")
    assert text == last


def test_headings_that_wait_are_few():
    headings = Headings()
    for _ in range(20_000):
        headings.read("x", "", "")
    assert len(headings.read("y", "", "text")) < 40


def annotated(version=1):
    text = "Graphs\nAbstract We [1].\nData\nWe use [2] and\n[3].\nMore [2].\nTable: as [1].\nLo. Old graphs. 2019. arXiv:1901.00001\nWu. 2020."

    def spans(*found):
        return json.dumps([{"start": text.index(words, text.index(behind)), "end": str(text.index(words, text.index(behind)) + len(words)), "attributes": more} for words, behind, more in found])

    notes = {
        "title": spans(("Graphs", "", None)),
        "abstract": spans(("We [1].", "", {})),
        "section_header": spans(("Data", "", {"n": "2."})),
        "paragraph": spans(("We use [2] and\n[3].", "", {}), ("More [2].", "", {})),
        "bib_ref": spans(("[1]", "", {"ref_id": "b0"}), ("[2]", "", {"ref_id": "b1"}), ("[3]", "", {"matched_paper_id": 55}), ("[2]", "More", {}), ("[1]", "Table", {"ref_id": "b0"})),
        "bib_entry": spans(("Lo. Old graphs. 2019. arXiv:1901.00001", "", {"id": "b0", "matched_paper_id": 44}), ("Wu. 2020.", "", {"id": "b1"})),
        "bib_title": spans(("Old graphs", "", {})),
        "figure": None,
        "table": "not json",
    }
    if version == 1:
        notes = {name.replace("_", ""): value for name, value in notes.items()}
        return {"corpusid": 9, "externalids": {"DOI": "10.1234/Y", "ArXiv": "2001.00001"}, "content": {"text": text, "annotations": notes}}
    return {"corpusid": 9, "openaccessinfo": {"externalids": {"DOI": "10.1234/Y"}}, "body": {"text": text, "annotations": notes}, "bibliography": {"text": text, "annotations": notes}}


@pytest.mark.parametrize("version", [1, 2])
def test_the_api_form_is_read_by_its_annotations(version):
    record, reading = read(annotated(version))
    assert (record.id, record.title, record.doi, record.abstract) == ("9", "Graphs", "10.1234/y", "")
    assert [(s.heading, s.text) for s in record.sections] == [("", "We [1]."), ("2 Data", "We use [2] and [3].\n\nMore [2].")]
    assert cited(record.sections[1]) == [("[2]", "b1"), ("[3]", "CorpusID:55"), ("[2]", "[2]")]
    assert [(r.key, r.title, r.year, r.arxiv, r.target) for r in record.references] == [("b0", "Old graphs", 2019, "1901.00001", "44"), ("b1", None, 2020, None, None), ("CorpusID:55", None, None, None, "55")]
    assert "1 citations that stand in no paragraph" in [s.reason for s in reading.skipped]


def test_without_marked_paragraphs_the_text_between_headings_is_read():
    row = annotated()
    row["content"]["annotations"]["paragraph"] = None
    assert [s.heading for s in read(row)[0].sections] == ["", "2 Data"]


def api(text, **notes):
    """A row whose annotations are stretches of its text, or (stretch, attributes)."""
    found = {}
    for name, stretches in notes.items():
        pairs = [s if isinstance(s, tuple) else (s, {}) for s in stretches]
        found[name] = json.dumps([{"start": text.index(words), "end": text.index(words) + len(words), "attributes": more} for words, more in pairs])
    return {"corpusid": 9, "content": {"text": text, "annotations": found}}


def test_formulas_between_paragraphs_are_read_once():
    text = "Heads So: E=mc^2 as x=y is. Sum of z"
    record, reading = read(api(text, sectionheader=["Heads"], paragraph=["So:", "as x=y is."], formula=["E=mc^2 as", "x=y", "is. Sum", "z"]))
    assert [(s.heading, s.text) for s in record.sections] == [("Heads", "So:\n\nE=mc^2\n\nas x=y is.\n\nSum\n\nz")] and not reading.skipped
    assert read(api(text, sectionheader=["Heads"], formula=["E=mc^2"]))[0].sections[0].text == "So: E=mc^2 as x=y is. Sum of z"


def test_authors_are_the_annotated_ones_where_the_row_has_none():
    row = api("T by Ann Lo\nUni, B Wu", title=["T"], author=["Ann Lo", "B Wu"], authorfirstname=["Ann"])
    assert read(row)[0].authors == read({**row, "authors": []})[0].authors == ("Ann Lo", "B Wu")
    assert read({**row, "authors": [{"name": "C Do"}]})[0].authors == ("C Do",)


def test_headings_of_the_api_form_without_text_stand_in_front_of_the_next():
    text = "Summary We [1]. Method Data Used. Results Seen. References Entry. Appendix More."
    heads = ["Summary", ("Method", {"n": "2"}), ("Data", {"n": "2.1"}), ("Results", {"n": "3"}), "References", "Appendix"]
    row = api(text, abstract=["We [1]."], bibref=[("[1]", {"ref_id": "b0"})], sectionheader=heads, paragraph=["Used.", "Seen.", "More."], bibentry=["Entry."])
    assert [s.heading for s in read(row)[0].sections] == ["", "2 Method: 2.1 Data", "3 Results", "Appendix"]


def test_a_small_row_cannot_grow_without_bound():
    row = annotated()
    notes, end = row["content"]["annotations"], len(row["content"]["text"])
    for name in ("paragraph", "figurecaption", "bibentry", "abstract"):
        notes[name] = [{"start": 0, "end": end, "attributes": {"id": str(i)}} for i in range(1000)]
    record, reading = read(row)
    assert record.size < 3 * end and len(record.references) == 2 and any("overlap" in s.reason for s in reading.skipped)


@pytest.mark.parametrize("row", [paper(paper_id=None), paper(title=""), {"corpusid": 1, "content": {}}])
def test_a_row_with_nothing_in_it_is_an_error(row):
    with pytest.raises(DocumentError):
        list(s2orc.read(row, "here", Reading()))


def test_compose_keeps_places_over_overlaps_and_white_space():
    text, citations = compose([("  a\tb\x00[1, 2]  c\n \nd\u2028e ", [Mark(6, 12, key="x"), Mark(6, 12, key="y"), Mark(7, 16, key="z")]), ("\n", []), ("f", [Mark(0, 1, key="w", text="")])])
    assert text == "a b [1, 2] c\n\nd\ne"
    assert [(text[c.start : c.end], c.key) for c in citations] == [("[1, 2]", "x"), ("[1, 2]", "y"), ("1, 2] c", "z")]


@pytest.mark.parametrize("name", ["10002293", "18980463", "24e6b80e338a4e543de6b49cada07156c9149d22"])
def test_counts_of_real_papers_are_those_of_the_source(name):
    if not DATA.is_dir():
        pytest.skip("../shared/data is absent")
    source = (DATA / f"{name}.json").read_text(encoding="utf-8")
    record, reading = read(json.loads(source))
    spans = re.findall(r'"cite_spans":(.*?)"ref_spans":', source, re.DOTALL)
    twice = {"18980463": 7}.get(name, 0)  # two paragraphs of its abstract are the body's, and are read once
    citations = [c for section in record.sections for c in section.citations]
    keys = {reference.key for reference in record.references}
    assert len(citations) == sum(part.count('"start":') for part in spans) - twice and not reading.skipped
    assert sum(c.key in keys for c in citations) == sum(len(re.findall(r'"ref_id": "BIBREF', part)) for part in spans) - twice
    assert len(keys) == len(re.findall(r'"BIBREF\d+": \{', source))
