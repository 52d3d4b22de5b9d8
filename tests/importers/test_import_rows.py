"""The small row formats, and every row format against damaged rows."""

import json
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv.errors import DocumentError
from graphkv.importers import documents, passages, text_data
from graphkv.importers.reading import Reading
from graphkv.importers.record import Reference, Section

MOREHOP = Path(__file__).parents[2].parent / "shared" / "data" / "morehopqa_100.json"


def read(module, row, **settings):
    assert module.matches(row)
    reading = Reading(**settings)
    return list(module.read(row, "file, line 1", reading)), reading


def one(module, row, **settings):
    (record,), reading = read(module, row, **settings)
    assert not reading.skipped
    return record


# Our own rows.


def test_a_document_keeps_what_it_says():
    row = {"id": 7, "text": " As it  stands.\n", "title": "T", "sources": ["a", {"id": "b", "kind": "links", "weight": 2}], "score": 0.5, "role": "section", "paper": "p", "citations": [{"start": 0}]}
    record = one(documents, row)
    assert (record.id, record.title, record.score, record.role) == ("7", "T", 0.5, "document")
    assert record.sections == (Section("", " As it  stands.\n"),)
    assert record.references == (Reference("a", target="a", kind=""), Reference("b", target="b", kind="links", weight=2.0))
    assert record.metadata == {"role": "section", "paper": "p", "citations": [{"start": 0}]}


def test_metadata_that_no_file_can_hold_is_skipped():
    (record,), reading = read(documents, {"id": "a", "text": "b", "x": float("inf"), "y": 1})
    assert record.metadata == {"y": 1} and [s.reason[:16] for s in reading.skipped] == ["the metadata 'x'"]


@pytest.mark.parametrize(("change", "message"), [({"sources": "a"}, "list of document ids"), ({"sources": [{"id": "a", "weight": "x"}]}, "'weight' must be"), ({"text": ""}, "is empty"), ({"id": 1.5}, "'id' must be")])
def test_a_malformed_document_is_an_error(change, message):
    with pytest.raises(DocumentError, match=message):
        read(documents, {"id": "a", "text": "b"} | change)


# Graph-KV's text_data.


def test_text_data_is_a_paper_and_what_it_cites():
    row = {"Graphs": {"0": "Centre.", "1": {"2001.00001v2": "Cited.", "Lost": None, "Bad": 3, "Graphs": "Itself."}}}
    (centre, cited), reading = read(text_data, row)
    assert (centre.id, centre.title, centre.sections[0].text, centre.role) == ("Graphs", "Graphs", "Centre.", "paper")
    assert [(r.key, r.title, r.target) for r in centre.references] == [("2001.00001v2", "2001.00001v2", "2001.00001v2"), ("Lost", "Lost", None), ("Graphs", "Graphs", "Graphs")]
    assert (cited.id, cited.sections[0].text, cited.arxiv, cited.role) == ("2001.00001v2", "Cited.", "2001.00001", "paper")
    assert [s.reason for s in reading.skipped] == ["reference 'Bad' of 'Graphs': expected a text or null, got int"]


def test_a_centre_without_text_is_skipped_but_not_what_it_cites():
    records, reading = read(text_data, {"Graphs": {"0": None, "1": {"A": "Text."}}})
    assert [r.id for r in records] == ["A"] and len(reading.skipped) == 1
    assert not text_data.matches({}) and not text_data.matches({"a": {"0": "x"}}) and not text_data.matches({"a": {"0": "x", "1": {}}, "b": 1})


# Questions with passages.


@pytest.mark.parametrize("context", [[["A  B", ["One. ", " Two."]], ["C", ["Three."]]], {"title": ["A B", "C"], "sentences": [["One.", "Two."], ["Three."]]}])
def test_passages_are_documents_named_by_their_title(context):
    records, _ = read(passages, {"question": "?", "context": context})
    assert [(r.id, r.title, r.sections[0].text, r.role) for r in records] == [("A B", "A B", "One. Two.", "document"), ("C", "C", "Three.", "document")]


def test_passages_that_are_none_are_skipped():
    (record,), reading = read(passages, {"question": "?", "context": [["", ["No title."]], ["A"], ["A", []], ["A", [1]], {}]})
    assert record.title is None and record.id.startswith("passage ") and len(reading.skipped) == 4
    with pytest.raises(DocumentError, match="as many lists"):
        read(passages, {"question": "?", "context": {"title": ["A"], "sentences": []}})


def test_counts_of_real_passages_are_those_of_the_source():
    if not MOREHOP.is_file():
        pytest.skip("../shared/data is absent")
    source = MOREHOP.read_text(encoding="utf-8")
    found = [record for row in json.loads(source) for record in read(passages, row)[0]]
    titles = {record.title for record in found}
    assert len(found) == 200 and all(json.dumps(title, ensure_ascii=False) in source or json.dumps(title) in source for title in titles)


# Every row format: any part of a row replaced by anything.

SPAN = {"start": 3, "end": 6, "text": "[1]", "ref_id": "B0", "attributes": {"ref_id": "b0", "id": "b0", "n": "1.", "matched_paper_id": 3}}
PARSE = {
    "abstract": [{"text": "As [1].", "cite_spans": [SPAN]}],
    "body_text": [{"text": "So [1] .", "section": "I", "sec_num": "1", "cite_spans": [SPAN], "eq_spans": [SPAN], "ref_spans": [SPAN]}],
    "bib_entries": {"B0": {"title": "T", "authors": [{"first": "A", "middle": ["B"], "last": "C"}], "year": 2000, "other_ids": {"DOI": ["10.1234/a"]}, "link": "1", "raw_text": "R"}},
    "ref_entries": {"F": {"type": "figure", "text": "C"}},
}
SAMPLES = {
    "s2orc": [
        {"paper_id": "1", "metadata": {"title": "T", "authors": [], "year": "2000"}, "pdf_parse": PARSE, "latex_parse": PARSE},
        {"paper_id": "1", **PARSE},
        {"corpusid": 1, "externalids": {"DOI": "x"}, "content": {"text": "As [1] and [2].", "annotations": {name: json.dumps([SPAN]) for name in ("bibref", "bibentry", "paragraph", "sectionheader", "abstract", "title", "bibtitle", "figurecaption")}}},
    ],
    "unarxive": [
        {
            "paper_id": "1",
            "_source_name": "x",
            "metadata": {"title": "A $b$ \\'e", "abstract": "c {d}", "authors_parsed": [["L", "F", ""]], "authors": "A, B"},
            "body_text": [{"section": "S {{formula:f}}", "sec_number": "1", "sec_type": "section", "content_type": "list", "text": "[a=b] {{cite:k}} {{figure:g}}"}],
            "bib_entries": {"k": {"bib_entry_raw": "A. Lo. A title of some length. In X.", "ids": {"doi": "x"}, "contained_links": [{"url": "u"}], "contained_arXiv_ids": [{"id": "2001.00001"}]}},
            "ref_entries": {"f": {"type": "formula", "latex": "x"}, "g": {"type": "figure", "caption": "C {{cite:k}}"}, "h": {"type": "table", "caption": "one two three"}},
        }
    ],
    "text-data": [{"P": {"0": "T", "1": {"R": "U", "S": None}}}],
    "langchain": [
        {"page_content": "T", "id": "a", "metadata": {"title": "t", "cites": ["b"], "a": {"b": 1}, "links": [{"kind": "k", "direction": "in", "tag": "t"}]}},
        {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "document", "Document"], "kwargs": {"page_content": "T", "metadata": {"source": "s", "links": [{"type": "not_implemented", "repr": "Link(kind='k', direction='in', tag='t')"}]}}},
    ],
    "passages": [{"question": "q", "context": [["T", ["S."]]]}, {"question": "q", "context": {"title": ["T"], "sentences": [["S."]]}}],
    "documents": [{"id": "a", "text": "t", "sources": ["b", {"id": "c", "kind": "k", "weight": 1}], "score": 1, "x": {}}],
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**30) | st.floats() | st.text(max_size=8) | st.sampled_from(["\ud800", "\x00", "{{cite:", "{{cite:k}}", "[1]", "[]", "{", "\\frac{", "$", "../../etc/passwd"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def replaced(draw, value):
    """`value` with something else at one place in it."""
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 4)) == 0:
        return draw(VALUES)
    place = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[place] = replaced(draw, value[place])
    return changed


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_damaged_rows_are_read_or_refused(name, data):
    module = import_module(f"graphkv.importers.{name.replace('-', '_')}")
    row = data.draw(st.sampled_from(SAMPLES[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        row = replaced(data.draw, row)
    if not isinstance(row, dict) or not module.matches(row):
        return
    try:
        records = list(module.read(row, "here", Reading(edge_pairs=(("cites", "$id"), ("a.b", "title")))))
    except DocumentError:
        return
    for record in records:
        assert isinstance(record.id, str) and record.id.strip() and all(isinstance(name, str) and name for name in record.aliases)
        assert all(isinstance(text, str) for r in record.references for text in (r.key, r.text, r.kind, r.title or "", r.target or "", *r.authors))
        assert len({r.key for r in record.references}) == len(record.references)
        for section in record.sections:
            assert section.text.strip() and all(0 <= c.start <= c.end <= len(section.text) and isinstance(c.key, str) for c in section.citations)
