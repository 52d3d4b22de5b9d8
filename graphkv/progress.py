"""A progress bar on stderr for anything that turns out to take longer than two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AFTER_SECONDS = 2.0


@contextmanager
def late_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Yields ``update(done, total)``; the bar appears after two seconds, and only on a terminal.

    Example:
        >>> with late_progress("encoding") as update:
        ...     update(1, 10)
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(TextColumn(label), BarColumn(), TextColumn("{task.completed:,.0f} of {task.total:,.0f}"), TimeRemainingColumn(), console=console, transient=True)
    started, task = time.perf_counter(), None

    def update(done: int, total: int) -> None:
        nonlocal task
        if task is None and console.is_terminal and time.perf_counter() - started > AFTER_SECONDS:
            bar.start()
            task = bar.add_task(label, total=total)
        if task is not None:
            bar.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        bar.stop()
