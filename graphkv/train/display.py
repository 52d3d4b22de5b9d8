"""What a run shows on stderr while it goes: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_EVERY_SECONDS = 30.0


class Display:
    """A bar over the steps of a run, with the latest numbers beside it.

    Args:
        steps: of the whole run. step: where it stands.

    Example:
        >>> with Display(100, 0) as display:  # doctest: +SKIP
        ...     display.step(1, "loss 5.61")
    """

    def __init__(self, steps: int, step: int) -> None:
        self.steps, self.at, self.text = steps, step, ""
        self._bar: tuple[Progress, TaskID] | None = None
        self._shown = time.monotonic()

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            bar = Progress(*columns, console=Console(stderr=True))
            bar.start()
            self._bar = (bar, bar.add_task("", total=self.steps, completed=self.at))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def step(self, step: int, text: str) -> None:
        """`step` steps are done; `text` says how it goes."""
        self.at, self.text = step, text
        if self._bar is not None:
            self._bar[0].update(self._bar[1], completed=step, description=text)
        elif time.monotonic() - self._shown >= PLAIN_EVERY_SECONDS:
            self.say(f"step {step} of {self.steps}: {text}")

    def say(self, line: str) -> None:
        """One line that stays."""
        self._shown = time.monotonic()
        if self._bar is not None:
            self._bar[0].console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)
