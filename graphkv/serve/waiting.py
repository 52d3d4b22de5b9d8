"""A question on its way: from a route in the event loop to the scheduler's thread and back, until the client goes away or the time is up."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from fastapi import Request

from graphkv.scheduler import Piece, Question, Scheduler
from graphkv.serve.errors import ApiError
from graphkv.serve.state import seconds_left
from graphkv.strategy import Answer

T = TypeVar("T")


class ClientGone(ApiError):
    """The client went away: nobody will read this."""

    def __init__(self) -> None:
        super().__init__(499, "the client went away before the answer was there", code="client_closed_request")


class Held:
    """Work in other threads that is given up if the block is left by an exception, also work that is just being handed in.

    Example:
        >>> with Held() as held:  # doctest: +SKIP
        ...     future = await asyncio.to_thread(lambda: held.hold(scheduler.score(question, continuations)))
        ...     scores = await result_of(future)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancels: list[Callable[[], object]] = []
        self._given_up = False

    def hold(self, future: concurrent.futures.Future[T]) -> concurrent.futures.Future[T]:
        """Give this up, too, if it comes to that."""
        self._hold(future.cancel)
        return future

    def cancel(self) -> None:
        """Give everything up; nothing happens to what is done."""
        with self._lock:
            self._given_up, cancels = True, self._cancels
        for cancel in cancels:
            cancel()

    def _hold(self, cancel: Callable[[], object]) -> None:
        with self._lock:
            self._cancels.append(cancel)
            given_up = self._given_up
        if given_up:
            cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.cancel()


class Running(Held):
    """One question: its pieces as they come, then its answer. To be made in the event loop.

    Args:
        listening: whether the pieces are wanted, or the answer only.
    """

    def __init__(self, *, listening: bool) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._came: asyncio.Queue[Piece | concurrent.futures.Future[Answer]] = asyncio.Queue()  # no longer than the answer
        self._listening = listening

    def submit(self, scheduler: Scheduler, question: Question) -> None:
        """Hand the question in. It is tokenised and planned here, so this belongs into a worker thread. Raises as :meth:`Scheduler.submit` does."""
        ticket = scheduler.submit(question, self._post if self._listening else None)
        self._hold(ticket.cancel)
        ticket.future.add_done_callback(self._post)

    async def events(self) -> AsyncIterator[Piece | Answer]:
        """The pieces, and the answer as the last. Raises whatever went wrong with the question."""
        while True:
            came = await self._came.get()
            if isinstance(came, Piece):
                yield came
            else:
                yield came.result()
                return

    async def answer(self) -> Answer:
        """The answer alone."""
        async for event in self.events():
            if isinstance(event, Answer):
                return event
        raise ApiError(500, "the question has no answer", type="server_error")

    def _post(self, came: Any) -> None:
        """From the scheduler's thread."""
        call_in(self._loop, self._came.put_nowait, came)


def call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """Call a function in an event loop from another thread; a loop that has ended has nobody left who waits for it."""
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise


async def result_of(future: concurrent.futures.Future[T]) -> T:
    """The result of work in another thread. Unlike with ``asyncio.wrap_future``, giving up the waiting does not touch the work."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    future.add_done_callback(lambda _: call_in(loop, done.set))
    await done.wait()
    return future.result()


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """What `work` gives, unless the client goes away or the request's time is up before: then it is cancelled.

    Raises:
        ClientGone: nobody waits any more. TimeoutError: the time is up.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        done, _ = await asyncio.wait((task, gone), timeout=seconds_left(request), return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        raise ClientGone() if gone in done else TimeoutError()
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    """Ends when the client does; the body has been read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
