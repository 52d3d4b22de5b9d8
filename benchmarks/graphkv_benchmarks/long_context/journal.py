"""The journal of a run: one JSON line a case as it is answered, so that a run that was stopped goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphkv.errors import InputError

Line = dict[str, Any]


class Journal:
    """Lines that are done, in a file or, without a path, in memory only.

    Args:
        path: JSON Lines; its first line holds the settings. settings: of this run; a file with others is refused.

    Raises:
        InputError: the file belongs to a run with other settings, or is no journal.
    """

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path = path
        self.lines: list[Line] = [] if path is None else _read(path, settings)
        self.done = {(line["strategy"], line["id"]) for line in self.lines}

    def add(self, lines: Sequence[Line]) -> None:
        """Keep lines; they are on the disk when this returns."""
        self.lines += lines
        self.done |= {(line["strategy"], line["id"]) for line in lines}
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())


def _read(path: Path, settings: dict[str, Any]) -> list[Line]:
    """The lines of a file; a new one gets its head. A last line that was cut off by a kill is dropped."""
    stored = path.read_bytes() if path.exists() else b""
    whole = stored[: stored.rfind(b"\n") + 1]  # bytes: a kill may have cut a character in two
    if not stored:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")
        return []
    try:
        head, *lines = [json.loads(line) for line in whole.splitlines()]
        theirs = head["settings"]
        for line in lines:
            line["strategy"], line["id"], line["task"], line["length"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not the journal of a run ({type(error).__name__}): delete it, or choose another --output") from None
    ours = json.loads(json.dumps(settings))
    if theirs != ours:
        apart = sorted(key for key in {*theirs, *ours} if theirs.get(key) != ours.get(key))
        raise InputError(f"{path} belongs to a run with other settings ({', '.join(apart)}): delete it to begin anew, or choose another --output")
    if whole != stored:
        path.write_bytes(whole)
    return lines
