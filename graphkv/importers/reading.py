"""How importers read files: bounded, never outside the folder that was named, and with every skip on record."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError

MAX_BYTES = 256 * 2**20
"""The largest file, and the longest line of a JSON Lines file, that is read."""


@dataclass(frozen=True)
class Skipped:
    """Something that was left out, and why."""

    where: str
    reason: str


@dataclass
class Reading:
    """One run over sources: its limits, and what there is to tell afterwards.

    Attributes:
        max_bytes: larger files, and longer lines, are refused. reverse: edges of graph formats run from the reader to what is read.
        edge_pairs: for LangChain documents, metadata fields that name others: ``(("cites", "$id"),)``.
        skipped: what was left out. notes: what was taken, but not as it stood (another encoding, an included file that is missing).
        claimed: files that belong to a record already (an included .tex, a .bib that a paper names); they are not read for themselves.
        cache: what an importer keeps about a folder that it would otherwise have to look through again.
    """

    max_bytes: int = MAX_BYTES
    reverse: bool = False
    edge_pairs: tuple[tuple[str, str], ...] = ()
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[Skipped] = field(default_factory=list)
    claimed: set[Path] = field(default_factory=set)
    cache: dict[Path, Any] = field(default_factory=dict, repr=False)

    def skip(self, where: str, reason: str) -> None:
        """Put on record that something was left out."""
        self.skipped.append(Skipped(where, " ".join(reason.split())))

    def note(self, where: str, what: str) -> None:
        """Put on record that something was not taken as it stood."""
        self.notes.append(Skipped(where, " ".join(what.split())))

    def raw(self, path: Path) -> bytes:
        """A whole file. Raises DocumentError if it is missing, unreadable or larger than the limit."""
        try:
            with path.open("rb") as file:
                data = file.read(self.max_bytes + 1)
        except FileNotFoundError:
            raise DocumentError(f"no such file: {path}") from None
        except OSError as error:
            raise DocumentError(f"{path} cannot be read: {error.strerror or error}") from None
        if len(data) > self.max_bytes:
            raise DocumentError(f"{path} is larger than {self.max_bytes:,} bytes: split it, or raise --max-file-size")
        return data

    def text(self, path: Path, declared: str | None = None) -> str:
        """A text file in UTF-8, UTF-16 with a byte order mark, the `declared` encoding, or else Windows-1252, which is noted. New lines are ``\\n``.

        Raises:
            DocumentError: as :meth:`raw`, or the file is not text.
        """
        return self.decode(self.raw(path), str(path), declared)

    def decode(self, data: bytes, where: str, declared: str | None = None) -> str:
        """Bytes as text, see :meth:`text`."""
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            tried = ["utf-16"]
        else:
            tried = ["utf-8-sig", *([declared] if declared else []), "cp1252", "latin-1"]
        for encoding in tried:
            try:
                text = data.decode(encoding)
            except (UnicodeDecodeError, LookupError):
                continue
            if "\x00" in text:
                break
            if encoding not in ("utf-8-sig", "utf-16", declared):
                self.note(where, f"is not UTF-8; read as {encoding}")
            return text.replace("\r\n", "\n").replace("\r", "\n")
        raise DocumentError(f"{where} is not text: expected UTF-8, or another encoding without zero bytes")

    def lines(self, path: Path) -> Iterator[tuple[int, str]]:
        """Lines of a text file that are not empty, with their numbers from 1; one at a time, whatever the file's size.

        A line longer than the limit, and one that is not UTF-8, is skipped and counted.

        Raises:
            DocumentError: the file is missing or unreadable.
        """
        try:
            with path.open("rb") as file:
                number = 0
                while line := file.readline(self.max_bytes + 1):
                    number += 1
                    where = f"{path}, line {number}"
                    if len(line) > self.max_bytes:
                        self.skip(where, f"longer than {self.max_bytes:,} bytes; --max-file-size raises the limit")
                        while line and not line.endswith(b"\n"):
                            line = file.readline(2**20)
                        continue
                    try:
                        text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                    except UnicodeDecodeError as error:
                        self.skip(where, f"not UTF-8 text ({error.reason} at byte {error.start})")
                        continue
                    if text:
                        yield number, text
        except FileNotFoundError:
            raise DocumentError(f"no such file: {path}") from None
        except OSError as error:
            raise DocumentError(f"{path} cannot be read: {error.strerror or error}") from None

    def json(self, text: str, where: str) -> Any:
        """A JSON value. Raises DocumentError naming the place for anything that is not JSON."""
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise DocumentError(f"{where}: not valid JSON ({error.msg} at line {error.lineno}, column {error.colno})") from None
        except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
            raise DocumentError(f"{where}: JSON that cannot be read ({error})") from None

    def xml(self, path: Path) -> Any:
        """The root element of an XML file (lxml), with no entities, no DTD and no network.

        Raises:
            DocumentError: as :meth:`raw`, or the XML is malformed, declares entities, or is nested too deep.
        """
        from lxml import etree

        class Nothing(etree.Resolver):  # type: ignore[misc]
            """Whatever a document names outside of itself is empty: with collect_ids=False the parser would read a DTD in spite of load_dtd."""

            def resolve(self, url: str, id: str, context: Any) -> Any:
                return self.resolve_string("", context)

        data = self.raw(path)
        # The files of others have the same xml:id twice (collect_ids), which is no reason not to read them.
        parser = etree.XMLParser(
            resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False, remove_comments=True, remove_pis=True, collect_ids=False
        )
        parser.resolvers.add(Nothing())
        try:
            root = etree.fromstring(data, parser)
        except etree.XMLSyntaxError as error:
            raise DocumentError(f"{path}: not well-formed XML ({error.msg})") from None
        if root is None:
            raise DocumentError(f"{path}: an empty XML file")
        info = root.getroottree().docinfo
        declared = info.internalDTD is not None and any(True for _ in info.internalDTD.iterentities())
        if declared or next(root.iter(etree.Entity), None) is not None:
            raise DocumentError(f"{path} has XML entities of its own, which are not read: they can grow without bound; remove the DOCTYPE")
        return root

    def beside(self, root: Path, base: Path, name: str) -> Path | None:
        """The file that `name`, written in a file of the folder `base`, means, if it lies within `root` and exists; None otherwise.

        Absolute names, and names that lead out of `root` (also through links), are noted and not followed.
        """
        if not name.strip() or "\x00" in name:
            return None
        try:
            path = (base / name).resolve()
            if not path.is_relative_to(root.resolve()):
                self.note(str(base), f"{name!r} leads out of the folder {root}; not followed")
                return None
            return path if path.is_file() else None
        except (OSError, RuntimeError):  # a name too long, a loop of links
            return None
