"""Answers that are written together, rows joining and leaving, against the model alone with one row at a time: every logit of every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import ARCHITECTURES, byte_tokenizer, random_graph, random_ids, tiny_engine, tiny_model
from torch import Tensor

from graphkv import GraphKV, SegmentGraph
from graphkv.assemble import AssembledContext
from graphkv.batch import Row, RunningBatch
from graphkv.errors import ModelError
from graphkv.generate import TextStream
from graphkv.sampling import Sampling

GRAPH = {"a": 63, "b": 1, "c": 128, "d": 20}
EDGES = [("a", "b"), ("b", "c"), ("a", "c")]
PREFIX = random_ids(5, seed=1)
CONTEXTS = ("graph", "sequential", "ape", "nothing")
OPTIONS: dict[str, dict[str, Any]] = {"ape": {"temperature": 0.8, "scale": 0.7}}
ROWS = [(0, 9, 3), (0, 1, 9), (2, 30, 2), (2, 4, 7), (5, 17, 1), (6, 6, 4)]
"""Of each row: the step at which it joins, tokens of its question, tokens of its answer."""


def context_of(engine: GraphKV, graph: SegmentGraph, name: str) -> AssembledContext:
    if name == "nothing":
        return AssembledContext((), (), 0, None)
    return engine.assembled(graph, layout=name, prefix=PREFIX, **OPTIONS.get(name, {}))


def row_of(engine: GraphKV, question: list[int], limit: int, sampling: Sampling | None = None) -> Row:
    return Row(tuple(question), sampling or Sampling(), limit, frozenset(), TextStream(engine.model))


def written_together(engine: GraphKV, context: AssembledContext, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[list[Row], dict[Row, list[Tensor]]]:
    """All of ROWS, and the logits that each of its tokens was chosen from."""
    rows = [row_of(engine, random_ids(length, seed=n), limit) for n, (_, length, limit) in enumerate(ROWS)]
    batch, seen = RunningBatch(engine.model, context, **options), dict[Row, list[Tensor]]()
    step = engine.model.step

    def noted(*args: Any, **kwargs: Any) -> Any:
        logits, tails = step(*args, **kwargs)
        for row, line in zip(moving, logits, strict=True):
            seen.setdefault(row, []).append(line)
        return logits, tails

    monkeypatch.setattr(engine.model, "step", noted)
    for moment in range(20):
        if moving := [row for row, (begin, _, _) in zip(rows, ROWS, strict=True) if begin == moment]:
            batch.add(moving)
            batch.drop([row for row in batch.rows if row.finish_reason])
        if moving := list(batch.rows):
            batch.step()
            batch.drop([row for row in batch.rows if row.finish_reason])
    assert not batch.rows and [len(row.text.tokens) for row in rows] == [limit for _, _, limit in ROWS]
    return rows, seen


def alone(engine: GraphKV, context: AssembledContext, row: Row) -> Tensor:
    """Logits behind the question and behind every token of the answer but the last, by transformers' forward over a cache of its own."""
    ids = [*row.question, *row.text.tokens[:-1]]
    positions, mask = torch.arange(len(ids)) + context.position, torch.ones(1, context.length + len(ids), dtype=torch.long)
    cache = engine.model.cache(context.keys, context.values)
    return engine.model.answer_logits(cache, torch.tensor([ids]), positions[None], mask, context.reweigh)[0, len(row.question) - 1 :]


def in_one_text(engine: GraphKV, graph: SegmentGraph | None, row: Row) -> Tensor:
    """The same by the model's own forward over one running text: prefix, documents, question, answer."""
    documents = [*PREFIX, *(token for segment in graph.segments for token in segment.tokens or ())] if graph is not None else []
    ids = [*documents, *row.question, *row.text.tokens[:-1]]
    with torch.no_grad():
        logits: Tensor = engine.model.model(torch.tensor([ids])).logits[0, len(documents) + len(row.question) - 1 :]
    return logits


def relative(ours: Tensor, reference: Tensor) -> float:
    return float((ours.double() - reference.double()).abs().max() / reference.double().abs().max())


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_step_of_every_row_is_the_models_own(arch: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. rows together; 2. each row alone over the assembled cache; 3. where there is one, the model's own forward over one running text. All the same to 1e-5."""
    engine, graph = tiny_engine(arch), random_graph(GRAPH, EDGES)
    context = context_of(engine, graph, name)
    rows, seen = written_together(engine, context, monkeypatch)
    for row in rows:
        ours = torch.stack(seen[row])
        assert ours.argmax(-1).tolist() == row.text.tokens
        assert relative(ours, alone(engine, context, row)) < 1e-5
        if name in ("sequential", "nothing"):
            assert relative(ours, in_one_text(engine, graph if name == "sequential" else None, row)) < 1e-5


@pytest.mark.parametrize("name", CONTEXTS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_bfloat16_is_as_close_to_float64_as_one_row_alone(arch: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. the model in float64, one row at a time; 2. the same in bfloat16; 3. rows together in bfloat16: not further from 1 than 2 is, times 1.5: two roundings scatter."""
    low, high = tiny_model(arch, dtype=torch.bfloat16), tiny_model(arch, dtype=torch.float64)
    high.load_state_dict({k: v.double() for k, v in low.state_dict().items()})
    engine, exactly = (GraphKV.from_pretrained((model, byte_tokenizer())) for model in (low, high))
    graph = random_graph(GRAPH, EDGES)
    context, exact_context = context_of(engine, graph, name), context_of(exactly, graph, name)
    rows, seen = written_together(engine, context, monkeypatch)
    exact = torch.cat([alone(exactly, exact_context, row) for row in rows])
    theirs = torch.cat([alone(engine, context, row) for row in rows])
    ours = torch.cat([torch.stack(seen[row]) for row in rows])
    assert ours.dtype == torch.bfloat16
    assert float((ours.double() - exact).norm()) <= 1.5 * float((theirs.double() - exact).norm())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_what_a_row_looks_at_is_transformers_attention(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. shares of parts of the context, noted at every step; 2. eager attention over one running text, its weights summed by part and averaged over the heads."""
    engine, graph = tiny_engine(arch), random_graph(GRAPH, EDGES)
    context = context_of(engine, graph, "sequential")
    groups = torch.randint(0, 4, (context.length,), generator=torch.Generator().manual_seed(3))  # 3 is the number of what is not counted
    heads = {0: (2,), 1: (0, 3)}
    rows, _ = written_together(engine, context, monkeypatch, heads=heads, groups=groups, count=3)
    documents = [*PREFIX, *(token for segment in graph.segments for token in segment.tokens or ())]
    for row in rows:
        with torch.no_grad():
            out = engine.model.model(torch.tensor([[*documents, *row.question, *row.text.tokens[:-1]]]), output_attentions=True)
        chosen = torch.cat([out.attentions[layer][0, list(of)] for layer, of in heads.items()])[:, len(documents) + len(row.question) - 1 :, : len(documents)].mean(0)
        expected = torch.stack([chosen[:, groups == part].sum(-1) for part in range(3)], dim=-1)
        torch.testing.assert_close(torch.tensor([[shares[part] for part in range(3)] for shares in row.looks]), expected, rtol=1e-4, atol=1e-6)


def test_rows_may_leave_in_any_order_and_several_times_between_two_steps() -> None:
    """1. six rows, of which those given leave after the third token, in two goes; another joins; 2. each of the others alone."""
    engine = tiny_engine()
    context = AssembledContext((), (), 0, None)
    for first, second in (([0], [5]), ([2, 3], [0, 1, 4]), ([5, 4], []), ([], [1]), ([0, 1, 2, 3, 4], [])):
        rows = [row_of(engine, random_ids(n + 2, seed=n), 7) for n in range(7)]
        batch = RunningBatch(engine.model, context)
        batch.add(rows[:6])
        batch.step()
        batch.step()
        batch.drop([rows[n] for n in first])
        batch.drop([rows[n] for n in second])
        batch.add(rows[6:])
        while batch.rows:
            batch.step()
            batch.drop([row for row in batch.rows if row.finish_reason])
        for n, row in enumerate(rows):
            assert len(row.text.tokens) == (3 if n in first + second else 7)
            assert alone(engine, context, row).argmax(-1).tolist() == row.text.tokens


def test_the_context_is_neither_copied_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, graph = tiny_engine(), random_graph(GRAPH, EDGES)
    context = context_of(engine, graph, "graph")
    before, places = [x.clone() for x in (*context.keys, *context.values)], set[int]()
    step = engine.model.step

    def noted(reading: Any, *args: Any) -> Any:
        places.update(x.data_ptr() for x in (*reading.keys, *reading.values))
        logits, tails = step(reading, *args)
        assert all(key.shape[2] < 60 for key, _ in tails), "a row's own keys are its question's and its answer's"
        return logits, tails

    monkeypatch.setattr(engine.model, "step", noted)
    written_together(engine, context, monkeypatch)
    assert places == {x.data_ptr() for x in (*context.keys, *context.values)}
    assert all(torch.equal(a, b) for a, b in zip(before, (*context.keys, *context.values), strict=True))


@pytest.mark.parametrize(("most", "pairs", "forwards"), [(100, 3000, 25), (30, 10**6, 15), (10**4, 10**6, 1)])
@pytest.mark.parametrize("arch", ["llama", "gemma2"])
def test_long_questions_are_read_in_several_forwards(arch: str, most: int, pairs: int, forwards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no mask grows with the square of a long question, and no forward with the number of those that come at once. 1. together, in parts; 2. each alone."""
    engine = tiny_engine(arch)
    context = context_of(engine, random_graph(GRAPH, EDGES), "graph")
    monkeypatch.setattr("graphkv.batch._TOKENS", most)
    monkeypatch.setattr("graphkv.batch._PAIRS", pairs)
    rows, seen = [row_of(engine, random_ids(length, seed=length), 3) for length in (150, 7, 64)], list[tuple[int, ...]]()
    step = engine.model.step

    def noted(reading: Any, *args: Any) -> Any:
        seen.append(tuple(reading.mask.shape))
        return step(reading, *args)

    monkeypatch.setattr(engine.model, "step", noted)
    batch = RunningBatch(engine.model, context)
    batch.add(rows)
    assert len(seen) == forwards and all(b * t <= most and b * t * s <= pairs for b, t, s in seen)
    batch.step()
    batch.step()
    for row in rows:
        assert alone(engine, context, row).argmax(-1).tolist() == row.text.tokens


def test_padding_that_no_row_needs_any_more_is_dropped() -> None:
    engine = tiny_engine()
    batch = RunningBatch(engine.model, AssembledContext((), (), 0, None))
    long, short = row_of(engine, random_ids(50), 9), row_of(engine, random_ids(4), 9)
    batch.add([long, short])
    batch.step()
    assert [tuple(x.shape) for pair in batch._tails for x in pair] == [(2, 2, 51, 16)] * 4
    batch.drop([long])
    batch.step()
    assert [tuple(x.shape) for pair in batch._tails for x in pair] == [(1, 2, 6, 16)] * 4
    batch.drop([short])
    assert not batch.rows and not batch._tails


@pytest.mark.parametrize(("token", "limit", "reason"), [(257, 5, "stop"), (65, 1, "length"), (65, 5, None)])
def test_why_a_row_ends(token: int, limit: int, reason: str | None) -> None:
    engine = tiny_engine()
    row = Row((1,), Sampling(), limit, frozenset({257}), TextStream(engine.model))
    row.take(token)
    assert (row.finish_reason, row.text.tokens) == (reason, [] if token == 257 else [65])


def test_the_model_is_left_as_it_was() -> None:
    engine = tiny_engine()
    before = engine.model.model.config._attn_implementation
    batch = RunningBatch(engine.model, AssembledContext((), (), 0, None))
    batch.add([row_of(engine, [1, 2], 1)])
    assert engine.model.model.config._attn_implementation == before
    engine.model.model.set_attn_implementation("graphkv_shared")
    with pytest.raises(ModelError, match="'graphkv_shared' runs only while graphkv answers"):
        engine.model.model(torch.tensor([[1, 2]]))
