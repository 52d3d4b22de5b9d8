"""LaTeX to readable Unicode text, by pylatexenc: accents and symbols, tables with cells, mathematics as its source."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers.latex.marks import CELL, GONE, LINE, LITERAL, NUMBERED, SOFT, only_text
from graphkv.importers.latex.numbers import without_dangling

MAX_DEPTH = 150
"""Braces and environments within each other. TeX itself stops at 255 groups."""

TABLES = frozenset(("tabular", "tabular*", "tabularx", "tabulary", "longtable", "array", "tblr", "supertabular", "xltabular"))
MATHEMATICS = frozenset(
    name + star
    for name in ("equation", "align", "eqnarray", "multline", "gather", "flalign", "alignat", "displaymath", "math", "dmath", "IEEEeqnarray")
    for star in ("", "*")
)
INSIDE_MATHEMATICS = frozenset(
    ("aligned", "alignedat", "gathered", "split", "cases", "dcases", "rcases", "array", "matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix")
) | {"smallmatrix", "subarray"}
"""Environments that stay: their `&` and `\\\\` are a table's or a formula's."""

_SYMBOLS = {
    "ddag": "‡", "dagger": "†", "ddagger": "‡", "copyright": "©", "textcopyright": "©", "textregistered": "®", "texttrademark": "™",
    "pounds": "£", "euro": "€", "EUR": "€", "texteuro": "€", "LaTeX": "LaTeX", "TeX": "TeX", "BibTeX": "BibTeX", "LaTeXe": "LaTeX2e",
    "checkmark": "✓", "cmark": "✓", "xmark": "✗", "texttildelow": "~", "textasciitilde": "~", "ldots": "…", "dots": "…", "textellipsis": "…",
    "slash": "/", "textbar": "|", "textbackslash": "\\", "textperiodcentered": "·", "allowbreak": "", "-": "", "/": "", "par": "\n\n",
    "newline": LINE, "linebreak": LINE, "tabularnewline": "\\", "quad": " ", "qquad": " ", ",": " ", ";": " ", ":": " ", "!": "", "nobreakdash": "",
    "nolinkurl": "", "State": LINE, "STATE": LINE, "Statex": LINE, "textquotedbl": '"', "S": "§", "P": "¶", "lbrack": "[", "rbrack": "]",
}  # fmt: skip
_ROW_END = re.compile(r"\\(?:\\|tabularnewline(?![A-Za-z]))\*?(?:\s*\[[^\]\n]*\])?")
_WORDS = re.compile("[^\\W_](?:[^\\W_]|[,.;:()\ue000-\ue00f]|[ \n](?=[^\\W_\n]))*+")
_DEPTH = re.compile(r"\\.|[{}]", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{")
_ONLY_LAYOUT = re.compile(r"\\(?:nonumber|notag|displaystyle|textstyle|limits|label\{[^{}]*\})(?![A-Za-z])|" + GONE)


def to_text(latex: str, where: str, unknown: Counter[str] | None = None) -> str:
    """The text that LaTeX sets, with the marks that are in it; white space still as it comes.

    Args:
        latex: clean and expanded. where: for messages.
        unknown: macros that nobody knows and that have no argument, so that they print nothing, are counted in it.

    Raises:
        DocumentError: it is nested too deep.

    Example:
        >>> to_text(r"\\textbf{F\\"arber} \\& $x^2$", "paper.tex")
        'Färber & $x^2$'
    """
    if not re.search(r"[\\{}$&%#~`'\"\-^_]", latex):
        return latex
    depth = deepest = 0
    for found in _DEPTH.finditer(latex):
        depth += (found.group() == "{") - (found.group() == "}" and depth > 0)
        deepest = max(deepest, depth)
    opened = 0
    for environment in _ENVIRONMENT.finditer(latex):
        opened = max(0, opened + (1 if environment[1] == "begin" else -1))
        deepest = max(deepest, opened)
    if deepest > MAX_DEPTH:
        raise DocumentError(f"{where}: groups or environments are nested {deepest:,} deep: expected at most {MAX_DEPTH}; is a brace missing?")
    walker, converter = _library()
    try:
        converter.unknown = Counter() if unknown is None else unknown
        nodes = walker(latex).get_latex_nodes()[0]
        return str(converter.nodelist_to_text(nodes))
    except RecursionError:  # formulas that open and never close nest as well
        raise DocumentError(f"{where}: nested too deep to be read; is a brace or a $ missing?") from None


@cache
def _library() -> tuple[Any, Any]:
    """A LaTeX parser, and a converter with our own ideas of tables, mathematics and what nobody knows."""
    from pylatexenc import latex2text, latexwalker, macrospec

    known = latexwalker.get_default_latex_context_db().filter_context(exclude_categories=["natbib", "latex-ethuebung", "verbatim"])
    table = [macrospec.EnvironmentSpec(name, "") for name in TABLES | MATHEMATICS | INSIDE_MATHEMATICS]
    known.add_context_category("graphkv", environments=table, macros=[macrospec.MacroSpec("\\", "*[")], specials=[macrospec.SpecialsSpec("&")], prepend=True)

    class Walker(latexwalker.LatexWalker):  # type: ignore[misc]
        """Reads words at once where the library goes character by character, which takes most of its time."""

        in_argument = False  # an argument without braces is one character

        def get_token(self, pos: int, *args: Any, **options: Any) -> Any:
            if not self.in_argument and (run := _WORDS.match(self.s, pos)):
                return latexwalker.LatexToken(tok="char", arg=run.group(), pos=pos, len=run.end() - pos, pre_space="")
            return super().get_token(pos, *args, **options)

        def get_latex_expression(self, *args: Any, **options: Any) -> Any:
            before, self.in_argument = self.in_argument, True
            try:
                return super().get_latex_expression(*args, **options)
            finally:
                self.in_argument = before

        def get_latex_nodes(self, *args: Any, **options: Any) -> Any:
            before, self.in_argument = self.in_argument, False
            try:
                return super().get_latex_nodes(*args, **options)
            finally:
                self.in_argument = before

    class Converter(latex2text.LatexNodes2Text):  # type: ignore[misc]
        in_table = 0
        unknown: Counter[str]

        def nodelist_to_text(self, nodelist: Any) -> str:
            pieces: list[str] = []
            last: Any = None  # a macro that nobody knows, if one stands in front: an option behind it is no text, a group is its argument
            for node in [*nodelist, None]:
                text = "" if node is None else self.node_to_text(node)
                if last is not None and not (node and node.isNodeType(latexwalker.LatexGroupNode)):
                    characters = node and node.isNodeType(latexwalker.LatexCharsNode) and not last.macro_post_space
                    if characters and (option := re.match(r"\[[^\]\n]*\]", text)):
                        text = text[option.end() :]
                    else:
                        self.unknown[last.macroname] += 1
                pieces.append(text)
                last = node if node and node.isNodeType(latexwalker.LatexMacroNode) and not self._is_known(node.macroname) else None
            return "".join(pieces)

        def _is_known(self, name: str) -> bool:
            return name in _SYMBOLS or any(context.get_macro_spec(name) is not None for context in (self.latex_context, known))

        def chars_node_to_text(self, node: Any, textcol: int = 0) -> str:
            return str(node.chars).replace("`", "‘")

        def macro_node_to_text(self, node: Any) -> str:
            if node.macroname in ("\\", "tabularnewline", "cr"):
                return "\\\\" if self.in_table else LINE
            if node.macroname in _SYMBOLS:
                return _SYMBOLS[node.macroname]
            if self.latex_context.get_macro_spec(node.macroname) is None:
                return "".join(self._groupnodecontents_to_text(argument) for argument in node.nodeargd.argnlist) if node.nodeargd else ""
            return str(super().macro_node_to_text(node))

        def specials_node_to_text(self, node: Any) -> str:
            if node.specials_chars == "&":
                return CELL if self.in_table else "&"
            return str(super().specials_node_to_text(node)).replace("\xa0", " ")

        def math_node_to_text(self, node: Any) -> str:
            source = str(node.latex_verbatim())
            return _formula(source, "$$") if node.displaytype == "display" else _formula(source, "$")

        def environment_node_to_text(self, node: Any) -> str:
            if node.environmentname in MATHEMATICS:
                return _formula(node.latex_verbatim(), "$$")
            if node.environmentname in INSIDE_MATHEMATICS - TABLES:
                return str(node.latex_verbatim())
            if node.environmentname not in TABLES:
                return self.nodelist_to_text(node.nodelist)
            self.in_table += 1
            content = self.nodelist_to_text(node.nodelist)
            self.in_table -= 1
            return _table(content) if not self.in_table else " ".join(content.replace("\\\\", " ").replace(CELL, " ").split())

    converter = Converter(latex2text.get_default_latex_context_db(), math_mode="verbatim", strict_latex_spaces=True)
    return (lambda latex: Walker(latex, latex_context=known, tolerant_parsing=True)), converter


def _formula(source: str, delimiter: str) -> str:
    """A formula's source without what only moves it, between ``$`` or, in a line of its own, ``$$``."""
    inner = re.sub(r"^\s*(?:\$\$?|\\\[|\\\(|\\begin\s*\{[^}]*\})|(?:\$\$?|\\\]|\\\)|\\end\s*\{[^}]*\})\s*$", "", source)
    inner = _ONLY_LAYOUT.sub("", inner)
    if delimiter == "$$":
        if r"\begin" not in inner:
            inner = re.sub(r"(?<!\\)&", "", _ROW_END.sub(LINE, inner))
        inner = LINE.join(filter(None, (" ".join(line.split()) for line in inner.split(LINE))))
        return f"{LINE}$${inner}$${LINE}" if inner else ""
    inner = " ".join(inner.split())
    return f"${inner}$" if inner else ""


def _table(content: str) -> str:
    """Rows in lines, cells between bars; rows without anything in them are left out."""
    rows = [[" ".join(cell.replace(LINE, " ").split()) for cell in row.split(CELL)] for row in content.split("\\\\")]
    return "\n\n" + LINE.join(" | ".join(row).strip() for row in rows if any(row)) + "\n\n"


def tidy(text: str) -> str:
    """White space put right: paragraphs apart by an empty line, lines only where a mark says so, no space in front of a comma.

    Example:
        >>> tidy("a\\n b  , c\\n \\n\\nd")
        'a b, c\\n\\nd'
    """
    text = re.sub(r"[^\S\n]+", " ", text.replace("\u00ad", ""))
    text = re.sub(r"\n{2,}|\n", lambda found: "\n\n" if len(found.group()) > 1 else " ", text.replace(" \n", "\n").replace("\n ", "\n"))
    text = re.sub(f"§+ ?(?={GONE})", "", text)
    text = re.sub(r"(Appendix |Section )?§+ ?(?=“)", lambda found: found[1] or "Section ", text)
    text = without_dangling(text)
    text = re.sub(f" ?{SOFT} ?(?=[(])", SOFT, text)
    text = re.sub(f"(?<=[\\s(\\[“‘{{$~{LINE}]){SOFT}|^{SOFT}", "", text).replace(SOFT, " ")
    text = re.sub(f"\\((?:\\s|{GONE}|[,;]|and){{0,20}}{GONE}(?:\\s|{GONE}|[,;]|and){{0,20}}\\)", "", text).replace(GONE, "")
    paragraphs: list[str] = []
    for paragraph in text.split("\n\n"):
        lines = [re.sub(r"(?<=\S) (?=[,.;:](?:\s|$))", "", " ".join(line.split())) for line in paragraph.split(LINE)]
        if kept := "\n".join(filter(None, lines)):
            paragraphs.append(kept)
    return "\n\n".join(paragraphs)


def put_literals(text: str, literals: list[str]) -> str:
    """Verbatim text and URLs in the places of their marks; other marks are gone."""

    def literal(found: re.Match[str]) -> str:
        number = int(found[1])
        return literals[number] if number < len(literals) else ""

    return only_text(NUMBERED[LITERAL].sub(literal, text))
