"""A question on its way through a scheduler, and what its caller is told meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import Any

from graphkv.question import Prepared, ReadyContext


@dataclass(frozen=True)
class Piece:
    """What came of one token.

    Attributes:
        text: what can be shown now, often nothing.
        used: the share of the token's attention on each segment that had more than a twentieth of it.
    """

    text: str
    used: Mapping[str, float]


class Ticket:
    """A question on its way; `future` has the :class:`Answer`, or raises what went wrong."""

    def __init__(self, prepared: Prepared, listener: Callable[[Piece], None] | None = None, work: Callable[[Ticket, ReadyContext], Any] | None = None) -> None:
        self.future: Future[Any] = Future()
        self.prepared, self.listener, self.work = prepared, listener, work
        self.submitted = self.joined = time.perf_counter()
        self.must_store = False
        self.cancelled = threading.Event()
        self.reused: tuple[bool, ...] | None = None  # block by block; None: the context stood assembled
        self.tokens_reused = self.tokens_computed = self.tokens_exact = 0
        self.encode_seconds = self.assemble_seconds = 0.0
        self.first_token: float | None = None

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.cancelled.is_set() or self.future.cancelled()

    def cancel(self) -> None:
        """Stop as soon as possible; the future raises :class:`CancelledError`. What has been encoded stays in the store."""
        self.cancelled.set()

    def found_assembled(self) -> None:
        """The context stood assembled: all of it was reused as it was."""
        laid = self.prepared.laid
        self.tokens_reused = self.tokens_exact = laid.context_tokens if laid is not None else 0

    def resolve(self, value: Any) -> None:
        """The answer, for whoever waits."""
        with contextlib.suppress(InvalidStateError):  # somebody cancelled the future itself: nobody waits for it
            self.future.set_result(value)

    def reject(self, error: Exception) -> None:
        """What went wrong, for whoever waits."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)
