r"""What LaTeX's packages and style files print in a paper: algorithms, abbreviations, theorems and their numbers, authors and keywords."""

from functools import partial

import pytest
from latex_helpers import cited, read_paper

from graphkv.importers.latex.front import authors


@pytest.fixture
def paper(tmp_path):
    """See :func:`latex_helpers.read_paper`."""
    return partial(read_paper, tmp_path)


def body(record):
    return "\n\n".join(section.text for section in record.sections)


# -- algorithms -------------------------------------------------------------------------------------------------------------------------------


ALGORITHMS = {
    "algorithmic": (
        r"""\REQUIRE graph $G$ \ENSURE order \FOR{$i=1$ \TO $n$} \STATE $h \gets f(x_i)$ \COMMENT{encode \citep{lo}}
        \IF{$h > 0$ \AND $h < 9$} \STATE keep \ELSIF{\NOT $x$} \STATE drop \ELSE \STATE $a\;b$ \ENDIF \ENDFOR
        \FORALL{$v$} \STATE x \ENDFOR \REPEAT \STATE y \UNTIL{done} \RETURN $h$""",
        """Require: graph $G$
Ensure: order
for $i=1$ to $n$ do
$h \\gets f(x_i)$ // encode (Lo et al., 2020)
if $h > 0$ and $h < 9$ then
keep
else if not $x$ then
drop
else
$a\\;b$
for all $v$ do
x
repeat
y
until done
return $h$""",
    ),
    "algpseudocode": (
        r"""[1]\Require $x$ \Procedure{Run}{$x$, $y$} \While{$x>0$} \State $x \gets \Call{Next}{x}$ \Comment{dec} \EndWhile \If{a} \State b \Else \State c \EndIf
        \State \Return $x$ \EndProcedure \Function{F}{} \Repeat \State z \Until{$w$} \EndFunction""",
        """Require: $x$
procedure Run($x$, $y$)
while $x>0$ do
$x \\gets {Next}(x)$ // dec
if a then
b
else
c
return $x$
function F()
repeat
z
until $w$""",
    ),
    "algorithm2e": (
        r"""\SetAlgoLined\DontPrintSemicolon\SetKwInOut{Params}{Parameters}\SetKwComment{C}{/* }{ */} \KwIn{graph $G$}\KwOut{order} \Params{$k$}
        \For(\tcp*[f]{all}){$i \gets 1$ \KwTo $n$}{ \eIf{$x_i > 0$}{ keep $x\;y$\; }{ drop\; } \lIf{a}{b} c\; \uIf{d}{e\;} \uElseIf{f}{g\;} \Else{h\;} \tcc{note} }
        \Repeat{done}{i\;} \KwRet{$y$}\;""",
        """Input: graph $G$
Output: order
Parameters: $k$
for $i \\gets 1$ to $n$ do // all
if $x_i > 0$ then
keep $x\\;y$
else
drop
if a then
b
c
if d then
e
else if f then
g
else
h
// note
repeat done
i
return $y$""",
    ),
}


@pytest.mark.parametrize("package", ALGORITHMS)
def test_algorithms_are_read_line_by_line(paper, package):
    source, expected = ALGORITHMS[package]
    environment = "algorithm" if package == "algorithm2e" else "algorithmic"
    record, reading = paper(f"a\\;b \\begin{{{environment}}}{source}\\end{{{environment}}} behind")
    assert body(record).replace("\n\n", "\n") == f"a b\n{expected}\nbehind"
    assert not reading.notes and len(cited(record)) == (package == "algorithmic")


def test_a_paper_says_itself_what_its_algorithms_print(paper):
    preamble = r"\renewcommand{\algorithmicrequire}{\textbf{Input:}}\algnewcommand{\LineComment}[1]{\State // #1}\newcommand{\Output}{own}"
    record, _ = paper(r"\begin{algorithmic}\Require $x$ \LineComment{why} \State \Output{} \end{algorithmic}", preamble)
    assert body(record) == "Input: $x$\n// why\nown"


# -- macros of style files --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"a, \eg \cite{lo}, by Lo \etal~x, \ie b, \wrt c, \etc. \cf d, \vs e, \iid f, \etc, \etal.", "a, e.g. (Lo et al., 2020), by Lo et al. x, i.e. b, w.r.t. c, etc. cf. d, vs. e, i.i.d. f, etc., et al."),
        (r"\newcommand{\eg}{for example}\eg{} a", "for example a"),
        (r"\def\onedot{\futurelet\@let@token\@onedot}\def\@onedot{\ifx\@let@token.\else.\null\fi\xspace}\def\eg{\emph{e.g}\onedot} \eg a, \eg, b \eg.", "e.g. a, e.g., b e.g."),
        (r"\newcommand{\ie}{\emph{i.e.}\@ifnextchar.{\!\@gobble}{}}\ie. a \ie{} b", "i.e. a i.e. b"),
        (r"\futurelet\next\test a \@gobble{b}c NASA\@. d", "a c NASA. d"),
    ],
)
def test_macros_of_style_files(paper, source, expected):
    record, reading = paper(source)
    assert body(record) == expected and not reading.notes


def test_macros_that_print_nothing_are_noted(paper):
    many = "".join(f"\\many{letter}, " for letter in "abcdefghij")
    record, reading = paper(rf"\foo x \foo, \barr{{kept}} \barr[o]{{kept}} \style@thing x $\unknown$ \textbf{{\foo}} {many}", r"\baz")
    assert body(record).startswith("x, kept kept x $\\unknown$")
    (note,) = reading.notes
    assert note.reason.startswith(r"12 macros that nothing defines print nothing: \foo (3), ") and note.reason.endswith(" ...") and r"\barr" not in note.reason
    assert note.reason.count(" (") == 10 and r"\style@thing (1)" in note.reason


# -- theorems ---------------------------------------------------------------------------------------------------------------------------------


def test_theorems_are_numbered_as_latex_does(paper):
    preamble = r"""\newtheorem{thm}{Theorem}[section]\newtheorem{lem}[thm]{Lemma}\newtheorem{defn}{Definition}\newtheorem*{note}{Note}
      \declaretheorem[name=Fact, numberwithin=subsection]{fact}\newtheorem{odd}[equation]{Odd}"""
    record, _ = paper(
        r"""\section{A} \begin{defn}[Graph]\label{d} a \end{defn} \section*{No} \section{B} \begin{thm}\label{t} b \end{thm} \begin{lem}\label{l} c \end{lem}
        \subsection{C} \begin{fact}\label{f} d \end{fact} \begin{note} e \end{note} \begin{odd}\label{o} f \end{odd} \appendix \section{D} \begin{thm}\label{u} g \end{thm}
        \begin{proof}[Proof of Theorem~\ref{t}] h \end{proof} \begin{proof}[Sketch.] i \end{proof} \begin{claim} j \end{claim}
        Theorem~\ref{t}, \cref{l,u}, Definition~\ref{d}, \autoref{f}, Odd~\ref{o}.""",
        preamble,
    )
    assert [section.text for section in record.sections] == [
        "Definition 1 (Graph). a",
        "Theorem 2.1. b\n\nLemma 2.2. c",
        "Fact 2.1.1. d\n\nNote. e\n\nOdd. f",
        "Theorem A.1. g\n\nProof of Theorem 2.1. h\n\nSketch. i\n\nClaim 1. j\n\nTheorem 2.1, Lemma 2.2, Theorem A.1, Definition 1, Fact 2.1.1, Odd.",
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"as in Eq.~\eqref{eq:x}.", "as in the equation."),
        (r"Eqs.~(\ref{eq:x}) and~(\ref{eq:y}) hold. Equation~\ref{eq:x} too.", "The equations hold. The equation too."),
        (r"by the Theorem~\ref{a} and Lemmas \ref{b}, \ref{c}", "by the theorem and the lemmas"),
        (r"(\cref{eq:x}) and \cref{thm:x}; Appendices~\ref{a} and \ref{b}", "(the equation) and the theorem; the appendices"),
        (r"Preset~\ref{a}, online \ref{b}", "Preset, online"),
    ],
)
def test_a_word_in_front_of_a_number_that_is_not_known_stands_for_itself(paper, source, expected):
    assert body(paper(source)[0]) == expected


# -- front ------------------------------------------------------------------------------------------------------------------------------------


def test_authors_are_persons():
    assert authors(["Björn Müller \n ETH Zürich", "Wei Tu \n MIT CSAIL", "WANG Wei \n TU Wien"]) == ("Björn Müller", "Wei Tu", "WANG Wei")


def test_authors_and_keywords_of_ieee(paper):
    author = r"\author{\IEEEauthorblockN{First Person\IEEEauthorrefmark{1}, Second P. Person\IEEEauthorrefmark{2}} \IEEEauthorblockA{\IEEEauthorrefmark{1}Dept. of CS}}"
    record, reading = paper(r"\begin{abstract}A.\end{abstract}\begin{IEEEkeywords}one, two\end{IEEEkeywords}\section{S} x", author)
    assert record.authors == ("First Person", "Second P. Person") and record.abstract == "A."
    assert [section.text for section in record.sections] == ["Keywords: one, two", "x"] and not reading.notes


@pytest.mark.parametrize("source", [r"\keywords{one \and two}", r"\begin{keyword} one \sep two \end{keyword}"])
def test_keywords_stand_in_one_line(paper, source):
    assert body(paper(source)[0]) == "Keywords: one, two"
