"""Who is written with whom, and that no caller can make work for the others: lanes by length and scope, work that is given up, what is refused."""

from __future__ import annotations

import time

import pytest
from helpers import tiny_engine
from scheduler_helpers import DOCUMENTS, SECONDS, Forwards, question

from graphkv import BusyError, CancelledError, FileStore, GraphKV, StoreError
from graphkv.chat import chat_prompt
from graphkv.scheduler import Scheduler
from graphkv.tokens import _KnownTexts


def test_a_long_question_is_not_read_with_short_ones() -> None:
    """Rows are padded to the longest: 3 questions, one of them long, are two forwards and not one."""
    engine = tiny_engine()
    forwards = Forwards(engine)
    with Scheduler(engine) as scheduler:
        scheduler.ask(question(engine, DOCUMENTS, max_new_tokens=1))
        forwards.log.clear()
        with forwards.held():
            tickets = [scheduler.submit(question(engine, DOCUMENTS, text, max_new_tokens=2)) for text in ("Which?", "How long? " * 100, "Whose?")]
        texts = [ticket.future.result(SECONDS).text for ticket in tickets]
    assert [count for kind, count in forwards.log if kind == "read"] in ([2, 1], [1, 2], [1, 1, 1])
    assert texts == [engine.ask(question(engine, DOCUMENTS).documents, text, max_new_tokens=2).text for text in ("Which?", "How long? " * 100, "Whose?")]


def test_questions_that_are_too_many_for_one_forward_are_read_in_several() -> None:
    engine = tiny_engine()
    engine.batch_tokens = 512  # two questions of up to 256 tokens
    forwards = Forwards(engine)
    with Scheduler(engine) as scheduler:
        scheduler.ask(question(engine, DOCUMENTS, max_new_tokens=1))
        forwards.log.clear()
        tickets = [scheduler.submit(question(engine, DOCUMENTS, f"Which {i}?", max_new_tokens=3)) for i in range(9)]
        assert len([ticket.future.result(SECONDS) for ticket in tickets]) == 9
    assert max(count for kind, count in forwards.log if kind == "read") <= 2


def test_conversations_of_two_scopes_are_never_written_together() -> None:
    engine = tiny_engine()
    names = {question(engine, None, scope=scope).scope: scheduler_name(engine, scope) for scope in ("", "a", "b")}
    assert len(set(names.values())) == 3


def scheduler_name(engine: GraphKV, scope: str) -> str:
    from graphkv.question import prepare

    return prepare(engine, question(engine, None, scope=scope)).name


def test_scores_that_nobody_waits_for_are_given_up_between_two_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine()
    answer_logits, calls = engine.model.answer_logits, []

    def counted(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            future.cancel()
        return answer_logits(*args, **kwargs)  # type: ignore[arg-type]

    with Scheduler(engine) as scheduler:
        scheduler.ask(question(engine, DOCUMENTS, max_new_tokens=1))
        monkeypatch.setattr(engine.model, "answer_logits", counted)
        future = scheduler.score(question(engine, DOCUMENTS), [f" word {i}" for i in range(160)])
        assert scheduler.ask(question(engine, DOCUMENTS, max_new_tokens=1)).tokens_generated <= 1
    assert future.cancelled() and len(calls) == 2  # ten would be all


def test_fetching_many_blocks_can_be_given_up(tmp_path: object) -> None:
    engine = GraphKV(tiny_engine().model, store=FileStore(f"{tmp_path}/kv"))
    documents = [{"id": str(i), "text": f"Document {i}."} for i in range(40)]
    engine.encode(question(engine, documents).documents)
    with Scheduler(engine) as scheduler:
        get, ticket = engine.store.get, None

        def slow(key: str, token_ids: object) -> object:
            while ticket is None:
                time.sleep(0.001)
            ticket.cancel()
            time.sleep(0.03)
            return get(key, token_ids)  # type: ignore[arg-type]

        engine.store.get = slow  # type: ignore[method-assign, assignment]
        ticket = scheduler.submit(question(engine, documents))
        with pytest.raises(CancelledError):
            ticket.future.result(SECONDS)


def test_encoding_ahead_into_a_store_that_keeps_nothing_is_an_error(tmp_path: object) -> None:
    engine = GraphKV(tiny_engine().model, store=FileStore(f"{tmp_path}/kv", max_bytes=10))
    with Scheduler(engine) as scheduler:
        graph = question(engine, DOCUMENTS).documents
        assert graph is not None
        with pytest.raises(StoreError, match="did not keep"):
            scheduler.encode(graph).result(SECONDS)


def test_a_scheduler_that_closes_says_so() -> None:
    engine = tiny_engine()
    scheduler = Scheduler(engine)
    assert scheduler.alive
    scheduler.close()
    assert not scheduler.alive
    with pytest.raises(BusyError) as caught:
        scheduler.submit(question(engine, DOCUMENTS))
    assert caught.value.closing


def test_a_text_is_tokenised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it comes in another request, with another id; not under another title, nor when the tokenizer has been given more tokens."""
    engine = tiny_engine()
    first = engine.reader.read([{"id": "a", "text": "Some text.", "title": "T"}], ["Q?"], None).segments["a"]
    monkeypatch.setattr("graphkv.tokens.tokenize_pieces", lambda *args: (1, 2, 3))
    assert engine.reader.read([{"id": "b", "text": "Some text.", "title": "T"}], [[5]], None).segments["b"] is first
    assert engine.reader.read([{"id": "b", "text": "Some text.", "title": "U"}], [[5]], None).segments["b"] == (1, 2, 3)
    engine.model.tokenizer.add_tokens(["<more>"])
    assert engine.reader.read([{"id": "a", "text": "Some text.", "title": "T"}], [[5]], None).segments["a"] == (1, 2, 3)


def test_remembered_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_KnownTexts, "MOST", 100)
    known = _KnownTexts(tiny_engine().model)
    for i in range(50):
        known.put("", f"text {i}", tuple(range(10)))
    known.put("", "too long", tuple(range(26)))
    assert [known.get("", f"text {i}") is not None for i in (0, 39, 40, 49)] == [False, False, True, True] and known.get("", "too long") is None


def test_marks_cannot_be_written_by_anybody() -> None:
    """A text made of what marks begin with is read as it is, and quickly."""
    engine = tiny_engine(chat_template="{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]")
    text = "GKV" * 20_000 + " GKVQUESTION GKV0. GKVD."
    begin = time.process_time()
    prompt = chat_prompt(engine, [("system", text), ("user", "Which?")], documents=True)
    assert time.process_time() - begin < 2
    assert engine.model.tokenizer.decode(prompt.prefix).count(text) == 1
