"""Private characters that carry things through LaTeX source which are no LaTeX: a place of a citation, literal text, a heading."""

from __future__ import annotations

import re

MENTION = ("\ue000", "\ue001")
"""Around the number of an in-text mention."""
LITERAL = ("\ue002", "\ue003")
"""Around the number of a literal text (verbatim, a URL), in which nothing is mark-up."""
PART = ("\ue004", "\ue005")
"""Around a part of the document: one letter that says which (see :mod:`graphkv.importers.latex.parts`), then its LaTeX."""
LINE = "\ue006"
"""A new line that stays one."""
SOFT = "\ue007"
"""A space, unless there is one already."""
GONE = "\ue008"
"""A number that only LaTeX knows (a cross-reference)."""
FIXED = "\ue009"
"""The control word behind it is not expanded."""
REFERENCE = ("\ue00b", "\ue00c")
"""Around the number of a cross-reference."""
CELL = "\ue00a"
"""The border between two cells of a table."""

_RESERVED = re.compile("[\ue000-\ue00f]")
NUMBERED = {pair: re.compile(f"{pair[0]}(\\d+){pair[1]}") for pair in (MENTION, LITERAL, REFERENCE)}
"""Finds the marks that carry a number."""


def mark(pair: tuple[str, str], content: object) -> str:
    """`content` between the two characters of a mark."""
    return f"{pair[0]}{content}{pair[1]}"


def without_marks(text: str) -> str:
    """A file's text in which nothing can be taken for a mark, or for the end of a string.

    Example:
        >>> without_marks("a\\ue000b")
        'a\\ufffdb'
    """
    return _RESERVED.sub("\ufffd", text)


def only_text(text: str) -> str:
    """Text with its marks resolved, without what broken source left of others."""
    return _RESERVED.sub("", text)
