"""Macros that a paper defines for itself: reads their definitions and puts their texts in their places, within bounds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from graphkv.errors import DocumentError
from graphkv.importers.latex.marks import FIXED
from graphkv.importers.latex.scan import Scanner

Command = Callable[[Scanner, str], str]
"""Reads the arguments of the control word that is named second; gives the LaTeX that stands for it, which is expanded in turn."""

USE_LIMIT = 100_000
"""Characters that one use of a macro may grow by."""
TOTAL_LIMIT = 2_000_000
"""Characters that all uses together may grow by, and ten times the source."""

_OPTION = re.compile(r"(\w+)\s*=\s*\{?([^,{}]*)")
_PARAMETER = re.compile(r"#(\d)|##")
_ENDS_IN_WORD = re.compile(r"\\[A-Za-z@]+$")
_XPARSE = re.compile(r"\s*([+!]?)([mosvO])(?:\{((?:[^{}]|\{[^{}]*\})*)\})?")
_NO_SPACE_BEFORE = frozenset(".,:;!?/')-}{~] \t\n")
_CONDITIONS = frozenset(
    ("if", "ifcase", "ifcat", "ifcsname", "ifdefined", "ifdim", "ifeof", "ifhbox", "ifhmode", "ifinner", "ifmmode", "ifnum", "ifodd", "ifpdf", "ifvbox")
) | {"ifvmode", "ifvoid", "ifx", "ifluatex", "ifxetex"}


@dataclass(frozen=True)
class Parameter:
    """``m`` an argument, ``o`` one in brackets (`detail` is the default), ``s`` a star, ``d`` text up to `detail`, ``x`` `detail` itself, no argument."""

    kind: str = "m"
    detail: str = ""


@dataclass(frozen=True)
class Macro:
    """What stands for a control word."""

    parameters: tuple[Parameter, ...]
    body: str

    def expand(self, scanner: Scanner) -> tuple[str, int]:
        """The body with its arguments, read from `scanner`, and how many characters of it were arguments."""
        arguments: list[str] = []
        for parameter in self.parameters:
            if parameter.kind == "s":
                arguments.append(r"\BooleanTrue" if scanner.take("*") else r"\BooleanFalse")
            elif parameter.kind == "o":
                option = scanner.option()
                arguments.append(parameter.detail if option is None else option)
            elif parameter.kind == "x":
                scanner.until(parameter.detail)
            elif parameter.kind == "d":
                arguments.append(scanner.until(parameter.detail) or "")
            else:
                arguments.append(scanner.argument())
        return _fill(self.body, arguments), sum(map(len, arguments))


@dataclass(frozen=True)
class Theorem:
    """An environment like a theorem: what it prints, what it is counted with (nothing if it has no number), and the heading within which it is."""

    printed: str
    counter: str = ""
    within: str = ""


_THEOREMS = {
    name + star: Theorem(name.capitalize(), "" if star else name)
    for name in ("theorem", "lemma", "definition", "proposition", "corollary", "remark", "example", "claim", "conjecture")
    for star in ("", "*")
}
"""Those that classes define. In llncs, and where it is not said otherwise, each is counted for itself."""


@dataclass
class Definitions:
    """What a paper has defined so far: macros, environments (what begins and what ends them), theorems and switches (``\\newif``)."""

    macros: dict[str, Macro] = field(default_factory=dict)
    environments: dict[str, tuple[Macro, str]] = field(default_factory=dict)
    theorems: dict[str, Theorem] = field(default_factory=lambda: dict(_THEOREMS))
    switches: dict[str, bool] = field(default_factory=dict)


def _fill(body: str, arguments: list[str]) -> str:
    pieces: list[str] = []
    at = 0
    for found in _PARAMETER.finditer(body):
        pieces.append(body[at : found.start()])
        at = found.end()
        number = int(found[1] or 0)
        text = arguments[number - 1] if 1 <= number <= len(arguments) else "#" if not found[1] else ""
        if text[:1].isalpha() and _ENDS_IN_WORD.search(pieces[-1][-40:]):
            pieces.append(" ")
        pieces.append(text)
    return "".join([*pieces, body[at:]])


class Expander:
    """Expands a paper's own macros, and those commands that are given.

    Args:
        source: clean LaTeX. commands: by control word; `protected` ones among them keep their meaning whatever the paper defines.
        note: called with a line for each macro that had to be given up.
        definitions: to go on with those of another source.

    Attributes:
        unknown: control words that only a style file knows, left out, with how often they stood there.

    Example:
        >>> Expander(r"\\newcommand{\\R}[1]{real #1} a \\R{b}", {}, print).expand()
        ' a real b'
    """

    def __init__(
        self,
        source: str,
        commands: Mapping[str, Command],
        note: Callable[[str], None],
        protected: frozenset[str] = frozenset(),
        definitions: Definitions | None = None,
    ) -> None:
        self.definitions = definitions or Definitions()
        self.unknown: Counter[str] = Counter()
        self._scanner = Scanner(source)
        self._commands = {**commands, **self._defining()}
        self._protected = protected | set(self._defining())
        self._note = note
        self._out: list[str] = []
        self._left = TOTAL_LIMIT + 10 * len(source)
        self._use = ("", 0, 0)  # the macro that the source uses here, what it may still grow by, and the output in front of it

    def expand(self) -> str:
        """The source with nothing left of the macros that it defines.

        Raises:
            DocumentError: the macros grow without bound.
        """
        scanner, out, macros = self._scanner, self._out, self.definitions.macros
        while (piece := scanner.plain()) is not None:
            fixed = piece.endswith(FIXED)
            out.append(piece[:-1] if fixed else piece)
            name = scanner.control()
            if name is None:
                continue
            if not fixed and name in macros and name not in self._protected:
                self._expand_macro(name, macros[name])
            elif not fixed and name in self._commands:
                outermost = scanner.depth == 0
                text = self._commands[name](scanner, name)
                if outermost:
                    self._use = (name, USE_LIMIT + 50 * len(text), len(out))
                    scanner.push(text)
                else:
                    self._push(text, len(text))
            elif not fixed and "@" in name[1:]:  # a style's own, which a document cannot write; \\@ alone only sets a space
                self.unknown[name] += 1
            elif fixed or not self._condition(name):
                out.append(f"\\{name}" + (" " if name.isalpha() and scanner.ends_here() else ""))
        if scanner.unbalanced:
            self._note(f"{scanner.unbalanced} arguments whose brace is never closed; read up to the end of their paragraph")
        return "".join(out)

    def _expand_macro(self, name: str, macro: Macro) -> None:
        outermost = self._scanner.depth == 0
        if name.isalpha():
            self._scanner.skip_space()
        text, from_arguments = macro.expand(self._scanner)
        if outermost:
            self._use = (name, USE_LIMIT + 50 * from_arguments, len(self._out))
        self._push(text, len(text) - from_arguments)

    def _push(self, text: str, grown: int) -> None:
        """Go on with `text`, unless what the source uses here has grown too much."""
        first, allowed, written = self._use
        grown = max(1, grown + 1)
        self._left -= grown
        self._use = (first, allowed - grown, written)
        if self._left < 0:
            raise DocumentError("macros grow without bound: expected texts that end somewhere")
        if allowed < grown:
            self._note(f"\\{first} grows to more than {USE_LIMIT:,} characters; left out")
            del self._out[written:]
            self.definitions.macros.pop(first, None)
            self._scanner.unwind()
            return
        self._scanner.push(text)

    def _condition(self, name: str) -> bool:
        """Whether `name` was a word of a condition or of a switch; if so, it is dealt with."""
        switches = self.definitions.switches
        if name.startswith("if") and (name[2:] in switches or name in ("iftrue", "iffalse")):
            if not switches.get(name[2:], name == "iftrue"):
                self._scanner.skip_branch(stop_at_else=True)
            return True
        for ending in ("true", "false"):
            if name.endswith(ending) and name.removesuffix(ending) in switches:
                switches[name.removesuffix(ending)] = ending == "true"
                return True
        if name == "else":  # behind a branch that was read
            self._scanner.skip_branch(stop_at_else=False)
        return name in ("else", "fi") or name in _CONDITIONS

    def _defining(self) -> dict[str, Command]:
        names = ("newcommand", "renewcommand", "providecommand", "DeclareRobustCommand", "algnewcommand", "algrenewcommand")
        new = dict.fromkeys(names, self._new_command)
        documents = ("NewDocumentCommand", "RenewDocumentCommand", "DeclareDocumentCommand", "ProvideDocumentCommand")
        theorems = dict.fromkeys(("newtheorem", "spnewtheorem", "declaretheorem"), self._new_theorem)
        return {
            **new,
            **theorems,
            **dict.fromkeys(documents, self._new_document_command),
            **dict.fromkeys(("def", "gdef", "edef", "xdef"), self._def),
            **dict.fromkeys(("newenvironment", "renewenvironment"), self._new_environment),
            "let": self._let,
            "DeclareMathOperator": self._math_operator,
            "newif": self._new_switch,
            "xspace": lambda scanner, name: "" if scanner.peek() in _NO_SPACE_BEFORE or not scanner.peek() else " ",
            "IfBooleanTF": lambda scanner, name: self._either(scanner, r"\BooleanTrue"),
            "IfNoValueTF": lambda scanner, name: self._either(scanner, r"\NoValue"),
            "csname": lambda scanner, name: f"\\{(scanner.until(chr(92) + 'endcsname') or '').strip()} ",
        }

    @staticmethod
    def _either(scanner: Scanner, expected: str) -> str:
        holds, yes, no = scanner.argument().strip() == expected, scanner.argument(), scanner.argument()
        return yes if holds else no

    def _define(self, name: str, macro: Macro) -> str:
        name = name.strip().lstrip("\\")
        if name:
            self.definitions.macros[name] = macro
        return ""

    def _new_command(self, scanner: Scanner, name: str) -> str:
        scanner.take("*")
        defined = scanner.argument()
        parameters = _parameters(scanner)
        macro = Macro(parameters, scanner.argument())
        key = defined.strip().lstrip("\\")
        if name == "providecommand" and (key in self.definitions.macros or key in self._commands):
            return ""
        return self._define(defined, macro)

    def _new_document_command(self, scanner: Scanner, name: str) -> str:
        defined, specification = scanner.argument(), scanner.argument()
        kinds = [(found[2], found[3]) for found in _XPARSE.finditer(specification)]
        parameters = tuple(Parameter(k.lower(), default or "") if k == "O" else Parameter(k, r"\NoValue" if k == "o" else "") for k, default in kinds)
        return self._define(defined, Macro(parameters, scanner.argument()))

    def _def(self, scanner: Scanner, name: str) -> str:
        defined = scanner.argument()
        first, *delimiters = re.split(r"#\d", scanner.before_group())
        parameters = [Parameter("x", first)] if first.strip() else []
        parameters += [Parameter("d", text) if text else Parameter() for text in delimiters]
        return self._define(defined, Macro(tuple(parameters), scanner.argument()))

    def _let(self, scanner: Scanner, name: str) -> str:
        defined = scanner.argument()
        scanner.take("=")
        meaning = scanner.argument()
        known = self.definitions.macros.get(meaning.lstrip("\\"))
        primitive = meaning.startswith("\\") and meaning[1:] not in self._commands
        return self._define(defined, known or Macro((), FIXED + meaning if primitive else meaning))

    def _math_operator(self, scanner: Scanner, name: str) -> str:
        scanner.take("*")
        return self._define(scanner.argument(), Macro((), f"\\operatorname{{{scanner.argument()}}}"))

    def _new_environment(self, scanner: Scanner, name: str) -> str:
        scanner.take("*")
        defined = scanner.argument()
        parameters = _parameters(scanner)
        self.definitions.environments[defined.strip()] = (Macro(parameters, scanner.argument()), scanner.argument())
        return ""

    def _new_theorem(self, scanner: Scanner, name: str) -> str:
        counted = not scanner.take("*")
        options = dict(_OPTION.findall(scanner.option() or "")) if name == "declaretheorem" else {}
        defined = scanner.argument().strip()
        shared = options.get("sibling") or options.get("sharenumber") or options.get("numberlike") or scanner.option()
        printed = options.get("name") or (scanner.argument() if name != "declaretheorem" and scanner.group_ahead() else defined.capitalize())
        within = options.get("numberwithin") or options.get("parent") or scanner.option() or ""
        if name == "spnewtheorem":  # the fonts of its heading and its text
            scanner.argument()
            scanner.argument()
        theorems = self.definitions.theorems
        theorem = Theorem(printed, defined if counted and options.get("numbered") != "no" else "", within.strip())
        if shared is not None:  # one that counts with formulas or headings has a number that is not known
            model = theorems.get(shared.strip(), Theorem(""))
            theorem = Theorem(printed, model.counter, model.within)
        theorems[defined] = theorem
        self.definitions.environments.pop(defined, None)
        return ""

    def _new_switch(self, scanner: Scanner, name: str) -> str:
        self.definitions.switches[scanner.argument().lstrip("\\").removeprefix("if")] = False
        return ""


def _parameters(scanner: Scanner) -> tuple[Parameter, ...]:
    """``[2][default]`` of a ``\\newcommand``."""
    number = (scanner.option() or "").strip()
    count = int(number) if number.isdigit() and len(number) == 1 else 0
    default = scanner.option() if count else None
    first = () if default is None else (Parameter("o", default),)
    return (*first, *[Parameter()] * (count - len(first)))
