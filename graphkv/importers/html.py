"""HTML: a file is a page with sections by its headings, and links to other pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graphkv.errors import DocumentError
from graphkv.importers.html_text import declared_encoding, parse, walk
from graphkv.importers.pages import Page
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item


def read(path: Path, root: Path, reading: Reading) -> Iterator[Item]:
    """One record. Scripts, styles and navigation are left out.

    Its title is that of the page, or its first ``<h1>``. Sections have the ids of their headings, or of the element or
    ``<a name>`` right in front of them, as anchors.

    Raises:
        DocumentError: the file is empty, not text, holds neither text nor a title, or is nested too deep.
    """
    data = reading.raw(path)
    tree = parse(reading.decode(data, str(path), declared_encoding(data)), str(path))
    if tree is None:
        raise DocumentError(f"{path} is empty: expected an HTML page")
    page = Page(path, root, reading)
    walk(tree, page)
    found = next(tree.iter("title"), None)
    title = " ".join("".join(found.itertext()).split()) if found is not None else ""
    yield page.record(title=title or None)
