"""Printed entries of bibliographies: made of their parts, and what can be read off one."""

from __future__ import annotations

import re
from collections.abc import Sequence

_YEAR = re.compile(r"(?<![\w./:–-])(?:1[89]|20)\d\d(?![\w–-]|\.\d)")
_ARXIV = re.compile(r"(?i)(?:arxiv(?:\.org/(?:abs|pdf)/|[\s:.]*)|\babs/)((?:[a-z.-]{2,20}/\d{7}|\d{4}\.\d{4,5})(?:v\d+)?)(?!\d)")


def printed_entry(authors: Sequence[str], year: str | int | None, title: str | None, venue: str | None) -> str:
    """An entry as a reference list prints it; what is not known is left out.

    Example:
        >>> printed_entry(("Kyle Lo", "Lucy Wang"), 2020, "S2ORC", "ACL")
        'Kyle Lo and Lucy Wang. 2020. S2ORC. ACL.'
    """
    names = ", ".join(authors[:-1]) + (" and " if len(authors) > 1 else "") + "".join(authors[-1:])
    parts = [part.strip() for part in (names, str(year or ""), title or "", venue or "") if part.strip()]
    return " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts)


def year_in(text: str) -> int | None:
    """The year in a text; None if there is none, or several.

    Example:
        >>> year_in("Nature 555 (2018) 604-610"), year_in("In 2017, pp. 1999 to 2010")
        (2018, None)
    """
    found = set(_YEAR.findall(text))
    return int(found.pop()) if len(found) == 1 else None


def arxiv_in(text: str) -> str | None:
    """The arXiv id that a printed entry says is one; other numbers with a point may be pages.

    Example:
        >>> arxiv_in("CoRR, abs/1409.0473."), arxiv_in("Symmetry 1234.5678")
        ('1409.0473', None)
    """
    found = _ARXIV.search(text)
    return found.group(1) if found else None
