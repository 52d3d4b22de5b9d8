"""The files of a LaTeX paper: the main file and all that it includes, as one source."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from graphkv.errors import DocumentError
from graphkv.importers.latex.clean import clean
from graphkv.importers.reading import Reading

MAX_INCLUDED = 1000
"""Files that one paper may include; an inclusion that repeats counts again."""
MAX_NESTED = 30

INCLUSION = re.compile(
    r"\\(?:(?P<command>input|include|subfile|subfileinclude|InputIfFileExists)(?![A-Za-z@])\s*\{(?P<name>[^{}]+)\}"
    r"|(?P<from>import|subimport|inputfrom|includefrom|subinputfrom|subincludefrom)\*?\s*\{(?P<folder>[^{}]*)\}\s*\{(?P<file>[^{}]+)\}"
    r"|input\s+(?P<bare>[\w./-]+))"
)
"""A command that includes a file; see :func:`named`."""
_DECLARED = re.compile(rb"(?m)^[^%\n]*\\(?:usepackage\s*\[([\w-]+)\]\s*\{inputenc\}|inputencoding\s*\{([\w-]+)\})")
_ENCODINGS = {"latin1": "latin-1", "latin2": "iso8859-2", "latin5": "iso8859-9", "latin9": "iso8859-15", "latin10": "iso8859-16"}
_ENCODINGS |= {"ansinew": "cp1252", "applemac": "mac-roman", "koi8-r": "koi8-r", "cp1251": "cp1251", "utf8x": "utf-8"}


@dataclass
class Source:
    """A paper's LaTeX in one piece.

    Attributes:
        text: clean, with what it includes in its places. literals: what :func:`graphkv.importers.latex.clean.clean` put aside.
        files: read for it. bibliographies: .bbl files that it inputs as if they were text.
    """

    text: str
    literals: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    bibliographies: list[Path] = field(default_factory=list)


def named(inclusion: re.Match[str]) -> str:
    """The file's name as it stands in a match of :data:`INCLUSION`."""
    return (inclusion["name"] or inclusion["bare"] or inclusion["file"]).strip().strip('"')


def join(path: Path, root: Path, reading: Reading) -> Source:
    """A file and all that it includes, each claimed. Files that are missing, lead out of `root` or include themselves are noted.

    Raises:
        DocumentError: the file itself cannot be read, or the parts are too much together.
    """
    joining = _Joining(path, root, reading)
    joining.source.text = joining.read(path, ())
    return joining.source


class _Joining:
    """One paper being read: how much of it there is so far."""

    def __init__(self, path: Path, root: Path, reading: Reading) -> None:
        self.source = Source("")
        self._main, self._root, self._reading = path, root, reading
        self._size = self._count = 0
        self._encoding: str | None = None

    def read(self, path: Path, within: tuple[Path, ...]) -> str:
        data = self._reading.raw(path)
        self._size += len(data)
        if self._size > self._reading.max_bytes:
            raise DocumentError(f"{self._main} and what it includes are more than {self._reading.max_bytes:,} bytes: split it, or raise --max-file-size")
        if declared := _DECLARED.search(data):
            name = (declared[1] or declared[2]).decode()
            self._encoding = _ENCODINGS.get(name, name)
        text = clean(self._reading.decode(data, str(path), self._encoding), self.source.literals)
        self.source.files.append(path)
        if within:
            text = re.split(r"\\begin\s*\{document\}", text)[-1]  # a subfile's own preamble is not printed
        pieces: list[str] = []
        at = 0
        for found in INCLUSION.finditer(text):
            pieces += [text[at : found.start()], self._include(found, path, (*within, path.resolve()))]
            at = found.end()
        return "".join([*pieces, text[at:]])

    def _include(self, found: re.Match[str], by: Path, within: tuple[Path, ...]) -> str:
        name, folders = named(found), [self._main.parent, by.parent]
        if found["from"]:
            folders = [folder / found["folder"].strip() for folder in reversed(folders)]
        path = _find(name, folders, self._root, self._reading, str(by))
        self._count += 1
        if path is None:
            return ""
        if path in within or len(within) > MAX_NESTED or self._count > MAX_INCLUDED:
            what = "includes itself" if path in within else f"is one of more than {MAX_INCLUDED} inclusions, or {MAX_NESTED} within each other"
            self._reading.note(str(by), f"{name!r} {what}; not followed again")
            return ""
        self._reading.claimed.add(path)
        if path.suffix == ".bbl":
            self.source.bibliographies.append(path)
            return ""
        try:
            return self.read(path, within)
        except DocumentError as error:
            if self._size > self._reading.max_bytes:
                raise
            self._reading.skip(str(by), f"{name!r} cannot be included: {error}")
            return ""


def _find(name: str, folders: list[Path], root: Path, reading: Reading, where: str) -> Path | None:
    """The file that an inclusion means; one that is not there is noted."""
    before = len(reading.notes)
    for folder in dict.fromkeys(folders):
        for candidate in (name,) if name.endswith((".tex", ".bbl")) else (f"{name}.tex", name):
            if path := reading.beside(root, folder, candidate):
                return path
            if len(reading.notes) > before:  # it leads out of the folder, and that is on record
                return None
    reading.note(where, f"{name!r} is to be included, but is not there")
    return None
