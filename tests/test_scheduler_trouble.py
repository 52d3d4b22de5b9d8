"""When things go wrong, or all at once: full queues, questions given up, listeners and models that fail, closing. Whoever asks beside is never harmed."""

from __future__ import annotations

import concurrent.futures
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers import random_graph, random_ids, tiny_engine
from scheduler_helpers import DOCUMENTS, OTHERS, SECONDS, Forwards, question, until

from graphkv import BusyError, CancelledError, GraphKV, SegmentGraph
from graphkv.chat import ChatPrompt
from graphkv.sampling import Sampling
from graphkv.scheduler import Piece, Question, Scheduler, Ticket


@pytest.fixture
def forwards(engine: GraphKV) -> Forwards:
    return Forwards(engine)


def tokens(engine: GraphKV, documents: Any, text: str, new: int) -> tuple[int, ...]:
    """The right answer, from an engine of its own."""
    return tiny_engine().ask(documents, text, max_new_tokens=new).token_ids


def assert_idle(scheduler: Scheduler) -> None:
    until(lambda: scheduler.stats().waiting == scheduler.stats().running == 0)
    assert scheduler._thread.is_alive() and not scheduler._batches


def test_a_full_queue_is_an_error_that_says_when_to_come_back(engine: GraphKV, forwards: Forwards) -> None:
    with Scheduler(engine, max_waiting=3) as scheduler:
        with forwards.held():
            first = scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=2))
            forwards.wait_until_held()
            waiting: list[Any] = [
                scheduler.submit(question(engine, OTHERS, max_new_tokens=2)).future,
                scheduler.encode(SegmentGraph.from_documents(OTHERS)),
                scheduler.score(question(engine, DOCUMENTS), [" a"]),
            ]
            for call in (
                lambda: scheduler.submit(question(engine, DOCUMENTS)),
                lambda: scheduler.encode(SegmentGraph.from_documents(DOCUMENTS)),
                lambda: scheduler.score(question(engine, DOCUMENTS), [" a"]),
                lambda: scheduler.stream(question(engine, DOCUMENTS)),
            ):
                with pytest.raises(BusyError, match="the queue is full: 3 questions are waiting; try again in") as caught:
                    call()
                assert 1 <= caught.value.retry_after <= 60
            assert scheduler.stats().waiting == 3
        for future in (first.future, *waiting):
            future.result(SECONDS)
        assert_idle(scheduler)
        assert scheduler.ask(question(engine, DOCUMENTS, max_new_tokens=2)).tokens_exact > 0


def test_a_question_given_up_while_it_waits_is_never_read(engine: GraphKV, forwards: Forwards) -> None:
    with Scheduler(engine) as scheduler:
        with forwards.held():
            first = scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=3))
            forwards.wait_until_held()
            ours, theirs = (scheduler.submit(question(engine, OTHERS, max_new_tokens=3)) for _ in range(2))
            ahead = scheduler.encode(SegmentGraph.from_documents([{"id": "z", "text": "never read"}]))
            ours.cancel()
            assert theirs.future.cancel() and ahead.cancel()
        assert len(first.future.result(SECONDS).token_ids) == 3
        with pytest.raises(CancelledError, match="before its turn"):
            ours.future.result(SECONDS)
        for future in (theirs.future, ahead):
            with pytest.raises(concurrent.futures.CancelledError):
                future.result(SECONDS)
        assert_idle(scheduler)
        assert scheduler.stats().contexts == 1 and forwards.count("read") == 1


def test_a_question_given_up_while_its_documents_are_encoded(engine: GraphKV, forwards: Forwards) -> None:
    """Between two forwards it stops; what has been encoded is kept, and the next who asks goes on from there."""
    engine.batch_tokens = 1
    blocks = len(engine.plan(DOCUMENTS).context)
    with Scheduler(engine) as scheduler:
        forwards.fail = lambda kind, first: ours.cancel() if forwards.count("encode") == 2 else None
        with forwards.held():
            ours = scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=3))
            theirs = scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=3))
        with pytest.raises(CancelledError):
            ours.future.result(SECONDS)
        answer = theirs.future.result(SECONDS)
        assert answer.tokens_reused > 0 and answer.tokens_exact == 0 and forwards.count("encode") == blocks
        assert answer.token_ids == tokens(engine, DOCUMENTS, "Which?", 3)
        assert_idle(scheduler)


@pytest.mark.parametrize("how", [Ticket.cancel, lambda ticket: ticket.future.cancel()], ids=["ticket", "future"])
def test_a_question_given_up_while_its_answer_is_written(engine: GraphKV, forwards: Forwards, how: Callable[[Ticket], None]) -> None:
    """It leaves between two tokens; those beside it go on."""
    with Scheduler(engine) as scheduler:
        pieces: list[Piece] = []

        def listen(piece: Piece) -> None:
            pieces.append(piece)
            if len(pieces) == 4:
                how(ours)

        with forwards.held():
            ours = scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=3000), listen)
            forwards.wait_until_held()
            beside = [scheduler.submit(question(engine, DOCUMENTS, "?" * n, max_new_tokens=10)) for n in range(1, 4)]
        for n, ticket in enumerate(beside, 1):
            assert ticket.future.result(SECONDS).token_ids == tokens(engine, DOCUMENTS, "?" * n, 10)
        with pytest.raises((CancelledError, concurrent.futures.CancelledError)):
            ours.future.result(SECONDS)
        assert_idle(scheduler)
        assert len(pieces) == 4


def test_a_listener_that_fails_harms_its_own_question_only(engine: GraphKV, forwards: Forwards) -> None:
    with Scheduler(engine) as scheduler:
        heard: list[Piece] = []

        def fails(piece: Piece) -> None:
            heard.append(piece)
            if len(heard) == 3:
                raise ZeroDivisionError("in the listener")

        def fails_at_once(piece: Piece) -> None:
            raise ZeroDivisionError("at once")

        with forwards.held():
            first = scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=9), fails)
            others = [scheduler.submit(question(engine, DOCUMENTS, "?" * n, max_new_tokens=9)) for n in (1, 2)]
            short = scheduler.submit(question(engine, DOCUMENTS, "???", max_new_tokens=1), fails_at_once)
        for ticket in (first, short):
            with pytest.raises(ZeroDivisionError):
                ticket.future.result(SECONDS)
        for n, ticket in enumerate(others, 1):
            assert ticket.future.result(SECONDS).token_ids == tokens(engine, DOCUMENTS, "?" * n, 9)
        assert_idle(scheduler)
        assert len(heard) == 3


@pytest.mark.parametrize("kind", ["read", "step"])
@pytest.mark.parametrize("context_bytes", [0, 2**30])
def test_a_model_that_fails_over_one_context_harms_that_batch_only(engine: GraphKV, forwards: Forwards, kind: str, context_bytes: int) -> None:
    """Whether a question is being read or answers are being written; and the context can be asked again."""
    length = engine.plan(OTHERS).total_tokens

    def fail(of: str, reading: Any) -> None:
        if of == kind and reading.keys[0].shape[1] == length and broken:
            raise RuntimeError("no more memory")

    forwards.fail, broken = fail, True
    with Scheduler(engine, context_bytes=context_bytes) as scheduler:
        with forwards.held():
            good = [scheduler.submit(question(engine, DOCUMENTS, "?" * n, max_new_tokens=8)) for n in (1, 2)]
            bad = [scheduler.submit(question(engine, OTHERS, "?" * n, max_new_tokens=8)) for n in (1, 2)]
            good.append(scheduler.submit(question(engine, DOCUMENTS, "???", max_new_tokens=8)))
        for n, ticket in enumerate(good, 1):
            assert ticket.future.result(SECONDS).token_ids == tokens(engine, DOCUMENTS, "?" * n, 8)
        for ticket in bad:
            with pytest.raises(RuntimeError, match="no more memory"):
                ticket.future.result(SECONDS)
        assert_idle(scheduler)
        broken = False
        assert scheduler.ask(question(engine, OTHERS, max_new_tokens=8)).token_ids == tokens(engine, OTHERS, "Which?", 8)


def test_a_model_that_fails_while_it_encodes_harms_that_question_only(engine: GraphKV, forwards: Forwards) -> None:
    def fail(kind: str, first: Any) -> None:
        if kind == "encode" and forwards.count("encode") == 1:
            raise RuntimeError("no more memory")

    forwards.fail = fail
    with Scheduler(engine) as scheduler:
        with forwards.held():
            tickets = [scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=4)) for _ in range(3)]
        with pytest.raises(RuntimeError, match="no more memory"):
            tickets[0].future.result(SECONDS)
        assert [ticket.future.result(SECONDS).token_ids for ticket in tickets[1:]] == [tokens(engine, DOCUMENTS, "Which?", 4)] * 2
        assert_idle(scheduler)


def test_a_failure_while_a_context_that_no_longer_fits_is_about_to_be_read(engine: GraphKV, forwards: Forwards) -> None:
    """1. An answer over DOCUMENTS, which all but fill the memory, is being written. 2. OTHERS are encoded ahead: one context more than fits. 3. Questions over both
    are let in together, and the batch over DOCUMENTS is lost: OTHERS, which nobody reads yet, are read all the same."""

    def fail(kind: str, reading: Any) -> None:
        if kind == "read" and forwards.count("read") == 2:
            raise RuntimeError("no more memory")

    def ask_both(ahead: Any) -> None:
        later.extend(scheduler.submit(question(engine, documents, max_new_tokens=3)) for documents in (DOCUMENTS, OTHERS))

    def listen(piece: Piece) -> None:
        if not heard:
            scheduler.encode(SegmentGraph.from_documents(OTHERS)).add_done_callback(ask_both)
        heard.append(piece)

    forwards.fail, heard, later = fail, list[Piece](), list[Ticket]()
    context = engine.assembled(SegmentGraph.from_documents(DOCUMENTS))
    with Scheduler(engine, context_bytes=sum(x.nbytes for x in (*context.keys, *context.values)) + 1) as scheduler:
        first = scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=1000), listen)
        until(lambda: len(later) == 2)
        for ticket in (first, later[0]):
            with pytest.raises(RuntimeError, match="no more memory"):
                ticket.future.result(SECONDS)
        assert later[1].future.result(SECONDS).token_ids == tokens(engine, OTHERS, "Which?", 3)
        assert_idle(scheduler)


def test_others_go_on_while_documents_are_encoded(engine: GraphKV, forwards: Forwards, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question over a context that stands assembled is let in and answered between two forwards of a long encoding; here after every one, for these are very short."""
    monkeypatch.setattr("graphkv.scheduler._PATIENCE", 0.0)
    engine.batch_tokens = 1
    long = random_graph({f"s{n}": 30 for n in range(40)}, [])
    with Scheduler(engine) as scheduler:
        scheduler.encode(SegmentGraph.from_documents(DOCUMENTS)).result(SECONDS)
        forwards.log.clear()
        with forwards.held():
            running = scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=12))
            forwards.wait_until_held()
            slow = scheduler.submit(Question(ChatPrompt((), tuple(random_ids(5))), long, sampling=Sampling(max_new_tokens=2)))
            quick = scheduler.submit(question(engine, DOCUMENTS, "And?", max_new_tokens=10))
        assert len(quick.future.result(SECONDS).token_ids) == 10 and len(running.future.result(SECONDS).token_ids) == 12
        assert slow.future.result(SECONDS).tokens_computed == 40 * 30 + 5
        kinds = "".join({"encode": "e", "read": "r", "step": "s"}[kind] for kind, _ in forwards.log)
        assert max(map(len, kinds[: kinds.rindex("s")].split("s")[:-3])) <= 3 and kinds.count("es") > 8, kinds


@pytest.mark.parametrize("when", ["before it is served", "while its context is encoded"])
def test_no_more_rows_than_allowed(engine: GraphKV, forwards: Forwards, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question whose context has to be encoded has a place; those over a context that stands assembled, which come with it or meanwhile, leave it that one."""
    monkeypatch.setattr("graphkv.scheduler._PATIENCE", 0.0)
    engine.batch_tokens, most, tickets = 512, 0, list[Ticket]()

    def ask(documents: Any) -> None:
        tickets.append(scheduler.submit(question(engine, documents, "?" * (1 + len(tickets)), max_new_tokens=60)))

    def note(kind: str, first: Any) -> None:
        nonlocal most
        most = max(most, len(scheduler._running))
        if kind == "encode" and len(tickets) == 2:
            ask(OTHERS)
            ask(OTHERS)

    with Scheduler(engine, max_rows=3) as scheduler:
        scheduler.encode(SegmentGraph.from_documents(OTHERS)).result(SECONDS)
        forwards.fail = note
        with forwards.held():
            ask(OTHERS)
            forwards.wait_until_held()  # it is being read
            ask(DOCUMENTS)
            if when == "before it is served":
                ask(OTHERS)
                ask(OTHERS)
        until(lambda: len(tickets) == 4)
        for ticket in tickets:
            assert len(ticket.future.result(SECONDS).token_ids) == 60
    assert most == 3


def test_a_context_for_which_there_is_no_memory_gets_its_turn(engine: GraphKV) -> None:
    """Questions over one context keep coming, and there is memory for one context at a time: one over another is answered before all of them are."""
    order: list[str] = []
    with Scheduler(engine, context_bytes=1) as scheduler:

        def keep_asking(number: int) -> None:
            ticket = scheduler.submit(question(engine, DOCUMENTS, "?" * number, max_new_tokens=8), lambda piece: heard(number))
            ticket.future.add_done_callback(lambda _: order.append(f"same {number}"))

        pieces: dict[int, int] = {}

        def heard(number: int) -> None:
            pieces[number] = pieces.get(number, 0) + 1
            if pieces[number] == 4 and number < 12:
                keep_asking(number + 1)
            if (number, pieces[number]) == (1, 2):
                other = scheduler.submit(question(engine, OTHERS, max_new_tokens=2))
                other.future.add_done_callback(lambda _: order.append("other"))

        keep_asking(1)
        until(lambda: len(order) == 13)
    assert order.index("other") < 6, order


def test_the_same_tokens_as_prefix_or_as_document_are_two_contexts(engine: GraphKV) -> None:
    """Under `sequential` both read alike, but a prefix is no segment: what was looked at is told by segments."""
    two = random_graph({"a": 12, "b": 9}, [])
    asked = (ChatPrompt(tuple(two["a"].tokens or ()), (5, 6)), two.subgraph("b"), {"b"}), (ChatPrompt((), (5, 6)), two, {"a", "b"})
    with Scheduler(engine) as one, Scheduler(engine) as other:
        for scheduler, (prompt, graph, ids) in ((one, asked[0]), (one, asked[1]), (other, asked[1]), (other, asked[0])):
            answer = scheduler.ask(Question(prompt, graph, "sequential", sampling=Sampling(max_new_tokens=3)))
            assert {use.id for use in answer.segments} == ids
            assert {segment for citation in answer.citations for segment, _ in citation.segments} <= ids
            assert answer.token_ids == engine.ask(graph, list(prompt.question), prefix=prompt.prefix, layout="sequential", max_new_tokens=3).token_ids  # type: ignore[arg-type]


@pytest.mark.parametrize("with_block", [True, False])
def test_closing_answers_what_is_there(engine: GraphKV, forwards: Forwards, with_block: bool) -> None:
    scheduler = Scheduler(engine)
    with forwards.held():
        tickets = [scheduler.submit(question(engine, documents, max_new_tokens=6)) for documents in (DOCUMENTS, OTHERS, DOCUMENTS)]
        closing = threading.Thread(target=scheduler.__exit__ if with_block else scheduler.close, args=(None, None, None) if with_block else ())
        closing.start()
        until(lambda: scheduler._closing)
        for call in (scheduler.submit, scheduler.ask, scheduler.stream):
            with pytest.raises(BusyError, match="closing") as caught:
                call(question(engine, DOCUMENTS))
            assert caught.value.retry_after > 0
    closing.join(SECONDS)
    assert not scheduler._thread.is_alive()
    assert [len(ticket.future.result(0).token_ids) for ticket in tickets] == [6, 6, 6]
    scheduler.close()  # a second time


@pytest.mark.parametrize("how", ["at once", "after a while", "an error in the block"])
def test_closing_without_finishing_cancels_what_is_there(engine: GraphKV, forwards: Forwards, how: str) -> None:
    scheduler = Scheduler(engine)
    tickets = [scheduler.submit(question(engine, DOCUMENTS, "?" * n, max_new_tokens=3000)) for n in range(1, 4)]
    until(lambda: forwards.count("step") > 2)
    with forwards.held():
        waiting = scheduler.submit(question(engine, OTHERS))
        ahead = scheduler.encode(SegmentGraph.from_documents(OTHERS))
        arguments = {"at once": {"finish": False}, "after a while": {"timeout": 0.05}}.get(how, {})
        closing = threading.Thread(target=scheduler.close, kwargs=arguments)
        if how == "an error in the block":
            closing = threading.Thread(target=scheduler.__exit__, args=(ValueError, ValueError("x"), None))
        closing.start()
        until(lambda: scheduler._aborting)
    closing.join(SECONDS)
    assert not scheduler._thread.is_alive() and forwards.count("step") < 1500
    for future in (*(ticket.future for ticket in tickets), waiting.future, ahead):
        with pytest.raises(CancelledError):
            future.result(0)


def test_asking_from_a_listener_and_from_a_callback(engine: GraphKV) -> None:
    later: list[Ticket] = []
    with Scheduler(engine) as scheduler:
        first = scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=2), lambda piece: later.append(scheduler.submit(question(engine, OTHERS, max_new_tokens=2))))
        first.future.add_done_callback(lambda _: later.append(scheduler.submit(question(engine, DOCUMENTS, max_new_tokens=2))))
        until(lambda: len(later) == 3)
        assert all(len(ticket.future.result(SECONDS).token_ids) == 2 for ticket in later)


def test_a_crowd(engine: GraphKV) -> None:
    """Twelve threads ask, stream, give up, encode and score over five contexts, with room for little: everybody gets the right answer, or what they asked for."""
    graphs = [SegmentGraph.from_documents(documents) for documents in (DOCUMENTS, OTHERS, [*DOCUMENTS, *OTHERS], DOCUMENTS[2:], OTHERS[:1])]
    right = {(g, n): tiny_engine().ask(graph, "?" * n, max_new_tokens=5).token_ids for g, graph in enumerate(graphs) for n in (1, 2, 3)}
    wrong: list[Any] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(8):
                g, n, scope = chance.randrange(5), chance.randrange(1, 4), chance.choice(["", "a", "b"])
                asked = question(engine, graphs[g], "?" * n, max_new_tokens=5, scope=scope)
                act = chance.randrange(6)
                if act == 0:
                    ticket = scheduler.submit(asked)
                    ticket.cancel()
                    try:
                        assert ticket.future.result(SECONDS).token_ids == right[g, n]
                    except CancelledError:
                        continue
                elif act == 1:
                    assert sum(scheduler.encode(graphs[g], scope=scope).result(SECONDS)) == engine.plan(graphs[g]).total_tokens
                elif act == 2:
                    assert len(scheduler.score(asked, [" a", " b"]).result(SECONDS)) == 2
                elif act == 3:
                    *_, answer = scheduler.stream(asked)
                    assert answer.token_ids == right[g, n]  # type: ignore[union-attr]
                else:
                    assert scheduler.ask(asked).token_ids == right[g, n]
        except BaseException as error:
            wrong.append(error)

    with Scheduler(engine, max_rows=4, context_bytes=60_000) as scheduler:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert not wrong
        assert_idle(scheduler)
