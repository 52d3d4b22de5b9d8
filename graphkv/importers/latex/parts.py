"""The parts of an expanded paper: title, authors, abstract and sections, cut where marks say so."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from graphkv.importers.latex.marks import PART

_PART = re.compile(f"{PART[0]}(.)(.*?){PART[1]}", re.DOTALL)


@dataclass
class Parts:
    """A paper's parts as LaTeX.

    Attributes:
        sections: (level, heading, body) in order; the first may have no heading.
    """

    title: str = ""
    authors: list[str] = field(default_factory=list)
    date: str = ""
    doi: str = ""
    abstract: str = ""
    sections: list[tuple[int, str, str]] = field(default_factory=list)


def split(latex: str, whole: bool) -> Parts:
    """Cut a paper at its marks: ``T`` title, ``A`` an author, ``D`` date, ``O`` DOI, ``P`` the document begins, ``Z`` and
    ``Y`` around the abstract, digits for headings by their level.

    Args:
        whole: what stands in front of the document's begin is a preamble, not text.

    Example:
        >>> split("x\\ue004P\\ue005a\\ue0042Data\\ue005b", True).sections
        [(0, '', 'a'), (2, 'Data', 'b')]
    """
    parts = Parts()
    level, heading, body = 0, "", [""]
    abstract: list[str] = []
    into = body
    at = 0
    begins = any(found[1] == "P" for found in _PART.finditer(latex))

    def close() -> None:
        parts.sections.append((level, heading, "".join(body)))

    for found in _PART.finditer(latex):
        into.append(latex[at : found.start()])
        at = found.end()
        kind, content = found[1], found[2]
        if kind.isdigit():
            close()
            level, heading, body = int(kind), content, []
            into = body
        elif kind == "P" and whole and begins:
            parts.sections, body, heading, level = [], [], "", 0
            into = body
        elif kind == "Z":
            into = abstract
        elif kind == "Y":
            abstract.append("\n\n")
            into = body
        elif kind == "A":
            parts.authors.append(content)
        elif kind in "TDO":
            name = {"T": "title", "D": "date", "O": "doi"}[kind]
            setattr(parts, name, getattr(parts, name) or content)
    into.append(latex[at:])
    close()
    parts.abstract = "".join(abstract)
    return parts
