"""JSON values that may be anything, as what is expected of them or else as nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphkv.importers.compose import plain


def string(value: object) -> str:
    """A JSON value as one line of text; empty if it is neither text nor a number.

    Example:
        >>> string(" A\\n title "), string(2017), string(None)
        ('A title', '2017', '')
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return " ".join(plain(str(value)).split())


def text_of(value: object) -> str:
    """The text as it stands; empty if the value is something else."""
    return value if isinstance(value, str) else ""


def strings(value: object) -> list[str]:
    """The texts in a JSON list that are not empty; a single text is a list of one."""
    return [text for text in map(string, value if isinstance(value, list) else [value]) if text]


def mapping(value: object) -> Mapping[str, Any]:
    """The JSON object, or an empty one if it is something else."""
    return value if isinstance(value, Mapping) else {}


def rows(value: object) -> list[Mapping[str, Any]]:
    """The objects in a JSON list."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []
