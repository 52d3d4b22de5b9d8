"""Where an answer ends and what a listener hears of it: stop strings, lengths, the model's window, streams; and what is refused before any work."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from helpers import random_graph, random_ids, tiny_engine
from scheduler_helpers import DOCUMENTS, SECONDS, Forwards, question, until

from graphkv import Answer, GraphKV, InputError, LengthError, SegmentGraph
from graphkv.chat import ChatPrompt
from graphkv.cli.demo import read_demo
from graphkv.sampling import Sampling
from graphkv.scheduler import Piece, Question, Scheduler


def texts(engine: GraphKV, scheduler: Scheduler, stop: tuple[str, ...]) -> tuple[Answer, Answer, list[Piece]]:
    """The same question by the engine, and by the scheduler as a stream."""
    theirs = engine.ask(DOCUMENTS, "Which?", max_new_tokens=24, stop=list(stop) or None)
    *pieces, ours = scheduler.stream(question(engine, DOCUMENTS, max_new_tokens=24, stop=stop))
    assert isinstance(ours, Answer) and all(isinstance(piece, Piece) for piece in pieces)
    return ours, theirs, pieces  # type: ignore[return-value]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_stop_strings_are_those_of_ask(seed: int) -> None:
    """Strings of one and of three characters of the free answer, alone and with another: the same text, the same ids, and no piece shows a part of one that came true."""
    engine = tiny_engine(seed=seed)
    with Scheduler(engine) as scheduler:
        free, theirs, pieces = texts(engine, scheduler, ())
        assert (free.text, free.token_ids) == (theirs.text, theirs.token_ids) and "".join(piece.text for piece in pieces) == free.text
        stops = {free.text[place : place + width] for place in range(1, len(free.text) - 3, 7) for width in (1, 3)} - {"\ufffd", "\ufffd\ufffd", "\ufffd\ufffd\ufffd"}
        for stop in sorted(stops):
            for several in ((stop,), ("never", stop, free.text[-1])):
                ours, theirs, pieces = texts(engine, scheduler, several)
                assert (ours.text, ours.token_ids, ours.finish_reason) == (theirs.text, theirs.token_ids, theirs.finish_reason)
                assert "".join(piece.text for piece in pieces) == ours.text
                assert ours.finish_reason == "stop" and not any(s in ours.text for s in several)


def test_an_answer_that_is_all_stop() -> None:
    engine = tiny_engine()
    with Scheduler(engine) as scheduler:
        free = scheduler.ask(question(engine, DOCUMENTS, max_new_tokens=5))
        ours, theirs, pieces = texts(engine, scheduler, (free.text[0],))
        assert (ours.text, ours.finish_reason, ours.citations) == (theirs.text, theirs.finish_reason, ()) == ("", "stop", ())
        assert [piece.text for piece in pieces] == [""]


def test_end_tokens_end_and_are_not_counted() -> None:
    engine = tiny_engine()
    free = engine.ask(DOCUMENTS, "Which?", max_new_tokens=12)
    end = next(token for place, token in enumerate(free.token_ids) if place > 1 and token not in free.token_ids[:place])
    for ends in (end, [257, end]):
        engine.model.model.generation_config.eos_token_id = ends
        with Scheduler(engine) as scheduler:
            *pieces, ours = scheduler.stream(question(engine, DOCUMENTS, max_new_tokens=12))
        theirs = engine.ask(DOCUMENTS, "Which?", max_new_tokens=12)
        assert isinstance(ours, Answer) and ours.token_ids == theirs.token_ids == free.token_ids[: free.token_ids.index(end)]
        assert (ours.finish_reason, ours.tokens_generated, len(pieces)) == ("stop", len(ours.token_ids), len(ours.token_ids) + 1)


def test_pieces_are_the_text_and_say_what_was_looked_at() -> None:
    """On the embedded model: white space and half words are held back, the pieces together are the text, and shares are of segments that are there."""
    engine = GraphKV.from_pretrained()
    graph, rows = read_demo()
    with Scheduler(engine) as scheduler:
        for row in rows:
            *pieces, answer = scheduler.stream(question(engine, graph, row["question"]))
            assert isinstance(answer, Answer) and "".join(piece.text for piece in pieces if isinstance(piece, Piece)) == answer.text
            assert len(pieces) == answer.tokens_generated + (answer.finish_reason == "stop")
            for piece in pieces:
                assert isinstance(piece, Piece) and set(piece.used) <= {segment.id for segment in graph.segments}
                assert all(0.05 < share <= 1 for share in piece.used.values()) and sum(piece.used.values()) <= 1.0001
                assert list(piece.used.values()) == sorted(piece.used.values(), reverse=True)
            assert any(isinstance(piece, Piece) and piece.used for piece in pieces)


def test_a_piece_tells_of_every_segment_that_had_a_twentieth() -> None:
    engine = tiny_engine()
    with Scheduler(engine) as scheduler:
        *pieces, _ = scheduler.stream(question(engine, DOCUMENTS, max_new_tokens=20))
    shares = [share for piece in pieces if isinstance(piece, Piece) for share in piece.used.values()]
    assert len(shares) > 20 and 0.05 < min(shares) < 0.12, "a random model looks everywhere"


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_max_new_tokens(limit: int) -> None:
    engine = tiny_engine()
    with Scheduler(engine) as scheduler:
        answer = scheduler.ask(question(engine, DOCUMENTS, max_new_tokens=limit))
    assert (len(answer.token_ids), answer.tokens_generated, answer.finish_reason) == (limit, limit, "length")
    assert answer.token_ids == engine.ask(DOCUMENTS, "Which?", max_new_tokens=limit).token_ids


@pytest.mark.parametrize("left", [1, 5, 65])
def test_the_window_ends_an_answer_as_in_ask(left: int) -> None:
    engine = tiny_engine()
    plan = engine.plan(DOCUMENTS, "Which?")
    engine.model.config.max_position_embeddings = plan.question.answer_position + plan.question.length + left
    with Scheduler(engine) as scheduler:
        for wanted in (None, 3, 1000):
            answer = scheduler.ask(question(engine, DOCUMENTS, max_new_tokens=wanted))
            assert len(answer.token_ids) == min(wanted or 64, left)
            assert answer.token_ids == engine.ask(DOCUMENTS, "Which?", max_new_tokens=wanted).token_ids


def test_what_does_not_fit_the_window() -> None:
    engine = tiny_engine()
    plan, forwards = engine.plan(DOCUMENTS, "Which?"), Forwards(engine)
    with Scheduler(engine) as scheduler:
        engine.model.config.max_position_embeddings = plan.question.answer_position + plan.question.length
        with pytest.raises(LengthError, match="no room for 1 more"):
            scheduler.submit(question(engine, DOCUMENTS))
        engine.model.config.max_position_embeddings += 3
        assert len(scheduler.score(question(engine, DOCUMENTS), ["abc", "a"]).result(SECONDS)) == 2
        for call in (lambda: scheduler.score(question(engine, DOCUMENTS), ["a", "abcd"]), lambda: engine.score(DOCUMENTS, "Which?", ["a", "abcd"])):
            with pytest.raises(LengthError):
                call()
        engine.model.config.max_position_embeddings = 30
        for refused in (question(engine, DOCUMENTS), question(engine, None, "A question without documents that is too long")):
            with pytest.raises(LengthError, match=r"window (of|is) 30"):
                scheduler.submit(refused)
        with pytest.raises(LengthError):
            scheduler.encode(SegmentGraph.from_documents(DOCUMENTS))
    assert forwards.count("step") == 0


@pytest.mark.parametrize("window", [60, 100])
def test_sliding_windows_are_refused_where_ask_refuses_them(window: int) -> None:
    """A context, question and answer that are longer than the window would be read without it: another model's numbers."""
    engine = tiny_engine("mistral", sliding_window=window)
    graph = random_graph({"a": 20, "b": 10}, [])
    with Scheduler(engine) as scheduler:

        def ask(tokens: int, new: int) -> Answer:
            return scheduler.ask(Question(ChatPrompt((), tuple(random_ids(tokens))), graph, sampling=Sampling(max_new_tokens=new)))

        assert ask(window - 40, 10).token_ids == engine.ask(graph, random_ids(window - 40), max_new_tokens=10, prefix=()).token_ids  # type: ignore[arg-type]
        with pytest.raises(LengthError, match=f"sliding window of {window} tokens"):
            ask(window - 40, 11)
        assert len(scheduler.score(Question(ChatPrompt((), tuple(random_ids(window - 40))), graph), ["a" * 10]).result(SECONDS)) == 1
        with pytest.raises(LengthError, match=f"sliding window of {window} tokens"):
            scheduler.score(Question(ChatPrompt((), tuple(random_ids(window - 40))), graph), ["a" * 11])
        alone = Question(ChatPrompt((), tuple(random_ids(window - 10))), sampling=Sampling(max_new_tokens=10))
        assert len(scheduler.ask(alone).token_ids) == 10
        with pytest.raises(LengthError, match=f"sliding window of {window} tokens"):
            scheduler.ask(Question(alone.prompt, sampling=Sampling(max_new_tokens=11)))


@pytest.mark.parametrize("how", ["closed", "let go before its first piece"])
def test_leaving_a_stream_cancels_the_question(how: str) -> None:
    """It is left while the model is at the fifth token; what is beside goes on."""
    engine = tiny_engine()
    forwards, left = Forwards(engine), threading.Event()

    def wait(kind: str, first: Any) -> None:
        assert kind != "step" or forwards.count("step") < 5 or left.wait(SECONDS)

    forwards.fail = wait
    with Scheduler(engine) as scheduler:
        with forwards.held():
            stream: Any = scheduler.stream(question(engine, DOCUMENTS, max_new_tokens=200))
            other = scheduler.submit(question(engine, DOCUMENTS, "And this?", max_new_tokens=10))
        if how == "closed":
            assert isinstance(next(stream), Piece)
            stream.close()
            assert list(stream) == []
        else:
            del stream
        left.set()
        assert len(other.future.result(SECONDS).token_ids) == 10
        until(lambda: scheduler.stats().running == 0)
        assert forwards.count("step") <= 15


def test_an_error_reaches_the_reader_of_a_stream() -> None:
    engine = tiny_engine()
    forwards = Forwards(engine)

    def fail(kind: str, first: Any) -> None:
        if forwards.count("step") == 3:
            raise RuntimeError("no more memory")

    forwards.fail = fail
    with Scheduler(engine) as scheduler:
        stream, got = scheduler.stream(question(engine, DOCUMENTS, max_new_tokens=50)), list[Any]()
        with pytest.raises(RuntimeError, match="no more memory"):
            got.extend(stream)
        assert scheduler.stats().running == 0


def refused(change: dict[str, Any]) -> tuple[GraphKV, Question]:
    engine = tiny_engine()
    fields: dict[str, Any] = {"prompt": ChatPrompt((), (1, 2)), "documents": SegmentGraph.from_documents(DOCUMENTS)}
    return engine, Question(**{**fields, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "grpah"}, "unknown layout 'grpah'"),
        ({"options": {"m": 2}}, "m"),
        ({"prompt": ChatPrompt((), ())}, "the question is empty"),
        ({"prompt": ChatPrompt((), (300,))}, "expected ids from 0 to 258"),
        ({"prompt": ChatPrompt((300,), (1,))}, "expected ids from 0 to 258"),
        ({"prompt": ChatPrompt((1,), (1,)), "documents": None}, "the whole prompt belongs into the question"),
        ({"documents": SegmentGraph.from_documents([{"id": "a", "text": "\ud800"}])}, "cannot be encoded"),
    ],
)
def test_bad_questions_are_refused_at_the_door(change: dict[str, Any], message: str) -> None:
    engine, asked = refused(change)
    forwards = Forwards(engine)
    with Scheduler(engine) as scheduler:
        for call in (scheduler.submit, scheduler.ask, scheduler.stream, lambda one: scheduler.score(one, [" a"])):
            with pytest.raises(InputError, match=message):
                call(asked)
        assert scheduler.stats().waiting == 0 and forwards.log == []


@pytest.mark.parametrize(("continuations", "message"), [([], "at least one continuation"), ("yes", "at least one continuation"), (["a", ""], "at least one token"), (None, "at least one")])
def test_bad_continuations(continuations: Any, message: str) -> None:
    engine, asked = refused({})
    with Scheduler(engine) as scheduler, pytest.raises(InputError, match=message):
        scheduler.score(asked, continuations)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_waiting": 0}, "max_waiting must be a whole number of at least 1, got 0"),
        ({"max_rows": 1.5}, "max_rows must be"),
        ({"max_rows": True}, "max_rows must be"),
        ({"context_bytes": -1}, "context_bytes must be a whole number of at least 0, got -1"),
        ({"context_bytes": "1 GB"}, "context_bytes must be"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scheduler(tiny_engine(), **settings)
