"""Questions from many callers over one model: one thread owns the decoding, and answers over the same context are written together.

    submit   in the caller's thread: tokens, layout, checks, the context's name; then into a queue of bounded length
    admit    a question whose context is assembled joins the answers that are being written over it; else the context is encoded first,
             and between two forwards of that the answers of others go on
    step     one token for every answer, context by context
    finish   the answer with what was reused and which segments were looked at

Contexts stay assembled as long as their memory allows. Their name is made of their blocks' names and places, so the same documents in another order, or in another
caller's request, are the same context.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from graphkv.answer import Reading, graph_answer, plain_answer
from graphkv.assemble import assemble
from graphkv.batch import Row, RunningBatch
from graphkv.chat import ChatPrompt
from graphkv.citations import by_segment, citations_of, watched_heads
from graphkv.encode import encode_context
from graphkv.engine import GraphKV
from graphkv.errors import BusyError, CancelledError, InputError, check_count
from graphkv.generate import TextStream, end_tokens, score
from graphkv.graph import SegmentGraph
from graphkv.question import Lane, Question, ReadyContext, empty_context, prepare, ready_context
from graphkv.strategy import Answer, Score, Timings
from graphkv.ticket import Piece, Ticket

__all__ = ["Piece", "Question", "Scheduler", "Stats", "Ticket"]

_PATIENCE = 0.02
"""Seconds that a context may be worked on at a stretch while answers are being written over others; forwards are longer by themselves."""


@dataclass(frozen=True)
class Stats:
    """How it stands: questions in the queue, answers being written, contexts that are assembled and their bytes."""

    waiting: int
    running: int
    contexts: int
    context_bytes: int


class Scheduler:
    """Answers questions from any number of threads over one engine.

    Args:
        engine: its model decodes in this scheduler's thread; the engine itself may go on being used.
        max_waiting: questions in the queue; one more is a :class:`BusyError`. max_rows: answers that are written at the same time.
        context_bytes: how much memory assembled contexts may hold; one more than fits is let in at most.
        heads: layer → heads whose attention tells which segments an answer used; the model's saved retrieval heads by default (``graphkv heads``), else all
            heads of the upper half of its layers.

    Example:
        >>> with Scheduler(engine) as scheduler:  # doctest: +SKIP
        ...     tickets = [scheduler.submit(Question(chat_prompt(engine, [("user", q)], documents=True), graph)) for q in questions]
        ...     answers = [ticket.future.result() for ticket in tickets]
    """

    def __init__(
        self,
        engine: GraphKV,
        *,
        max_waiting: int = 256,
        max_rows: int = 64,
        context_bytes: int = 2**30,
        heads: Mapping[int, tuple[int, ...]] | None = None,
    ) -> None:
        for name, value in (("max_waiting", max_waiting), ("max_rows", max_rows)):
            check_count(name, value)
        if isinstance(context_bytes, bool) or not isinstance(context_bytes, int) or context_bytes < 0:
            raise InputError(f"context_bytes must be a whole number of at least 0, got {context_bytes!r}")
        self.engine, self.max_waiting, self.max_rows, self.context_bytes = engine, max_waiting, max_rows, context_bytes
        self.heads = heads if heads is not None else watched_heads(engine)
        self._waiting: deque[Ticket] = deque()
        self._batches: dict[Lane, RunningBatch] = {}
        self._running: dict[Row, Ticket] = {}
        self._contexts: OrderedDict[str, ReadyContext] = OrderedDict()
        self._changed = threading.Condition()
        self._closing = self._aborting = False
        self._ends = end_tokens(engine.model.generation_config(None, {}).eos_token_id)
        self._stepped = 0.0  # when the last round of tokens ended
        self._seconds = 1.0  # how long an answer takes, lately
        self._thread = threading.Thread(target=self._run, name="graphkv-scheduler", daemon=True)
        self._thread.start()

    def submit(self, question: Question, listener: Callable[[Piece], None] | None = None) -> Ticket:
        """Put a question into the queue.

        Args:
            listener: called from the scheduler's thread with every :class:`Piece`; it must be quick.

        Raises:
            InputError: whatever :meth:`graphkv.GraphKV.ask` refuses. BusyError: the queue is full, or the scheduler is closing.
        """
        return self._enter(Ticket(prepare(self.engine, question), listener))

    def ask(self, question: Question) -> Answer:
        """The answer, when it is there. Raises as :meth:`submit` does."""
        answer: Answer = self.submit(question).future.result()
        return answer

    def stream(self, question: Question) -> Iterator[Piece | Answer]:
        """The pieces as they come, and the :class:`Answer` as the last. Leaving the loop cancels the question. Bad input is refused at the call."""
        import queue

        pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        ticket = self.submit(question, pieces.put)
        ticket.future.add_done_callback(lambda _: pieces.put(None))

        def events() -> Iterator[Piece | Answer]:
            try:
                while (piece := pieces.get()) is not None:
                    yield piece
                yield ticket.future.result()
            finally:
                ticket.cancel()

        stream = events()
        weakref.finalize(stream, ticket.cancel).atexit = False  # one that is let go before its first piece has not come to its `finally`
        return stream

    def encode(
        self, documents: SegmentGraph, *, layout: str = "graph", options: Mapping[str, Any] | None = None, scope: str = ""
    ) -> Future[tuple[int, int]]:
        """Encode ahead: (tokens that were in the store, tokens encoded now). Raises as :meth:`submit` does."""
        prefix = self.engine.reader.ids(self.engine.template.prefix)
        question = Question(ChatPrompt(prefix, ()), documents, layout, options or {}, scope=scope)
        ticket = Ticket(prepare(self.engine, question, answered=False), work=lambda ticket, _: (ticket.tokens_reused, ticket.tokens_computed))
        ticket.must_store = True  # it is all that is wanted
        return self._enter(ticket).future

    def score(self, question: Question, continuations: Sequence[str]) -> Future[list[Score]]:
        """Log-likelihoods as :meth:`graphkv.GraphKV.score` has them. Raises as :meth:`submit` does."""
        if isinstance(continuations, str) or not isinstance(continuations, Sequence) or not continuations:
            raise InputError(f"expected a list of at least one continuation, got {continuations!r}")
        ids = [self.engine.reader.ids(text) for text in continuations]
        if not all(ids):
            raise InputError("every continuation needs at least one token")
        prepared = prepare(self.engine, question, more=max(map(len, ids)))

        def work(ticket: Ticket, ready: ReadyContext) -> list[Score]:
            return score(self.engine.model, ready.context, prepared.question, ids, 16, between=lambda: self._between(ticket))

        ticket = Ticket(prepared, work=work)
        return self._enter(ticket).future

    def stats(self) -> Stats:
        """How it stands now."""
        with self._changed:
            return Stats(len(self._waiting), len(self._running), len(self._contexts), sum(ready.nbytes for ready in self._contexts.values()))

    @property
    def alive(self) -> bool:
        """Whether questions are taken and answered."""
        return self._thread.is_alive() and not self._closing

    def close(self, *, finish: bool = True, timeout: float | None = None) -> None:
        """Take no more questions; answer those that are there, or (``finish=False``, or when `timeout` seconds are over) cancel them."""
        with self._changed:
            self._closing = True
            self._aborting = self._aborting or not finish
            self._changed.notify_all()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._aborting = True
            self._thread.join()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(finish=kind is None)

    # What follows runs in the scheduler's thread, except for the queue's door.

    def _enter(self, ticket: Ticket) -> Ticket:
        with self._changed:
            if self._closing:
                raise BusyError("no more questions are taken: the scheduler is closing", retry_after=5.0, closing=True)
            if len(self._waiting) >= self.max_waiting:
                wait = min(60.0, max(1.0, self._seconds * len(self._waiting) / self.max_rows))
                raise BusyError(f"the queue is full: {len(self._waiting)} questions are waiting; try again in {wait:.0f} s", retry_after=wait)
            self._waiting.append(ticket)
            self._changed.notify_all()
        return ticket

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._running and not self._closing:
                    self._changed.wait()
                if self._closing and not self._waiting and not self._running:
                    return
            if (ticket := self._admit()) is not None:
                self._serve(ticket)
            self._step()

    def _between(self, ticket: Ticket) -> None:
        """Called while a context is fetched, encoded or scored over, as often as may be: the others go on."""
        if self._given_up(ticket):
            raise CancelledError("the question was given up")
        if time.perf_counter() - self._stepped < _PATIENCE:
            return
        self._admit(ticket)
        self._step()

    def _admit(self, serving: Ticket | None = None) -> Ticket | None:
        """Let in every question whose context stands assembled, as far as there is room. Returns the first that needs more than that, to be served next.

        Args:
            serving: the one that is being served now, so that no other can be; it has a place if it is a question.
        """
        joining: dict[Lane, list[Ticket]] = {}
        other: Ticket | None = None
        gone, left = list[Ticket](), deque[Ticket]()
        with self._changed:
            room = self.max_rows - len(self._running) - (serving is not None and serving.work is None)
            # One context more than fits, at most: what is being read cannot be forgotten.
            full = bool(self._batches) and sum(self._contexts[name].nbytes for name in self._read()) >= self.context_bytes
            for ticket in self._waiting:
                asks, known = ticket.work is None, ticket.prepared.name in self._contexts
                wants_memory = not known and ticket.prepared.laid is not None
                if self._given_up(ticket):
                    gone.append(ticket)
                elif asks and known and room > 0 and self._fits(ticket, joining.get(ticket.prepared.lane, ())):
                    joining.setdefault(ticket.prepared.lane, []).append(ticket)
                    room -= 1
                elif not (asks and known) and not (full and wants_memory) and serving is None and other is None and (room > 0 or not asks):
                    other = ticket
                    room -= asks
                else:
                    left.append(ticket)
                    if full and wants_memory and serving is None:
                        room = 0  # those behind it wait too: as long as they kept coming, it would never have its turn
            self._waiting = left
        for ticket in gone:
            ticket.reject(CancelledError("the question was given up before its turn"))
        for lane in joining:  # before any of them is read: a context with a batch is not forgotten, even if another's forward fails
            self._batch(lane, self._known(lane[0]))
        for lane, tickets in joining.items():
            for ticket in tickets:
                ticket.found_assembled()
            self._join(self._batches[lane], tickets)
        return other

    def _fits(self, ticket: Ticket, beside: Sequence[Ticket]) -> bool:
        """Whether a question can be read in one forward with others: as many tokens as a forward of documents has."""
        return not beside or (len(beside) + 1) * 2 ** ticket.prepared.lane[1] <= self.engine.batch_tokens

    def _read(self) -> set[str]:
        """The contexts that answers are being written over."""
        return {name for name, _ in self._batches}

    def _serve(self, ticket: Ticket) -> None:
        """A question whose context has to be encoded or fetched first, or other work over a context."""
        try:
            ready = self._context(ticket)
            if ticket.work is not None:
                ticket.resolve(ticket.work(ticket, ready))
            else:
                self._join(self._batch(ticket.prepared.lane, ready), [ticket])
        except Exception as error:  # whatever it is, it is this question's alone: the others go on
            ticket.reject(error)

    def _context(self, ticket: Ticket) -> ReadyContext:
        """Assembled before, or now, from the store or by encoding."""
        prepared, laid = ticket.prepared, ticket.prepared.laid
        if prepared.name in self._contexts:
            ticket.found_assembled()
            return self._known(prepared.name)
        if laid is None:
            ready = empty_context()
        else:
            begin = time.perf_counter()
            settings: dict[str, Any] = {"batch_tokens": self.engine.batch_tokens, "between": lambda: self._between(ticket), "must_store": ticket.must_store}
            encoded = encode_context(self.engine.model, laid.store, laid.layout, laid.tokens, laid.prefix, **settings)
            ticket.reused, ticket.tokens_reused, ticket.tokens_computed = encoded.reused, encoded.tokens_reused, encoded.tokens_computed
            middle = time.perf_counter()
            ready = ready_context(laid, assemble(self.engine.model, encoded))
            ticket.encode_seconds, ticket.assemble_seconds = middle - begin, time.perf_counter() - middle
        with self._changed:
            self._contexts[prepared.name] = ready
        self._make_room(prepared.name)
        return ready

    def _known(self, name: str) -> ReadyContext:
        with self._changed:
            self._contexts.move_to_end(name)
            return self._contexts[name]

    def _make_room(self, newest: str | None = None) -> None:
        """Forget contexts that nobody reads, the least recently used first, until the rest fit into `context_bytes`."""
        with self._changed:
            held, read = sum(ready.nbytes for ready in self._contexts.values()), self._read()
            for name in list(self._contexts):
                if held <= self.context_bytes:
                    return
                if name not in read and name != newest:
                    held -= self._contexts.pop(name).nbytes

    def _batch(self, lane: Lane, ready: ReadyContext) -> RunningBatch:
        """The answers of a lane, none of them yet if it is a new one."""
        if lane not in self._batches:
            self._batches[lane] = RunningBatch(self.engine.model, ready.context, heads=self.heads, groups=ready.groups, count=ready.count)
        return self._batches[lane]

    def _join(self, batch: RunningBatch, tickets: Sequence[Ticket]) -> None:
        """Their questions are read, as one batch, and their first tokens chosen."""
        model, lane = self.engine.model, tickets[0].prepared.lane
        rows = []
        for ticket in tickets:
            prepared, ticket.joined = ticket.prepared, time.perf_counter()
            rows.append(Row(prepared.question, prepared.sampling, prepared.limit, self._ends, TextStream(model, prepared.sampling.stop)))
            self._running[rows[-1]] = ticket
        self._advance(lane, batch, rows, lambda: batch.add(rows))

    def _step(self) -> None:
        """One more token for every answer."""
        for lane, batch in list(self._batches.items()):
            for row in batch.rows:
                if self._given_up(ticket := self._running[row]):
                    self._leave(lane, batch, [row])
                    ticket.reject(CancelledError("the question was given up"))
            if batch.rows:
                self._advance(lane, batch, list(batch.rows), batch.step)
        self._stepped = time.perf_counter()

    def _advance(self, lane: Lane, batch: RunningBatch, rows: Sequence[Row], forward: Callable[[], list[str]]) -> None:
        """A forward of `rows`, and what comes of it told to whoever asked."""
        try:
            shown = forward()
        except Exception as error:  # a batch that failed is lost with all its rows; other contexts go on
            lost = list({*rows, *batch.rows})
            tickets = [self._running[row] for row in lost]
            self._leave(lane, batch, lost, all=True)
            for ticket in tickets:
                ticket.reject(error)
            return
        moment = time.perf_counter()
        tickets = [self._running[row] for row in rows]
        self._leave(lane, batch, [row for row in rows if row.finish_reason is not None])
        for row, text, ticket in zip(rows, shown, tickets, strict=True):
            ticket.first_token = ticket.first_token or moment
            try:
                if ticket.listener is not None:
                    ticket.listener(Piece(text, self._used(ticket, row)))
                if row.finish_reason is not None:
                    ticket.resolve(self._answer(ticket, row))
            except Exception as error:  # a listener that fails is its caller's affair alone
                ticket.cancel()
                ticket.reject(error)

    def _leave(self, lane: Lane, batch: RunningBatch, rows: Sequence[Row], all: bool = False) -> None:
        batch.drop(rows)
        with self._changed:
            for row in rows:
                del self._running[row]
        if all or not batch.rows:
            del self._batches[lane]
            self._make_room()

    def _used(self, ticket: Ticket, row: Row) -> dict[str, float]:
        laid = ticket.prepared.laid
        if laid is None or not row.looks or row.next in row.ends:  # an end token writes nothing
            return {}
        return {id: round(share, 4) for id, share in by_segment(row.looks[-1], laid.segments).items() if share > 0.05}

    def _answer(self, ticket: Ticket, row: Row) -> Answer:
        prepared, laid = ticket.prepared, ticket.prepared.laid
        completion = row.text.completion(row.finish_reason == "stop" and not row.text.stopped)
        now = time.perf_counter()
        first = (ticket.first_token or now) - ticket.submitted
        timings = Timings(prepared.seconds, ticket.encode_seconds, ticket.assemble_seconds, prepared.seconds + first, prepared.seconds + now - ticket.submitted)
        with self._changed:
            self._seconds += 0.1 * (now - ticket.joined - self._seconds)
        if laid is None:
            return plain_answer(completion, len(prepared.question), timings)
        looks = [by_segment(shares, laid.segments) for shares in row.looks]
        reused = ticket.reused if ticket.reused is not None else [True] * len(laid.layout.context)
        reading = Reading(laid.layout, laid.graph, reused, ticket.tokens_reused, ticket.tokens_computed, ticket.tokens_exact)
        return graph_answer(completion, reading, len(prepared.question), timings, citations_of(completion.text, row.text.reach, looks, laid.graph))

    def _given_up(self, ticket: Ticket) -> bool:
        return self._aborting or ticket.given_up
