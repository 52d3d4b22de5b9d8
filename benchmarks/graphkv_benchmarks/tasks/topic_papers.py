"""Papers of a citation network with their classes: what the readers of Cora and Pubmed give to topic classification."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graphkv.errors import DocumentError

from ..runner.case import Broken

Stamp = tuple[str, int, int]
"""A file's path, time of change in nanoseconds, and bytes."""


@dataclass(frozen=True)
class Paper:
    """A paper as the method may see it, and its class, which it may not.

    Attributes:
        id: of the data set. title: None where there is none, or where it is all the text there is. text: the abstract; the title where there is no abstract.
        label: the class by its readable name.
    """

    id: str
    title: str | None
    text: str
    label: str


@dataclass(frozen=True)
class Papers:
    """A citation network.

    Attributes:
        papers: by id, in the file's order. neighbours: of each paper those that it cites or that cite it, in the file's order.
        without_text: papers that were left out because there is no text of them that can be read.
        edges_left_out: citations to or from a paper that is not among `papers`.
        broken: rows that could not be read.
    """

    papers: Mapping[str, Paper]
    neighbours: Mapping[str, tuple[str, ...]]
    without_text: int
    edges_left_out: int
    broken: tuple[Broken, ...]

    @functools.cached_property
    def digest(self) -> str:
        """16 hex digits over ids, classes, texts and citations: two folders with the same digest hold the same data set."""
        found = hashlib.sha256()
        for paper in self.papers.values():
            found.update(json.dumps([paper.id, paper.title, paper.text, paper.label, self.neighbours[paper.id]]).encode())
        return found.hexdigest()[:16]


def connect(
    labels: Mapping[str, str], texts: Callable[[str], tuple[str, str]], citations: Iterable[tuple[str, str]], broken: Sequence[Broken], where: Path
) -> Papers:
    """The network of the papers that have a text.

    Args:
        labels: class by id, in the file's order. texts: title and abstract of an id, empty where there is none; asked before `broken` is read.
        citations: pairs of ids, in either direction. where: the folder, for the error.

    Raises:
        DocumentError: not one paper has a text.
    """
    papers: dict[str, Paper] = {}
    for id, label in labels.items():
        title, abstract = (" ".join(part.split()) for part in texts(id))
        if title or abstract:
            papers[id] = Paper(id, (title or None) if abstract else None, abstract or title, label)
    if not papers:
        raise DocumentError(f"{where}: none of its {len(labels)} papers has a text: expected a title or an abstract by the papers' ids")
    beside: dict[str, set[str]] = {id: set() for id in papers}
    left_out = 0
    for one, other in citations:
        if one not in papers or other not in papers:
            left_out += 1
        elif one != other:
            beside[one].add(other)
            beside[other].add(one)
    rank = {id: place for place, id in enumerate(papers)}
    neighbours = {id: tuple(sorted(found, key=rank.__getitem__)) for id, found in beside.items()}
    return Papers(papers, neighbours, len(labels) - len(papers), left_out, tuple(broken))


def find_files(folder: Path, wanted: Mapping[str, Sequence[str]], about: str) -> list[Path]:
    """The first place of each that exists.

    Args:
        wanted: for each thing, what it is called in the message, the places where it may be, relative to the folder.
        about: the expected layout, for the message.

    Raises:
        DocumentError: something is missing; it and the expected layout are named.
    """
    if not folder.is_dir():
        raise DocumentError(f"no such folder: {folder}; expected {about}")
    found = {name: next((folder / place for place in places if (folder / place).exists()), None) for name, places in wanted.items()}
    if missing := [name for name, place in found.items() if place is None]:
        raise DocumentError(f"{folder}: missing {' and '.join(missing)}; expected {about}")
    return [place for place in found.values() if place is not None]


def stamps(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    """What tells whether files have changed, for a reader that remembers what it read."""
    found = []
    for path in paths:
        state = path.stat()
        found.append((str(path), state.st_mtime_ns, state.st_size))
    return tuple(found)


def lines_of(path: Path) -> list[str]:
    """Lines of a file of the releases as their ends part them, ``\\n`` or ``\\r\\n``: a form feed or U+2028 inside of one ends nothing.

    Raises:
        DocumentError: it cannot be read.
    """
    return [line.removesuffix("\r") for line in read_text(path).split("\n")]


def read_text(path: Path) -> str:
    """A file of the releases: UTF-8, or Latin-1 where it is not valid UTF-8 (they are older than the habit).

    Raises:
        DocumentError: it cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
