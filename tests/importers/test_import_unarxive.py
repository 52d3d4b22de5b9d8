"""unarXive: markers, headings, titles of entries, and counts against the source."""

import json
import re
from pathlib import Path

import pytest

from graphkv.errors import DocumentError
from graphkv.importers import unarxive
from graphkv.importers.parts import parts_of
from graphkv.importers.reading import Reading
from graphkv.importers.unarxive import title_in

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "unarxive_12.jsonl"


def paragraph(text, section="Intro", number="1", kind="section", content="paragraph"):
    return {"section": section, "sec_number": number, "sec_type": kind, "content_type": content, "text": text, "cite_spans": [], "ref_spans": []}


def paper(*body, **fields):
    entries = {"aa": {"bib_entry_raw": "A. Lo. Why graphs are read. In ACL, 2018."}, "bb": {"bib_entry_raw": "B. Wu, Phys. Rev. D 1, 2 (1999)."}}
    places = {"f": {"type": "formula", "latex": "x_1 "}, "g": {"type": "figure", "caption": "A cat {{cite:bb}}."}, "h": {"type": "table", "caption": "NO_CAPTION"}, "i": {"type": "table", "caption": "Seen nowhere else"}}
    return {"paper_id": "2001.00001", "_source_name": "x", "metadata": {"title": "On\n $\\infty$-types"}, "body_text": list(body), "bib_entries": entries, "ref_entries": places, **fields}


def read(row):
    assert unarxive.matches(row)
    reading = Reading()
    (record,) = unarxive.read(json.loads(json.dumps(row)), "file, line 1", reading)
    return record, reading


def cited(section):
    return [(section.text[c.start : c.end], c.key) for c in section.citations]


def test_markers_are_written_out_and_citations_keep_their_place():
    record, _ = read(paper(paragraph("Nets{{cite:bb}} use {{formula:f}} , as\n{{cite:aa}}, {{cite:zz}}.\n{{figure:g}}{{table:h}}"), paragraph("In {{formula:?}}  more (REF ).")))
    section = record.sections[0]
    assert section.text == "Nets [2] use $x_1$, as [1], [?].\n\n[Figure: A cat [2].]\n\n[Table]\n\nIn [formula] more (REF)."
    assert cited(section) == [("[2]", "bb"), ("[1]", "aa"), ("[?]", "zz"), ("[2]", "bb")]
    assert record.sections[-1].heading == "Figures and tables" and record.sections[-1].text == "Table: Seen nowhere else"


def test_a_small_row_cannot_grow_without_bound():
    places = {"f": {"type": "formula", "latex": "x" * 10_000}, "g": {"type": "figure", "caption": "cat " * 3000}}
    record, _ = read(paper(paragraph("{{formula:f}} {{figure:g}} " * 1000), ref_entries=places))
    text = record.sections[0].text
    assert text.count("x" * 10_000) == 1 and text.count("[Figure: ") == 1 and len(text) < 60_000


def test_headings_have_numbers_only_where_these_are_whole():
    body = [paragraph("a", "The {{formula:f}} case", "2"), paragraph("b", "Part", "1", "subsection"), paragraph("c", "Part", "3.1", "subsection"), paragraph("d", "Thanks", "-1"), paragraph("e", "", "-1", "")]
    assert [s.heading for s in read(paper(*body))[0].sections] == ["2 The $x_1$ case", "Part", "3.1 Part", "Thanks", "", "Figures and tables"]


def test_an_options_bracket_of_a_list_is_not_read():
    assert read(paper(paragraph("[leftmargin=.5cm]\nOne\n\nTwo\n", content="list")))[0].sections[0].text == "One\n\nTwo"


def test_metadata_is_read_as_latex():
    metadata = {"title": "On\n  $\\infty$-types", "authors": "Michael F\\\"arber, Przemys{\\l}aw Rokita and A. Lo", "abstract": "  Up 5% for ``all'' $x_1$\n(~10) by {\\em us}.", "doi": "10.1234/X"}
    record, reading = read(paper(metadata=metadata, discipline="Physics"))
    assert (record.title, record.authors) == ("On ∞-types", ("Michael Färber", "Przemysław Rokita", "A. Lo"))
    assert record.abstract == "Up 5% for “all” $x_1$ (~10) by us."
    assert (record.doi, record.arxiv, record.metadata) == ("10.1234/x", "2001.00001", {"discipline": "Physics"})
    assert read(paper(metadata={"title": "T", "authors_parsed": [["Lo", "Ann", "Jr."], ["CERN", "", ""]]}))[0].authors == ("Ann Lo Jr.", "CERN")
    assert not reading.notes


def test_latex_too_deep_stays_as_it_is_with_a_note():
    record, reading = read(paper(metadata={"title": "{a" * 3000}))
    assert record.title.startswith("{a{a") and len(reading.notes) == 1


def test_an_abstract_that_cites_is_in_the_papers_head():
    record, _ = read(paper(paragraph("Text."), abstract={"text": "As {{cite:aa}} says."}))
    assert record.abstract == "" and cited(record.sections[0]) == [("[1]", "aa")] and record.sections[0].heading == ""
    head, *rest = parts_of(record)
    assert head.text == "As [1] says." and [c.key for c in head.citations] == ["aa"] and [part.text for part in rest][:1] == ["Text."]


def test_identifiers_of_entries():
    entries = {
        "a": {"bib_entry_raw": "X. arXiv:1901.00001", "ids": {"doi": "10.1234/A", "arxiv_id": ""}},
        "b": {"bib_entry_raw": "Y", "contained_links": [{"url": "https://doi.org/10.1234/B"}], "contained_arXiv_ids": [{"id": "hep-th/9901001"}]},
        "c": None,
    }
    a, b, c = read(paper(bib_entries=entries))[0].references
    assert (a.doi, a.arxiv, b.doi, b.arxiv, c.text) == ("10.1234/a", "1901.00001", "10.1234/b", "hep-th/9901001", "")


@pytest.mark.parametrize(
    ("entry", "title"),
    [
        ("A. Vaswani and N. Shazeer, “Attention Is All You Need,” in NeurIPS, 2017.", "Attention Is All You Need"),
        ("Gözde Gül Şahin, Andreas Rücklé, et al. Text processing like humans do. In NAACL, 2019.", "Text processing like humans do"),
        ("Chen, H., Wang, Y.: Addernet: Do we need it all? In: CVPR, pp. 1–2 (2020)", "Addernet: Do we need it all"),
        ("He, K., Sun, J.: Deep residual learning (2015)", "Deep residual learning"),
        ("D. Dovey, Vector plots, in three parts, in: Proceedings, 1995.", "Vector plots, in three parts"),
        ("Kant, I. (1781). Critik der reinen Vernunft.", "Critik der reinen Vernunft"),
        ("T. Günther, H. Theisel, The State of the Art in Vortex Extraction, Computer Graphics Forum 37 (2018).", None),
        ("D. DeMartini and E. Shuryak, Phys. Rev. D 104 (2021) no.9.", None),
        ("A. B. Lo, Ph. Boucaud, J.P. Leroy, and C. Roiesnel. Asymptotic behaviour of all. Phys. Rev., 1999.", None),
        ("“http://www.openconfig.net.”", None),
        ("S. Acharya et al. (ALICE), JHEP 05, 061 (2022).", None),
        ("E. Schrödinger, Ann. d. Phys. 81 109 (1926). English translation appears in E. Schrödinger, Works.", None),
        ("Some words about a thing. Other words about another thing. The end.", None),
        ("", None),
    ],
)
def test_a_title_is_taken_only_where_it_is_plain(entry, title):
    assert title_in(entry) == title


@pytest.mark.parametrize("part", ["A. ", "Aa, A., ", "Aa, A. B. ", "“", "and ", "(2000) ", "A.: ", "Aa. "])
def test_titles_are_looked_for_in_bounded_time(part):
    title_in((part * 700)[:2000])  # a pattern that tries every split would not come back


def test_other_rows_are_not_taken_and_empty_ones_refused():
    assert not unarxive.matches({"paper_id": "1", "body_text": [{"text": "a", "cite_spans": []}], "bib_entries": {}})
    with pytest.raises(DocumentError, match="no title, no text"):
        list(unarxive.read(paper(metadata={}, bib_entries={}, ref_entries={}), "here", Reading()))
    with pytest.raises(DocumentError, match="paper_id"):
        list(unarxive.read(paper(paper_id=""), "here", Reading()))


def test_counts_of_real_papers_are_those_of_the_source():
    if not DATA.is_file():
        pytest.skip("../shared/data is absent")
    lines = DATA.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 12
    for line in lines:
        record, reading = read(json.loads(line))
        citations = [c for section in record.sections for c in section.citations]
        entries = set(re.findall(r'"([0-9a-f]{40})": \{"bib_entry_raw"', line))
        in_text = re.findall(r'(?<!"text": ")\{\{cite:([0-9a-f]+)\}\}', line)  # each stands once more in the cite_spans
        in_text += re.findall(r'"text": "\{\{cite:([0-9a-f]+)\}\}(?!")', line)
        assert len(citations) == len(in_text) and not reading.skipped and not reading.notes
        assert {r.key for r in record.references} == entries and len(record.references) == line.count('"bib_entry_raw"')
        assert sum(c.key in entries for c in citations) == sum(key in entries for key in in_text)
        assert not any("{{" in section.heading or re.search(r"\{\{(cite|figure|table|formula):", section.text) for section in record.sections)
