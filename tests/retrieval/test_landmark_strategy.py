"""The strategy `landmark`: what is read once stays read, what it says of itself, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import landmark_engine, random_graph, random_ids, tiny_engine

from graphkv import DocumentError, GraphKV, InputError, LengthError, Segment, SegmentGraph, StoreError, StoreWarning, UnsupportedModelError
from graphkv.landmark import insert_landmarks, landmark_of
from graphkv.store import FileStore, MemoryStore, Store

LENGTHS = {"a": 100, "b": 63, "c": 1, "d": 150}  # with the prefix of the tests 45 blocks and a bit
QUESTION = random_ids(9, seed=5)
PREFIX = random_ids(5, seed=6)


def ask(engine: GraphKV, graph: SegmentGraph | None = None, question: list[int] | None = None, **options: Any) -> Any:
    settings: dict[str, Any] = {"k": 3, "chunk": 32, "max_new_tokens": 6, "prefix": PREFIX} | options
    return engine.ask_many(graph or random_graph(LENGTHS, []), [question or QUESTION], strategy="landmark", **settings)[0]


def with_store(store: Store, **overrides: Any) -> GraphKV:
    made = landmark_engine(**overrides)
    return GraphKV(made.model, store=store)


def test_documents_are_read_once(tmp_path: Path) -> None:
    """1. A first question reads. 2. A second one does not. 3. Nor does another process, which has the folder only."""
    total = len(insert_landmarks(range(5 + 314), landmark_of(landmark_engine().model)))
    engine = with_store(FileStore(tmp_path))
    first, second = ask(engine), ask(engine, question=random_ids(4, seed=8))
    assert (first.tokens_reused, first.tokens_computed) == (0, total + 9)
    assert (second.tokens_reused, second.tokens_computed) == (total, 4)
    again = ask(with_store(FileStore(tmp_path)))
    assert (again.tokens_reused, again.tokens_computed, again.token_ids) == (total, 9, first.token_ids)
    assert all(use.reused for use in again.segments) and not any(use.reused for use in first.segments)
    assert [(u.id, u.score) for u in again.segments] == [(u.id, u.score) for u in first.segments]


def test_a_text_that_begins_alike_shares_its_first_chunks() -> None:
    engine = landmark_engine()
    ask(engine)
    longer = random_graph(LENGTHS, []).segments
    other = SegmentGraph.from_segments([*longer[:3], Segment.from_tokens("e", random_ids(40, seed=3))])
    assert ask(engine, other).tokens_reused == (5 + 164) // 28 * 32  # whole chunks: 28 tokens of text and 4 landmarks
    assert ask(engine, other, prefix=PREFIX[:4]).tokens_reused == 0
    assert ask(engine, prefix=random_ids(5, seed=7)).tokens_reused == 0  # later chunks have the same tokens, but behind others


@pytest.mark.parametrize("other", [{"k": 2}, {"chunk": 64}, {"granularity": "head"}, {"index": "hnsw"}])
def test_what_changes_keys_and_values_is_part_of_their_name(other: dict[str, Any]) -> None:
    engine = landmark_engine()
    ask(engine)
    assert ask(engine, **other).tokens_reused == 0
    assert ask(engine, index="flat", offload="cpu").tokens_computed == 9  # and these change nothing


@pytest.mark.parametrize("codec", ["exact", "int8"])
def test_places_of_the_memory_give_the_same_answer(codec: str) -> None:
    """Under a codec that loses something, too: what is read later is what the first reading saw."""
    answers = [ask(with_store(MemoryStore(codec=codec)), max_new_tokens=12, offload=offload) for offload in ("none", "cpu", "store")]
    answers.append(ask(with_store(MemoryStore(codec=codec)), max_new_tokens=12, index="flat"))
    engine = with_store(MemoryStore(codec=codec))
    ask(engine)
    answers.append(ask(engine, max_new_tokens=12))
    assert len({a.token_ids for a in answers}) == 1
    assert len({tuple((u.id, round(u.score, 6)) for u in a.segments) for a in answers}) == 1


def test_an_answer_says_what_was_fetched() -> None:
    answer = ask(landmark_engine())
    assert answer.strategy == answer.layout == "landmark" and answer.query_aware is False
    assert answer.tokens_read == 314 and answer.tokens_kept == 3 * 7
    assert [use.id for use in answer.segments] == [id for id in LENGTHS if id in {use.id for use in answer.segments}]
    scores = [use.score for use in answer.segments]
    assert all(0 < score <= 1 for score in scores) and 0.5 < sum(scores) <= 1 + 1e-9  # the prefix may have the rest
    assert ask(landmark_engine(), prefix=()).segments and sum(use.score for use in ask(landmark_engine(), prefix=()).segments) == pytest.approx(1)
    assert ask(landmark_engine(), random_graph({"x": 3}, []), k=None).tokens_kept == 3


def test_several_questions_over_one_memory() -> None:
    engine, graph, questions = landmark_engine(), random_graph(LENGTHS, []), [random_ids(n, seed=n) for n in (4, 12, 7)]
    options: dict[str, Any] = {"strategy": "landmark", "k": 3, "max_new_tokens": 8, "prefix": PREFIX}
    together = engine.ask_many(graph, questions, **options)
    for question, answer in zip(questions, together, strict=True):
        alone = ask(engine, graph, question, max_new_tokens=8, chunk=256)
        assert alone.token_ids == answer.token_ids
        assert [(u.id, round(u.score, 5)) for u in alone.segments] == [(u.id, round(u.score, 5)) for u in answer.segments]


def test_a_landmark_is_never_written() -> None:
    engine = landmark_engine()
    landmark, head, free = landmark_of(engine.model).token_id, engine.model.model.get_output_embeddings(), ask(engine).token_ids
    with torch.no_grad():
        head.weight[landmark] = 1.1 * head.weight[free[0]]  # the model would rather write it than what it writes
    assert ask(engine).token_ids == free


def test_sampling_and_a_callers_suppressed_tokens_are_honoured() -> None:
    from transformers import GenerationConfig

    engine, greedy = landmark_engine(), ask(landmark_engine(), max_new_tokens=1).token_ids[0]
    assert greedy not in ask(engine, max_new_tokens=6, generation_config=GenerationConfig(suppress_tokens=[greedy])).token_ids
    torch.manual_seed(0)
    config = GenerationConfig(do_sample=True, temperature=5.0)
    assert len({ask(engine, max_new_tokens=6, generation_config=config).token_ids for _ in range(3)}) == 3


def test_a_store_that_keeps_nothing_is_said_and_the_answer_is_right(tmp_path: Path) -> None:
    expected = ask(landmark_engine()).token_ids
    small = with_store(MemoryStore(max_bytes=1000))
    assert ask(small).token_ids == expected
    with pytest.raises(StoreError, match="did not keep"):
        ask(small, offload="store")
    (tmp_path / "store").mkdir()
    engine = with_store(FileStore(tmp_path / "store", read_only=True))
    assert ask(engine).token_ids == expected
    with pytest.raises(StoreError, match="read-only"):
        ask(engine, offload="store")


def test_a_store_without_room_while_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, block: Any) -> Any:
        raise StoreError("no room")

    expected = ask(landmark_engine()).token_ids
    monkeypatch.setattr(MemoryStore, "put", full)
    with pytest.warns(StoreWarning, match="no room; the answer is right"):
        assert ask(with_store(MemoryStore())).token_ids == expected


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, InputError, "k must be a whole number of at least 1, got 0"),
        ({"k": True}, InputError, "k must be a whole number"),
        ({"k": 47}, InputError, "k=47 is larger than the number of blocks: the documents have 46 of 8 tokens, so k is at most 46"),
        ({"chunk": 12}, InputError, "chunk must be a multiple of the model's block of 8 tokens, got 12"),
        ({"chunk": -8}, InputError, "chunk must be a whole number of at least 1"),
        ({"granularity": "layer"}, InputError, "unknown granularity 'layer'; valid: head, token"),
        ({"index": "ivf"}, InputError, "unknown index 'ivf'; valid: flat, hnsw, torch"),
        ({"offload": "disk"}, InputError, "unknown offload 'disk'; valid: cpu, none, store"),
        ({"heads": 3}, InputError, "unknown option of strategy 'landmark': 'heads'; valid: chunk, granularity, index, k, offload"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = landmark_engine()
    _no_work(engine, monkeypatch)
    with pytest.raises(error, match=message):
        ask(engine, **options)


def test_lengths_that_do_not_fit_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = landmark_engine(max_position_embeddings=128)
    _no_work(engine, monkeypatch)
    with pytest.raises(LengthError, match="take 96 positions and the chunk 64, the model's window has 128"):
        ask(engine, k=6, chunk=64)
    with pytest.raises(LengthError, match="the question has 90 tokens, but beside the chosen blocks only 80 of the model's 128 positions are left"):
        ask(engine, question=random_ids(90))
    windowed = landmark_engine("mistral", sliding_window=64)
    with pytest.raises(LengthError, match="the model's window has 64"):
        ask(windowed, k=3, chunk=32)


def test_the_default_chunk_fits_the_window_and_answers_end_with_it() -> None:
    engine = landmark_engine(max_position_embeddings=128)
    answer = ask(engine, k=3, chunk=None, max_new_tokens=500, generation_config=None)
    assert answer.tokens_generated <= 128 - 6 * 8 - 9
    assert ask(engine, k=5, chunk=None).tokens_generated > 0
    assert ask(landmark_engine("mistral", sliding_window=64), k=3, chunk=None).tokens_generated > 0


def test_a_model_without_landmarks_and_documents_with_one_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = tiny_engine()
    _no_work(plain, monkeypatch)
    with pytest.raises(UnsupportedModelError, match="was not trained with landmarks"):
        ask(plain)
    engine = landmark_engine()
    graph = SegmentGraph.from_segments([Segment.from_tokens("x", [1, 2, landmark_of(engine.model).token_id])])
    with pytest.raises(DocumentError, match="segment 'x' holds the landmark token"):
        ask(engine, graph)
    _no_work(engine, monkeypatch)
    mark = landmark_of(engine.model).token_id
    with pytest.raises(InputError, match="the question holds the landmark token"):
        ask(engine, question=[3, mark])
    with pytest.raises(InputError, match="the prefix holds the landmark token"):
        ask(engine, prefix=[mark, 3])


def _no_work(engine: GraphKV, monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the model ran")

    monkeypatch.setattr(type(engine.model.model), "forward", worked)
