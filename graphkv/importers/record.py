"""What importers hand over: records with sections, in-text citations and references, before anything is matched."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Role = Literal["paper", "document", "reference"]


@dataclass(frozen=True)
class Citation:
    """A place in a section's text that names a reference.

    Attributes:
        start, end: characters of the section's text that are the citation, for example those of ``(Lo et al., 2020)``.
        key: the reference's key in the same record. A key that no reference of the record has is a citation that cannot be resolved.
    """

    start: int
    end: int
    key: str


@dataclass(frozen=True)
class Section:
    """A part of a record under one heading.

    Attributes:
        heading: empty for text that stands under none.
        text: paragraphs are separated by an empty line. citations: in the order of the text.
        anchor: what a link writes behind ``#`` to mean this section; None if nothing can.
    """

    heading: str
    text: str
    citations: tuple[Citation, ...] = ()
    anchor: str | None = None


@dataclass(frozen=True)
class Reference:
    """Something that a record cites or links to: an entry of a bibliography, a link, a named neighbour.

    Attributes:
        key: unique within the record; what its citations name.
        title, authors, year, doi, arxiv: as far as they are known; identifiers in any spelling, see :func:`normal_doi` and :func:`normal_arxiv`.
        text: the entry as it is printed, or an abstract: what stands for the work if its own text is not among the sources.
        target: the id of the record (or ``id#anchor`` of a section) where the format itself names it; empty for bibliographies.
        kind: of the edge. weight: of the edge; None lets the number of mentions decide.
    """

    key: str
    title: str | None = None
    authors: tuple[str, ...] = ()
    year: int | None = None
    doi: str | None = None
    arxiv: str | None = None
    text: str = ""
    target: str | None = None
    kind: str = "cites"
    weight: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "doi", normal_doi(self.doi))
        object.__setattr__(self, "arxiv", normal_arxiv(self.arxiv))


@dataclass(frozen=True)
class Record:
    """One paper, page or document.

    Attributes:
        id: unique among the records of one source as far as the importer can see.
        title, abstract, authors, year, doi, arxiv: as far as they are known.
        sections: the body. references: in the order of the bibliography.
        aliases: other names under which a `target` may mean this record (a corpus id, a file name ...).
        where: the file, and the line if there is one; for messages.
        role: ``paper`` (has a bibliography, or could), ``document`` (anything else), ``reference`` (known from a bibliography only).
        score: a retrieval score that the source gave. metadata: whatever else is worth keeping; JSON values.
    """

    id: str
    title: str | None = None
    abstract: str = ""
    sections: tuple[Section, ...] = ()
    references: tuple[Reference, ...] = ()
    authors: tuple[str, ...] = ()
    year: int | None = None
    doi: str | None = None
    arxiv: str | None = None
    aliases: tuple[str, ...] = ()
    where: str = ""
    role: Role = "document"
    score: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "doi", normal_doi(self.doi))
        object.__setattr__(self, "arxiv", normal_arxiv(self.arxiv))

    @property
    def size(self) -> int:
        """Characters of text, the title not counted."""
        return len(self.abstract) + sum(len(section.text) for section in self.sections)

    def renamed(self, id: str) -> Record:
        """The same record under another id."""
        return replace(self, id=id)


@dataclass(frozen=True)
class Link:
    """An edge between two records by their ids or aliases: `target` reads `source`.

    Attributes:
        where: for messages.
    """

    source: str
    target: str
    kind: str | None = None
    weight: float | None = None
    where: str = ""


Item = Record | Link

_DOI = re.compile(r"10\.\d{4,9}/\S+", re.IGNORECASE)
_ARXIV = re.compile(r"(?<![\w.])(\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})(?:v\d+)?(?!\w)", re.IGNORECASE)


def normal_doi(text: str | None) -> str | None:
    """A DOI in lower case without resolver and trailing punctuation; None if there is none in `text`.

    Example:
        >>> normal_doi("https://doi.org/10.18653/v1/N18-3011.")
        '10.18653/v1/n18-3011'
    """
    found = _DOI.search(text or "")
    if not found:
        return None
    doi = found.group().lower().rstrip(".,;:'\"}>")
    while doi.endswith(")") and doi.count(")") > doi.count("("):  # Lancet DOIs hold brackets of their own
        doi = doi[:-1].rstrip(".,;")
    return doi


def normal_arxiv(text: str | None) -> str | None:
    """An arXiv id without version, new (``2506.07334``) or old (``hep-th/9901001``); None if there is none in `text`.

    Example:
        >>> normal_arxiv("arXiv:2506.07334v2 [cs.CL]"), normal_arxiv("https://arxiv.org/abs/hep-th/9901001")
        ('2506.07334', 'hep-th/9901001')
    """
    found = _ARXIV.search(re.sub(r"(?i)arxiv\.org/(?:abs|pdf)/|arxiv:\s*", " ", text or ""))
    return found.group(1).lower() if found else None


def fold(text: str) -> str:
    """In lower case and without accents, for comparison.

    Example:
        >>> fold("Färber") == fold("FARBER")
        True
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if not unicodedata.combining(c))


def normal_title(text: str | None) -> str | None:
    """A title as letters and digits in lower case, accents and mark-up gone, so that two spellings of one title are equal; None if too little is left to tell works apart.

    Example:
        >>> normal_title("{BERT}: Pre-training of Deep\\n Transformers.") == normal_title("BERT: pre-training of deep transformers")
        True
        >>> normal_title("Editorial") is None
        True
    """
    words = re.findall(r"[^\W_]+", fold(text or ""))
    joined = "".join(words)
    return joined if (len(words) >= 2 and len(joined) >= 10) or len(joined) >= 16 else None
