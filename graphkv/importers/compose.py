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
