"""Which works a paper's bibliography holds: its .bbl, the .bib files that it names, or the entries in the paper itself."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers import bbl, bibtex
from graphkv.importers.entry_text import Entry
from graphkv.importers.latex.files import Source
from graphkv.importers.reading import Reading
from graphkv.importers.record import Reference

_NAMED = re.compile(r"\\(?:(?P<plain>bibliography|nobibliography)|addbibresource|addglobalbib)(?![A-Za-z])\s*(?:\[[^\]]*\])?\s*\{(?P<names>[^{}]*)\}")
_EMBEDDED = re.compile(r"\\begin\s*\{thebibliography\}.*?(?:\\end\s*\{thebibliography\}|\Z)", re.DOTALL)


class Bibliography:
    """The entries that citations can mean, and which of them the paper lists.

    Args:
        entries: those of a formatted bibliography, all of which are listed. database: those of .bib files, listed if they are cited.
    """

    def __init__(self, entries: dict[str, Entry], database: dict[str, Any], reading: Reading, where: str) -> None:
        self._entries, self._database = entries, database
        self._formatted = bool(entries)
        self._numbers = {key: number for number, key in enumerate(entries, start=1)}
        self._reading, self._where = reading, where

    def cite(self, key: str) -> None:
        """A key that the paper cites, in its text or by ``\\nocite``."""
        if self._formatted or key in self._entries:
            return
        if key == "*":
            for every in list(self._database):
                self.cite(every)
        elif key in self._database:
            try:
                self._entries[key] = bibtex.entry_of(self._database[key], self._database)
                self._numbers[key] = len(self._numbers) + 1
            except DocumentError as error:
                self._reading.skip(f"{self._where}, reference {key}", str(error))

    def entry(self, key: str) -> Entry | None:
        """The entry that `key` means, if there is one."""
        return self._entries.get(key)

    def number(self, key: str) -> int:
        """The place of an entry in the list, from 1."""
        return self._numbers[key]

    def references(self) -> tuple[Reference, ...]:
        """What the paper lists, in order; a formatted entry is completed by the .bib's."""
        return tuple(self._completed(entry) for entry in self._entries.values())

    def _completed(self, entry: Entry) -> Reference:
        of = entry.reference
        block = self._database.get(of.key)
        if block is None:
            return replace(of, text="\n\n".join(filter(None, (of.text, entry.abstract))))
        try:
            more = bibtex.entry_of(block, self._database) if self._formatted else entry
        except DocumentError as error:
            self._reading.note(f"{self._where}, reference {of.key}", str(error))
            return of
        known = more.reference
        return replace(
            of,
            title=known.title or of.title,
            authors=known.authors or of.authors,
            year=of.year or known.year,
            doi=of.doi or known.doi,
            arxiv=of.arxiv or known.arxiv,
            text="\n\n".join(filter(None, (of.text, more.abstract or entry.abstract))),
        )


def bibliography(path: Path, root: Path, source: Source, reading: Reading) -> Bibliography:
    """The bibliography of the paper `path`; an embedded one is taken out of `source`. The files that it is read from are claimed.

    A .bbl says which works are listed, .bib files complete it. If the paper names neither, the only .bbl or .bib of its
    folder is taken, which is noted.
    """
    embedded = [found.group() for found in _EMBEDDED.finditer(source.text)]
    named = list(_NAMED.finditer(source.text))
    source.text = _EMBEDDED.sub("", source.text)
    own = reading.beside(root, path.parent, f"{path.stem}.bbl")
    formatted = list(dict.fromkeys([*([own] if own else []), *source.bibliographies]))
    entries, database = _read(formatted, _databases(named, bool(formatted), path, root, reading), reading)
    if not entries:
        for part in embedded:
            try:
                entries |= bbl.entries(part, f"{path}, bibliography", reading, source.literals)
            except DocumentError as error:
                reading.note(str(path), str(error))
    if not entries and not database:
        entries, database = _read(*_only_ones(path, root, reading), reading)
    return Bibliography(entries, database, reading, str(path))


def _read(formatted: list[Path], databases: list[Path], reading: Reading) -> tuple[dict[str, Entry], dict[str, Any]]:
    """The entries of .bbl and of .bib files, each file claimed; one that cannot be used is noted."""
    entries: dict[str, Entry] = {}
    database: dict[str, Any] = {}
    for file in (*formatted, *databases):
        reading.claimed.add(file)
        try:
            if file.suffix == ".bbl":
                entries = bbl.entries(reading.text(file), str(file), reading) | entries
            else:
                database = bibtex.load(file, reading) | database
        except DocumentError as error:
            reading.note(str(file), f"not used: {error}")
    return entries, database


def _databases(named: list[re.Match[str]], formatted: bool, path: Path, root: Path, reading: Reading) -> list[Path]:
    found: dict[Path, None] = {}
    names = [name for match in named for name in (match["names"].split(",") if match["plain"] else [match["names"]])]
    for name in dict.fromkeys(name.strip() for name in names):
        if not name or "\\" in name or "#" in name:  # a macro's parameter
            continue
        before = len(reading.notes)
        file = reading.beside(root, path.parent, name if name.endswith(".bib") else f"{name}.bib")
        if file:
            found[file] = None
        elif len(reading.notes) == before and not formatted:  # a paper that is sent off often has its .bbl only
            reading.note(str(path), f"the bibliography {name!r} is not there")
    return list(found)


def _only_ones(path: Path, root: Path, reading: Reading) -> tuple[list[Path], list[Path]]:
    """The only .bbl, or else the only .bib, of the paper's folder."""
    for ending in ("bbl", "bib"):
        beside = [reading.beside(root, path.parent, file.name) for file in sorted(path.parent.glob(f"*.{ending}"))]
        files = [file for file in beside if file and file not in reading.claimed]
        if len(files) == 1:
            reading.note(str(path), f"names no bibliography that is there; {files[0].name} is taken, the only one in its folder")
            return (files, []) if ending == "bbl" else ([], files)
    return [], []
