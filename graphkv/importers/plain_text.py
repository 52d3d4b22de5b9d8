"""Plain text: a file is a document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from graphkv.errors import DocumentError
from graphkv.importers.links import file_names
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Record, Section


def read(path: Path, root: Path, reading: Reading) -> Iterator[Item]:
    """One record, called by the file's path without its ending.

    Raises:
        DocumentError: the file is empty, or not text.
    """
    text = "\n".join(line.rstrip() for line in reading.text(path).split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    if not text:
        raise DocumentError(f"{path} is empty: expected some text")
    id, aliases = file_names(path, root)
    yield Record(id=id, aliases=aliases, sections=(Section("", text),), where=str(path))
