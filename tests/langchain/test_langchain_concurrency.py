"""ChatGraphKV under many callers: what is decoded together, who waits where, and what becomes of those who leave."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from helpers import tiny_engine
from langchain_core.documents import Document

from graphkv import GraphKV
from graphkv.errors import BusyError, CancelledError
from graphkv.langchain import ChatGraphKV
from graphkv.scheduler import Scheduler
from graphkv.ticket import Piece, Ticket

MANY = 40


@contextmanager
def held(scheduler: Scheduler) -> Iterator[None]:
    """While this is open, no forward runs: what is asked waits."""
    with scheduler.engine.model.lock:
        yield


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


def outstanding(scheduler: Scheduler) -> int:
    stats = scheduler.stats()
    return stats.waiting + stats.running


def texts(messages: list[Any]) -> list[str]:
    return [str(message.text) for message in messages]


class Recorded(Scheduler):
    """Remembers its tickets."""

    def __init__(self, engine: GraphKV) -> None:
        self.tickets: list[Ticket] = []
        super().__init__(engine)

    def submit(self, *args: Any, **kwargs: Any) -> Ticket:
        self.tickets.append(super().submit(*args, **kwargs))
        return self.tickets[-1]


@pytest.fixture
def tiny() -> Iterator[Recorded]:
    """A model that never comes to an end by itself, so that there is somebody to leave."""
    with Recorded(tiny_engine(eos_token_id=None)) as scheduler:
        yield scheduler


def test_a_batch_is_in_the_queue_at_once(embedded: GraphKV, papers: list[Document], questions: dict[str, str]) -> None:
    """1. All together, and nobody is let through before everybody has come. 2. One after the other."""

    class Gate(Recorded):
        here: threading.Barrier | None = None
        others = 0

        def submit(self, *args: Any, **kwargs: Any) -> Ticket:
            if self.here is not None:
                self.here.wait(timeout=30)
            self.others = max(self.others, sum(not ticket.future.done() for ticket in self.tickets))
            return super().submit(*args, **kwargs)

    with Gate(embedded) as gate:
        bound = ChatGraphKV(scheduler=gate).bind(documents=papers)
        single = texts([bound.invoke(question) for question in questions])
        gate.here = threading.Barrier(MANY)
        asked = [*questions] * (MANY // len(questions))
        assert texts(bound.batch(asked)) == single * (MANY // len(questions)) == [*questions.values()] * (MANY // len(questions))
        assert len({i for i, _ in bound.batch_as_completed(asked)}) == MANY
        gate.here, gate.others = None, 0
        assert texts(bound.batch(asked[:4], config={"max_concurrency": 1})) == single[:4]
        assert gate.others == 0, "the caller's own limit counts"


async def test_an_asynchronous_batch_holds_no_threads(scheduler: Scheduler, papers: list[Document], questions: dict[str, str]) -> None:
    bound = ChatGraphKV(scheduler=scheduler).bind(documents=papers)
    asked = [*questions] * (MANY // len(questions))
    with held(scheduler):
        task = asyncio.create_task(bound.abatch(asked))
        await until(lambda: outstanding(scheduler) >= MANY - 1)  # one may be in the scheduler's hands
        # asyncio's own pool has a few threads: if each question held one, there would be none left for this.
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 10) == "free"
    assert texts(await task) == [*questions.values()] * (MANY // len(questions))
    assert len([i async for i, _ in bound.abatch_as_completed(asked)]) == MANY


async def test_the_event_loop_goes_on(scheduler: Scheduler, papers: list[Document], questions: dict[str, str]) -> None:
    bound, ticks = ChatGraphKV(scheduler=scheduler).bind(documents=papers), 0
    with held(scheduler):
        task = asyncio.create_task(bound.ainvoke(next(iter(questions))))
        for _ in range(20):
            await asyncio.sleep(0.005)
            ticks += 1
        assert ticks == 20 and not task.done()
    await task


async def test_who_leaves_is_forgotten(tiny: Recorded) -> None:
    """A stream that is left, a task that is cancelled while it waits, and time that is over."""
    chat = ChatGraphKV(scheduler=tiny, max_tokens=4000)

    def left() -> None:
        for _ in zip(range(2), chat.stream("Hello"), strict=False):
            pass

    async def left_async() -> None:
        async for _ in chat.astream("Hello"):
            break

    async def cancelled() -> None:
        task = asyncio.create_task(chat.ainvoke("Hello"))
        await until(lambda: outstanding(tiny) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def late() -> None:
        with pytest.raises(TimeoutError, match=r"within 0\.2 seconds"):
            chat.invoke("Hello", timeout=0.2)

    async def late_async() -> None:
        with pytest.raises(TimeoutError, match=r"within 0\.2 seconds"):
            await chat.ainvoke("Hello", timeout=0.2)

    for number, leave in enumerate((left, left_async, cancelled, late, late_async), start=1):
        if (waiting := leave()) is not None:
            await waiting
        gc.collect()
        assert len(tiny.tickets) == number
        await until(tiny.tickets[-1].cancelled.is_set, 5)
        with pytest.raises(CancelledError):  # and not an answer of 4000 tokens
            await asyncio.wrap_future(tiny.tickets[-1].future)
        assert outstanding(tiny) == 0


async def test_who_leaves_while_tokens_are_made_is_forgotten_too(tiny: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    submit = tiny.submit

    def slowly(*args: Any, **kwargs: Any) -> Ticket:
        begun.set()
        go.wait(20)
        return submit(*args, **kwargs)

    monkeypatch.setattr(tiny, "submit", slowly)
    task = asyncio.create_task(ChatGraphKV(scheduler=tiny, max_tokens=4000).ainvoke("Hello"))
    await until(begun.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await until(lambda: bool(tiny.tickets) and tiny.tickets[0].cancelled.is_set(), 5)


class Busy(Scheduler):
    """Turns the first few away."""

    def __init__(self, engine: GraphKV, refusals: int) -> None:
        self.left = refusals
        super().__init__(engine)

    def submit(self, question: Any, listener: Callable[[Piece], None] | None = None) -> Ticket:
        if self.left > 0:
            self.left -= 1
            raise BusyError("full", retry_after=0.01)
        return super().submit(question, listener)


@pytest.mark.parametrize("refusals", [2, 3])
async def test_a_full_queue_is_tried_again(refusals: int) -> None:
    for asynchronous in (False, True):
        with Busy(tiny_engine(), refusals) as scheduler:
            chat = ChatGraphKV(scheduler=scheduler, max_tokens=2, max_retries=2)
            if refusals > 2:
                with pytest.raises(BusyError):
                    await chat.ainvoke("Hello") if asynchronous else chat.invoke("Hello")
            else:
                assert (await chat.ainvoke("Hello") if asynchronous else chat.invoke("Hello")).content


def test_no_time_is_waited_that_is_not_there() -> None:
    with Busy(tiny_engine(), 1) as scheduler, pytest.raises(BusyError):
        ChatGraphKV(scheduler=scheduler, timeout=0.001).invoke("Hello")


def test_one_thread_an_object_and_none_when_it_is_gone() -> None:
    def threads() -> int:
        return sum(thread.name == "graphkv-scheduler" for thread in threading.enumerate())

    def count_down(to: int) -> bool:
        end = time.monotonic() + 20
        while threads() > to and time.monotonic() < end:
            time.sleep(0.01)
        return threads() == to

    before = threads()
    chat = ChatGraphKV(engine=tiny_engine(), max_tokens=2)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(map(id, pool.map(ChatGraphKV.running.__get__, [chat] * 16)))) == 1
    assert threads() == before + 1
    chat.close()
    chat.close()
    assert count_down(before)
    assert chat.invoke("Hello").content and threads() == before + 1, "it opens again"
    del chat
    gc.collect()
    assert count_down(before)


def test_a_scheduler_that_was_given_is_left_open(tiny: Recorded) -> None:
    with ChatGraphKV(scheduler=tiny, max_tokens=2) as chat:
        chat.invoke("Hello")
    assert ChatGraphKV(scheduler=tiny, max_tokens=2).invoke("Hello").content


def test_the_same_documents_are_tokenised_once(scheduler: Scheduler, papers: list[Document], questions: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every call the documents come anew."""
    chat, read = ChatGraphKV(scheduler=scheduler), []
    segment_ids = scheduler.engine.reader._segment_ids
    monkeypatch.setattr(scheduler.engine.reader, "_segment_ids", lambda segment, raw: read.append(segment.id) or segment_ids(segment, raw))
    for _ in range(3):
        chat.invoke(next(iter(questions)), documents=[paper.model_copy(deep=True) for paper in papers])
    assert len(read) == len(papers)
