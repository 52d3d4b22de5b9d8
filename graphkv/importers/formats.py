"""Formats by name, and which of them a file has."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from graphkv.importers.json_rows import ROW_FORMATS
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item

ENDINGS = {
    ".tex": "latex",
    ".bib": "bibtex",
    ".bbl": "bbl",
    ".tei": "tei",
    ".graphml": "graphml",
    ".gexf": "gexf",
    ".csv": "csv",
    ".tsv": "csv",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".txt": "text",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
"""What a file's ending says. ``json`` looks at each row, see :data:`graphkv.importers.json_rows.ROW_FORMATS`; ``.xml`` is looked into."""

FORMATS = (*sorted(set(ENDINGS.values())), *ROW_FORMATS)
"""Every name that ``--format`` takes."""

ORDER = ("latex", "bbl")
"""Read first in a folder: they claim the bibliographies that belong to a paper."""

_XML_ROOTS = {b"<graphml": "graphml", b"<gexf": "gexf", b"<TEI": "tei", b"<html": "html"}


def format_of(path: Path) -> str | None:
    """The format of a file by its ending (``.xml`` by its first tag); None if it is none that can be read.

    Example:
        >>> format_of(Path("paper.tex")), format_of(Path("picture.png"))
        ('latex', None)
    """
    ending = path.suffix.lower()
    if ending != ".xml":
        return ENDINGS.get(ending)
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return None
    found = {start.find(tag): name for tag, name in _XML_ROOTS.items() if tag in start}
    return found[min(found)] if found else None


def read_file(path: Path, root: Path, reading: Reading, format: str) -> Iterator[Item]:
    """Everything in one file.

    Args:
        path: the file. root: the folder that was named; ids are relative to it, and nothing outside of it is read.
        format: a name of :data:`FORMATS`.

    Raises:
        DocumentError: the file cannot be used.
    """
    if format == "json" or format in ROW_FORMATS:
        from graphkv.importers import json_rows

        return json_rows.read(path, root, reading, None if format == "json" else format)
    name = {"csv": "edge_csv", "latex": "latex.paper", "text": "plain_text"}.get(format, format)
    found: Iterator[Item] = import_module(f"graphkv.importers.{name}").read(path, root, reading)
    return found
