"""Cross-references: figures and tables are counted as LaTeX does, sections are called by their headings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from graphkv.importers.latex.marks import GONE, MENTION, NUMBERED, PART, REFERENCE, mark

_FLOATS = {"figure": "Figure", "wrapfigure": "Figure", "SCfigure": "Figure", "sidewaysfigure": "Figure", "table": "Table", "wraptable": "Table"}
_FLOATS |= {"sidewaystable": "Table", "longtable": "Table", "algorithm": "Algorithm"}
_KINDS = {"fig": "Figure", "tab": "Table", "sec": "Section", "app": "Appendix", "eq": "Equation", "alg": "Algorithm", "thm": "Theorem", "lem": "Lemma"}
_HEADING = re.compile(f"{PART[0]}\\d(.*?){PART[1]}", re.DOTALL)


@dataclass(frozen=True)
class _Place:
    """What a label means: the n-th heading, or a float by its kind and number."""

    heading: int | None = None
    kind: str = ""
    number: int = 0


@dataclass(frozen=True)
class _Level:
    """An environment that is open: which kind of float it is, what was numbered in it last, and whether that is its parent's."""

    kind: str
    place: _Place | None
    inherits: bool = False


@dataclass
class Numbers:
    """The counters of one paper while it is expanded."""

    _headings: int = 0
    _counts: dict[str, int] = field(default_factory=dict)
    _here: list[_Level] = field(default_factory=lambda: [_Level("", None)])
    _labels: dict[str, _Place | None] = field(default_factory=dict)
    _references: list[tuple[str, bool]] = field(default_factory=list)

    def heading(self) -> None:
        """A section begins."""
        place = _Place(heading=self._headings)
        self._here = [_Level(level.kind, place, level.inherits) for level in self._here]
        self._headings += 1

    def begin(self, environment: str, *, counted_elsewhere: bool = False) -> None:
        """An environment begins; `counted_elsewhere` ones (formulas, lists, theorems) have numbers that are not known here."""
        kind = _FLOATS.get(environment.rstrip("*"))
        if kind or counted_elsewhere:
            self._here.append(_Level(kind or "", None))
        else:
            self._here.append(_Level(self._here[-1].kind, self._here[-1].place, inherits=True))

    def end(self) -> None:
        """The innermost environment ends."""
        if len(self._here) > 1:
            level = self._here.pop()
            if level.inherits:
                self._here[-1] = _Level(level.kind, level.place, self._here[-1].inherits)

    def caption(self, kind: str | None = None) -> str:
        """What a caption begins with: ``Table 2:``; nothing for a part of a figure."""
        level = self._here[-1]
        kind = kind.strip().capitalize() if kind else level.kind
        if not kind:
            return ""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._here[-1] = _Level(level.kind, _Place(kind=kind, number=self._counts[kind]), level.inherits)
        return f"{kind} {self._counts[kind]}: "

    def label(self, key: str) -> None:
        """A label: it means what was numbered last, here."""
        self._labels.setdefault(key.strip(), self._here[-1].place)

    def reference(self, keys: str, named: bool) -> str:
        """A reference to labels; `named` ones say themselves what it is that has the number."""
        marks = []
        for key in keys.split(","):
            self._references.append((key.strip(), named))
            marks.append(mark(REFERENCE, len(self._references) - 1))
        return ", ".join(marks)

    def resolve(self, latex: str) -> str:
        """The expanded paper with its references put in; those to what is not counted here (equations, say) are marked as gone."""
        titles = [NUMBERED[MENTION].sub("", NUMBERED[REFERENCE].sub("", found[1])).strip() for found in _HEADING.finditer(latex)]

        def text(found: re.Match[str]) -> str:
            key, named = self._references[int(found[1])]
            place = self._labels.get(key)
            if place is None:
                kind = next((kind for start, kind in _KINDS.items() if key.lower().startswith(start)), "") if named else ""
                return f"{kind}{GONE}"
            if place.heading is None:
                return f"{place.kind} {place.number}" if named else str(place.number)
            title = titles[place.heading] if place.heading < len(titles) else ""
            return f"{'Section ' if named else ''}{{``{title}''}}" if title else GONE

        return NUMBERED[REFERENCE].sub(text, latex)
