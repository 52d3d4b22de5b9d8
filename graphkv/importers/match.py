"""Who is meant: references matched to records by name, DOI, arXiv id, then normalised title."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from graphkv.importers.record import Record, Reference, fold, normal_title

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
    """Whether the first kind of identifier that both have is equal.

    Where that is only a title ("Supplementary Material"), years that are more than two apart and authors of whom none is the
    same speak against it, and two texts need one sign more: an author, or the year.
    """
    ours, theirs = dict(identifiers(a)), dict(identifiers(b))
    how = next((how for how in ours if how in theirs), None)
    if how is None or ours[how] != theirs[how]:
        return False
    if how != "title":
        return True
    years = abs(a.year - b.year) if a.year and b.year else None
    people, others = _surnames(a.authors), _surnames(b.authors)
    if (years is not None and years > 2) or (people and others and not people & others):
        return False
    two_texts = isinstance(a, Record) and isinstance(b, Record) and bool(a.sections and b.sections)
    return not two_texts or years == 0 or bool(people & others)


def _surnames(authors: Iterable[str]) -> set[str]:
    """The last name of each author, for comparison: ``Färber, M.`` and ``Michael Farber`` give the same."""
    names = (name.partition(",")[0] if "," in name else name.rpartition(" ")[2] for name in authors)
    return {folded for name in names if (folded := fold(name))}


@dataclass
class Catalogue:
    """Records, found by what names them.

    Attributes:
        records: by id, in the order they came.
    """

    records: dict[str, Record] = field(default_factory=dict)
    _own: dict[tuple[str, str], str] = field(default_factory=dict)
    _works: dict[tuple[How, str], str] = field(default_factory=dict)
    _aliases: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Take a record in, or put a fuller one in the place of the one with its id."""
        self.records[record.id] = record
        for key in identifiers(record):
            self._works.setdefault(key, record.id)
        for alias in dict.fromkeys((*record.aliases, *(name.casefold() for name in (record.id, *record.aliases)))):
            ids = self._aliases.setdefault(alias, {})
            ids[record.id] = None

    def own(self, place: str, name: str, id: str) -> None:
        """Put on record that within a file or folder `name` means the record `id`. The first one stays."""
        self._own.setdefault((place, name), id)

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

    def named(self, name: str, places: Sequence[str] = ()) -> list[Record]:
        """The records that `name` means: by id within one of the `places`, in their order; else by id, by alias, or by either in other letter case."""
        for place in places:
            if (place, name) in self._own:
                return [self.records[self._own[place, name]]]
        if name in self.records:
            return [self.records[name]]
        return [self.records[id] for id in self._aliases.get(name) or self._aliases.get(name.casefold()) or ()]

    def find(self, reference: Reference, near: str = "", places: Sequence[str] = ()) -> tuple[list[Record], How] | None:
        """The records that a reference means, the likeliest first, and how they were found; None if there is none.

        Args:
            near: the id of the record that has the reference: of several with one name, the one in the nearest folder comes first.
            places: the file and the folder that it was found in.
        """
        if reference.target is not None:
            found = self.named(reference.target, places) or self.named(reference.target.partition("#")[0], places)
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
    headed = body.abstract or any(not section.heading for section in body.sections[:1])  # an abstract with citations is a first section
    aliases = dict.fromkeys((*first.aliases, second.id, *second.aliases))
    roles = {first.role, second.role}
    return replace(
        body,
        id=first.id,
        title=body.title or other.title,
        abstract=body.abstract if headed else other.abstract,
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
