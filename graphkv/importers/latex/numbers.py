"""Cross-references: figures, tables and theorems are counted as LaTeX does, sections are called by their headings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from graphkv.importers.latex.macros import Theorem
from graphkv.importers.latex.marks import GONE, MENTION, NUMBERED, PART, REFERENCE, mark

_FLOATS = {"figure": "Figure", "wrapfigure": "Figure", "SCfigure": "Figure", "sidewaysfigure": "Figure", "table": "Table", "wraptable": "Table"}
_FLOATS |= {"sidewaystable": "Table", "longtable": "Table", "algorithm": "Algorithm", "algorithm2e": "Algorithm"}
_KINDS = {"fig": "Figure", "tab": "Table", "sec": "Section", "app": "Appendix", "eq": "Equation", "alg": "Algorithm", "thm": "Theorem", "lem": "Lemma"}
_LEVELS = {"chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4}
_NOUNS = {
    "equation": "Equations? Eqn?s?", "figure": "Figures? Figs?", "table": "Tables? Tabs?", "section": "Sections? Secs? Sects?", "appendix": "Appendix Appendices App",
    "theorem": "Theorems? Thms?", "lemma": "Lemmas? Lemmata Lem", "proposition": "Propositions? Props?", "corollary": "Corollary Corollaries Cor",
    "definition": "Definitions? Defn?s?", "algorithm": "Algorithms? Algs?", "assumption": "Assumptions?", "remark": "Remarks?", "example": "Examples?",
    "claim": "Claims?", "conjecture": "Conjectures?", "chapter": "Chapters? Chap", "condition": "Conditions?", "line": "Lines?", "step": "Steps?",
}  # fmt: skip
_PLURALS = {"appendix": "appendices", "corollary": "corollaries"}
_NUMBER = rf" ?(?:\({GONE}\)|{GONE})"
_DANGLING = re.compile(
    r"(?P<start>^\s*|[.?!] |\n\n)?(?<![\w-])(?:[Tt]he )?(?:"
    + "|".join(f"(?P<{noun}>(?i:{'|'.join(forms.split())}))" for noun, forms in _NOUNS.items())
    + rf")\.?{_NUMBER}(?P<more>(?:(?:,|,? and|,? or| to|–|-|,? & ){_NUMBER})*)"
)
_HEADING = re.compile(f"{PART[0]}\\d(.*?){PART[1]}", re.DOTALL)


@dataclass(frozen=True)
class _Place:
    """What a label means: the n-th heading, or a float or theorem by its kind and number."""

    heading: int | None = None
    kind: str = ""
    number: str = ""


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
    _sections: list[int] = field(default_factory=lambda: [0] * 5)
    _appendix: int | None = None
    _counts: dict[str, int] = field(default_factory=dict)
    _here: list[_Level] = field(default_factory=lambda: [_Level("", None)])
    _labels: dict[str, _Place | None] = field(default_factory=dict)
    _references: list[tuple[str, bool]] = field(default_factory=list)

    def heading(self, level: int, *, numbered: bool) -> None:
        """A section begins, of a level from 0 (a part) on."""
        if numbered:
            self._sections[level:] = [self._sections[level] + 1, *[0] * (4 - level)] if level else [self._sections[0] + 1, *self._sections[1:]]
        place = _Place(heading=self._headings)
        self._here = [_Level(level.kind, place, level.inherits) for level in self._here]
        self._headings += 1

    def appendix(self) -> None:
        """The appendices begin: chapters, or else sections, with letters."""
        self._appendix = 1 if self._sections[1] else 2
        self._sections[self._appendix :] = [0] * (5 - self._appendix)

    def _section(self, name: str) -> str:
        """The number of the section of a level where we are, as ``3.1``; empty if it is no such level."""
        if name not in _LEVELS:
            return ""
        first = 1 if self._sections[1] or name == "chapter" else 2
        numbers = self._sections[first : _LEVELS[name] + 1]
        lettered = first == self._appendix and 0 < numbers[0] <= 26
        return ".".join([chr(ord("A") + numbers[0] - 1) if lettered else str(numbers[0]), *map(str, numbers[1:])])

    def theorem(self, theorem: Theorem) -> str:
        """What a theorem, whose environment has begun, begins with: ``Theorem 3.1``."""
        if not theorem.counter:
            return theorem.printed
        within = self._section(theorem.within)
        counter = f"{theorem.counter} {within}"
        self._counts[counter] = self._counts.get(counter, 0) + 1
        number = f"{within}.{self._counts[counter]}" if within else str(self._counts[counter])
        self._here[-1] = _Level("", _Place(kind=theorem.printed, number=number))
        return f"{theorem.printed} {number}"

    def begin(self, environment: str, *, counted_elsewhere: bool = False) -> None:
        """An environment begins; `counted_elsewhere` ones (formulas, lists) have numbers that are not known here, or not yet (theorems)."""
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
        self._here[-1] = _Level(level.kind, _Place(kind=kind, number=str(self._counts[kind])), level.inherits)
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
                return f"{place.kind} {place.number}" if named else place.number
            title = titles[place.heading] if place.heading < len(titles) else ""
            return f"{'Section ' if named else ''}{{``{title}''}}" if title else GONE

        return NUMBERED[REFERENCE].sub(text, latex)


def without_dangling(text: str) -> str:
    """Text in which a word in front of a number that is not known stands for itself.

    Example:
        >>> without_dangling(f"as in Eq. ({GONE}). Theorems {GONE} and {GONE} hold.")
        'as in the equation. The theorems hold.'
    """

    def noun(found: re.Match[str]) -> str:
        word, form = next((word, form) for word in _NOUNS if (form := found[word]))
        several = bool(found["more"]) or (form.lower().endswith(("s", "ata")) and form.lower() != "s")
        start = found["start"]
        return f"{start or ''}{'the' if start is None else 'The'} {_PLURALS.get(word, word + 's') if several else word}"

    return _DANGLING.sub(noun, text) if GONE in text else text
