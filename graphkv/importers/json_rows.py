"""JSON and JSON Lines: rows one by one, each given to the importer that knows its shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item

ROW_FORMATS = ("langchain", "node-link", "unarxive", "s2orc", "text-data", "documents", "passages")
"""Tried in this order. Each is a module with ``matches(row)`` and ``read(row, where, reading)``."""


@dataclass(frozen=True)
class RowFormat:
    """One shape of rows: does a row have it, and what is in the row."""

    matches: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any], str, Reading], Iterator[Item]]


def row_format(name: str) -> RowFormat:
    """A row format by its name."""
    module = import_module(f"graphkv.importers.{name.replace('-', '_')}")
    return RowFormat(module.matches, module.read)


def read(path: Path, root: Path, reading: Reading, format: str | None = None) -> Iterator[Item]:
    """Everything in a JSON or JSON Lines file.

    A file whose first line is a JSON value of its own is read line by line; anything else as one value: an object is a
    row, a list is a list of rows. A row that cannot be used is skipped and counted.

    Args:
        format: one of :data:`ROW_FORMATS`; without it each row is looked at.

    Raises:
        DocumentError: the file is missing, or is not JSON, or too large to be read as one value.
    """
    formats = {name: row_format(name) for name in ([format] if format else ROW_FORMATS)}
    for where, row in _rows(path, reading):
        if not isinstance(row, Mapping):
            reading.skip(where, f"expected an object, got {type(row).__name__}")
            continue
        known = next((f for f in formats.values() if f.matches(row)), None)
        if known is None:
            keys = ", ".join(sorted(map(str, row))[:8]) or "none"
            expected = f"a row of the format {format}" if format else f"a row of one of the formats {', '.join(ROW_FORMATS)}"
            reading.skip(where, f"expected {expected}, got an object with the keys {keys}")
            continue
        left_out = len(reading.skipped)
        empty = True
        try:
            for item in known.read(row, where, reading):
                empty = False
                yield item
            if empty and len(reading.skipped) == left_out:
                reading.skip(where, "there is nothing in it")
        except DocumentError as error:
            reading.skip(where, str(error).removeprefix(f"{where}: "))


def _rows(path: Path, reading: Reading) -> Iterator[tuple[str, Any]]:
    if not _is_json_lines(path, reading):
        value = reading.json(reading.text(path), str(path))
        if isinstance(value, list):
            yield from ((f"{path}, row {i}", row) for i, row in enumerate(value))
        else:
            yield str(path), value
        return
    for number, line in reading.lines(path):
        where = f"{path}, line {number}"
        try:
            row = reading.json(line, where)
        except DocumentError as error:
            reading.skip(where, str(error).removeprefix(f"{where}: "))
            continue
        yield where, row


def _is_json_lines(path: Path, reading: Reading) -> bool:
    """Whether the file is to be read line by line: so its name says, or its first line is a whole JSON object and others follow."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return True
    quiet = Reading(max_bytes=reading.max_bytes)
    lines = quiet.lines(path)
    first = next(lines, None)
    if first is None or not first[1].startswith("{") or next(lines, None) is None:
        return False
    try:
        quiet.json(first[1], str(path))
    except DocumentError:
        return False
    return True
