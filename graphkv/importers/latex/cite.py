"""The ``\\cite`` family: what each command prints, with a mark for each key in the place where its name stands."""

from __future__ import annotations

import re
from dataclasses import dataclass

from graphkv.importers.latex.bibliography import Bibliography
from graphkv.importers.latex.macros import Command
from graphkv.importers.latex.marks import MENTION, SOFT, mark
from graphkv.importers.latex.scan import Scanner

_STYLES = {
    "paren": """cite citep Citep parencite Parencite autocite Autocite footcite Footcite footcitetext supercite smartcite Smartcite fullcite footfullcite
        citepalias shortcite citeaffixed fullciteA onlinecite inlinecite footcitep upcite citeyearNP""",
    "text": "citet Citet textcite Textcite citetalias newcite citeasnoun Citeasnoun shortciteA citeA citeN citeNP",
    "bare": "citealp Citealp citealt Citealt notecite pnotecite",
    "author": "citeauthor Citeauthor citefullauthor citeauthorfull",
    "year": "citeyear citedate",
    "yearparen": "citeyearpar",
    "number": "citenum",
    "title": "citetitle",
}
_SEVERAL = {
    "paren": "cites Cites parencites Parencites autocites Autocites footcites footcitetexts supercites smartcites Smartcites",
    "text": "textcites Textcites",
    "author": "citeauthors Citeauthors",
}

_NO_KEY = re.compile("[\\\\{}\ue000-\ue00f]")
_LONGEST_KEY = 200


@dataclass(frozen=True)
class Mention:
    """One key in one place, and the text that stands there."""

    key: str
    text: str


class Mentions:
    """The in-text citations of one paper, in the order in which they are met; a mark in the text carries the number.

    Attributes:
        found: the mentions. unreadable: keys that were left out because they cannot be keys.
    """

    def __init__(self, bibliography: Bibliography) -> None:
        self.found: list[Mention] = []
        self.unreadable = 0
        self._bibliography = bibliography

    def commands(self) -> dict[str, Command]:
        """Every command of the family by its name."""
        table: dict[str, Command] = {"nocite": self._nocite, "citetext": lambda scanner, name: f"({scanner.argument()})"}
        for style, names in _STYLES.items():
            table.update(dict.fromkeys(names.split(), self._one(style)))
        for style, names in _SEVERAL.items():
            table.update(dict.fromkeys(names.split(), self._several(style)))
        return table

    def _nocite(self, scanner: Scanner, name: str) -> str:
        for key in self._keys(scanner.argument()):
            self._bibliography.cite(key)
        return ""

    def _one(self, style: str) -> Command:
        def command(scanner: Scanner, name: str) -> str:
            scanner.take("*")
            before, after = _notes(scanner)
            if not scanner.group_ahead():
                return ""
            return self._printed(style, [(before, self._keys(scanner.argument()), after)])

        return command

    def _keys(self, argument: str) -> list[str]:
        """Keys with commas between them; what cannot be one (text behind a brace that is never closed) is counted."""
        keys = [key for key in (" ".join(part.replace("~", " ").split()) for part in argument.split(",")) if key]
        good = [key for key in keys if len(key) <= _LONGEST_KEY and not _NO_KEY.search(key)]
        self.unreadable += len(keys) - len(good)
        return good

    def _several(self, style: str) -> Command:
        def command(scanner: Scanner, name: str) -> str:
            scanner.take("*")
            before, after = scanner.option("(", ")"), scanner.option("(", ")")
            if after is None:
                before, after = None, before
            parts = []
            while True:
                first, last = _notes(scanner)
                if not scanner.group_ahead():
                    break
                parts.append((first, self._keys(scanner.argument()), last))
            if parts and before:
                parts[0] = (before, *parts[0][1:])
            if parts and after:
                parts[-1] = (*parts[-1][:2], after)
            return self._printed(style, parts)

        return command

    def _printed(self, style: str, parts: list[tuple[str | None, list[str], str | None]]) -> str:
        """LaTeX that prints a citation of all these keys, each with what stands before and behind."""
        keys = [key for _, keys, _ in parts for key in keys]
        for key in keys:
            self._bibliography.cite(key)
        if not keys:
            return ""
        printed: list[str] = []
        for before, part, after in parts:
            names = "; ".join(self._mention(key, style) for key in part)
            first, last = (before or "").strip(), (after or "").strip()
            note = (f" ({last})" if style == "text" else f", {last}") if last else ""
            printed.append(f"{first} {names}{note}".strip())
        text = "; ".join(printed)
        if style != "paren":
            return text
        labelled = any((entry := self._bibliography.entry(key)) and entry.names for key in keys)
        return f"{SOFT}({text})" if labelled else f"{SOFT}{text}"

    def _mention(self, key: str, style: str) -> str:
        self.found.append(Mention(key, self._label(key, style)))
        return mark(MENTION, len(self.found) - 1)

    def _label(self, key: str, style: str) -> str:
        entry = self._bibliography.entry(key)
        if entry is None:
            return f"[{key}]"
        number, names, year = self._bibliography.number(key), entry.names, entry.year
        if style == "title":
            return entry.reference.title or f"[{number}]"
        if style == "number":
            return str(number)
        if not names:
            return f"[{number}]"
        if style in ("year", "yearparen") and year:
            return year if style == "year" else f"({year})"
        if style == "author" or not year:
            return names
        return f"{names} ({year})" if style == "text" else f"{names}, {year}"


def _notes(scanner: Scanner) -> tuple[str | None, str | None]:
    """What stands before and behind: ``[before][behind]``, ``[behind]`` or, in apacite, ``<before>[behind]``."""
    pointed = scanner.option("<", ">")
    first, second = scanner.option(), scanner.option()
    if pointed is not None:
        return pointed, first
    return (first, second) if second is not None else (None, first)
