"""A progress bar on stderr for anything that turns out to take longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

AFTER_SECONDS = 2.0


@contextmanager
def late_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yields ``update(done, total)``; the bar appears after two seconds, and only on a terminal.

    Example:
        >>> with late_progress("encoding") as update:
        ...     update(1, 10)
    """
    started = time.perf_counter()
    shown: tuple[Progress, TaskID] | None = None

    def update(done: int, total: int) -> None:
        nonlocal shown
        if shown is None and sys.stderr.isatty() and time.perf_counter() - started > AFTER_SECONDS:
            shown = _start(label, total)
        if shown is not None:
            shown[0].update(shown[1], completed=done, total=total)

    try:
        yield update
    finally:
        if shown is not None:
            shown[0].stop()


def _start(label: str, total: int) -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    count = TextColumn("{task.completed:,.0f} of {task.total:,.0f}")
    bar = Progress(TextColumn(label), BarColumn(), count, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    bar.start()
    return bar, bar.add_task(label, total=total)
