"""A page of a folder of linked pages as it is read: headings, text, links, and in the end one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers.links import Links, file_names
from graphkv.importers.prose import Prose
from graphkv.importers.reading import Reading
from graphkv.importers.record import Citation, Record, Section


@dataclass
class _Part:
    """A heading (level 0: none) and what stands under it."""

    level: int = 0
    heading: str = ""
    anchor: str | None = None
    prose: Prose = field(default_factory=Prose)


class Page:
    """Collects one page; `prose` is where text goes at the moment."""

    def __init__(self, path: Path, root: Path, reading: Reading) -> None:
        self.prose = Prose()
        self.links = Links(path, root, reading)
        self._path, self._root = path, root
        self._parts = [_Part(prose=self.prose)]
        self._level = 0  # of the heading that is being read
        self._anchor: tuple[str, Prose, int] | None = None

    @property
    def in_heading(self) -> bool:
        """Whether what comes belongs to a heading."""
        return self._level > 0

    @property
    def first_headings(self) -> list[str]:
        """The headings of level 1."""
        return [part.heading for part in self._parts if part.level == 1 and part.heading]

    @property
    def title(self) -> str | None:
        """The heading of level 1, if there is one only and nothing stands in front of it: others are headings of sections."""
        first = next((part for part in self._parts if part.heading or part.prose.text.strip()), None)
        return first.heading if first is not None and first.level == 1 and len(self.first_headings) == 1 else None

    def anchor(self, name: str) -> None:
        """A place that links may name. It is that of the next section if its heading follows at once."""
        self._anchor = (name, self.prose, self.prose.length)

    def begin_heading(self, level: int) -> None:
        """What comes is a heading, until :meth:`end_heading`."""
        before, self.prose, self._level = self.prose, Prose(), level
        if self._anchor is not None and self._anchor[1:] == (before, before.length):
            self._anchor = (self._anchor[0], self.prose, 0)
        before.hand_over(self.prose)

    def end_heading(self, anchor: str | None = None) -> str:
        """The heading ends, a section begins. Returns the heading.

        A heading that holds links is also the first line of its section, so that the links have a place.
        """
        spoken = self.prose
        heading = " ".join(spoken.text.split()).rstrip(" ¶")
        if anchor is None and self._anchor is not None and self._anchor[1] is spoken:
            anchor = self._anchor[0]
        part = _Part(self._level, heading, anchor)
        spoken.hand_over(part.prose)
        if spoken.citations:
            part.prose.hand_over(spoken)
            part.prose = spoken
            spoken.block()
        self._parts.append(part)
        self.prose, self._level, self._anchor = part.prose, 0, None
        return heading

    def record(self, *, title: str | None = None, aliases: tuple[str, ...] = (), metadata: Mapping[str, Any] | None = None) -> Record:
        """The page as a record.

        Args:
            title: what the page says it is called; else its only heading of level 1, if it begins with that; else the file's name.

        Raises:
            DocumentError: there is neither text nor a title on it.
        """
        if self.in_heading:  # a heading that never ended
            self.end_heading()
        self.prose.hand_over(Prose())
        said = title or self.title
        sections = self._sections(said)
        if not sections and not said:
            raise DocumentError(f"{self._path} holds no text")
        self.links.note()
        id, names = file_names(self._path, self._root)
        return Record(
            id=id,
            title=said or self._path.stem,
            sections=sections,
            references=tuple(self.links.references.values()),
            aliases=tuple(dict.fromkeys((*names, *(alias for alias in aliases if alias and alias != id)))),
            where=str(self._path),
            metadata=metadata or {},
        )

    def _sections(self, title: str | None) -> tuple[Section, ...]:
        """The parts that hold text. A heading without text goes in front of a deeper one that follows it, or else is text itself.

        What stands under the title is of one part with what stands in front of it.
        """
        sections: list[Section] = []
        above = ""
        named = False
        for part, after in zip(self._parts, [*self._parts[1:], None], strict=True):
            heading = part.heading
            front: Section | None = None
            if not named and part.level == 1 and heading == title:
                heading, named = "", True
                front = sections[0] if len(sections) == 1 and not sections[0].heading else None
            heading = " > ".join(name for name in (above, heading) if name)
            above = ""
            text = part.prose.text.rstrip()
            if not text and heading and after is not None and after.level > part.level:
                above = heading
            elif text or heading:
                citations = sorted((Citation(c.start, min(c.end, len(text)), c.key) for c in part.prose.citations), key=lambda c: (c.start, c.end))
                section = Section(heading if text else "", text or heading, tuple(citations), part.anchor)
                if front is not None:
                    sections[0] = _joined(front, section)
                else:
                    sections.append(section)
        return tuple(sections)


def _joined(first: Section, second: Section) -> Section:
    """Two sections as one without a heading."""
    moved = len(first.text) + 2
    citations = (*first.citations, *(Citation(c.start + moved, c.end + moved, c.key) for c in second.citations))
    return Section("", f"{first.text}\n\n{second.text}", citations, second.anchor)
