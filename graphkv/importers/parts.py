"""A record as segments: a head with title and abstract, and a segment for each section; or all of it as one."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from graphkv.importers.match import unique
from graphkv.importers.record import Citation, Record


@dataclass(frozen=True)
class Part:
    """What becomes one segment: its text, the citations in it, and the anchors that links to it may name."""

    id: str
    title: str | None
    text: str
    citations: tuple[Citation, ...]
    anchors: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


def parts_of(record: Record, *, sections: bool = True, taken: Container[str] = ()) -> list[Part]:
    """The parts of a record, its head first.

    The head has the record's id and holds authors and year, abstract, and a first section without heading. Sections are named
    ``id/1``, ``id/2`` ... (``id/1 (2)`` where that is `taken` by a record). With ``sections=False`` everything is in the head.

    Example:
        >>> from graphkv.importers.record import Section
        >>> [part.id for part in parts_of(Record("p", title="Graphs", abstract="We draw.", sections=(Section("Pens", "Ink."),)))]
        ['p', 'p/1']
    """
    head = _Text()
    if record.authors and not (record.role == "reference" and record.abstract):  # a printed entry names its authors
        head.add(f"{', '.join(record.authors)}{f' ({record.year})' if record.year else ''}.")
    head.add(record.abstract)
    rest = [section for section in record.sections if section.text.strip()]
    if rest and not rest[0].heading:
        head.add(rest[0].text, rest.pop(0).citations)
    if not sections:
        for section in rest:
            head.add(section.heading)
            head.add(section.text, section.citations)
    known = {"role": None if record.role == "document" else record.role, "authors": list(record.authors), "year": record.year, "doi": record.doi, "arxiv": record.arxiv}
    metadata = {key: value for key, value in known.items() if value} | dict(record.metadata)
    if not head.text:
        head.add(record.title or record.id)
    found = [Part(record.id, record.title, head.text, tuple(head.citations), metadata=metadata)]
    for number, section in enumerate(rest if sections else [], start=1):
        title = " – ".join(name for name in (record.title, section.heading) if name) or None
        about = {"role": "section", "paper": record.id, "section": section.heading, "number": number}
        found.append(Part(unique(f"{record.id}/{number}", taken), title, section.text, section.citations, (section.anchor,) if section.anchor else (), about))
    return found


class _Text:
    """Paragraphs put together, their citations moved along."""

    def __init__(self) -> None:
        self.text = ""
        self.citations: list[Citation] = []

    def add(self, text: str, citations: tuple[Citation, ...] = ()) -> None:
        if not text.strip():
            return
        if self.text:
            self.text += "\n\n"
        self.citations += [Citation(c.start + len(self.text), c.end + len(self.text), c.key) for c in citations]
        self.text += text
