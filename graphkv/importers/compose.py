"""Paragraphs and the citations in them as the text of a section."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from graphkv.importers.record import Citation

CAPTIONS, NOTES = "Figures and tables", "Footnotes"
"""The headings over figures, tables and notes that stand outside of the text's sections."""


@dataclass(frozen=True)
class Mark:
    """Characters of a source text that are a citation (`key`), or that are to be written otherwise (`text`); `end` is behind `start`."""

    start: int
    end: int
    key: str | None = None
    text: str | None = None


_COUNTS = ("[IVX]+", r"[A-Z](?:\.\d+)*", r"\d+(?:\.\d+)*")  # numbers of headings, the higher ones first
_MOST = 8  # headings that wait for a text

_BLANK = dict.fromkeys((*range(10), *range(11, 32), 127), " ")


def compose(paragraphs: Iterable[tuple[str, Sequence[Mark]]]) -> tuple[str, tuple[Citation, ...]]:
    """Paragraphs as a section's text: white space tidy, marks written out, and the citations where they have come to stand.

    An empty line within a paragraph stays one, and U+2028 is a new line; any other white space is one space.

    Example:
        >>> compose([("As  X said,", []), ("see  @1 .", [Mark(5, 7, key="x", text="[1]")])])
        ('As X said,\\n\\nsee [1] .', (Citation(start=16, end=19, key='x'),))
    """
    parts: list[str] = []
    citations: list[Citation] = []
    size = 0
    for text, marks in paragraphs:
        tidy, found = _tidy(text, marks)
        if tidy:
            size += 2 if parts else 0
            citations += [Citation(c.start + size, c.end + size, c.key) for c in found]
            parts.append(tidy)
            size += len(tidy)
    return "\n\n".join(parts), tuple(citations)


class Headings:
    """The headings of sections, in order. One over no text stands in front of the next one, unless that cannot be below it.

    Example:
        >>> headings = Headings()
        >>> headings.read("2 Method", "2", ""), headings.read("2.1 Data", "2.1", "We use it.")
        ('2 Method', '2 Method: 2.1 Data')
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[str, str, int]] = []

    def read(self, heading: str, number: str, text: str, depth: int = 0) -> str:
        """The next section's heading, with those that wait for a text. `depth`: of its division; nothing waits on from a closed one."""
        self._waiting = [above for above in self._waiting[-_MOST:] if above[2] <= depth + 1 and _can_be_below(number, above[1])]
        if not text:
            self._waiting += [(heading, number, depth)] if heading else []
            return heading
        full = ": ".join(filter(None, (*(above[0] for above in self._waiting), heading)))
        self._waiting = []
        return full

    def go_on(self, heading: str, text: str, depth: int) -> str:
        """The heading of a section that goes on, or that stands apart from the others."""
        self._waiting = [above for above in self._waiting if above[2] <= depth + 1 and not (text and above[0] == heading)]
        return heading


def _can_be_below(number: str, above: str) -> bool:
    """Whether a heading with this number can be below that one; as far as their numbers tell."""
    ours, theirs = (next((rank for rank, count in enumerate(_COUNTS) if re.fullmatch(count, n)), None) for n in (number, above))
    if ours is None or theirs is None:
        return True
    return number.startswith(f"{above}.") if ours == theirs else ours > theirs


def plain(text: str) -> str:
    """Without control characters and halves of surrogate pairs; nothing moves."""
    return text.translate(_BLANK).encode("utf-8", "replace").decode("utf-8")


def _tidy(text: str, marks: Sequence[Mark]) -> tuple[str, list[Citation]]:
    text = plain(text)
    swaps = {mark.start: mark for mark in marks if mark.text is not None}
    cuts = sorted({0, len(text), *(place for mark in marks for place in (mark.start, mark.end))})
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    waiting: list[int] = []
    out: list[str] = []
    size = hidden = 0
    white = ""  # read since the last visible character
    for a, b in itertools.pairwise(cuts):
        ends[a] = size
        waiting.append(a)
        if a >= hidden and a in swaps:
            raw, hidden = plain(swaps[a].text or ""), swaps[a].end
        else:
            raw = "" if a < hidden else text[a:b]
        body = raw.strip()
        white += raw[: len(raw) - len(raw.lstrip())]
        if body:
            out += [_gap(white) if size else "", re.sub(r"\s+", lambda run: _gap(run.group()), body)]
            starts.update(dict.fromkeys(waiting, size + len(out[-2])))
            waiting.clear()
            size += len(out[-2]) + len(out[-1])
            white = raw[len(raw.rstrip()) :]
    starts.update(dict.fromkeys(waiting, size))
    ends[cuts[-1]] = size
    found = [Citation(starts[m.start], max(starts[m.start], ends[m.end]), m.key) for m in marks if m.key is not None]
    return "".join(out), sorted(found, key=lambda c: (c.start, c.end))


def _gap(white: str) -> str:
    return "\n\n" if white.count("\n") > 1 else "\n" if "\u2028" in white else " " if white else ""
