"""From files and folders to records: what is read, in which order, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from graphkv.errors import DocumentError, InputError, one_of
from graphkv.importers.formats import FORMATS, ORDER, format_of, read_file
from graphkv.importers.json_rows import ROW_FORMATS
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item

Progress = Callable[[int, int], None]


def gather(
    sources: Sequence[Path], reading: Reading, *, format: str | None = None, leave_out: Sequence[Path] = (), progress: Progress | None = None
) -> Iterator[tuple[str, Item]]:
    """Everything in the sources, each item with the name of the folder that it was found in.

    A file that was named and cannot be used is an error; one that was found in a folder is skipped and counted.

    Args:
        sources: files and folders. format: of the files; without it their endings decide.
        leave_out: files that are not read though they lie in a folder (the output of an earlier run).
        progress: called with (files read, files to read).

    Raises:
        InputError: an unknown format. DocumentError: a source does not exist, or a named file cannot be used or has an unknown ending.
    """
    if format is not None and format not in FORMATS:
        raise InputError(one_of("format", format, FORMATS))
    hidden = {path.resolve() for path in leave_out}
    plans = [(source, _files(source, reading, format, hidden)) for source in sources]
    total, done = sum(len(files) for _, files in plans), 0
    for source, files in plans:
        named = source.is_file()
        root = source.parent if named else source
        for path, kind in files:
            if named or path.resolve() not in reading.claimed:
                try:
                    for item in read_file(path, root, reading, kind):
                        yield root.resolve().name, item
                except DocumentError as error:
                    if named:
                        raise
                    reading.skip(str(path), str(error).removeprefix(str(path)).lstrip(": "))
            done += 1
            if progress:
                progress(done, total)


def _files(source: Path, reading: Reading, format: str | None, hidden: set[Path]) -> list[tuple[Path, str]]:
    """The files of one source with their formats, in the order in which they are read."""
    if source.is_file():
        kind = format or format_of(source)
        if kind is None:
            raise DocumentError(f"{source}: the ending {source.suffix or '(none)'} says no format; name one with --format: {', '.join(FORMATS)}")
        return [(source, kind)]
    if not source.is_dir():
        raise DocumentError(f"no such file or folder: {source}")
    found: list[tuple[Path, str]] = []
    other: Counter[str] = Counter()
    for path in sorted(source.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(source).parts) or not path.is_file() or path.resolve() in hidden:
            continue
        if not path.resolve().is_relative_to(source.resolve()):
            reading.skip(str(path), "a link that leads out of the folder")
            continue
        kind = format_of(path)
        if kind is None or (format is not None and format != kind and not (kind == "json" and format in ROW_FORMATS)):
            other[path.suffix.lower() or "(no ending)"] += 1
            continue
        found.append((path, format or kind))
    if other:
        counts = ", ".join(f"{count} {ending}" for ending, count in sorted(other.items()))
        reading.note(str(source), f"{sum(other.values())} files of other kinds left out: {counts}")
    return sorted(found, key=lambda entry: ORDER.index(entry[1]) if entry[1] in ORDER else len(ORDER))
