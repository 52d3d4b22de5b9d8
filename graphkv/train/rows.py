"""Training rows: a JSON Lines file of documents and questions, checked once and then read line by line.

::

    {"documents": [{"id": "a", "title": "A", "text": "...", "sources": ["b"]}, ...], "questions": [{"question": "...", "answer": "..."}]}
    {"documents": [...], "question": "...", "answer": "..."}
"""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError, GraphError
from graphkv.graph import SegmentGraph
from graphkv.progress import late_progress


@dataclass(frozen=True, eq=False)
class Row:
    """One graph of documents and what is asked about it; `where` is ``file:line``, for messages."""

    graph: SegmentGraph
    questions: tuple[tuple[str, str], ...]
    where: str


class Rows:
    """The rows of a file. Only their places are kept in memory.

    Attributes:
        path: the file. digest: of its content, so that a resumed run knows its data.

    Raises:
        DocumentError: no such file, no rows in it, or a malformed row (file and line number are named).

    Example:
        >>> Rows("worlds.jsonl")[0].questions[0]  # doctest: +SKIP
        ('Who wrote Night Maple?', 'Ada Lamben')
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._starts, self._lines = array("q"), array("q")
        digest, at = hashlib.blake2b(digest_size=16), 0
        try:
            total = self.path.stat().st_size
            with self.path.open("rb") as file, late_progress(f"checking {self.path.name}") as progress:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        parse_row(line, f"{self.path}:{number}")
                        self._starts.append(at)
                        self._lines.append(number)
                        digest.update(line.strip() + b"\n")
                    at += len(line)
                    progress(at, total)
        except OSError as error:
            raise DocumentError(f"the rows {self.path} cannot be read: {error.strerror or error}") from error
        if not self._starts:
            raise DocumentError(f"{self.path} has no rows: expected one JSON object a line, with documents and questions")
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Row:
        with self.path.open("rb") as file:
            file.seek(self._starts[index])
            return parse_row(file.readline(), f"{self.path}:{self._lines[index]}")


class Order:
    """Which row comes when: every epoch in a new order, a pure function of seed and place.

    Example:
        >>> order = Order(3, seed=0)
        >>> sorted(order.row(i) for i in range(3)), order.row(7) == Order(3, seed=0).row(7)
        ([0, 1, 2], True)
    """

    def __init__(self, rows: int, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self._epoch: tuple[int, list[int]] | None = None

    def row(self, place: int) -> int:
        """The row of the `place`-th episode, counted from 0 over the whole run."""
        epoch, at = divmod(place, self.rows)
        if self._epoch is None or self._epoch[0] != epoch:
            order = list(range(self.rows))
            random.Random(f"rows {self.seed} {epoch}").shuffle(order)
            self._epoch = (epoch, order)
        return self._epoch[1][at]


def parse_row(line: bytes | str, where: str) -> Row:
    """A row from its line. Raises DocumentError that begins with `where`."""
    try:
        row = json.loads(line)
    except ValueError as error:  # not JSON, or not UTF-8
        raise DocumentError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict) or "documents" not in row:
        raise DocumentError(f"{where}: expected an object with documents and questions, got " + (f"keys {sorted(row)}" if isinstance(row, dict) else type(row).__name__))
    if "questions" in row and "question" in row:
        raise DocumentError(f"{where}: both 'questions' and 'question' are given; keep one")
    questions = row.get("questions", [row] if "question" in row else None)
    if not isinstance(questions, list) or not questions:
        raise DocumentError(f"{where}: expected 'questions', a list of at least one {{'question': ..., 'answer': ...}}, got {questions!r}")
    pairs = tuple(_pair(question, f"{where}: question {number}") for number, question in enumerate(questions))
    try:
        return Row(SegmentGraph.from_documents(row["documents"]), pairs, where)
    except (DocumentError, GraphError) as error:
        raise DocumentError(f"{where}: {error}") from error


def _pair(question: Any, where: str) -> tuple[str, str]:
    if not isinstance(question, Mapping):
        raise DocumentError(f"{where}: expected {{'question': ..., 'answer': ...}}, got {question!r}")
    for key in ("question", "answer"):
        value = question.get(key)
        if not isinstance(value, str) or not value.strip():
            raise DocumentError(f"{where}: {key!r} must be a text that is not empty, got {value!r}")
    return question["question"], question["answer"]
