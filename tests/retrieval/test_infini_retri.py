"""InfiniRetri against the wasteful way: the eager model's own matrices, window by window; and everything that a user can ask of it."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_engine

from graphkv import GraphKV, InputError, LengthError, ModelError, Segment, SegmentGraph
from graphkv_benchmarks.citation_world import make_world, one_style
from graphkv_benchmarks.citation_world.needles import NEEDLES
from graphkv_benchmarks.citation_world.world import filler
from graphkv_retrieval.heads import question_start
from graphkv_retrieval.scan import Asked, Settings, pack, phrase_sums, scan
from graphkv_retrieval.sentences import Sentences, find_sentences

PAPER: dict[str, Any] = {"layers": -1, "heads": "all"}


def hay(sentences: int, seed: int = 0) -> str:
    rng = random.Random(f"hay {seed}")
    return " ".join(filler(rng).rstrip(".") + "." for _ in range(sentences))


def parts(engine: GraphKV, text: str, question: str, window: int) -> tuple[Sentences, list[Any], tuple[int, ...], Asked]:
    tokens = engine.reader.read([{"id": "a", "text": text}], [question], None)
    found = find_sentences(engine.model.tokenizer, tokens.segments, window)
    return found, pack(found.lengths, window), tokens.prefix, Asked(tokens.questions[0], question_start(engine, tokens.questions[0]))


def eager_scan(engine: GraphKV, text: Sentences, windows: list[Any], prefix: tuple[int, ...], asked: Asked, layer: int, heads: Any, top: int, phrase: int) -> list[list[int]]:
    """The method from whole attention matrices, one loop a step of the paper; what is kept after each window."""
    kept: list[int] = []
    weights = None
    history = []
    for window in windows:
        sentences = [*kept, *window.tolist()]
        context = [t for s in sentences for t in text.ids[text.starts[s] : text.starts[s + 1]].tolist()]
        prompt = [*prefix, *context, *asked.ids]
        with torch.no_grad():
            attention = engine.model.model(torch.tensor([prompt]), output_attentions=True).attentions[layer][0].double()
        summed = (attention if heads is None else attention[list(heads)]).sum(0)
        first_row = len(prompt) - len(asked.ids) + asked.start
        if weights is None:
            weights = summed[first_row:, first_row:].sum(1)
        rows = summed[first_row:, len(prefix) : len(prefix) + len(context)].numpy()
        scores = np.zeros(len(context))
        for weight, row in zip(weights.tolist(), rows, strict=True):
            scores += weight**2 * np.array([row[max(0, i - phrase // 2) : i + (phrase - 1) // 2 + 1].sum() for i in range(len(context))])
        of = [s for s in sentences for _ in range(text.lengths[s])]
        kept = sorted({of[i] for i in np.argsort(-scores)[:top]})
        history.append(kept)
    return history


@pytest.mark.parametrize(("layer", "heads", "phrase", "top"), [(1, None, 8, 12), (0, (1, 2), 5, 9), (1, (3,), 1, 20)])
@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma2"])
def test_kept_sentences_are_those_of_the_paper(arch: str, layer: int, heads: Any, phrase: int, top: int) -> None:
    """1. Eager, all of every matrix. 2. Ours, after every window."""
    engine = tiny_engine(arch)
    text, windows, prefix, asked = parts(engine, hay(14), "Who wrote it?", 200)
    want = eager_scan(engine, text, windows, prefix, asked, layer, heads, top, phrase)
    got: list[list[int]] = []
    settings = Settings({layer: heads}, top_tokens=top, phrase=phrase)
    scan(engine.model, text, windows, prefix, [asked], settings, watcher=lambda step, kept: got.append(kept[0].sentences.tolist()))
    assert len(windows) > 3 and got == want


def test_the_questions_start_is_the_users_own_words() -> None:
    engine = tiny_engine()
    ids = engine.reader.read([{"id": "a", "text": "b"}], ["Who?"], None).questions[0]
    assert engine.model.tokenizer.decode(ids[question_start(engine, ids) :]).startswith("Who?")


@pytest.mark.parametrize(("phrase", "want"), [(1, [1, 2, 4, 8]), (2, [1, 3, 6, 12]), (3, [3, 7, 14, 12]), (8, [15, 15, 15, 15])])
def test_a_phrase_is_centred(phrase: int, want: list[float]) -> None:
    assert phrase_sums(torch.tensor([1.0, 2.0, 4.0, 8.0]), phrase).tolist() == want


@pytest.mark.parametrize("windows_at_once", [1, 3])
@pytest.mark.parametrize("rows", ["question", "last"])
def test_questions_of_one_pass_keep_what_each_keeps_alone(rows: str, windows_at_once: int) -> None:
    engine = tiny_engine()
    asked = [parts(engine, "x", question, 200)[3] for question in ("Who wrote it?", "Why?", "What is the score of the paper that it builds on?")]
    text, windows, prefix, _ = parts(engine, hay(14), "Who?", 200)
    for batch_tokens in (1, 10**6):
        settings = Settings({1: None}, rows, top_tokens=12, windows_at_once=windows_at_once, batch_tokens=batch_tokens)
        together = scan(engine.model, text, windows, prefix, asked, settings)
        alone = [scan(engine.model, text, windows, prefix, [one], settings)[0] for one in asked]
        for a, b in zip(together, alone, strict=True):
            assert a.sentences.tolist() == b.sentences.tolist() and a.tokens_computed == b.tokens_computed
            np.testing.assert_allclose(a.scores, b.scores, rtol=1e-4)


def test_the_budget_is_a_bound() -> None:
    engine = tiny_engine()
    text, windows, prefix, asked = parts(engine, hay(14), "Who wrote it?", 200)
    sizes: list[int] = []

    def note(step: int, kept: list[Any]) -> None:
        sizes.append(int(text.lengths[kept[0].sentences].sum()))

    for budget in (70, 150, 2000):
        sizes.clear()
        kept = scan(engine.model, text, windows, prefix, [asked], Settings({1: None}, top_tokens=60, budget=budget), watcher=note)[0]
        assert 0 < max(sizes) <= budget
        assert (kept.over_budget > 0) == (budget < 2000)
    answer = engine.ask([{"id": "a", "text": hay(14)}], "Who?", strategy="infini_retri", window=200, budget=70, top_tokens=60, max_new_tokens=2, **PAPER)
    assert answer.tokens_kept <= 70 and any("budget was full" in note for note in answer.notes)


@pytest.mark.parametrize("read", ["plain", "graph"])
def test_a_small_budget_still_keeps_the_best(read: str) -> None:
    answer = tiny_engine().ask([{"id": "a", "text": hay(4)}], "Who?", strategy="infini_retri", window=100, budget=5, read=read, max_new_tokens=2, **PAPER)
    assert 0 < answer.tokens_kept <= 5 and any("of more than 5 tokens" in note for note in answer.notes)


def test_attention_that_is_no_number_is_refused() -> None:
    engine = tiny_engine()
    with torch.no_grad():
        engine.model.model.model.layers[0].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="values that are no numbers"):
        engine.ask([{"id": "a", "text": "Some text."}], "Why?", strategy="infini_retri", **PAPER)


def test_an_answer_tells_what_was_read_and_kept() -> None:
    engine = tiny_engine()
    documents = [{"id": "a", "text": hay(6)}, {"id": "b", "title": "Night Maple", "text": hay(6, 1)}]
    answer = engine.ask(documents, "Who wrote it?", strategy="infini_retri", window=200, top_tokens=12, max_new_tokens=3, **PAPER)
    tokens = engine.reader.read(documents, ["Who wrote it?"], None)
    assert answer.strategy == "infini_retri" and answer.query_aware and answer.layout == "plain" and answer.tokens_reused == 0
    assert answer.tokens_kept == sum(use.tokens for use in answer.segments) < sum(map(len, tokens.segments.values())) < answer.tokens_read
    assert sum(use.score or 0 for use in answer.segments) == pytest.approx(1)
    windows = len(pack(find_sentences(engine.model.tokenizer, tokens.segments, 200).lengths, 200))
    assert answer.tokens_computed == answer.tokens_read + answer.tokens_kept + (windows + 1) * (len(tokens.prefix) + len(tokens.questions[0]))
    assert answer.notes == ("attention of layer 1: all heads, rows of the question",)
    assert len(engine.store) == 0  # type: ignore[arg-type]


def test_a_sentence_longer_than_the_window_is_cut_and_said_so() -> None:
    answer = tiny_engine().ask([{"id": "a", "text": "x" * 3000}], "Why?", strategy="infini_retri", window=256, top_tokens=8, max_new_tokens=2, **PAPER)
    assert "sentences of more than 256 tokens, which is the window or the budget, were cut: 1" in answer.notes and answer.tokens_kept <= 8 * 256


@pytest.mark.parametrize("read", ["plain", "sequential", "graph", "block"])
def test_the_kept_sentences_can_be_read_under_any_layout(read: str) -> None:
    engine = tiny_engine()
    documents = [{"id": "a", "text": hay(6)}, {"id": "b", "text": hay(6, 1), "sources": ["a"]}]
    answer = engine.ask(documents, "Who wrote it?", strategy="infini_retri", window=200, top_tokens=12, read=read, max_new_tokens=3, **PAPER)
    assert answer.layout == read and answer.strategy == "infini_retri" and answer.tokens_generated > 0
    assert len(engine.store) == 0  # type: ignore[arg-type]  # nothing that depends on the question is kept for others


def test_plain_and_sequential_reading_are_the_same_prompt() -> None:
    engine, documents = tiny_engine(), [{"id": "a", "text": hay(6)}, {"id": "b", "text": hay(6, 1)}]
    settings: dict[str, Any] = {"strategy": "infini_retri", "window": 200, "top_tokens": 12, "max_new_tokens": 6, **PAPER}
    plain, sequential = (engine.ask(documents, "Who wrote it?", read=read, **settings) for read in ("plain", "sequential"))
    assert plain.token_ids == sequential.token_ids and plain.tokens_kept == sequential.tokens_kept


def test_neighbours_of_what_is_kept_are_kept_within_the_budget() -> None:
    engine = tiny_engine()
    graph = SegmentGraph.from_segments([Segment.from_tokens(id, list(f"Text {id} says so. ".encode() * 4)) for id in "abcde"], [("a", "b"), ("b", "c"), ("c", "d")])
    settings: dict[str, Any] = {"strategy": "infini_retri", "window": 80, "top_tokens": 1, "max_new_tokens": 2, **PAPER}
    alone = engine.ask(graph, "Why?", **settings)
    (kept,) = (use.id for use in alone.segments)
    around = {"sources": set(graph.sources(kept)), "targets": set(graph.targets(kept)), "both": {*graph.sources(kept), *graph.targets(kept)}}
    for neighbours, more in around.items():
        answer = engine.ask(graph, "Why?", neighbours=neighbours, **settings)
        assert answer.layout == "graph" and {use.id for use in answer.segments} == {kept} | more
    far = engine.ask(graph, "Why?", neighbours="both", hops=4, **settings)
    assert {use.id for use in far.segments} == ({"a", "b", "c", "d"} if kept != "e" else {"e"})
    tight = engine.ask(graph, "Why?", neighbours="both", budget=alone.tokens_kept, **settings)
    assert {use.id for use in tight.segments} == {kept} and tight.tokens_kept == alone.tokens_kept
    assert any("were not kept whole, or not at all" in note for note in tight.notes) == (tight.tokens_kept < far.tokens_kept)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 0}, InputError, "window must be a whole number of at least 1"),
        ({"top_tokens": "many"}, InputError, "top_tokens must be a whole number"),
        ({"phrase": 0}, InputError, "phrase must be"),
        ({"windows_at_once": 0}, InputError, "windows_at_once must be"),
        ({"layers": 2}, InputError, "from 0 to 1"),
        ({"layers": 1.5}, InputError, "layers must be"),
        ({"layers": [0, True]}, InputError, "layers must be"),
        ({"heads": [4]}, InputError, "heads from 0 to 3"),
        ({"heads": [(0, 9)]}, InputError, "heads must be"),
        ({"heads": [(0, 1)], "layers": 0}, InputError, "leave layers out"),
        ({"heads": "best"}, InputError, "heads must be 'all'"),
        ({"heads": []}, InputError, "heads must be"),
        ({"rows": "first"}, InputError, "unknown rows 'first'; valid: last, question"),
        ({"neighbours": "friends"}, InputError, "unknown kind of neighbours"),
        ({"hops": 2}, InputError, "it needs neighbours"),
        ({"read": "aloud"}, InputError, "unknown way to read 'aloud'"),
        ({"window": 8192}, LengthError, "window=8192 does not fit"),
        ({"budget": 8000}, LengthError, "budget=8000 does not fit"),
        ({"budget": 0}, InputError, "budget must be"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused_before_any_work(options: dict[str, Any], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine()
    monkeypatch.setattr(engine.model.decoder, "forward", lambda *a, **k: pytest.fail("the model ran"))
    with pytest.raises(error, match=message):
        engine.ask([{"id": "a", "text": "Some text."}], "Why?", strategy="infini_retri", **options)


def test_a_question_longer_than_the_models_window() -> None:
    with pytest.raises(LengthError, match=r"prefix and question have .* no room for documents"):
        tiny_engine().ask([{"id": "a", "text": "Some text."}], "Why? " * 4000, strategy="infini_retri")


@pytest.mark.parametrize("depth", [0.05, 0.5, 0.95])
def test_the_embedded_model_finds_a_needle(depth: float) -> None:
    """A few thousand tokens of hay, a needle with an unseen name; the settings saved with the model."""
    sentence, question = NEEDLES[2]
    sentences = hay(250, seed=int(depth * 100)).split(". ")
    sentences.insert(int(depth * len(sentences)), sentence.replace("{K}", "Onyx Reed").replace("{V}", "480217").rstrip("."))
    engine = GraphKV.from_pretrained()
    answer = engine.ask([{"id": "a", "text": ". ".join(sentences)}], question.replace("{K}", "Onyx Reed"), strategy="infini_retri")
    assert answer.text == "480217" and answer.tokens_kept < 400
    assert "saved with the model" in answer.notes[0]


def test_along_the_edges_an_answer_is_found_that_the_text_alone_does_not_have() -> None:
    """Bare citations: which paper "the cited paper" is stands nowhere but in the edge. 1. Plain. 2. With the kept segments' sources."""
    engine = GraphKV.from_pretrained()
    world = make_world(900, 30, True, one_style("bare"))
    questions = [q for q in world.questions if q.hops == 2 and q.type == "attribute"][:6]
    documents, texts = world.to_row()["documents"], [q.question for q in questions]
    settings: dict[str, Any] = {"strategy": "infini_retri", "heads": [(2, 0), (2, 1)], "rows": "question", "top_tokens": 100, "max_new_tokens": 8}
    plain, along = (engine.ask_many(documents, texts, neighbours=neighbours, **settings) for neighbours in ("none", "sources"))
    right = [sum(a.text == q.answer for a, q in zip(answers, questions, strict=True)) for answers in (plain, along)]
    assert len(questions) == 6 and right[0] <= 1 and right[1] >= 5


@pytest.mark.skipif("GRAPHKV_LONG_TESTS" not in os.environ, reason="set GRAPHKV_LONG_TESTS=1: reads 64k tokens")
def test_memory_does_not_grow_with_the_text() -> None:
    import resource

    engine = GraphKV.from_pretrained()
    peaks = []
    for sentences in (1000, 4000):
        engine.ask([{"id": "a", "text": hay(sentences)}], "Who wrote it?", strategy="infini_retri", max_new_tokens=2)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[1] < 1.1 * peaks[0]
