"""An answer while it is written: its pieces and then the answer itself, for a thread that waits and for a coroutine that does not."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from graphkv.errors import BusyError
from graphkv.strategy import Answer
from graphkv.ticket import Piece, Ticket

Submit = Callable[[Callable[[Piece], None] | None], Ticket]
"""Puts the question into the queue; takes the listener."""

Item = Piece | None
"""None: the answer is there, or what went wrong."""


def follow(submit: Submit, *, pieces: bool, timeout: float | None, max_retries: int) -> Iterator[Piece | Answer]:
    """The pieces (with ``pieces=True``) and the answer as the last. Leaving the loop, and the end of `timeout` seconds, cancel the question.

    A full queue is tried again up to `max_retries` times, each time after as long as it asks for.

    Raises:
        TimeoutError: there is no answer in time. BusyError: the queue stayed full. Otherwise what the scheduler raises.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for attempt in range(max_retries + 1):
        try:
            ticket = submit(inbox.put if pieces else None)
            break
        except BusyError as error:
            _check_patience(error, attempt, max_retries, deadline)
            time.sleep(error.retry_after)
    try:
        ticket.future.add_done_callback(lambda _: inbox.put(None))
        while True:
            try:
                piece = inbox.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise _too_late(timeout) from None
            if piece is None:
                break
            yield piece
        yield ticket.future.result()
    finally:
        ticket.cancel()


async def follow_async(submit: Submit, *, pieces: bool, timeout: float | None, max_retries: int) -> AsyncIterator[Piece | Answer]:
    """As :func:`follow`, and no thread waits meanwhile. Tokenising and planning, which take a moment, are done in a thread; so is nothing else."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else time.monotonic() + timeout
    inbox: asyncio.Queue[Item] = asyncio.Queue()

    def put(item: Item) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(inbox.put_nowait, item)

    for attempt in range(max_retries + 1):
        try:
            ticket = await _submitted(submit, put if pieces else None)
            break
        except BusyError as error:
            _check_patience(error, attempt, max_retries, deadline)
            await asyncio.sleep(error.retry_after)
    try:
        ticket.future.add_done_callback(lambda _: put(None))
        while True:
            try:
                piece = await asyncio.wait_for(inbox.get(), None if deadline is None else max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise _too_late(timeout) from None
            if piece is None:
                break
            yield piece
        yield ticket.future.result()
    finally:
        ticket.cancel()


async def _submitted(submit: Submit, listener: Callable[[Piece], None] | None) -> Ticket:
    """The ticket, made in a thread. If the caller gives up meanwhile, so is the ticket."""
    working = asyncio.get_running_loop().run_in_executor(None, submit, listener)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        working.add_done_callback(_give_up)
        raise


def _give_up(done: asyncio.Future[Ticket]) -> None:
    if not done.cancelled() and done.exception() is None:
        done.result().cancel()


def _check_patience(error: BusyError, attempt: int, max_retries: int, deadline: float | None) -> None:
    """Raises `error` if it has been tried often enough, or there is no time left to wait."""
    if attempt == max_retries or (deadline is not None and time.monotonic() + error.retry_after > deadline):
        raise error


def _too_late(timeout: Any) -> TimeoutError:
    return TimeoutError(f"no answer within {timeout} seconds; the question was cancelled")
