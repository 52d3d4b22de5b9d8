r"""BibTeX databases and formatted bibliographies: fields, names, titles guessed from \bibitem, biblatex, hostile files, and counts against a real .bbl."""

import contextlib
import logging
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from graphkv.errors import DocumentError
from graphkv.importers import bbl, bibtex
from graphkv.importers.bibitem import authors_in
from graphkv.importers.reading import Reading
from graphkv.importers.record import normal_title

GORC = Path(__file__).parents[2].parent / "shared" / "data" / "latex" / "gorc" / "main.bbl"
BIB = r"""Words outside of entries are a comment.
@string{acl = "Annual Meeting"}
@comment{@article{hidden, title={no}}}
@preamble{"\newcommand{\x}{y}"}
@inproceedings{lo, title={{S2ORC}: The {O}pen $x^2$ Corpus}, author={Lo, Kyle and van der Maaten, Laurens and F{\"a}rber, M. and others},
  year=2020, booktitle = acl # " 2020", DOI={10.18653/v1/2020.acl-main.447}, cites={saier, nowhere ,lo}}
@article(saier, title="unarXive -- a \emph{large} set", author = {Tarek Saier and {Simon and Schuster}}, journal={arXiv preprint arXiv:2003.12345v2},
  date={2020-05-01}, Abstract={We do 5\% more.}, ids={saier2020, old})
@incollection{child, title={Child}, author={A B}, crossref={parent}, related={saier}, xdata={press}}
@book{parent, title={Parent Book}, editor={C D}, year={2001}}
@xdata{press, publisher={The Press}}
"""


def read(module, tmp_path, source, name):
    path = tmp_path / name
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    reading = Reading()
    return list(module.read(path, tmp_path, reading)), reading


def bib(tmp_path, source):
    return read(bibtex, tmp_path, source, "a.bib")


def item(source):
    """The only entry of a .bbl."""
    (entry,) = bbl.entries(source, "a.bbl", Reading()).values()
    return entry


# -- .bib -------------------------------------------------------------------------------------------------------------------------------------


def test_fields(tmp_path):
    records, reading = bib(tmp_path, BIB)
    assert not reading.skipped and not reading.notes
    by_id = {record.id: record for record in records}
    assert list(by_id) == ["lo", "saier", "child", "parent", "press"]
    lo, saier, child = by_id["lo"], by_id["saier"], by_id["child"]
    assert (lo.title, lo.year, lo.doi, lo.role) == ("S2ORC: The Open $x^2$ Corpus", 2020, "10.18653/v1/2020.acl-main.447", "reference")
    assert lo.authors == ("Kyle Lo", "Laurens van der Maaten", "M. Färber")
    assert lo.abstract == "Kyle Lo, Laurens van der Maaten and M. Färber. 2020. S2ORC: The Open $x^2$ Corpus. Annual Meeting 2020."
    assert lo.where.endswith("a.bib, line 5") and lo.metadata == {"entry_type": "inproceedings", "venue": "Annual Meeting 2020"}
    assert [(r.key, r.target) for r in lo.references] == [("saier", "saier"), ("nowhere", "nowhere")]
    assert (saier.title, saier.arxiv, saier.year, saier.authors) == ("unarXive – a large set", "2003.12345", 2020, ("Tarek Saier", "Simon and Schuster"))
    assert saier.abstract.endswith("arXiv preprint arXiv:2003.12345v2.\n\nWe do 5% more.") and saier.aliases == ("saier2020", "old")
    assert (child.year, child.metadata["venue"]) == (2001, "Parent Book")
    assert {r.key for r in child.references} == {"parent", "saier", "press"}


@pytest.mark.parametrize(
    ("fields", "arxiv"),
    [
        ("eprint={1810.04805v2}, archivePrefix={arXiv}", "1810.04805"),
        ("eprint={hep-th/9901001}", "hep-th/9901001"),
        ("eprint={12345678}, eprinttype={pubmed}", None),
        ("url={https://arxiv.org/abs/1609.08144}", "1609.08144"),
        ("journal={CoRR}, volume={abs/1609.08144}", "1609.08144"),
        ("doi={10.48550/arXiv.2004.10706}", "2004.10706"),
        ("note={Section 1234.56789}", None),
    ],
)
def test_arxiv_ids(tmp_path, fields, arxiv):
    ((record,), _) = bib(tmp_path, f"@misc{{k, title={{T}}, {fields}}}")
    assert record.arxiv == arxiv


def test_what_only_sorts_entries_is_not_read(tmp_path):
    source = r"""@preamble{"\newcommand{\noop}[1]{} \newcommand{\noopsort}[1]{}"}
      @book{a, title={A Book}, year={{\noop{2000}}1999}, author={{\noopsort{Aa}}Able, Ann}}
      @inbook{b, title={Part}, year = "{\noopsort{1973b}}1973", crossref={a}}"""
    (a, b), _ = bib(tmp_path, source)
    assert (a.year, a.abstract, b.year) == (1999, "Ann Able. 1999. A Book.", 1973)
    entry = item(r"\bibitem[{Able({\noop{2000}}1999)}]{a} Ann Able. \newblock {\em A Book}. \newblock {\noop{2000}}1999.")
    assert (entry.reference.year, entry.year, entry.reference.text) == (1999, "1999", "Ann Able. A Book. 1999.")


def test_broken_blocks_and_doubled_keys_are_skipped_with_their_line(tmp_path, caplog):
    source = "@article{a, title={First}}\n@article{a, title={Second}}\n@article{broken, title={no end\n@article{b, title={x}, title={y}}\n@article{, title={z}}\n@misc{e}\n"
    with caplog.at_level(logging.DEBUG):
        records, reading = bib(tmp_path, source)
    assert [(r.id, r.title) for r in records] == [("a", "First"), ("b", "x")]
    assert sorted(re.sub(r".*(?=line)", "", skipped.where) for skipped in reading.skipped) == ["line 2", "line 3", "line 5", "line 6"]
    assert "given twice" in reading.notes[0].reason and not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_latin_1_is_read_and_noted_and_files_without_entries_are_refused(tmp_path):
    records, reading = bib(tmp_path, "@misc{k, title={Färber}}".encode("latin-1"))
    assert records[0].title == "Färber" and "UTF-8" in reading.notes[0].reason
    for source in ("", "no entries", "@comment{x}", b"@misc{k, title={a\x00}}"):
        with pytest.raises(DocumentError):
            bib(tmp_path, source)


@pytest.mark.parametrize("source", ["@a{k, title={" + "{" * 10_000 + "x" + "}" * 10_000 + "}}", "@a{k, title={" * 20_000, "@a{k,\ntitle={\n" * 5_000, '@a{k, t="' * 9_000])
def test_hostile_databases_end_soon_and_are_counted(tmp_path, source):
    start = time.monotonic()
    records, reading = bib(tmp_path, source)
    assert not records and reading.skipped and time.monotonic() - start < 10


# -- .bbl -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "title", "authors", "year", "cited"),
    [
        (  # natbib
            r"\bibitem[{Dong {et~al.}(2017{\natexlab{a}})Dong, Xu, and Yo}]{k} Li~Dong, A~Xu, and B~Yo. \newblock Here: with {S}ub. \newblock \emph{J. ACM}, 3\penalty0 (1):\penalty0 1--5, 2017{\natexlab{a}}.",
            "Here: with Sub",
            ("Li Dong", "A Xu", "B Yo"),
            2017,
            ("Dong et al.", "2017a"),
        ),
        (  # ACL
            "\\bibitem[{Lo and Wang(2020)}]{k}\nKyle Lo and Lucy~Lu Wang. 2020.\n\\newblock \\href {https://doi.org/10.1/x} {{S2ORC}: a\n  corpus}.\n\\newblock In \\emph{ACL 2021}, pages 1900--2019.",
            "S2ORC: a corpus",
            ("Kyle Lo", "Lucy Lu Wang"),
            2020,
            ("Lo and Wang", "2020"),
        ),
        (  # plain
            r"\bibitem{k} Ann Able, Bob Best, and Carl Cool. \newblock Title of the thing. \newblock In {\em STOC 2018}, pages 1--10, 2018.",
            "Title of the thing",
            ("Ann Able", "Bob Best", "Carl Cool"),
            2018,
            ("Able et al.", "2018"),
        ),
        (  # apalike
            r"\bibitem[Ahmad and Afzal, 2018]{k} Ahmad, R. and Afzal, M.~T. (2018). \newblock {CAD}: an algorithm. \newblock {\em Scientometrics}, 117(2):1405--1423.",
            "CAD: an algorithm",
            ("R. Ahmad", "M. T. Afzal"),
            2018,
            ("Ahmad and Afzal", "2018"),
        ),
        (  # IEEE
            r"\bibitem{k} Y.~LeCun, Y.~Bengio, and G.~Hinton, ``Deep learning,'' \emph{Nature}, vol. 521, no. 7553, pp. 436--444, 2015.",
            "Deep learning",
            ("Y. LeCun", "Y. Bengio", "G. Hinton"),
            2015,
            ("LeCun et al.", "2015"),
        ),
        (  # Elsevier
            r"\bibitem{k}A.~Vaswani, N.~Shazeer, Attention is all you need, Advances 30 (2017) 5998--6008.\newblock \href {http://dx.doi.org/10.1016/j.x} {\path{doi:10.1016/j.x}}",
            "Attention is all you need",
            ("A. Vaswani", "N. Shazeer"),
            2017,
            ("Vaswani and Shazeer", "2017"),
        ),
        (  # Springer
            r"\bibitem{k} Lo, K., Wang, L.L.: S2ORC: the semantic scholar corpus. In: ACL, pp. 1--10 (2020). \doi{10.1007/978-3-1_2}",
            "S2ORC: the semantic scholar corpus",
            ("K. Lo", "L.L. Wang"),
            2020,
            ("Lo and Wang", "2020"),
        ),
        (  # REVTeX
            r"\bibitem [{\citenamefont {Bell}(1964)}]{k}%"
            "\n"
            r"\BibitemOpen \bibfield{author}{\bibinfo{author}{\bibfnamefont{J.~S.}\ \bibnamefont{Bell}},\ }\bibfield{title}{\emph{\bibinfo{title}{On the {E}instein paradox}},\ }\href {https://doi.org/10.1103/Ph.1.195} {\bibfield{journal}{\bibinfo{journal}{Physics}\ }\textbf{\bibinfo{volume}{1}} (\bibinfo{year}{1964})}\BibitemShut {NoStop}%",
            "On the Einstein paradox",
            ("J. S. Bell",),
            1964,
            ("Bell", "1964"),
        ),
        (  # ACM
            "\\bibitem[Able et~al\\mbox{.}(2019)]%\n        {k}\n\\bibfield{author}{\\bibinfo{person}{Ann Able}, \\bibinfo{person}{Bob Best}.} \\bibinfo{year}{2019}\\natexlab{}.\n\\newblock \\showarticletitle{A title}. \\newblock \\bibinfo{journal}{\\emph{J}} (\\bibinfo{year}{2019}).",
            "A title",
            ("Ann Able", "Bob Best"),
            2019,
            ("Able et al.", "2019"),
        ),
        (  # physics without titles
            r"\bibitem{k} E. Witten, Phys. Rev. Lett. 90, 1 (2001), hep-th/9901001.",
            None,
            ("E. Witten",),
            2001,
            ("Witten", "2001"),
        ),
        (  # ApJ
            r"\bibitem[\protect\citeauthoryear{Able \& Best}{Able \& Best}{1999}]{k} Able A., Best B., 1999, {\em A whole book about stars}",
            "A whole book about stars",
            None,
            1999,
            ("Able & Best", "1999"),
        ),
    ],
    ids=("natbib", "acl", "plain", "apalike", "ieee", "elsevier", "springer", "revtex", "acm", "physics", "apj"),
)
def test_items_of_many_styles(source, title, authors, year, cited):
    entry = item(source)
    assert entry.reference.title == title and entry.reference.year == year and (entry.names, entry.year) == cited
    assert authors is None or entry.reference.authors == authors
    assert not re.search(r"\\|\{|bibinfo|newblock|penalty|\b0 \(", entry.reference.text) and entry.reference.text


@pytest.mark.parametrize(
    ("rest", "doi", "arxiv"),
    [
        (r"\doi{10.1007/978-3-1\_2}.", "10.1007/978-3-1_2", None),
        (r"\href{https://doi.org/10.1/no}{x} \url{http://dx.doi.org/10.1234/a%20b(1)}.", "10.1234/a%20b(1)", None),
        (r"\emph{CoRR}, abs/1609.08144.", None, "1609.08144"),
        (r"\newblock arXiv preprint arXiv:2004.10706v2.", None, "2004.10706"),
        (r"[\href{http://arxiv.org/abs/hep-th/9901001}{{\tt hep-th/9901001}}].", None, "hep-th/9901001"),
    ],
)
def test_identifiers(rest, doi, arxiv):
    reference = item(r"\bibitem{k} A. Bell. \newblock Title of it. \newblock " + rest).reference
    assert (reference.doi, reference.arxiv, reference.title) == (doi, arxiv, "Title of it")


BIBER = r"""% $ biblatex auxiliary file $
% $ biblatex bbl format version 3.2 $
% Do not modify the above lines!
\begingroup
\makeatletter
\@ifundefined{ver@biblatex.sty}
  {\@latex@error
     {Missing 'biblatex' package}
     {The bibliography requires the 'biblatex' package.}
      \aftergroup\endinput}
  {}
\endgroup

\refsection{0}\datalist[entry]{nyt/global//global/global}
\entry{lo}{article}{}
  \name{author}{2}{}{%
    {{un=0,hash=1}{% a comment
       family={Lo}, familyi={L\bibinitperiod}, given={Kyle}, giveni={K\bibinitperiod}}}%
    {{hash=2}{family={F{\"a}rber}, given={Michael}, prefix={van der}}}%
  }
  \list{publisher}{1}{{ACL}}
  \field{title}{The {S2ORC} Corpus}\field{subtitle}{More}
  \field{year}{2020}\field{extradate}{2}\field{abstract}{Much.}
  \verb{doi}
  \verb 10.1234/a%20_b
  \endverb
  \verb{eprint}
  \verb 2004.10706
  \endverb
  \field{eprinttype}{arxiv}
\endentry
\entry{old}{book}{}
  \name{author}{1}{}{{{hash=a}{Knuth}{K.}{Donald}{D.}{von}{v.}{}{}}}
  \field{title}{Programming}\field{year}{1968}
\endentry
\enddatalist
\datalist[entry]{other}\entry{old}{book}{}
  \name{author}{1}{}{{{hash=a}{Knuth}{K.}{Donald}{D.}{von}{v.}{}{}}}
  \field{title}{Programming}\field{year}{1968}
\endentry\enddatalist"""


def test_biblatex(tmp_path):
    (lo, old), reading = read(bbl, tmp_path, BIBER, "a.bbl")
    assert not reading.skipped
    assert (lo.id, lo.title, lo.authors, lo.year) == ("lo", "The S2ORC Corpus: More", ("Kyle Lo", "Michael van der Färber"), 2020)
    assert (lo.doi, lo.arxiv, lo.role) == ("10.1234/a%20_b", "2004.10706", "reference")
    assert lo.abstract == "Kyle Lo and Michael van der Färber. 2020. The S2ORC Corpus: More. ACL.\n\nMuch."
    assert (old.authors, old.year) == (("Donald von Knuth",), 1968)
    entry = bbl.entries(BIBER, "a.bbl", Reading())["lo"]
    assert (entry.names, entry.year) == ("Lo and van der Färber", "2020b")


def test_a_bbl_alone(tmp_path):
    records, reading = read(bbl, tmp_path, r"\bibitem{a} A. \newblock One thing. \bibitem{a} B. \bibitem{} C. \bibitem{d} {" + "{" * 500 + "D}", "a.bbl")
    assert [(record.id, record.title, record.role) for record in records] == [("a", "One thing", "reference")]
    assert len(reading.skipped) == 3
    with pytest.raises(DocumentError, match="no entries"):
        read(bbl, tmp_path, "nothing", "a.bbl")


@pytest.mark.parametrize("names", ["A" * 50_000 + "!", "Lo, " + "A" * 60 + "!", "Aa " * 20_000, ", " * 20_000, "A. " * 20_000, "and " * 20_000])
def test_long_nonsense_is_no_list_of_names_for_long(names):
    start = time.monotonic()
    authors_in(names)
    item(r"\bibitem[" + names[:2000] + "]{k} " + names + ", 2020.")
    assert time.monotonic() - start < 5


BITS = [*"{}[]()\\%&#$~@,=\"'\n\0", "\ue000", "\ue0020", "@article{", "@string{", " # ", "crossref={lo}", r"\bibitem", r"\newblock", r"\verb{", r"\name{author}", r"\href{"]
BBL = BIBER + r"\bibitem[{Lo(2020)}]{k} K. Lo, ``Title, of it,'' 2020. \newblock \emph{J} \bibinfo{title}{T}, \doi{10.1234/x}. \bibitem{z} Z, A.: Colon. B"


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 15), st.sampled_from(BITS)), max_size=8), st.text(max_size=40))
@example(True, [], "@article{a, author={" + "and " * 100 + "}}")
def test_mutated_files_raise_nothing_else(tmp_path, database, changes, tail):
    source = BIB if database else BBL
    for at, length, bit in changes:
        at = min(at, len(source))
        source = source[:at] + bit + source[at + length :]
    with contextlib.suppress(DocumentError):
        records, _ = read(bibtex if database else bbl, tmp_path, (source + tail).encode("utf-8", "replace"), "a.bib" if database else "a.bbl")
        assert all(record.id and record.abstract for record in records)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes(tmp_path, data):
    for module in (bibtex, bbl):
        with contextlib.suppress(DocumentError):
            read(module, tmp_path, data, "a.bib")


def test_a_real_bbl():
    if not GORC.is_file():
        pytest.skip("../shared/data is absent")
    source = GORC.read_text()
    reading = Reading()
    entries = bbl.entries(source, "main.bbl", reading)
    assert list(entries) == re.findall(r"\\bibitem\[.*?\]\{([^{}]+)\}", source, re.DOTALL) and not reading.skipped
    chunks = source.split(r"\bibitem")[1:]
    for entry, chunk in zip(entries.values(), chunks, strict=True):  # the style puts the title first behind \newblock, the year behind the names
        first = chunk.split(r"\newblock")[1]
        title = re.sub(r"\\href\s*\{[^}]*\}", "", first)
        title = re.sub(r"\\['\"c]|\s+", lambda m: " " if m.group().isspace() else "", title)
        assert normal_title(re.sub(r"[{}~]", "", title)) == normal_title(entry.reference.title)
        assert entry.year == re.sub(r"\{\\natexlab\{(\w)\}\}", r"\1", re.search(r"\((\d{4}(?:\{\\natexlab\{\w\}\})?)\)", chunk)[1])
        assert entry.reference.authors and entry.names.split()[-1] in ("al.", *entry.reference.authors[-1].split())
