"""Algorithms as lines of text: the commands of algorithmic, algpseudocode and algorithm2e."""

from __future__ import annotations

import re

from graphkv.importers.latex.macros import Command, Definitions, Macro, Parameter
from graphkv.importers.latex.marks import LINE
from graphkv.importers.latex.scan import Scanner

_BLOCKS = {  # with a condition: (what stands in front of it, what stands behind it)
    "For": ("for", "do"), "ForAll": ("for all", "do"), "ForEach": ("for each", "do"), "While": ("while", "do"), "Loop": ("loop", ""),
    "If": ("if", "then"), "ElsIf": ("else if", "then"), "ElseIf": ("else if", "then"), "Else": ("else", ""), "Repeat": ("repeat", ""),
    "Until": ("until", ""), "Switch": ("switch", "do"), "Case": ("case", "do"), "Other": ("otherwise", "do"), "Begin": ("begin", ""),
}  # fmt: skip
_FIELDS = {
    "Require": "Require:", "Ensure": "Ensure:", "Input": "Input:", "Output": "Output:", "Return": "return", "Print": "print", "KwIn": "Input:",
    "KwOut": "Output:", "KwData": "Data:", "KwResult": "Result:", "KwRet": "return",
}  # fmt: skip
_WORDS = {"TO": "to", "TRUE": "true", "FALSE": "false", "OR": "or", "NOT": "not", "XOR": "xor", "KwTo": "to"}
_SETTINGS = {
    "": "SetAlgoLined SetAlgoNoLine SetAlgoVlined SetAlgoLongEnd SetAlgoShortEnd SetAlgoNoEnd DontPrintSemicolon PrintSemicolon LinesNumbered LinesNotNumbered"
    " Indp Indm",
    "m": "RestyleAlgo SetAlCapSkip SetAlFnt SetAlCapFnt SetCommentSty SetKwSty SetArgSty SetAlgorithmName SetAlgoCaptionSeparator SetAlCapHSkip SetInd nlset",
    "mmm": "SetKwComment SetNlSty",
}
_TOKENS = re.compile(
    r"\\(?P<what>begin|end)\s*\{(?:algorithm2e|algorithm|algorithmic|procedure|function)\*?\}|\$[^$]{0,500}\$|\\\(.{0,500}?\\\)"
    r"|\\(?P<end>;)|\\(?P<and>AND|And)(?![A-Za-z@])|\\.",
    re.DOTALL,
)


def with_lines(source: str) -> str:
    r"""Clean LaTeX in whose algorithms ``\;`` ends a line and ``\AND`` is a word; elsewhere the one is a space and the other stands between authors.

    Example:
        >>> with_lines(r"a\;b \begin{algorithm}c\;\end{algorithm}") == "a\\;b \\begin{algorithm}c" + LINE + "\\end{algorithm}"
        True
    """
    depth = 0

    def replaced(found: re.Match[str]) -> str:
        nonlocal depth
        if found["what"]:
            depth = max(0, depth + (1 if found["what"] == "begin" else -1))
        if depth and found["end"]:
            return LINE
        return " and " if depth and found["and"] else found.group()

    return _TOKENS.sub(replaced, source)


def algorithm_commands(definitions: Definitions) -> dict[str, Command]:
    """The commands by their names, each as packages write it (``ForAll``) and in capitals (``FORALL``); none in small letters, which are TeX's.

    Args:
        definitions: the paper's own; ``\\algorithmicrequire`` and the like say what is printed, ``\\SetKwInOut`` and the like add to them.
    """
    table: dict[str, Command] = {}
    for name, words in _BLOCKS.items():
        table.update(dict.fromkeys((name, name.upper(), f"u{name}"), _block(*words)))
        table.update(dict.fromkeys((f"End{name}", f"END{name.upper()}"), lambda scanner, name: LINE))
        table[f"l{name}"] = _block(*words, with_body=True)
    for name, word in _FIELDS.items():
        table.update(dict.fromkeys((name, name.upper()), _field(definitions, word)))
    table.update({name: _word(word) for name, word in _WORDS.items()})
    for name in ("Procedure", "Function"):
        table.update(dict.fromkeys((name, name.upper()), _procedure))
        table.update(dict.fromkeys((f"End{name}", f"END{name.upper()}"), lambda scanner, name: LINE))
    table.update(dict.fromkeys(("Call", "CALL"), lambda scanner, name: f"{{{scanner.argument()}}}({scanner.argument()})"))
    table.update(dict.fromkeys(("Comment", "COMMENT", "tcp", "tcc"), _comment))
    table.update(dict.fromkeys(("eIf", "ueIf"), _if_else))
    table["BlankLine"] = lambda scanner, name: LINE
    for specification, names in _SETTINGS.items():
        table.update(dict.fromkeys(names.split(), _setting(len(specification))))
    table.update(dict.fromkeys(("SetKwInOut", "SetKwInput", "SetKwProg", "SetKw", "SetKwData", "SetKwFunction", "SetKwArray"), _defining(definitions)))
    return table


def _block(before: str, behind: str, with_body: bool = False) -> Command:
    """A line that opens a block; a body in braces follows in lines of its own."""

    def command(scanner: Scanner, name: str) -> str:
        comment, note = scanner.option("(", ")"), scanner.option()  # of algorithm2e, where it is a command; of algorithmic
        condition = scanner.argument() if before not in ("else", "otherwise", "loop", "begin") and scanner.group_ahead() else ""
        line = " ".join(filter(None, (before, condition, behind if condition else "", comment, f"// {note}" if note else "")))
        body = f"{{{scanner.argument()}}}{LINE}" if with_body and scanner.group_ahead() else ""
        return f"{LINE}{line}{LINE}{body}"

    return command


def _if_else(scanner: Scanner, name: str) -> str:
    scanner.option("(", ")")
    condition, first, second = scanner.argument(), scanner.argument(), scanner.argument()
    return f"{LINE}if {condition} then{LINE}{{{first}}}{LINE}else{LINE}{{{second}}}{LINE}"


def _field(definitions: Definitions, word: str) -> Command:
    def command(scanner: Scanner, name: str) -> str:
        own = f"algorithmic{name.lower()}"
        printed = f"\\{own}{{}}" if own in definitions.macros else word
        return f"{LINE}{printed} " + (f"{scanner.argument()}{LINE}" if scanner.group_ahead() else "")

    return command


def _word(word: str) -> Command:
    return lambda scanner, name: f" {word} "


def _procedure(scanner: Scanner, name: str) -> str:
    called = scanner.argument()
    return f"{LINE}{name.lower()} {called}({scanner.argument() if scanner.group_ahead() else ''}){LINE}"


def _comment(scanner: Scanner, name: str) -> str:
    scanner.take("*")
    scanner.option()
    return f" // {scanner.argument()}{LINE}"


def _setting(arguments: int) -> Command:
    def command(scanner: Scanner, name: str) -> str:
        for _ in range(arguments):
            scanner.argument()
        return ""

    return command


def _defining(definitions: Definitions) -> Command:
    """Words that a paper using algorithm2e makes for itself."""

    def command(scanner: Scanner, name: str) -> str:
        defined, word = scanner.argument().strip().lstrip("\\"), scanner.argument()
        if name == "SetKwProg":
            scanner.argument()
            scanner.argument()
        body = {"SetKwInOut": f"{LINE}{word}: #1{LINE}", "SetKwInput": f"{LINE}{word}: #1{LINE}", "SetKwProg": f"{LINE}{word} #1{LINE}"}.get(name)
        definitions.macros[defined] = Macro((Parameter(),), body) if body else Macro((), f"{{{word}}} ")
        return ""

    return command
