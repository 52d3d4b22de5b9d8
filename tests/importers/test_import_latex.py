r"""LaTeX papers: text, citations, macros, hostile source, and a real paper whose citations are counted by regular expressions."""

import contextlib
import re
import shutil
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from latex_helpers import cited, read_paper

from graphkv.errors import DocumentError
from graphkv.importers.latex import paper as latex
from graphkv.importers.parts import parts_of
from graphkv.importers.reading import Reading

GORC = Path(__file__).parents[2].parent / "shared" / "data" / "latex" / "gorc"


@pytest.fixture
def paper(tmp_path):
    """See :func:`latex_helpers.read_paper`."""
    return partial(read_paper, tmp_path)


@pytest.fixture
def text(paper):
    """The text of a paper that is one section without a heading."""
    return lambda body, preamble="": "\n\n".join(section.text for section in paper(body, preamble)[0].sections)


# -- text -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a % not \\cite{lo}\n  b\n\n%\n\nc", "a b\n\nc"),
        ("\\emph{a % } \\cite{lo\n b}", "a b"),
        (r"x\footnote{a \iffalse } \fi b} c", "x (a b) c"),
        (r"100\% of \$5 \& a\_b \#1", "100% of $5 & a_b #1"),
        ("one\n\\begin{comment}\nno \\cite{lo}\n\\end{comment}\ntwo", "one two"),
        (r"a \iffalse no \ifx\a\b x\fi } \cite{lo} \fi b", "a b"),
        (r"M\"uller, na{\"\i}ve, \c{c}a, Sk\l{}odowska, \ss{}, {\AA}, \v{s}", "Müller, naïve, ça, Skłodowska, ß, Å, š"),
        (r"``q'' `s' a--b c---d e~f \ldots{} \copyright", "“q” ‘s' a–b c—d e f … ©"),
        (r"\textbf{b} \emph{e} {\em f} \texttt{t\_t} \unknown{kept} \textcolor{red}{c}\href{http://x.y}{link}", "b e f t_t kept clink"),
        (r"\todo{no}\vspace{2pt}\includegraphics[width=3cm]{figure.png}\label{l}x \hspace*{1em}y\\[2mm]z", "x y\nz"),
        (r"\url{http://a.b/c_d%20e#f} \verb|\cite{lo} %|", r"http://a.b/c_d%20e#f \cite{lo} %"),
        (r"$x^2$ and \(y_i\): \[ z \] \begin{equation}\label{e} a &= b\nonumber\end{equation}", "$x^2$ and $y_i$:\n$$z$$\n$$a = b$$"),
        (r"\begin{align} a &= b \\ &= c \end{align}", "$$a = b\n= c$$"),
        ("word\\footnote{A note.} next,\\footnote{B}", "word (A note.) next, (B)"),
        (r"\begin{itemize}\item one \item[x] two\end{itemize}\begin{enumerate}\item a \item b\end{enumerate}", "- one\nx two\n\n1. a\n2. b"),
        (r"\paragraph{Run in} text \paragraph*{Why?} so", "Run in. text\n\nWhy? so"),
        ("\\begin{lstlisting}[language=C]\nint x;  % \\cite{lo}\n\n  y\n\\end{lstlisting}", "int x;  % \\cite{lo}\n\n  y"),
        (r"\SI{3}{\kilo\gram} \cmidrule(lr){1-2} \foo[opt]{arg} [kept]", "3 kilo gram arg [kept]"),
    ],
)
def test_text(text, source, expected):
    assert text(source) == expected


def test_tables_have_rows_in_lines_and_cells_between_bars(text):
    body = r"""\begin{table}[t]\centering\resizebox{\linewidth}{!}{\begin{tabular}{@{}l|p{3cm}r@{}}\toprule \textbf{A} & \makecell[l]{B \\ b} & C\% \\ \midrule
      \multicolumn{2}{c}{wide} & \cite{lo} \\[1mm] & \& & 3 \\ \bottomrule \end{tabular}}\caption[short]{What it says.}\label{tab:a}\end{table}
      See Table~\ref{tab:a}."""
    assert text(body) == "A | B b | C%\nwide | (Lo et al., 2020)\n| & | 3\n\nTable 1: What it says.\n\nSee Table 1."


def test_references_name_what_is_known_and_leave_no_marks(text):
    body = r"""\section{One}One. \section{The \x{} data}\label{sec:d} (see \S\ref{sec:d}; Fig.~\ref{f2}) \begin{figure}\caption{a}\label{f1}\end{figure}
      \begin{figure*}\caption{b}\label{f2}\end{figure*} \begin{equation}x\label{eq:x}\end{equation} Eq.~\eqref{eq:x}, \cref{f1}, (\ref{nowhere})."""
    found = text(body, r"\newcommand{\x}{X}")
    assert found.startswith("One.\n\n(see Section “The X data”; Fig. 2)\n\nFigure 1: a\n\nFigure 2: b")
    assert found.endswith("the equation, Figure 1,.")


def test_front_and_sections(paper):
    record, _ = paper(
        r"""\maketitle\begin{abstract}Short, 50\%.\end{abstract} Before. \section*{One}\label{a} Text. \subsection[s]{Two \emph{x}} More.
        \section{Empty} \subsection{Below} Last. \appendix \section{App} End.""",
        r"\title[short]{A {\sc Title}\thanks{us}} \author{Ann Able$^1$ \and Bob de Best\thanks{x} \\ University of X \\ \texttt{a@b.c}} \date{May 2021}",
    )
    assert (record.title, record.authors, record.year, record.abstract) == ("A Title", ("Ann Able", "Bob de Best"), 2021, "Short, 50%.")
    assert [(s.heading, s.text) for s in record.sections] == [
        ("", "Before."),
        ("One", "Text."),
        ("Two x", "More."),
        ("Empty: Below", "Last."),
        ("App", "End."),
    ]
    assert record.role == "paper" and record.id == "x"


@pytest.mark.parametrize(("before", "joined"), [("", ""), (r"Before, \citet{saier}.", "\n\nBefore, Saier and Färber (2019).")])
def test_an_abstract_that_cites_stands_in_the_head_with_its_citations(paper, before, joined):
    record, _ = paper(f"\\begin{{abstract}}As \\citet{{lo}}.\\end{{abstract}}{before}\\section{{S}} x", r"\author{Ann Able}")
    assert record.abstract == "" and [section.heading for section in record.sections] == ["", "S"]
    assert cited(record) == [("Lo et al. (2020)", "lo")] + [("Saier and Färber (2019)", "saier")] * bool(before)
    head, body = parts_of(record)
    assert (head.text, body.text) == (f"Ann Able.\n\nAs Lo et al. (2020).{joined}", "x")
    assert [head.text[c.start : c.end] for c in head.citations] == [text for text, _ in cited(record)]


# -- citations --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"\cite{lo}", "(Lo et al., 2020)"),
        (r"\citep*[see][p.~3]{lo, saier}", "(see Lo et al., 2020; Saier and Färber, 2019, p. 3)"),
        (r"\citet[p.~3]{lo}", "Lo et al. (2020) (p. 3)"),
        (r"\Citet{lo} \citealp{lo} \citeauthor{saier} \citeyear{lo} \citeyearpar{lo} \citenum{saier}", None),
        (r"\textcite{lo} \parencite{saier} \autocite{lo} \footcite{saier} \supercite{lo} \fullcite{lo}", None),
        ("\\cite{ lo ,\n saier}", "(Lo et al., 2020; Saier and Färber, 2019)"),
        (r"\cites[a]{lo}[b][c]{saier}", "(Lo et al., 2020, a; b Saier and Färber, 2019, c)"),
        (r"\parencites(pre)(post){lo}{saier}", "(pre Lo et al., 2020; Saier and Färber, 2019, post)"),
        (r"\cite{plain}, \cite{plain,none}", "[3], [3]; [none]"),
        (r"\cite{none a}", "[none a]"),
        (r"word\cite{lo}", "word (Lo et al., 2020)"),
        (r"\citep[see \citealp{saier} and][]{lo}", "(see Saier and Färber, 2019 and Lo et al., 2020)"),
        (r"\verb|  x| \cite{lo}", "x (Lo et al., 2020)"),
        (r"$^{\cite{lo}}$", "$^{(Lo et al., 2020)}$"),
    ],
)
def test_citations_are_printed_with_one_span_a_key(paper, source, expected):
    record, _ = paper(source)
    (section,) = record.sections
    keys = [k.strip() for group in re.findall(r"\{([^{}\\]*)\}", source) for k in group.split(",")]
    assert sorted(c.key for c in section.citations) == sorted(" ".join(k.split()) for k in keys)
    assert expected is None or section.text == expected
    assert all(re.match(r"Lo et al\.|Saier and F|\[|\(?20\d\d\)?$|\d$", section.text[c.start : c.end]) for c in section.citations)
    assert all(a.end <= b.start for a, b in zip(section.citations, section.citations[1:], strict=False))


def test_mentions_in_notes_captions_headings_and_tables_count_and_nocite_does_not(paper):
    body = r"""\section{On \citet{lo}} a\footnote{\cite{lo}} \begin{figure}\caption{\cite{lo}}\end{figure} \begin{tabular}{l}\cite{lo}\end{tabular} \nocite{saier}"""
    record, _ = paper(body)
    assert [key for _, key in cited(record)] == ["lo"] * 4 and record.sections[0].heading == "On Lo et al. (2020)"


def test_definitions_and_comments_hold_no_mention(paper):
    record, _ = paper("a \\mine[x]{lo} % \\cite{lo}\n\\unused", r"\newcommand{\mine}[2][]{\citep[#1]{#2}}\newcommand{\never}{\cite{lo}}\def\unused{}")
    assert cited(record) == [("Lo et al., 2020", "lo")] and record.sections[0].text == "a (Lo et al., 2020, x)"


# -- macros -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preamble", "source", "expected"),
    [
        (r"\newcommand{\sys}{\textsc{Foo}\xspace}", r"\sys is, \sys. \sys{}s", "Foo is, Foo. Foos"),
        (r"\newcommand*\two[2][blue]{#2 (#1)}", r"\two{a} \two[red]{b}", "a (blue) b (red)"),
        (r"\def\pair(#1,#2){<#1;#2>} \def\one#1{[#1]}", r"\pair(a,{b}) \one x\one{y}", "<a;b> [x][y]"),
        (r"\newcommand{\R}{\mathbb{R}}\DeclareMathOperator*{\argmax}{arg\,max}", r"$\R x\argmax$", r"$\mathbb{R}x\operatorname{arg\,max}$"),
        (r"\newcommand{\al}{\alpha}", r"$\al x$", r"$\alpha x$"),
        (r"\let\oldemph\emph\renewcommand{\emph}[1]{\oldemph{#1}!}", r"\emph{a}", "a!"),
        (r"\NewDocumentCommand{\x}{s m O{def}}{\IfBooleanTF{#1}{star}{plain} #2 #3}", r"\x*{q} \x{r}[z]", "star q def plain r z"),
        (r"\newif\ifdraft \drafttrue", r"\ifdraft a\else b\fi \draftfalse \ifdraft c \ifx\x\y d\fi\else e\fi", "a e"),
        (r"\newenvironment{mine}[1]{\begin{quote}#1:}{\end{quote}}", r"\begin{mine}{T}body\end{mine}", "T:body"),
        (r"\newtheorem{thm}{Theorem}[section]", r"\begin{thm}[Main] It holds.\end{thm}\begin{proof}Easy.\end{proof}", "Theorem 0.1 (Main). It holds.\n\nProof. Easy."),
        (r"\newcommand{\a}{\b}\newcommand{\b}[1]{<#1>}", r"\a{x}", "<x>"),
        (r"\renewcommand{\section}{\no}\providecommand{\cite}[1]{no}", r"\cite{lo}", "(Lo et al., 2020)"),
    ],
)
def test_macros(text, preamble, source, expected):
    assert text(source, preamble) == expected


def _laughs(levels):
    names = "abcdefghijklmnop"
    return "\\def\\a{lol}" + "".join(f"\\def\\{names[i + 1]}{{{f'{chr(92)}{names[i]}' * 10}}}" for i in range(levels))


@pytest.mark.parametrize(
    ("preamble", "use"),
    [
        (_laughs(12), r"\m"),
        (r"\def\x{\x}", r"\x"),
        (r"\def\x{a\x\x}", r"\x"),
        (r"\newenvironment{q}{\begin{q}}{}", r"\begin{q}"),
        (r"\def\x{\def\y{\x}\y}", r"\x"),
        (r"\newcommand{\d}[1]{#1#1}", r"\d{" * 40 + "a" + "}" * 40),
        (r"\def\x{\cite{a}\x}", r"\x"),
    ],
)
def test_macros_that_grow_without_bound_are_left_out_and_noted(paper, preamble, use):
    start = time.monotonic()
    record, reading = paper(f"before {use} behind", preamble)
    assert record.sections[0].text == "before behind"
    assert "grows to more than" in reading.notes[0].reason and time.monotonic() - start < 5


def test_many_macros_that_grow_are_an_error(paper):
    with pytest.raises(DocumentError, match="grow without bound"):
        paper("".join(f"\\def\\z{c}{{\\m}}\\z{c} " for c in "abcdefghijklmnopqrstuvwxyz" * 5), _laughs(12))


# -- hostile source ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (r"a } b {c \textbf{d \cite{lo}", ["lo"]),
        (r"a \begin{itemize} \item b \cite{lo} \begin{tabular}{l} c", ["lo"]),
        (r"\end{itemize} \cite{lo} $x", ["lo"]),
        ("\\cite{never closed\n\nb \\cite{lo}", ["never closed", "lo"]),
        (r"\cite{} \cite \ref \section{x \cite{lo}", []),
        ("{" * 200 + "a" + "}" * 200, None),
        ("{" * 10_000 + "a" + "}" * 10_000, None),
        (r"\emph{" * 5_000 + "a", None),
        ("$ {" * 10_000, None),
        (r"\(" * 10_000, None),
        (r"\begin{tabular}{l}" * 1_000, None),
        ("a\0b", None),
    ],
)
def test_broken_source_is_read_as_far_as_it_goes_or_refused(paper, body, expected):
    if expected is None:
        with pytest.raises(DocumentError):
            paper(body)
    else:
        assert [key for _, key in cited(paper(body)[0])] == expected or not expected


@pytest.mark.parametrize("body", [r"\cite[" * 30_000, r"\iffalse " * 50_000, r"\begin{comment}" * 50_000, "(" + r"\ref{a}" * 50_000, "%\n" * 100_000, r"\url{" * 30_000])
def test_long_broken_source_ends_soon(paper, body):
    start = time.monotonic()
    paper(body + "\n\nend" if "iffalse" not in body else "end" + body)
    assert time.monotonic() - start < 15


SAMPLE = r"""\documentclass{article}\newcommand{\x}[2][o]{\emph{#1 #2}}\newif\ifd \title{T}\begin{document}\begin{abstract}A.\end{abstract}
\section{One}\label{a} \citep[see][p.~1]{lo,saier}, \x[a]{b} $x_1$ \footnote{n} \verb|v| % c
\begin{tabular}{ll} a & b \\ c & d \end{tabular} \ifd a\else b\fi \cites[a]{lo}{saier} \input{gone} \url{http://a.b} \ref{a}
\begin{itemize}\item i\end{itemize} \[ y \] \begin{thebibliography}{9}\bibitem[L(2020)]{lo} L. \newblock T.\end{thebibliography}\end{document}"""
BITS = [*"{}[]$\\%&#^_~@,=\"'()\n\0", "\ue000", "\ue0050", r"\begin{", r"\end{", r"\cite", r"\citep[", r"\def\x", r"\newcommand{\x}[1]", r"\fi", r"\iffalse", r"\\"]
BITS += [r"\item", r"\verb|", r"\footnote{", r"\csname", r"\let", r"\section{", r"\caption{", r"\begin{tabular}{l}", r"\x", r"\(", "$$", r"\endinput", r"\bibitem"]
BITS += [r"\begin{algorithm}", r"\;", r"\For{", r"\eIf", r"\SetKwProg{x}", r"\newtheorem{x}[", r"\begin{theorem}[", r"\begin{proof}[", r"\@ifnextchar", r"Eq.~\ref{z}"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE)), st.integers(0, 20), st.sampled_from(BITS)), max_size=8), st.text(max_size=60))
@example([], r"\def\a{\a\a}\a")
def test_mutated_papers_raise_nothing_else(tmp_path, changes, tail):
    source = SAMPLE
    for at, length, bit in changes:
        source = source[:at] + bit + source[at + length :]
    path = tmp_path / "x.tex"
    path.write_text(source + tail, encoding="utf-8", errors="replace")
    try:
        records = list(latex.read(path, tmp_path, Reading()))
    except DocumentError:
        return
    for section in (section for record in records for section in record.sections):
        assert section.text == section.text.strip() != "" and not re.search("[\ue000-\ue00f]", section.text)
        assert all(0 <= c.start < c.end <= len(section.text) for c in section.citations)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes(tmp_path, data):
    path = tmp_path / "x.tex"
    path.write_bytes(data)
    with contextlib.suppress(DocumentError):
        list(latex.read(path, tmp_path, Reading()))


# -- a real paper -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def gorc(tmp_path):
    if not GORC.is_dir():
        pytest.skip("../shared/data is absent")
    return Path(shutil.copytree(GORC, tmp_path / "gorc", copy_function=shutil.copyfile))


@pytest.mark.parametrize("without", [None, "Ammar2018ConstructionOT"])
def test_the_counts_of_a_real_paper(gorc, without):
    r"""Counts: 1. by regular expressions on the source, 2. of the importer. `without` takes an entry out of the bibliography."""
    bbl = gorc / "main.bbl"
    if without:
        bbl.write_text(re.sub(r"\\bibitem\[(?:(?!\\bibitem).)*?\]\{" + without + r"\}.*?\n\n", "", bbl.read_text(), flags=re.DOTALL))
    entries = re.findall(r"\\bibitem\[.*?\]\{([^{}]+)\}", bbl.read_text(), re.DOTALL)
    source = re.sub(r"(?<!\\)%.*", "", (gorc / "main.tex").read_text()).partition(r"\begin{document}")[2]
    mentions = [key.strip() for group in re.findall(r"\\cite[a-z]*\*?(?:\[[^\]]*\])*\{([^{}]*)\}", source) for key in group.split(",")]
    (record,) = latex.read(gorc / "main.tex", gorc, Reading())
    keys = {reference.key for reference in record.references}
    assert len(record.references) == len(entries) == (54 if without else 55)
    found = [key for _, key in cited(record)]
    assert sorted(found) == sorted(mentions) and len(found) == 88
    unresolved = [key for key in found if key not in keys]
    assert unresolved == [without] * sum(key not in entries for key in mentions)


def test_the_text_of_a_real_paper(gorc):
    (record,) = latex.read(gorc / "main.tex", gorc, Reading())
    assert record.id == "gorc" and record.title == "S2ORC: The Semantic Scholar Open Research Corpus"
    assert record.authors == ("Kyle Lo", "Lucy Lu Wang", "Mark Neumann", "Rodney Kinney", "Daniel S. Weld")
    assert record.abstract.startswith("We introduce S2ORC, (Instructions for access") and len(record.sections) == len(re.findall(r"\\(?:sub)*section\*?\{", (gorc / "main.tex").read_text()))
    whole = "\n".join(section.text for section in record.sections)
    assert not re.search(r"\\(?:cite|ref|gorc|begin|textsc|label)|\.png|%$|\ue000|\bLLW\b|\s,\s", whole)
    assert "AAN (Radev et al., 2009) | 25k | full text | no | ACL Anthology | comp ling" in whole
    assert "with a threshold of 0.9" in whole and "the cld2 tool" in whole and "Mitrović and Müller, 2015" in whole
    assert all(r.title and r.authors and r.year for r in record.references)
    assert sum(r.doi is not None for r in record.references) == len(set(re.findall(r"10\.\d{4,9}/[^\s{}]+", (gorc / "main.bbl").read_text())))
