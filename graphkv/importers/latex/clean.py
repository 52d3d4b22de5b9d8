"""LaTeX source without what LaTeX does not print: comments, ``\\iffalse``, everything behind ``\\end{document}``; verbatim text is put aside."""

from __future__ import annotations

import re

from graphkv.importers.latex.marks import LITERAL, mark, without_marks

_VERBATIM = ("verbatim", "verbatim*", "Verbatim", "lstlisting", "minted", "alltt")
_UNPRINTED = ("comment", "filecontents", "filecontents*", "CCSXML", "tikzpicture", "pgfpicture", "picture", "asy", "luacode")
_STOPS = re.compile(
    r"\\(?:begin\s*\{(?P<environment>" + "|".join(map(re.escape, _VERBATIM + _UNPRINTED)) + r")\}"
    r"|(?P<false>iffalse)(?![A-Za-z@])"
    r"|aftergroup\s*\\endinput(?![A-Za-z@])"  # happens later, if at all: biber's .bbl ends so where biblatex is missing
    r"|(?P<end>end\s*\{document\}|endinput(?![A-Za-z@]))"
    r"|(?P<verb>verb|lstinline)(?![A-Za-z@])\*?(?P<option>\[[^\]\n]*\])?(?P<quote>[^A-Za-z\s*\[])"
    r"|(?P<url>url|path|nolinkurl|href)(?![A-Za-z@])\s*\{(?P<address>(?:\\.|[^{}\\\n]|\n(?!\s*\n)|\{[^{}\n]*\})*+)\}"
    r"|.)"
    r"|%[^\n]*+(?P<next>\n[ \t]*+(?!\n))?",
    re.DOTALL,
)
_CONDITION = re.compile(r"\\(?P<name>if(?!f(?![A-Za-z@])|thenelse)[A-Za-z@]*|fi)(?![A-Za-z@])|\\.|%[^\n]*", re.DOTALL)
_REST_OF_LINE = re.compile(r"[ \t]*\n")
_OPTIONS = re.compile(r"\s*\[[^\]]*\]|(?<=minted\})\s*\{[^}]*\}")


def clean(text: str, literals: list[str]) -> str:
    """What LaTeX would set, of one file.

    A comment takes the end of its line and the indentation of the next one with it, as in TeX. Pictures that are drawn in
    LaTeX (``tikzpicture``) go too.

    Args:
        text: the file. literals: verbatim text and URLs are added to it; a mark with their number stands in their place.

    Example:
        >>> clean("a % no\\n  b \\\\iffalse c \\\\fi d\\\\end{document} e", [])
        'a b  d'
    """
    text = without_marks(text)
    pieces: list[str] = []
    hopeless: set[str] = set()  # environments whose end was looked for in vain: not again for each of their begins
    at = 0
    while found := _STOPS.search(text, at):
        pieces.append(text[at : found.start()])
        at = found.end()
        if found["end"]:
            return "".join(pieces)
        if name := found["environment"]:
            end = -1 if name in hopeless else text.find(f"\\end{{{name}}}", at)
            if end < 0:
                hopeless.add(name)
                pieces.append("" if name == "comment" else found.group())
                continue
            if name in _VERBATIM:
                body = text[at:end]
                if options := _OPTIONS.match(text, at, end) if name in ("lstlisting", "minted") else None:
                    body = text[options.end() : end]
                pieces.append("\n\n" + _literal(body.strip("\n"), literals) + "\n\n")
            at = end + len(f"\\end{{{name}}}")
            if name == "comment" and (line := _REST_OF_LINE.match(text, at)):
                at = line.end()
        elif found["false"]:
            at = _end_of_condition(text, at, hopeless)
        elif found["verb"]:
            closing = "}" if found["quote"] == "{" else found["quote"]
            end = text.find(closing, at, at + 2000)
            if end < 0 or "\n\n" in text[at:end]:
                continue
            pieces.append(_literal(text[at:end], literals))
            at = end + 1
        elif found["url"]:
            pieces.append(_address(found, literals))
        elif not found.group().startswith("%"):  # an escaped character, or the start of another control word
            pieces.append(found.group())
    pieces.append(text[at:])
    return "".join(pieces)


def _literal(text: str, literals: list[str]) -> str:
    literals.append(text)
    return mark(LITERAL, len(literals) - 1)


def _address(found: re.Match[str], literals: list[str]) -> str:
    """A URL, in which ``%`` and ``_`` mean themselves; not one that a macro will put together from its arguments."""
    address = found["address"]
    if re.search(r"#\d", address) or "\\" in (plain := re.sub(r"\\([%#&_~{}$])", r"\1", address)):
        return found.group()
    literal = _literal("".join(plain.split()), literals)
    return f"\\href{{{literal}}}" if found["url"] == "href" else literal


def _end_of_condition(text: str, at: int, hopeless: set[str]) -> int:
    """Behind the ``\\fi`` (or at the text behind the ``\\else``) that belongs to an ``\\iffalse``; `at` if there is none."""
    depth = 0
    if "fi" in hopeless:
        return at
    for found in _CONDITION.finditer(text, at):
        if found["name"] == "fi":
            if depth == 0:
                return found.end()
            depth -= 1
        elif found["name"]:
            depth += 1
    hopeless.add("fi")
    return at
