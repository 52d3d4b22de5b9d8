"""What a run reports: sums between two reports, and a JSON Lines file that a resumed run continues without doubling a line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError


class Meter:
    """Weighted means of named numbers since the last report.

    `sums` is JSON-able, so that a checkpoint between two reports can keep it and the next report is the same.

    Example:
        >>> meter = Meter()
        >>> meter.add("loss", 2.0); meter.add("loss", 4.0); meter.add("right", 3, 4)
        >>> meter.means()
        {'loss': 3.0, 'right': 0.75}
    """

    def __init__(self, sums: Mapping[str, list[float]] | None = None) -> None:
        self.sums: dict[str, list[float]] = {name: list(pair) for name, pair in (sums or {}).items()}

    def add(self, name: str, value: float, count: float = 1.0) -> None:
        """`value` is a sum over `count` things."""
        pair = self.sums.setdefault(name, [0.0, 0.0])
        pair[0] += value
        pair[1] += count

    def means(self) -> dict[str, float]:
        """The mean of each name that was added since the last :meth:`clear`; what has no count is left out."""
        return {name: value / count for name, (value, count) in self.sums.items() if count}

    def clear(self) -> None:
        """Begin anew, after a report."""
        self.sums.clear()


class MetricsLog:
    """Lines of JSON, each with its `step`, in a file.

    Args:
        path: made if it is missing.
        step: the step that the run stands at; lines beyond it (a run that was killed after its last checkpoint) and a last line that was
            cut short are removed.

    Raises:
        DocumentError: the file holds something else.
    """

    def __init__(self, path: str | Path, step: int = 0) -> None:
        self.path = Path(path)
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(temporary, self.path)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line; it is in the file when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(line)) + "\n")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, oldest first; a last line that was cut short is left out, a missing file has none.

    Raises:
        DocumentError: a line that is not an object with a `step` (file and line number are named).

    Example:
        >>> [line["loss"] for line in read_metrics("run/metrics.jsonl")]  # doctest: +SKIP
        [5.61, 4.98]
    """
    path = Path(path)
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    lines = []
    for number, text in enumerate(whole.splitlines(), start=1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise DocumentError(f"{path}:{number}: expected a JSON object with a step, got {text[:60]!r}")
        lines.append(line)
    return lines
