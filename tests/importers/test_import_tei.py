"""TEI: structure, citations, entries, hostile files, and counts against the source."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphkv.errors import DocumentError
from graphkv.importers import tei
from graphkv.importers.parts import parts_of
from graphkv.importers.reading import Reading

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "tei" / "2020.acl-main.207.tei.xml"

HEADER = """<teiHeader><fileDesc><titleStmt><title level="a" type="main">Graphs  are
 read</title></titleStmt><publicationStmt><date type="published" when="2021-05-02"/></publicationStmt><sourceDesc><biblStruct><analytic>
 <author><persName><forename type="first">Ann</forename><surname>Lo</surname></persName><affiliation>ACME</affiliation></author>
 <author><affiliation>No one</affiliation></author></analytic>
 <idno type="MD5">ABC123</idno><idno type="DOI">10.1234/X</idno><idno type="arXiv">arXiv:2001.00001v2 [cs.CL]</idno></biblStruct></sourceDesc></fileDesc>
 <profileDesc><abstract><div><p>Short
 <hi>text</hi>.</p></div></abstract></profileDesc></teiHeader>"""
BACK = """<back><div type="acknowledgement"><div><head>Thanks</head><p>To all.</p></div></div><div type="references"><listBibl>
<biblStruct xml:id="b0"><analytic><title level="a" type="main">Old graphs. ArXiv</title><author><persName><forename>B</forename><surname>Wu</surname></persName></author></analytic>
 <monogr><title level="j">J. Graphs</title><imprint><date type="published" when="1999-03"/></imprint></monogr><idno>abs/1901.00001</idno></biblStruct>
<biblStruct xml:id="b1"><monogr><title level="m">A Book of Graphs</title><author><persName><surname>Do</surname></persName></author><imprint><date when="2001"/></imprint></monogr>
 <idno type="DOI">10.1234/B</idno><note type="raw_reference">Do. 2001. A Book of Gra- phs for Sci- BERT.</note></biblStruct>
<biblStruct><monogr><title level="j">Only a Journal Here</title></monogr></biblStruct>
</listBibl></div></back>"""


def xml(body, header=HEADER, back=BACK):
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<TEI xmlns="http://www.tei-c.org/ns/1.0">{header}<text><body>{body}</body>{back}</text></TEI>'


def read_all(tmp_path, source, name="a.tei.xml", root=None):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    reading = Reading()
    return list(tei.read(path, root or tmp_path, reading)), reading


def read(tmp_path, body, **parts):
    (record,), _ = read_all(tmp_path, xml(body, **parts))
    return record


def cited(section):
    return [(section.text[c.start : c.end], c.key) for c in section.citations]


def test_header_and_bibliography(tmp_path):
    record = read(tmp_path, "")
    assert (record.id, record.title, record.authors, record.year) == ("a", "Graphs are read", ("Ann Lo",), 2021)
    assert (record.doi, record.arxiv, record.abstract) == ("10.1234/x", "2001.00001", "Short text.")
    assert record.aliases == ("a.tei.xml", "ABC123") and record.role == "paper"
    first, second, third = record.references
    assert (first.key, first.title, first.authors, first.year, first.arxiv) == ("b0", "Old graphs", ("B Wu",), 1999, "1901.00001")
    assert first.text == "B Wu. 1999. Old graphs. J. Graphs."
    assert (second.title, second.doi, second.text) == ("A Book of Graphs", "10.1234/b", "Do. 2001. A Book of Graphs for Sci-BERT.")
    assert (third.key, third.title) == ("entry 3", None)  # a journal's name is no work's title


def test_sections_and_citations_keep_the_order_of_the_text(tmp_path):
    body = """<div><head n="1.">Intro</head><p>As <ref type="bibr" target="#b0">(Wu, 1999;</ref><ref type="bibr" target="#b1">Do, 2001)</ref>, and
      <ref type="bibr">(Za, 3)</ref>, see <ref type="figure" target="#f">Fig. 1</ref>.</p><formula>x = y<label>(1)</label></formula>
      <div><head>Inner</head><p>In <ref type="bibr" target="#b0 #b1"/>.</p></div><p>After.</p></div>"""
    record = read(tmp_path, body)
    assert [(s.heading, s.text) for s in record.sections] == [
        ("1 Intro", "As (Wu, 1999; Do, 2001), and (Za, 3), see Fig. 1.\n\nx = y (1)"), ("Inner", "In [1, 2]."), ("1 Intro", "After."), ("Thanks", "To all.")]
    assert cited(record.sections[0]) == [("(Wu, 1999;", "b0"), ("Do, 2001)", "b1"), ("(Za, 3)", "(Za, 3)")]
    assert cited(record.sections[1]) == [("[1, 2]", "b0"), ("[1, 2]", "b1")]


def test_figures_tables_notes_and_lists(tmp_path):
    body = """<div><head>Data</head><p>One<note place="foot" n="2">or <ref type="bibr" target="#b1">[2]</ref></note> more.</p>
      <list><item>a</item><item>b</item></list><figure><head>Figure 1 :</head><label>1</label><figDesc>A cat <ref type="bibr" target="#b0">[1]</ref>.</figDesc></figure></div>
      <figure type="table"><head/><label>3</label><figDesc>Sizes.</figDesc><table><row><cell>x</cell><cell>1</cell></row><row><cell>y</cell><cell/></row></table></figure>
      <note place="foot" n="4">A foot note.</note>"""
    data, captions, notes, _ = read(tmp_path, body).sections
    assert data.text == "One [or [2]] more.\n\n- a\n- b\n\nFigure 1: A cat [1]."
    assert cited(data) == [("[2]", "b1"), ("[1]", "b0")]
    assert (captions.heading, captions.text) == ("Figures and tables", "Table 3: Sizes.\n\nx | 1\ny |")
    assert (notes.heading, notes.text) == ("Footnotes", "4 A foot note.")


def test_no_citation_is_lost_in_headings_and_abstracts(tmp_path):
    header = HEADER.replace("<hi>text</hi>", '<ref type="bibr" target="#b0">[1]</ref>')
    record = read(tmp_path, '<div><head>By <ref type="bibr" target="#b1">Do</ref></head><p>Text.</p></div>', header=header)
    assert record.abstract == "" and (record.sections[0].heading, cited(record.sections[0])) == ("", [("[1]", "b0")])
    assert (record.sections[1].heading, record.sections[1].text, cited(record.sections[1])) == ("By Do", "By Do\n\nText.", [("Do", "b1")])


def test_an_abstract_that_cites_is_in_the_papers_head(tmp_path):
    abstract = '<abstract><div><head>Aim</head><p>We read.</p></div><div><p>As <ref type="bibr" target="#b0">[1]</ref>.</p></div></abstract>'
    record = read(tmp_path, "<div><head>Intro</head><p>Text.</p></div>", header=re.sub("(?s)<abstract>.*</abstract>", abstract, HEADER))
    head, *rest = parts_of(record)
    assert record.abstract == "" and head.text == "Ann Lo (2021).\n\nWe read.\n\nAs [1]." and [part.text for part in rest] == ["Text.", "To all."]
    assert [(head.text[c.start : c.end], c.key) for c in head.citations] == [("[1]", "b0")]


@pytest.mark.parametrize(
    ("paragraph", "text"),
    [
        ("<p><s>One [1].</s><s>Two.</s> <s>Three.</s></p>", "One [1]. Two. Three."),
        ('<p><s>A</s></p><p><s>B<note n="1"><s>C.</s><s>D.</s></note></s></p>', "A\n\nB [C. D.]"),
        ("<list><item><p><s>A.</s><s>B.</s></p><p>C.</p></item></list>", "- A. B. C."),
    ],
)
def test_sentences_that_are_marked_are_told_apart(tmp_path, paragraph, text):
    assert read(tmp_path, f"<div>{paragraph}</div>").sections[0].text == text


FIGURE = '<figure><head>Figure 1 :</head><label>1</label><figDesc><div><p><s>A cat <ref type="bibr" target="#b0">[1]</ref>.</s><s>It sits.</s></p></div></figDesc></figure>'


def test_a_div_in_a_figure_or_note_is_no_division(tmp_path):
    body = f"<div><head>Data</head><p>One.</p>{FIGURE}<p>Two<note><div><p>a</p></div><div><head>B</head><p>b</p></div></note>.</p></div>"
    data, captions, notes, _ = read(tmp_path, f"{body}{FIGURE}<figure><table><div>t</div></table></figure><note><div><p>c</p></div></note>").sections
    assert (data.heading, data.text) == ("Data", "One.\n\nFigure 1: A cat [1]. It sits.\n\nTwo [a B b].")
    assert cited(data) == cited(captions) == [("[1]", "b0")]
    assert (captions.heading, captions.text) == ("Figures and tables", "Figure 1: A cat [1]. It sits.\n\nt")
    assert (notes.heading, notes.text) == ("Footnotes", "c")


@pytest.mark.parametrize(
    ("body", "headings"),
    [
        ('<div><head n="2">M</head></div><div><head n="2.1">S</head><p>x</p></div><div><head n="2.2">T</head><p>x</p></div>', ["2 M: 2.1 S", "2.2 T"]),
        ('<div><head n="2.">M</head></div><div><head n="3.">N</head><p>x</p></div>', ["3 N"]),
        ('<div><head>M</head><div><head>S</head></div><div><head>T</head><p>x</p></div></div>', ["M: S: T"]),
        ('<div><head>M</head><div><head>S</head><p>x</p></div></div><div><head>T</head><p>x</p></div>', ["M: S", "T"]),
        ('<div><head>M</head><div><head>S</head></div><p>x</p></div><div><head>T</head><p>x</p></div>', ["M", "T"]),
        ('<div><div><head>M</head></div></div><div><div><head>T</head><p>x</p></div></div>', ["T"]),  # divisions of their own
        ('<div><head>M</head></div><figure><figDesc>d</figDesc></figure><div><p>x</p></div>', ["Figures and tables", "M"]),
        ('<div><head>References</head><listBibl/></div><div><head>A</head><p>x</p></div>', ["A"]),
    ],
)
def test_headings_without_text_stand_in_front_of_the_next(tmp_path, body, headings):
    assert [section.heading for section in read(tmp_path, body, back="").sections] == headings


def test_citations_of_a_figures_heading_are_kept(tmp_path):
    record = read(tmp_path, '<div><p>A.</p><figure><head>By <ref type="bibr" target="#b1">[2]</ref></head><figDesc>A cat.</figDesc></figure></div>')
    assert record.sections[0].text == "A.\n\nBy [2] A cat." and cited(record.sections[0]) == [("[2]", "b1")]


def test_another_kind_of_xml_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="expected TEI, got XML with the root 'book'"):
        read_all(tmp_path, "<book><text><body><p>Text.</p></body></text></book>")


def test_a_corpus_is_several_records(tmp_path):
    paper = xml("<div><p>A.</p></div>").partition("\n")[2]
    empty = '<TEI xmlns="http://www.tei-c.org/ns/1.0"><text/></TEI>'
    second = paper.replace("<TEI ", '<TEI xml:id="second" ', 1).replace('"b0"', '"c0"').replace('"b1"', '"c1"')
    records, reading = read_all(tmp_path, f'<teiCorpus xmlns="http://www.tei-c.org/ns/1.0">{paper}{second}{empty}</teiCorpus>')
    assert [r.id for r in records] == ["a/1", "a/second"] and [s.where[-7:] for s in reading.skipped] == ["paper 3"]


@pytest.mark.parametrize(("name", "id"), [("x/y.tei.xml", "x/y"), ("x/paper.grobid.tei.xml", "x"), ("main.xml", "ROOT"), ("x/y.v2.xml", "x/y.v2")])
def test_ids_are_paths_or_the_folder_of_a_lone_main_file(tmp_path, name, id):
    root = tmp_path / "ROOT"
    (record,), _ = read_all(root, xml("<p>A.</p>"), name, root)
    assert record.id == id


def test_papers_of_a_corpus_may_count_their_entries_alike(tmp_path):
    paper = xml("<div><p>A.</p></div>").partition("\n")[2]
    records, _ = read_all(tmp_path, f'<teiCorpus xmlns="http://www.tei-c.org/ns/1.0">{paper}{paper}</teiCorpus>')
    assert [len(record.references) for record in records] == [3, 3]


def test_doubled_ids_of_entries_are_noted(tmp_path):
    (record,), reading = read_all(tmp_path, xml("", back=BACK.replace('"b1"', '"b0"')))
    assert [r.key for r in record.references] == ["b0", "b0 (entry 2)", "entry 3"] and len(reading.notes) == 1


BOMB = '<!DOCTYPE TEI [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    "source",
    [b"", b"\x00", b"<TEI>", b"<html/>", xml("", header="", back="").encode(), xml("&b;").replace("\n", BOMB, 1).encode(), xml("<div>" * 10_000 + "</div>" * 10_000).encode(), "<TEI/>".encode("utf-16")],
)
def test_hostile_and_empty_files_are_refused(tmp_path, source):
    with pytest.raises(DocumentError):
        read_all(tmp_path, source)


def test_deep_nesting_within_the_parsers_limit_is_read(tmp_path):
    depth = 120
    record = read(tmp_path, "<div><p>a</p>" * depth + "</div>" * depth)
    assert len(record.sections) == depth + 1


SAMPLE = xml('<div><head n="1">I</head><p>As <ref type="bibr" target="#b0">[1]</ref>.</p><note place="foot">n</note></div><figure><head>F</head><figDesc>d</figDesc></figure>')


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_are_read_or_refused(tmp_path, data):
    source = SAMPLE
    for _ in range(data.draw(st.integers(1, 4))):
        a = data.draw(st.integers(0, len(source)))
        b = data.draw(st.integers(a, min(len(source), a + 40)))
        source = source[:a] + data.draw(st.sampled_from(["", "<div>", "</p>", "<ref type='bibr'/>", "&amp;", "&#0;", "<note>", "</div>", "é", "\u2028", "<listBibl>"]) | st.text(max_size=5)) + source[b:]
    try:
        records, _ = read_all(tmp_path, source.encode("utf-8", "surrogatepass"))
    except DocumentError:
        return
    for section in (section for record in records for section in record.sections):
        assert section.text.strip() and all(0 <= c.start <= c.end <= len(section.text) and c.key for c in section.citations)


NAMES = ["div", "head", "p", "note", "figure", "figDesc", "list", "item", "s", "table", "row", "cell", "formula", "label", "listBibl", "back"]
ELEMENTS = st.recursive(
    st.text("ab ;", max_size=6),
    lambda inner: st.builds(lambda name, parts: f"<{name}>{''.join(parts)}</{name.split()[0]}>", st.sampled_from([*NAMES, 'ref type="bibr"']), st.lists(inner, max_size=3)),
    max_leaves=25,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ELEMENTS)
def test_any_nesting_of_elements_loses_no_citation(tmp_path, body):
    record = read(tmp_path, body)
    outside = re.sub(r"<listBibl>(?:(?!listBibl).)*</listBibl>", "", body)
    if "listBibl" not in outside:
        assert sum(len(s.citations) for s in record.sections) == outside.count("<ref ")


def test_counts_of_a_real_paper_are_those_of_the_source():
    if not DATA.is_file():
        pytest.skip("../shared/data is absent")
    source, reading = DATA.read_text(encoding="utf-8"), Reading()
    (record,) = tei.read(DATA, DATA.parent, reading)
    citations = [c for section in record.sections for c in section.citations]
    keys = {reference.key for reference in record.references}
    assert len(citations) == len(re.findall(r'<ref type="bibr"', source))
    assert sum(c.key in keys for c in citations) == len(re.findall(r'<ref type="bibr" target="#b\d+"', source))
    assert len(keys) == len(record.references) == len(re.findall(r"<biblStruct xml:id=", source))
    assert not reading.skipped and not reading.notes
