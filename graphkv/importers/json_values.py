"""JSON values that may be anything, as what is expected of them or else as nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from graphkv.importers.compose import plain
from graphkv.importers.reading import Reading


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


def writable(metadata: Mapping[str, Any], where: str, reading: Reading) -> dict[str, Any]:
    """Metadata that JSON can hold: values that Python reads but no file can be given, such as NaN, are skipped and counted.

    Example:
        >>> reading = Reading()
        >>> writable({"year": 1999, "rank": float("nan")}, "line 1", reading), len(reading.skipped)
        ({'year': 1999}, 1)
    """
    kept = {}
    for key, value in metadata.items():
        try:
            json.dumps(value, allow_nan=False)
        except (ValueError, RecursionError) as error:
            reading.skip(where, f"the metadata {key!r} is no JSON value ({error})")
        else:
            kept[key] = value
    return kept
