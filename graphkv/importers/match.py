"""Who is meant: references matched to records by name, DOI, arXiv id, then normalised title."""

from __future__ import annotations

import itertools
from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Literal

from graphkv.importers.record import Record, Reference, normal_title

How = Literal["name", "doi", "arxiv", "title"]

_ARXIV_DOI = "10.48550/arxiv."


def identifiers(item: Record | Reference) -> list[tuple[How, str]]:
    """What names a work whoever writes it, the surest first. arXiv's own DOIs count as arXiv ids.

    Example:
        >>> identifiers(Reference("k", title="A survey of graphs", doi="10.48550/arXiv.2506.07334"))
        [('arxiv', '2506.07334'), ('title', 'asurveyofgraphs')]
    """
    arxiv, doi = item.arxiv, item.doi
    if doi and doi.startswith(_ARXIV_DOI):
        arxiv, doi = arxiv or doi.removeprefix(_ARXIV_DOI), None
    found: list[tuple[How, str | None]] = [("doi", doi), ("arxiv", arxiv), ("title", normal_title(item.title))]
    return [(how, name) for how, name in found if name]


def same_work(a: Record | Reference, b: Record | Reference) -> bool:
    """Whether the first kind of identifier that both have is equal."""
    ours, theirs = dict(identifiers(a)), dict(identifiers(b))
    for how, name in ours.items():
        if how in theirs:
            return name == theirs[how]
    return False


@dataclass
class Catalogue:
    """Records, found by what names them.

    Attributes:
        records: by id, in the order they came.
    """

    records: dict[str, Record] = field(default_factory=dict)
    _works: dict[tuple[How, str], str] = field(default_factory=dict)
    _aliases: dict[str, list[str]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Take a record in, or put a fuller one in the place of the one with its id."""
        self.records[record.id] = record
        for key in identifiers(record):
            self._works.setdefault(key, record.id)
        for alias in dict.fromkeys((record.id, *record.aliases)):
            ids = self._aliases.setdefault(alias, [])
            if record.id not in ids:
                ids.append(record.id)

    def same(self, record: Record) -> Record | None:
        """A record that is the same work by DOI, arXiv id or title. Documents are told apart by their ids alone."""
        if record.role == "document":
            return None
        for key in identifiers(record):
            id = self._works.get(key)
            found = self.records[id] if id is not None else None
            if found is not None and found.role != "document" and same_work(found, record):
                return found
        return None

    def named(self, name: str) -> list[Record]:
        """The records that `name` means: the one with this id, or all that have it as an alias."""
        if name in self.records:
            return [self.records[name]]
        return [self.records[id] for id in self._aliases.get(name, ())]

    def find(self, reference: Reference, near: str = "") -> tuple[list[Record], How] | None:
        """The records that a reference means, the likeliest first, and how they were found; None if there is none.

        Args:
            near: the id of the record that has the reference: of several with one name, the one in the nearest folder comes first.
        """
        if reference.target is not None:
            found = self.named(reference.target) or self.named(reference.target.partition("#")[0])
            if found:
                return sorted(found, key=lambda record: -_common(record.id, near)), "name"
        for key in identifiers(reference):
            id = self._works.get(key)
            if id is not None and same_work(self.records[id], reference):
                return [self.records[id]], key[0]
        return None


def _common(a: str, b: str) -> int:
    """How many folders two paths have in common."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a.split("/")[:-1], b.split("/")[:-1], strict=False)))


def merged(first: Record, second: Record) -> Record:
    """Two records of one work as one: the fuller text with its references, and whatever else either knows. The id is the first's."""
    body, other = (second, first) if second.size > first.size else (first, second)
    aliases = dict.fromkeys((*first.aliases, second.id, *second.aliases))
    roles = {first.role, second.role}
    return replace(
        body,
        id=first.id,
        title=body.title or other.title,
        abstract=body.abstract or other.abstract,
        sections=body.sections or other.sections,
        references=body.references or other.references,
        authors=body.authors or other.authors,
        year=body.year or other.year,
        doi=body.doi or other.doi,
        arxiv=body.arxiv or other.arxiv,
        aliases=tuple(alias for alias in aliases if alias != first.id),
        role="paper" if "paper" in roles else body.role,
        score=first.score if first.score is not None else second.score,
        metadata={**other.metadata, **body.metadata},
    )


def stub(reference: Reference, id: str, where: str) -> Record:
    """A record for a work that is known from a bibliography only: its title, and the entry as it is printed."""
    text = " ".join(reference.text.split())
    return Record(
        id=id,
        title=reference.title,
        abstract=text,
        authors=reference.authors,
        year=reference.year,
        doi=reference.doi,
        arxiv=reference.arxiv,
        where=where,
        role="reference",
    )


def unique(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or ``wanted (2)``, ``wanted (3)`` ...: the first that is not taken.

    Example:
        >>> unique("a", {"a", "a (2)"})
        'a (3)'
    """
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted} ({number})"
    return name
