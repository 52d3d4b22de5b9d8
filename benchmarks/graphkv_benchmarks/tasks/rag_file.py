"""Where the file of a RAG set lies, and its rows by byte offsets: JSON Lines or one JSON list, never as a whole in memory."""

from __future__ import annotations

import functools
import hashlib
import json
import mmap
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError

FILES: Mapping[str, tuple[str, ...]] = {
    "nq": ("datahub/rag/nq_eval/dataset",),
    "2wiki": ("datahub/rag/2wiki_dev/dataset",),
    "tqa": ("datahub/rag/tqa_eval/dataset",),
    "hotpotqa": ("datahub/rag/hqa_eval/dataset",),
    "multihop-rag": ("datahub/rag/multihopqa/GIST-large-Embedding-v0_retrieval_test.json",),
    # the official code reads the second of these, the Hub has the first
    "morehopqa": ("datahub/rag/morehopqa/with_human_verification_ascend.jsonl", "datahub/morehopqa/with_human_verification_ascend.jsonl"),
    # a data set of its own; the second is where `graphkv bench offline rag` puts it
    "longbench-v2": ("data.json", "datahub/rag/longbench-v2/data.json"),
}
"""Each set's file in the released tree (Hub data sets Graph-COM/GraphKV and THUDM/LongBench-v2)."""

_FOLDERS = {folder: name for name, files in FILES.items() for file in files if (folder := Path(file).parent.name)}
"""The sets' own folders, each with its set."""
_BOM = b"\xef\xbb\xbf"
# A whole string of any length, or a bracket: what lies between two elements of a list is found without decoding anything.
_SOMETHING = re.compile(rb"\S")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}",]', re.DOTALL)


@dataclass(frozen=True)
class Place:
    """A row in its file.

    Attributes:
        line: where it begins, counted from 1. start, end: bytes. domain: LongBench-v2's, None where a row has none.
    """

    line: int
    start: int
    end: int
    domain: str | None = None


def find_file(name: str, data: str | Path) -> Path:
    """The file of a set.

    Args:
        name: a key of :data:`FILES`. data: the file itself, or any folder above it in the released tree.

    Raises:
        DocumentError: it is not there, with the path that is expected; or it lies in the folder of another set.

    Example:
        >>> find_file("nq", "datahub/rag")  # doctest: +SKIP
        PosixPath('datahub/rag/nq_eval/dataset')
    """
    data = Path(data)
    others = {folder: other for folder, other in _FOLDERS.items() if other != name}
    if data.is_file():
        folder = Path(os.path.abspath(data)).parent.name  # as it is called: what a link leads to has names of its own
        if folder in others:
            raise DocumentError(f"{data} lies in {folder}, the folder of the set {others[folder]}: ask for that set, or give --data the file of {name}")
        return data
    for file in FILES[name]:
        parts = Path(file).parts
        for start in range(len(parts)):
            found = data.joinpath(*parts[start:])
            # "dataset" alone is every block set's name: in a folder that is another set's it is another set's
            elsewhere = start == len(parts) - 1 and data.resolve().name in others
            if found.is_file() and not elsewhere:
                return found
    there = "no such file or folder" if not data.exists() else "not found in this folder"
    raise DocumentError(
        f"{data}: {there}; the set {name} needs the file {FILES[name][0]}: give --data that file or a folder above it. "
        "`graphkv bench download` fetches it, `graphkv bench offline rag --out FOLDER` makes rows of the same shape without a network"
    )


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 16 hex digits of it: what says that two machines have the same rows.

    Raises:
        DocumentError: the file cannot be read.
    """
    try:
        stat = path.stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error}") from None


@functools.lru_cache(maxsize=8)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def places(path: Path) -> Mapping[str, Place]:
    """Every row's place by its id, in order: the row's own, or its number from 0, made unique.

    Kept in this process until the file's size or time of change is another. A row that is no JSON has its number as its id; it is found out when
    it is read.

    Raises:
        DocumentError: the file cannot be read, holds no rows, or is a JSON list that does not end, or ends before the file does.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error}") from None
    return _places(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _places(path: Path, size: int, changed: int) -> Mapping[str, Place]:
    if not size:
        raise DocumentError(f"{path} is empty: expected rows, as JSON Lines or as one JSON list")
    found: dict[str, Place] = {}
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with its last match, not before: an error on the way holds one
        for number, (start, end, line) in enumerate(_spans(content, path)):
            own, domain = _head(content[start:end])
            id = str(number) if own is None else own
            while id in found:
                id = f"{id}#{number}"
            found[id] = Place(line, start, end, domain)
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error}") from None
    if not found:
        raise DocumentError(f"{path} holds no rows: expected JSON Lines, or one JSON list of objects")
    return found


def _spans(content: mmap.mmap, path: Path) -> Iterable[tuple[int, int, int]]:
    """(start, end, line) of every row."""
    begin = len(_BOM) if content[: len(_BOM)] == _BOM else 0
    first = _SOMETHING.search(content, begin)
    if first is None or first[0] != b"[":
        return _lines(content, begin)
    found, end = _elements(content, path)
    behind = _SOMETHING.search(content, end)
    if behind is None:
        return found
    if content.find(b"\n", first.start(), end) < 0 <= content.find(b"\n", end, behind.start()):
        return _lines(content, begin)  # the list is a line by itself: JSON Lines, the first of which is no row
    line = content[: behind.start()].count(b"\n") + 1
    raise DocumentError(f"{path}, line {line}: there is more behind the end of the JSON list; expected one JSON list of objects, or JSON Lines")


def _lines(content: mmap.mmap, begin: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, line) of every line with something on it."""
    start, line = begin, 0
    while start < len(content):
        line += 1
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        if content[start:end].strip():
            yield start, end, line
        start = end + 1


def _elements(content: mmap.mmap, path: Path) -> tuple[list[tuple[int, int, int]], int]:
    """(start, end, line) of every element of the list, and where the list ends."""
    found = []
    depth, start, line, counted = 0, 0, 1, 0
    for token in _TOKEN.finditer(content):
        mark = token[0]
        if mark == b'"':
            break  # a string that does not end
        if mark in b"[{":
            depth += 1
            if depth == 1:
                start = token.end()
        elif depth == 1 and mark in (b",", b"]"):
            before = content[start : token.start()]
            row = before.strip()
            if row or mark == b",":
                line += content[counted:start].count(b"\n")
                counted = start
                blank = len(before) - len(before.lstrip())
                found.append((start + blank, start + blank + len(row), line + before[:blank].count(b"\n")))
            start = token.end()
        elif depth == 1 and mark == b"}":
            break  # a bracket too many
        if mark in b"]}":
            depth -= 1
            if depth == 0:
                return found, token.end()
    said = "a JSON list that does not end, or a quotation mark or bracket too many; is the file whole? expected one JSON list of objects"
    raise DocumentError(f"{path}: {said}")


def _head(raw: bytes) -> tuple[str | None, str | None]:
    """A row's own id and domain; rows without the words are not decoded, which spares the long lists of token ids."""
    if not any(key in raw for key in (b'"_id"', b'"id"', b'"domain"')):
        return None, None
    row = _decoded(raw)
    if not isinstance(row, dict):
        return None, None
    own = row.get("_id", row.get("id"))
    known = isinstance(own, str | int) and not isinstance(own, bool) and str(own).strip()
    domain = row.get("domain")
    return str(own) if known else None, domain if isinstance(domain, str) and domain.strip() else None


def _decoded(raw: bytes) -> Any:
    """The row, or the sentence that says why it is none."""
    try:
        return json.loads(raw.decode("utf-8"))
    except json.JSONDecodeError as error:
        return f"not valid JSON ({error.msg} at character {error.pos})"
    except (UnicodeDecodeError, RecursionError, ValueError) as error:  # not UTF-8, nested too deep, a number of thousands of digits
        return f"cannot be read as JSON: {error}"


def read_row(path: Path, place: Place) -> dict[str, Any]:
    """One row.

    Raises:
        DocumentError: it is no JSON object; file and line are named.
    """
    where = f"{path}, line {place.line}"
    try:
        with path.open("rb") as file:
            file.seek(place.start)
            raw = file.read(place.end - place.start)
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error}") from None
    row = _decoded(raw)
    if isinstance(row, dict):
        return row
    said = row if isinstance(row, str) and not raw.lstrip().startswith(b'"') else f"got {type(row).__name__}"
    raise DocumentError(f"{where}: {said}; expected one JSON object a row")
