"""HTML: a file is a page with sections by its headings, and links to other pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from graphkv.errors import DocumentError
from graphkv.importers.html_text import declared_encoding, main_parts, parse, walk
from graphkv.importers.pages import Page
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item


def read(path: Path, root: Path, reading: Reading) -> Iterator[Item]:
    """One record. Scripts, styles and navigation are left out, and so is what stands around the page's ``<main>``, if it has one.

    Its title is its first ``<h1>`` where ``<title>`` only adds to it ("Installation — Foo 1.0"), or else that of ``<title>``. Sections have the ids of their headings, or of the element or
    ``<a name>`` right in front of them, as anchors.

    Raises:
        DocumentError: the file is empty, not text, holds neither text nor a title, or is nested too deep.
    """
    data = reading.raw(path)
    tree = parse(reading.decode(data, str(path), declared_encoding(data)), str(path))
    if tree is None:
        raise DocumentError(f"{path} is empty: expected an HTML page")
    page = Page(path, root, reading)
    for part in main_parts(tree):
        walk(part, page)
    found = next(tree.iter("title"), None)
    title = " ".join("".join(found.itertext()).split()) if found is not None else ""
    yield page.record(title=_without_the_site(title, page.first_headings) or None)


def _without_the_site(title: str, headings: list[str]) -> str:
    """The first ``<h1>`` if the title begins with it, or holds it and there is no other ``<h1>``; or else the title.

    Example:
        >>> _without_the_site("Installation — Foo 1.0 documentation", ["Installation"])
        'Installation'
    """
    found = re.search(rf"(?<!\w){re.escape(headings[0])}(?!\w)", title) if headings else None
    return headings[0] if found and (found.start() == 0 or len(headings) == 1) else title
