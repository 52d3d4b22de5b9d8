"""predictions.jsonl: one line a question as it is answered, so that a run that was killed goes on where it stood."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphkv.errors import InputError

from .case import Line, Setting


def key_of(line: Mapping[str, Any]) -> str:
    """What a line is about: unique in a run.

    Example:
        >>> key_of({"arm": "graph", "setting": {"order": "first", "distractors": 1}, "id": "17"})
        '["graph", {"distractors": 1, "order": "first"}, "17"]'
    """
    if "broken" in line:
        return json.dumps(["broken", line["unit"], line["broken"]])
    return question_key(line["arm"], line["setting"], line["id"])


def question_key(arm: str, setting: Setting, id: str) -> str:
    """The key of a question's line before there is one."""
    return json.dumps([arm, dict(setting), id], sort_keys=True)


def read_lines(path: Path) -> list[Line]:
    """The lines of a file; the last one, if a kill has cut it off, is left out. No file is no lines.

    Raises:
        InputError: a line is no prediction, or is there twice.
    """
    stored = path.read_bytes() if path.exists() else b""
    return _lines(stored[: stored.rfind(b"\n") + 1], path)


def _lines(whole: bytes, path: Path) -> list[Line]:
    lines: list[Line] = []
    keys: set[str] = set()
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            line = json.loads(text)
            key = key_of(line)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not a prediction ({type(error).__name__}); remove the line, and the question is asked again") from None
        if key in keys:
            raise InputError(f"{path}, line {number}: {key} is there twice; remove one of the lines")
        keys.add(key)
        lines.append(line)
    return lines


class Predictions:
    """The lines of a run, in the file and in memory. One process at a time has them.

    A line that cannot be written (the disk is full) is kept in memory and tried again with every further line and by :meth:`flush`; the
    file never holds half of one. A line that a kill has cut off is removed at the start, and with it what is to be told anew: questions whose trouble
    may have passed (``again``), and broken rows.

    Args:
        path: the file; made if it is not there.

    Attributes:
        lines: everything that is in the file or waits to be. waiting: what could not be written yet. trouble: why.

    Raises:
        InputError: as :func:`read_lines`, or another process is at it. OSError: the file cannot be written at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(self._lock, path)
            stored = path.read_bytes() if path.exists() else b""
            whole = stored[: stored.rfind(b"\n") + 1]
            found = _lines(whole, path)
            self.lines = [line for line in found if not line.get("again") and "broken" not in line]
            if len(self.lines) < len(found):
                whole = b"".join(map(_encoded, self.lines))
            if whole != stored:
                temporary = path.with_name(f".{path.name}.part")
                temporary.write_bytes(whole)
                temporary.replace(path)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        except BaseException:
            os.close(self._lock)
            raise
        self.by_key: dict[str, Line] = {key_of(line): line for line in self.lines}
        self._size = len(whole)
        self.waiting: list[Line] = []
        self.trouble = ""

    def close(self) -> None:
        """Let another process have them."""
        os.close(self._file)
        os.close(self._lock)

    def __enter__(self) -> Predictions:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __contains__(self, key: object) -> bool:
        return key in self.by_key

    def add(self, line: Line) -> None:
        """Keep a line; it is on the disk when this returns, unless it waits. A key that is there already is left as it is."""
        key = key_of(line)
        if key in self.by_key:
            return
        self.by_key[key] = line
        self.lines.append(line)
        self.waiting.append(line)
        self.flush()

    def flush(self) -> bool:
        """Write what waits. Returns whether nothing waits any more."""
        while self.waiting:
            try:
                self._append(_encoded(self.waiting[0]))
            except OSError as error:
                self.trouble = error.strerror or str(error)
                return False
            self.waiting.pop(0)
        return True

    def _append(self, data: bytes) -> None:
        # Unbuffered: a buffer would try once more when the file is closed, and leave half a line.
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self._size + written)
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)


def _lock(file: int, path: Path) -> None:
    """Raises InputError if another process has the file. Where the system has no such locks, nobody is kept out."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"another process is running in {path.parent}: wait for it, or choose another --out") from None


def _encoded(line: Line) -> bytes:
    try:
        return (json.dumps(line, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half a character, which UTF-8 has no place for
        return (json.dumps(line) + "\n").encode()
