"""From files and folders to records: what is read, in which order, and what is left out."""

from __future__ import annotations

import mimetypes
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphkv.errors import DocumentError, InputError, one_of
from graphkv.importers.formats import FORMATS, ORDER, format_of, read_file
from graphkv.importers.json_rows import ROW_FORMATS
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Found:
    """An item and where it was found. Names in it mean what they mean in its `file`, else in its `folder`, else anywhere.

    Attributes:
        folder: the source folder, or the folder of a source file.
    """

    item: Item
    file: str = ""
    folder: str = ""


def gather(
    sources: Sequence[Path], reading: Reading, *, format: str | None = None, progress: Progress | None = None
) -> Iterator[Found]:
    """Everything in the sources, each item with the place where it was found.

    A file that was named and cannot be used is an error; one that was found in a folder is skipped and counted.

    Args:
        sources: files and folders. format: of the files; without it their endings decide.
        progress: called with (files read, files to read).

    Raises:
        InputError: an unknown format. DocumentError: a source does not exist, or a named file cannot be used or has an unknown ending.
    """
    if format is not None and format not in FORMATS:
        raise InputError(one_of("format", format, FORMATS))
    plans = [(source, _files(source, reading, format)) for source in sources]
    total, done = sum(len(files) for _, files in plans), 0
    for source, files in plans:
        named = source.is_file()
        root = source.parent if named else source
        for path, kind in files:
            if named or path.resolve() not in reading.claimed:
                try:
                    for item in read_file(path, root, reading, kind):
                        yield Found(item, str(path), str(root.resolve()))
                except DocumentError as error:
                    if named:
                        raise
                    reading.skip(str(path), str(error).removeprefix(str(path)).lstrip(": "))
            done += 1
            if progress:
                progress(done, total)


def _files(source: Path, reading: Reading, format: str | None) -> list[tuple[Path, str]]:
    """The files of one source with their formats, in the order in which they are read."""
    if source.is_file():
        kind = format or format_of(source)
        if kind is None:
            raise DocumentError(f"{source}: the ending {source.suffix or '(none)'} says no format; name one with --format: {', '.join(FORMATS)}")
        nodes = source.with_name(f"{source.stem}.nodes{source.suffix}")  # as graphkv.export writes them
        return [*([(nodes, kind)] if kind == "csv" and nodes.is_file() else []), (source, kind)]
    if not source.is_dir():
        raise DocumentError(f"no such file or folder: {source}")
    found: list[tuple[Path, str]] = []
    other: Counter[str] = Counter()
    for path in sorted(source.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(source).parts) or not path.is_file():
            continue
        if not path.resolve().is_relative_to(source.resolve()):
            reading.skip(str(path), "a link that leads out of the folder")
            continue
        kind = format_of(path)
        if format is not None and (kind in (None, format) or (kind == "json" and format in ROW_FORMATS)):
            kind = format if kind is not None or _may_be_text(path) else None
        elif format is not None:
            kind = None
        if kind is None:
            other[path.suffix.lower() or "(no ending)"] += 1
            continue
        found.append((path, kind))
    if other:
        counts = ", ".join(f"{count} {ending}" for ending, count in sorted(other.items()))
        reading.note(str(source), f"{sum(other.values())} files of other kinds left out: {counts}")
    return sorted(found, key=lambda entry: ORDER.index(entry[1]) if entry[1] in ORDER else len(ORDER))


def _may_be_text(path: Path) -> bool:
    """Whether an ending that is none of ours could be one of a text file."""
    kind = mimetypes.guess_type(path.name)[0]
    return kind is None or kind.startswith("text/") or kind in ("application/json", "application/xml")
