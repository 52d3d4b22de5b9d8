"""What LaTeX's own commands come to in a text: which print nothing, which print one of their arguments, and what the others print."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from graphkv.importers.latex.algorithms import algorithm_commands
from graphkv.importers.latex.macros import Command, Definitions, Macro
from graphkv.importers.latex.marks import FIXED, LINE, LITERAL, PART, SOFT, mark
from graphkv.importers.latex.numbers import Numbers
from graphkv.importers.latex.scan import Scanner
from graphkv.importers.latex.text import INSIDE_MATHEMATICS, MATHEMATICS, TABLES

_SILENT = {
    "": r"""maketitle tableofcontents listoffigures listoftables clearpage newpage cleardoublepage pagebreak nopagebreak noindent indent centering
        raggedright raggedleft hline selectfont balance vfill hfill frontmatter mainmatter backmatter bigskip medskip smallskip protect relax leavevmode
        makeatletter makeatother expandafter global long outer ignorespaces unskip null strut sloppy fussy flushbottom raggedbottom onecolumn
        footnotesize scriptsize tiny small normalsize large Large LARGE huge Huge bf it tt rm sf sl sc em bfseries itshape ttfamily rmfamily sffamily
        scshape slshape upshape mdseries normalfont boldmath unboldmath doublespacing singlespacing onehalfspacing qed qedhere @ hfil vfil hss vss break
        nobreak goodbreak smallbreak medbreak bigbreak begingroup endgroup bgroup egroup samepage twocolumn FloatBarrier columnbreak endinput
        IEEEpeerreviewmaketitle IEEEoverridecommandlockouts aftergroup flushleft flushright""",
    "m": r"""bibliographystyle pagestyle thispagestyle pagenumbering stepcounter refstepcounter hypersetup graphicspath arrayrulecolor cline
        hyphenation newlength newcounter newsavebox usetikzlibrary tikzset pgfplotsset lstset geometry linespread phantom hphantom vphantom markright
        index theoremstyle setcitestyle citestyle bibliography nobibliography includeonly DeclareGraphicsExtensions selectlanguage thanks Thanks email
        orcid orcidID inst institute authorrunning titlerunning affiliation IEEEauthorblockA acmYear acmISBN acmPrice acmBooktitle acmJournal acmVolume
        acmNumber acmArticle acmMonth copyrightyear setcopyright titlenote authornote subjclass pacs preprint keywordname urlstyle usefonttheme
        usetheme lstdefinestyle nocopyright BibitemShut input include subfile externaldocument defbibheading NeedsTeXFormat cortext corref fntext fnref
        ead tnotetext tnoteref footmark crefalias bstctlcite nopagecolor IEEEauthorrefmark noop noopsort SortNoop @gobble""",
    "om": r"""usepackage RequirePackage documentclass documentstyle LoadClass addbibresource color pagecolor rowcolor cellcolor columncolor captionsetup affil address
        todo ccsdesc contentsline titlespacing shortauthors""",
    "mm": r"""setlength addtolength setcounter addtocounter settowidth fontsize PassOptionsToPackage markboth colorlet lstdefinelanguage icmlaffiliation
        icmlcorrespondingauthor DeclareFieldFormat crefname Crefname defcitealias futurelet @gobbletwo""",
    "sm": "vspace hspace",
    "soom": "includegraphics",
    "o": "footnotemark toprule midrule bottomrule addlinespace printbibliography allowdisplaybreaks",
    "opm": "cmidrule",
    "mmm": "definecolor specialrule addcontentsline rowcolors providecolor",
    "omm": "rule numberwithin pdfbookmark",
    "ommm": "acmConference",
    "mmmm": "@startsection",
}
_PRINTED = {
    "mm": "href hyperlink hypertarget colorbox bibinfo bibfield href@noop Eprint",
    "omm": "textcolor foreignlanguage rotatebox",
    "mmm": "multicolumn fcolorbox",
    "mom": "scalebox",
    "smmm": "resizebox",
    "moom": "raisebox",
    "ooomm": "parbox",
    "oom": "makebox framebox",
    "om": "makecell thead shortstack hyperref",
    "omomom": "multirow",
    "m": "IEEEauthorblockN name centerline uppercase MakeUppercase ensuremath mbox hbox fbox url path bibnamefont bibfnamefont citenamefont",
}
_ABBREVIATIONS = {  # of the styles of conferences; a point behind one is not doubled
    "eg": "e.g.", "Eg": "E.g.", "ie": "i.e.", "Ie": "I.e.", "cf": "cf.", "Cf": "Cf.", "etc": "etc.", "vs": "vs.", "wrt": "w.r.t.", "dof": "d.o.f.",
    "iid": "i.i.d.", "etal": "et al.", "onedot": ".",
}  # fmt: skip
_FIRST_PRINTED = {"mm": "texorpdfstring"}
_ENVIRONMENTS = {
    "tabular": "om", "tabular*": "mom", "tabularx": "mom", "tabulary": "mom", "longtable": "om", "array": "om", "tblr": "om", "supertabular": "m",
    "xltabular": "mm", "alignat": "m", "alignat*": "m", "subarray": "m", "alignedat": "om", "IEEEeqnarray": "om", "minipage": "ooom", "multicols": "mo",
    "wrapfigure": "omom", "wraptable": "omom", "adjustbox": "m", "spacing": "m", "subfigure": "om", "subtable": "om", "otherlanguage": "m",
    "thebibliography": "m", "list": "mm", "tcolorbox": "o", "sidewaystable": "o", "threeparttable": "o", "algorithmic": "o", "fboxrule": "m",
}  # fmt: skip
_KEPT = TABLES | MATHEMATICS | INSIDE_MATHEMATICS
_KEYWORDS = frozenset(("keywords", "IEEEkeywords", "keyword", "Keywords"))
_LISTS = frozenset(("itemize", "enumerate", "description", "compactitem", "compactenum", "inparaenum"))
_UNCOUNTED = MATHEMATICS | _LISTS | {"subfigure", "subtable", "proof"}
_KNOWN = _KEPT | _LISTS | {"document", "abstract", "thebibliography"}
_HEADINGS = {"part": 0, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4}
_REFERENCES = ("ref", "eqref", "pageref", "vref", "vpageref", "nameref", "labelcref", "subref", "autoref", "cref", "Cref", "fref", "Fref")


def read_arguments(scanner: Scanner, specification: str) -> list[str | None]:
    """Arguments in order: ``m`` a group, ``o`` in brackets, ``p`` in parentheses, ``s`` a star."""
    found: list[str | None] = []
    for kind in specification:
        if kind == "s":
            found.append("*" if scanner.take("*") else None)
        elif kind in "op":
            found.append(scanner.option() if kind == "o" else scanner.option("(", ")"))
        else:
            found.append(scanner.argument())
    return found


def commands(literals: list[str], definitions: Definitions, numbers: Numbers) -> dict[str, Command]:
    """Every command by its name, for :class:`graphkv.importers.latex.macros.Expander`.

    Args:
        literals: URLs that macros put together are added. definitions: the paper's environments. numbers: its counters.
    """
    environments = _Environments(definitions, numbers)

    def heading(scanner: Scanner, name: str) -> str:
        star, _, title = read_arguments(scanner, "som")
        numbers.heading(_HEADINGS[name], numbered=star is None)
        return mark(PART, f"{_HEADINGS[name]}{title}")

    def appendix(scanner: Scanner, name: str) -> str:
        numbers.appendix()
        return ""

    def caption(scanner: Scanner, name: str) -> str:
        arguments = read_arguments(scanner, "smom" if name == "captionof" else "som")
        number = numbers.caption(arguments[1] if name == "captionof" else None) if arguments[0] is None else ""
        return f"\n\n{number}{arguments[-1]}\n\n"

    def label(scanner: Scanner, name: str) -> str:
        numbers.label(scanner.argument())
        return ""

    def reference(scanner: Scanner, name: str) -> str:
        scanner.take("*")
        return numbers.reference(scanner.argument(), named=name in ("autoref", "cref", "Cref", "fref", "Fref"))

    return {
        **_plain_commands(),
        **algorithm_commands(definitions),
        **dict.fromkeys(_HEADINGS, heading),
        **dict.fromkeys(_REFERENCES, reference),
        "appendix": appendix,
        "caption": caption,
        "captionof": caption,
        "label": label,
        "url": lambda scanner, name: _url(scanner, literals),
        "begin": environments.begin,
        "end": environments.end,
        "item": environments.item,
    }


PROTECTED = frozenset(
    (*_HEADINGS, *_REFERENCES, "paragraph", "subparagraph", "footnote", "title", "author", "caption", "abstract", "begin", "end", "item", "label", "par", "onedot")
) | {"bibliography", "maketitle", "usepackage", "documentclass", "url", "href", "protect", "appendix"}
"""Commands that mean the same whatever a style makes of them."""


@cache
def _plain_commands() -> dict[str, Command]:
    """The commands that are the same in every paper."""
    table: dict[str, Command] = {}
    for specification, names in _SILENT.items():
        table.update(dict.fromkeys(names.split(), _silent(specification)))
    for specification, names in _PRINTED.items():
        table.update(dict.fromkeys(names.split(), _printed(specification, -1)))
    for specification, names in _FIRST_PRINTED.items():
        table.update(dict.fromkeys(names.split(), _printed(specification, 0)))
    table.update(dict.fromkeys(("paragraph", "subparagraph"), _run_in_heading))
    table.update(dict.fromkeys(("footnote", "tablefootnote", "footnotetext", "endnote"), _footnote))
    table.update(dict.fromkeys(("SI", "si", "qty", "unit"), _quantity))
    table.update(dict.fromkeys(("and", "And", "AND"), lambda scanner, name: LINE))
    for name, letter in (("title", "T"), ("author", "A"), ("date", "D"), ("acmDOI", "O"), ("icmltitle", "T")):
        table[name] = _front(letter)
    table.update(dict.fromkeys(("penalty", "vskip", "hskip", "kern", "mkern", "baselineskip", "parskip", "parindent"), _length))
    table.update(dict.fromkeys(_ABBREVIATIONS, _abbreviation))
    table["@ifnextchar"] = _if_next
    table["par"] = lambda scanner, name: "\n\n"
    table["enquote"] = lambda scanner, name: f"{{``{read_arguments(scanner, 'sm')[-1]}''}}"
    table["keywords"] = _keywords
    table["sep"] = lambda scanner, name: ", "
    table["icmlauthor"] = lambda scanner, name: mark(PART, f"A{read_arguments(scanner, 'mm')[0]}")
    table["abstract"] = _abstract
    return table


def _silent(specification: str) -> Command:
    def command(scanner: Scanner, name: str) -> str:
        read_arguments(scanner, specification)
        return ""

    return command


def _printed(specification: str, which: int) -> Command:
    def command(scanner: Scanner, name: str) -> str:
        text = read_arguments(scanner, specification)[which] or ""
        if name in ("makecell", "thead", "shortstack", "parbox"):  # line breaks of a cell are not rows of the table
            text = re.sub(r"\\\\(?:\s*\[[^\]]*\])?", " ", text)
        return f"{{{text}}}"

    return command


def _abbreviation(scanner: Scanner, name: str) -> str:
    text = _ABBREVIATIONS[name]
    return (text[:-1] if scanner.peek() == "." else text) + (r"\xspace" if name == "onedot" else "")


def _if_next(scanner: Scanner, name: str) -> str:
    wanted, yes, no = scanner.argument(), scanner.argument(), scanner.argument()
    return yes if scanner.peek() == wanted else no


def _length(scanner: Scanner, name: str) -> str:
    scanner.skip_length()
    return ""


def _front(letter: str) -> Command:
    return lambda scanner, name: mark(PART, f"{letter}{read_arguments(scanner, 'om')[-1]}")


def _run_in_heading(scanner: Scanner, name: str) -> str:
    title = str(read_arguments(scanner, "som")[-1]).strip()
    scanner.skip_blank()
    return f"\n\n{{{title}}}{'' if title.endswith(('.', ':', '?', '!')) or not title else '.'} "


def _footnote(scanner: Scanner, name: str) -> str:
    return f"{SOFT}({str(read_arguments(scanner, 'om')[-1]).strip()})"


def _quantity(scanner: Scanner, name: str) -> str:
    parts = read_arguments(scanner, "omm" if name in ("SI", "qty") else "om")[1:]
    return "{" + " ".join(re.sub(r"\\([A-Za-z]+)", r" \1 ", part or "") for part in parts) + "}"


def _keywords(scanner: Scanner, name: str) -> str:
    words = re.sub(r"\s*\\(?:and|sep)(?![A-Za-z@])\s*", ", ", scanner.argument())
    return f"\n\nKeywords: {words}\n\n"


def _abstract(scanner: Scanner, name: str) -> str:
    return mark(PART, "Z") + scanner.argument() + mark(PART, "Y") if scanner.group_ahead() else ""


def _url(scanner: Scanner, literals: list[str]) -> str:
    literals.append(re.sub(r"\\([%#&_~{}$])", r"\1", scanner.argument()))
    return mark(LITERAL, len(literals) - 1)


class _Environments:
    """``\\begin``, ``\\end`` and ``\\item``: only tables and formulas stay environments; lists become lines, the rest paragraphs."""

    def __init__(self, definitions: Definitions, numbers: Numbers) -> None:
        self._definitions, self._numbers = definitions, numbers
        self._lists: list[int | None] = []

    def _own(self, name: str) -> tuple[Macro, str] | None:
        """What the paper defines `name` as, unless it is an environment whose meaning a text depends on."""
        return None if name in _KNOWN else self._definitions.environments.get(name)

    def begin(self, scanner: Scanner, _: str) -> str:
        name = scanner.argument().strip()
        own = self._own(name)
        theorem = None if own or name in _KNOWN else self._definitions.theorems.get(name)
        self._numbers.begin(name, counted_elsewhere=bool(own or theorem) or name in _UNCOUNTED)
        if own:
            return own[0].expand(scanner)[0]
        if theorem:
            title = scanner.option()
            return f"\n\n{self._numbers.theorem(theorem)}{f' ({title})' if title else ''}. "
        arguments = read_arguments(scanner, _ENVIRONMENTS.get(name, "" if name in MATHEMATICS | INSIDE_MATHEMATICS else "o"))
        if name in _KEPT:
            return f"{FIXED}\\begin{{{name}}}"
        if name in _LISTS:
            self._lists.append(0 if "enum" in name else None)
        own_title = (arguments[0] or "").strip().rstrip(".") if name == "proof" else ""
        return {"document": mark(PART, "P"), "abstract": mark(PART, "Z"), "proof": f"\n\n{own_title or 'Proof'}. "}.get(name, "\n\nKeywords: " if name in _KEYWORDS else "\n\n")

    def end(self, scanner: Scanner, _: str) -> str:
        name = scanner.argument().strip()
        self._numbers.end()
        if own := self._own(name):
            return own[1]
        if name in _KEPT:
            return f"{FIXED}\\end{{{name}}}"
        if name in _LISTS and self._lists:
            self._lists.pop()
        return mark(PART, "Y") if name == "abstract" else "\n\n"

    def item(self, scanner: Scanner, _: str) -> str:
        own = scanner.option()
        if own is not None:
            return f"{LINE}{{{own}}} "
        if self._lists and (number := self._lists[-1]) is not None:
            self._lists[-1] = number + 1
            return f"{LINE}{number + 1}. "
        return f"{LINE}- "


def with_citations(table: Mapping[str, Command], citing: Mapping[str, Command]) -> tuple[dict[str, Command], frozenset[str]]:
    """The commands with those that cite, and the names among them that a paper cannot define anew."""
    return {**table, **citing}, PROTECTED | frozenset(citing)
