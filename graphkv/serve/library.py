"""Library: documents that clients leave with the server, by scope, in one SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError, InputError, StoreError
from graphkv.segments import Document

LONGEST_ID = 512
"""Characters of the longest id."""

LONGEST_TITLE = 2_000
"""Characters of the longest title: a list shows them."""

LONGEST_METADATA = 64 * 1024
LONGEST_SOURCES = 256 * 1024
"""Bytes as JSON, of one document."""

_VERSION = 1
_LOOK_UP = 500  # ids in one statement; SQLite takes at least 999 values
_TABLE = """
create table if not exists documents (
    scope text not null, id text not null, title text, text text not null, more text not null, characters integer not null, created integer not null,
    primary key (scope, id)
);
create index if not exists sizes on documents (scope, characters);
"""
# All that is kept of a scope, summed without reading a text; made in files of earlier versions as well.
_HELD = "characters + length(id) + length(more)"
_INDEX = f"create index if not exists held on documents (scope, {_HELD})"


@dataclass(frozen=True)
class Stored:
    """A document of the library.

    Attributes:
        id: unique within its scope. text, title: what the model reads.
        sources: what it reads, as :meth:`graphkv.Document.from_dict` takes it. score, metadata: the document's.
        created: when it was put here first, in seconds since 1970.
    """

    id: str
    text: str
    title: str | None = None
    sources: tuple[Any, ...] = ()
    score: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created: int = 0

    @classmethod
    def of(cls, document: Document) -> Stored:
        """A document as it is kept."""
        sources = tuple({"id": source, **document.edges[source]} if document.edges.get(source) else source for source in document.sources)
        return cls(document.id, document.text, document.title, sources, document.score, document.metadata)

    @property
    def document(self) -> Document:
        """The document, as it was before :meth:`of`."""
        known = {source["id"]: {k: v for k, v in source.items() if k != "id"} for source in self.sources if isinstance(source, Mapping)}
        names = tuple(source["id"] if isinstance(source, Mapping) else source for source in self.sources)
        return Document(self.id, self.text, self.title, names, self.score, known, self.metadata)


@dataclass(frozen=True)
class Summary:
    """What a list says of a document: everything but the text and the metadata. `characters` are those of title and text."""

    id: str
    title: str | None
    characters: int
    created: int


class Library:
    """Documents by scope. What is put under one scope is neither seen, changed nor deleted under another.

    An id is a value in a table and never a part of a path. Any thread may call; a document that was put is there after a restart.

    Args:
        path: the SQLite file, which is made if it is not there; nothing for a library in memory.
        max_characters: the most that one scope may hold: ids, titles, texts, and sources and metadata as JSON.

    Raises:
        StoreError: the file cannot be opened or is no library.

    Example:
        >>> library = Library(None)
        >>> library.put("", [Stored("a", "It rains.", sources=("b",))])
        >>> library.get("", ["a"])["a"].text, library.get("another", ["a"])
        ('It rains.', {})
        >>> library.close()
    """

    def __init__(self, path: str | Path | None, *, max_characters: int = 1_000_000_000) -> None:
        self.path, self.max_characters = path, max_characters
        self._lock = threading.Lock()
        if path is not None:
            try:
                _make_private(Path(path))
            except OSError as error:
                raise StoreError(f"the document library {path} cannot be made: {error}") from error
        with self._saying("opened"):
            # One connection for all threads, one after the other: each statement is short, and a library in memory is one connection's.
            self._connection = sqlite3.connect(":memory:" if path is None else path, timeout=10.0, check_same_thread=False)
            self._open()

    def _open(self) -> None:
        try:
            version = int(self._connection.execute("pragma user_version").fetchone()[0])
            if version == 0 and not self._connection.execute("select count(*) from sqlite_master").fetchone()[0]:
                self._connection.execute("pragma journal_mode = wal")  # a reader of another process does not wait for a writer
                self._connection.executescript(f"begin immediate; {_TABLE} pragma user_version = {_VERSION}; commit;")
            elif version != _VERSION:
                raise StoreError(f"{self.path} is not a document library of this version: expected a file that graphkv made, or none")
            self._connection.execute(_INDEX)
            self._connection.execute("pragma synchronous = normal")
        except BaseException:
            self._connection.close()
            raise

    def put(self, scope: str, documents: Sequence[Stored]) -> None:
        """Keep documents, all of them or none; one that is there already is replaced.

        Raises:
            InputError: an id that is none, a title, sources or metadata that are too long, or more than a scope may hold. DocumentError: metadata that is not JSON.
            StoreError: it cannot be written.
        """
        rows = []
        for document in documents:
            if problem := id_problem(document.id):
                raise InputError(problem)
            if len(document.title or "") > LONGEST_TITLE:
                raise InputError(f"document {document.id!r}: a title may have {LONGEST_TITLE:,} characters, got {len(document.title or ''):,}")
            size = len(document.text) + len(document.title or "")
            rows.append((scope, document.id, document.title, document.text, _more(document), size, document.created or int(time.time())))
        with self._saying("written"), self._lock, self._connection:
            self._connection.execute("begin immediate")
            self._connection.executemany(
                "insert into documents values (?, ?, ?, ?, ?, ?, ?) on conflict (scope, id) do update set"
                " title = excluded.title, text = excluded.text, more = excluded.more, characters = excluded.characters",
                rows,
            )
            held = int(self._connection.execute(f"select total({_HELD}) from documents where scope = ?", (scope,)).fetchone()[0])
            if held > self.max_characters:  # leaving by an error takes back what was written
                raise InputError(f"the library would hold {held:,} characters with ids and metadata, at most {self.max_characters:,} are allowed: delete documents first")

    def get(self, scope: str, ids: Iterable[str]) -> dict[str, Stored]:
        """Those of `ids` that are there, by id, in the order asked for."""
        wanted = list(dict.fromkeys(ids))
        found: dict[str, Stored] = {}
        with self._saying("read"), self._lock:
            for start in range(0, len(wanted), _LOOK_UP):
                part = wanted[start : start + _LOOK_UP]
                marks = ", ".join("?" * len(part))
                query = f"select id, title, text, more, created from documents where scope = ? and id in ({marks})"
                for id, title, text, more, created in self._connection.execute(query, (scope, *part)):
                    found[id] = Stored(id, text, title, created=created, **_read(more))
        return {id: found[id] for id in wanted if id in found}

    def characters(self, scope: str, ids: Iterable[str]) -> int:
        """How many characters those of `ids` that are there have together."""
        wanted, total = list(dict.fromkeys(ids)), 0
        with self._saying("read"), self._lock:
            for start in range(0, len(wanted), _LOOK_UP):
                part = wanted[start : start + _LOOK_UP]
                marks = ", ".join("?" * len(part))
                query = f"select total(characters) from documents where scope = ? and id in ({marks})"
                total += int(self._connection.execute(query, (scope, *part)).fetchone()[0])
        return total

    def page(self, scope: str, *, limit: int = 100, after: str = "") -> tuple[list[Summary], bool]:
        """One page of documents by their ids, those behind `after`; and whether there are more."""
        with self._saying("read"), self._lock:
            query = "select id, title, characters, created from documents where scope = ? and id > ? order by id limit ?"
            rows = [Summary(*row) for row in self._connection.execute(query, (scope, after, limit + 1))]
        return rows[:limit], len(rows) > limit

    def delete(self, scope: str, ids: Iterable[str]) -> set[str]:
        """Forget documents; returns the ids of those that were there. Their encoded blocks stay in the store until it makes room."""
        with self._saying("written"), self._lock, self._connection:
            return {id for id in ids if self._connection.execute("delete from documents where scope = ? and id = ?", (scope, id)).rowcount}

    def close(self) -> None:
        """Close the file."""
        with self._saying("closed"), self._lock:
            self._connection.close()

    @contextmanager
    def _saying(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"the document library {self.path or 'in memory'} cannot be {verb}: {error}") from error


def id_problem(id: object) -> str | None:
    """Why something cannot be a document's id; None if it can.

    Example:
        >>> id_problem("../a b"), id_problem("")
        (None, 'an id must have 1 to 512 characters, got 0')
    """
    if not isinstance(id, str):
        return f"an id must be a string, got {type(id).__name__}"
    if not 1 <= len(id) <= LONGEST_ID:
        return f"an id must have 1 to {LONGEST_ID} characters, got {len(id)}"
    wrong = next((c for c in id if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    return None if wrong is None else f"an id must have no control characters, line breaks or halves of characters, got {wrong!r}"


def _more(document: Stored) -> str:
    """What is kept beside title and text, as JSON that can be sent again."""
    more = {"sources": list(document.sources), "score": document.score, "metadata": dict(document.metadata)}
    try:
        text = _dumped(more)
        sizes = {"metadata": (len(_dumped(more["metadata"])), LONGEST_METADATA), "sources": (len(_dumped(more["sources"])), LONGEST_SOURCES)}
    except (TypeError, ValueError) as error:  # UnicodeEncodeError is one
        raise DocumentError(f"document {document.id!r}: sources, score and metadata must be JSON: {error}") from None
    for name, (size, most) in sizes.items():
        if size > most:
            raise InputError(f"document {document.id!r}: its {name} may have {most:,} bytes as JSON, got {size:,}")
    return text.decode()


def _dumped(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _make_private(path: Path) -> None:
    """An empty file, and the folders that it lacks, for this user only, whatever the umask. What is there stays as it is."""
    for folder in reversed([folder for folder in path.parents if not folder.exists()]):
        with suppress(FileExistsError):  # another process made it this very moment
            folder.mkdir(0o700)
            folder.chmod(0o700)  # a umask may have taken more
    with suppress(FileExistsError):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)  # SQLite gives what it puts beside it the same mode
        try:
            os.fchmod(file, 0o600)
        finally:
            os.close(file)


def _read(more: str) -> dict[str, Any]:
    kept = json.loads(more)
    return {"sources": tuple(kept["sources"]), "score": kept["score"], "metadata": kept["metadata"]}
