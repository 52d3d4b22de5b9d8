"""CSV: lists of edges (``source,target``, ``citing,cited`` ...) and tables of nodes (``id,text`` ...)."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator
from pathlib import Path

from graphkv.errors import DocumentError
from graphkv.importers import network
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Link

READS = {("source", "target"): False, ("citing", "cited"): True, ("from", "to"): True}
"""Pairs of columns that make an edge, and whether the first reads the second; ``source,target`` says that the target reads the source."""

_KNOWN = {name for pair in READS for name in pair} | {*network.TEXT, *network.TITLE, *network.KIND, *network.WEIGHT, "id", "score", network.METADATA}


def read(path: Path, root: Path, reading: Reading) -> Iterator[Item]:
    """The links of an edge list, or the records of a node table; the header says which it is.

    Without a header that is known the first two columns are source and target, which is noted. Comma, tab and semicolon
    may stand between the cells.

    Raises:
        DocumentError: the file is empty, not text, has one column only, or a column twice.
    """
    rows = _rows(path, reading)
    if not rows:
        raise DocumentError(f"{path} is empty: expected a header such as source,target or id,text")
    names = [name.lower() if name.lower() in _KNOWN else name for name in (cell.strip() for cell in rows[0][1])]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    pair = next((pair for pair in READS if set(pair) <= set(names)), None)
    table = pair is None and "id" in names and not {*network.TEXT, *network.TITLE}.isdisjoint(names)
    if (pair or table) and twice:
        raise DocumentError(f"{path}: the column {twice[0]!r} is there twice; rename one")
    if table:
        yield from network.records(_nodes(rows[1:], names, reading), reading, str(path))
    elif pair:
        yield from _edges(rows[1:], names, pair, path, reading)
    elif len(names) < 2:
        raise DocumentError(f"{path}: expected at least two columns, such as source,target or id,text, got the header {','.join(names)[:80]!r}")
    else:
        more = "; the others are not read" if len(names) > 2 else ""
        reading.note(str(path), f"has no header that is known (source,target; citing,cited; from,to; id,text): the first two columns are source and target{more}")
        yield from _edges([(where, row[:2]) for where, row in rows], ["source", "target"], ("source", "target"), path, reading)


def _edges(rows: list[tuple[str, list[str]]], names: list[str], pair: tuple[str, str], path: Path, reading: Reading) -> Iterator[Item]:
    for where, row in rows:
        cells = _cells(where, row, names, reading)
        if cells is None:
            continue
        first, second = cells.get(pair[0]), cells.get(pair[1])
        if not first or not second:
            reading.skip(where, f"{pair[0]} or {pair[1]} is empty")
            continue
        direction = cells.get("type", "").lower()
        if direction in ("directed", "undirected"):  # Gephi's edge lists
            del cells["type"]
        forth = network.link(first, second, cells, where, reading)
        if READS[pair]:  # whoever writes citing,cited has said the direction
            forth = Link(second, first, forth.kind, forth.weight, where)
        yield forth
        if direction == "undirected" and first != second:
            yield Link(forth.target, forth.source, forth.kind, forth.weight, where)


def _nodes(rows: list[tuple[str, list[str]]], names: list[str], reading: Reading) -> Iterator[tuple[str, dict[str, str], str]]:
    """Id, further cells and place of each row."""
    seen = set()
    for where, row in rows:
        cells = _cells(where, row, names, reading)
        if cells is None:
            continue
        id = cells.pop("id", "")
        if not id or id in seen:
            reading.skip(where, f"duplicate id {id!r}: the first row with it stays" if id else "the id is empty")
            continue
        seen.add(id)
        yield id, cells, where


def _cells(where: str, row: list[str], names: list[str], reading: Reading) -> dict[str, str] | None:
    """The cells of a row that are not empty, by their columns."""
    if len(row) > len(names):
        reading.skip(where, f"expected {len(names)} cells, got {len(row)}")
        return None
    return {name: cell for name, cell in zip(names, row, strict=False) if cell and name}


def _rows(path: Path, reading: Reading) -> list[tuple[str, list[str]]]:
    """Every row that is not empty, with its place."""
    data = reading.raw(path)
    text = reading.decode(data, str(path))
    if b"\r" in data:  # carriage returns within cells are part of them
        with contextlib.suppress(UnicodeDecodeError):  # another encoding: as it was read
            text = data.decode("utf-8-sig")
    rows: list[tuple[str, list[str]]] = []
    before = csv.field_size_limit(min(reading.max_bytes, 2**31 - 1))  # the limit is the whole process's; nothing is yielded before it is back
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path, text), skipinitialspace=True)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                reading.skip(f"{path}, line {reader.line_num}", f"not CSV ({error})")
                continue
            if row is None:
                return rows
            if any(row):
                rows.append((f"{path}, line {reader.line_num}", row))
    finally:
        csv.field_size_limit(before)


def _delimiter(path: Path, text: str) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = text.lstrip().partition("\n")[0][:1024]
    try:
        return csv.Sniffer().sniff(first, delimiters=",\t;").delimiter
    except csv.Error:  # one column
        return ","
