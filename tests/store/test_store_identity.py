"""What hits and what never does: property tests of the keys, over one store that all engines share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, random_ids, tiny_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from graphkv import GraphKV, MemoryStore, Segment, SegmentGraph, make_layout
from graphkv.kv import block_key

MODEL = tiny_model()
TOKENIZER = byte_tokenizer()
QUESTION = random_ids(6)
LENGTHS = (1, 2, 5, 9)
SHARED = ("graph", "graph_full", "pcw", "ape", "block")


def lower_case_tokenizer() -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


OTHERS = {
    "dtype": lambda: (tiny_model(dtype=torch.bfloat16), TOKENIZER),
    "model revision": lambda: (tiny_model(seed=1), TOKENIZER),
    "architecture": lambda: (tiny_model("qwen2"), TOKENIZER),
    "rope theta": lambda: (tiny_model(rope_parameters={"rope_type": "default", "rope_theta": 20000.0}), TOKENIZER),
    "rope type": lambda: (tiny_model(rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}), TOKENIZER),
    "norm epsilon": lambda: (tiny_model(rms_norm_eps=1e-3), TOKENIZER),
    "tokenizer": lambda: (MODEL, lower_case_tokenizer()),
}


@st.composite
def graphs(draw: st.DrawFn) -> SegmentGraph:
    """One to five segments of a small stock of texts, with edges that may run in circles; equal texts under several ids among them."""
    count = draw(st.integers(1, 5))
    segments = [Segment.from_tokens(f"s{i}", random_ids(draw(st.sampled_from(LENGTHS)), draw(st.integers(0, 3)))) for i in range(count)]
    pairs = [(f"s{i}", f"s{j}") for i in range(count) for j in range(count) if i != j]
    return SegmentGraph.from_segments(segments, draw(st.lists(st.sampled_from(pairs), unique=True, max_size=6)) if pairs else [])


def extended(graph: SegmentGraph, extra: Segment, first: bool) -> SegmentGraph:
    """The same segments and edges, with one more segment that nobody reads."""
    segments = [extra, *graph.segments] if first else [*graph.segments, extra]
    return SegmentGraph.from_segments(segments, graph.edges)


@pytest.mark.parametrize("name", OTHERS)
def test_another_model_never_hits(name: str) -> None:
    store = MemoryStore()
    graph = SegmentGraph.from_segments([Segment.from_tokens("a", random_ids(7)), Segment.from_tokens("b", random_ids(5, 1))], [("a", "b")])
    base, other = GraphKV.from_pretrained((MODEL, TOKENIZER), store=store), GraphKV.from_pretrained(OTHERS[name](), store=store)
    for layout in ("graph", "block", "sequential"):
        base.encode(graph, layout=layout, prefix=())
    before = len(store)
    for layout in ("graph", "block", "sequential"):
        fresh = GraphKV(other.model, store="memory").logits(graph, QUESTION, layout=layout)
        ours = other.logits(graph, QUESTION, layout=layout)
        assert float((ours - fresh).double().norm() / fresh.double().norm()) < (0.02 if fresh.dtype == torch.bfloat16 else 1e-5)
    assert len(store) == 2 * before, "nothing was found, everything was encoded"


def test_padding_and_truncation_are_no_other_tokenizer() -> None:
    tokenizer = byte_tokenizer()
    one = GraphKV.from_pretrained((MODEL, tokenizer)).model.identity
    tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=2)
    assert GraphKV.from_pretrained((MODEL, tokenizer)).model.identity == one


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs(), extra=st.integers(0, 9), length=st.sampled_from(LENGTHS), first=st.booleans(), layout=st.sampled_from(SHARED))
def test_the_same_text_always_hits_elsewhere(graph: SegmentGraph, extra: int, length: int, first: bool, layout: str) -> None:
    """Encoded once, every text that is read as such is found at any place of any graph; and what is read is what a fresh engine reads."""
    engine = GraphKV.from_pretrained((MODEL, TOKENIZER), store="memory")
    engine.encode(graph, layout=layout, prefix=())
    other = extended(graph, Segment.from_tokens("new", random_ids(length, 100 + extra)), first)
    other = SegmentGraph.from_segments(list(reversed(other.segments)), other.edges)
    encoded = engine.encode(other, layout=layout, prefix=())
    before = {s.tokens for s in graph.segments}
    alone = [i for i, b in enumerate(encoded.layout.blocks[:-1]) if not b.reads and other[b.segment or ""].tokens in before]
    known = {encoded.blocks[i].token_ids for i in alone if encoded.reused[i]}
    once = {s.tokens for s in graph.segments if _has_own_block(graph, s.id, layout)}
    assert {encoded.blocks[i].token_ids for i in alone} & once <= known
    fresh = GraphKV(engine.model, store="memory").logits(other, QUESTION, layout=layout)
    assert torch.allclose(engine.logits(other, QUESTION, layout=layout), fresh, rtol=1e-4, atol=1e-4)


def _has_own_block(graph: SegmentGraph, id: str, layout: str) -> bool:
    """Whether a layout of this graph encodes the segment alone: if it is read, or reads nothing."""
    plan = make_layout(layout, graph, {s.id: len(s.tokens or ()) for s in graph.segments})
    return any(b.segment == id and not b.reads for b in plan.blocks[:-1])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs(), extra=st.integers(0, 9), first=st.booleans())
def test_with_fixed_positions_targets_hit_in_every_graph(graph: SegmentGraph, extra: int, first: bool) -> None:
    """Under ``positions=N`` a target stands equally far behind its sources everywhere: only the new segment is encoded."""
    engine = GraphKV.from_pretrained((MODEL, TOKENIZER), store="memory")
    engine.encode(graph, prefix=(), positions=16)
    new = Segment.from_tokens("new", random_ids(12, 100 + extra))  # longer than all others: tight positions would move every target
    assert engine.encode(extended(graph, new, first), prefix=(), positions=16).tokens_computed == 12


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs(), data=st.data())
def test_another_source_graph_never_hits(graph: SegmentGraph, data: st.DataObject) -> None:
    """A target whose sources were changed, by one edge, or by one token in a source or in a source's source, is another block."""
    sources = [(u, v) for u, v in graph.edges]
    if not sources:
        return
    engine = GraphKV.from_pretrained((MODEL, TOKENIZER), store="memory")
    before = {b.key for b in engine.encode(graph, prefix=(), rounds=2).blocks}
    u, v = data.draw(st.sampled_from(sources))
    texts = {s.id: s.tokens for s in graph.segments}
    if data.draw(st.booleans()):
        changed = SegmentGraph.from_segments(list(graph.segments), [e for e in graph.edges if e != (u, v)])
        v_reads = sorted(map(str, (texts[s] for s in graph.sources(v)))) != sorted(map(str, (texts[s] for s in changed.sources(v))))
    else:
        swapped = [Segment.from_tokens(s.id, [*(s.tokens or ())[:-1], (s.tokens or (0,))[-1] ^ 1]) if s.id == u else s for s in graph.segments]
        changed = SegmentGraph.from_segments(swapped, graph.edges)
        v_reads = True
    encoded = engine.encode(changed, prefix=(), rounds=2)
    targets = [b for b, made in zip(encoded.layout.blocks, encoded.blocks, strict=False) if b.segment == v and b.reads and made.key in before]
    # the same block may exist by right: another segment with v's text and these very sources
    twins = [s.id for s in graph.segments if s.id != v and texts[s.id] == changed[v].tokens]
    assert not v_reads or not targets or twins


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(one=st.lists(st.integers(0, 255), min_size=1, max_size=5), other=st.lists(st.integers(0, 255), min_size=1, max_size=5), layout=st.sampled_from(["pcw", "ape", "sequential", "graph"]))
def test_another_prefix_never_hits_what_reads_it(one: list[int], other: list[int], layout: str) -> None:
    options = {"prefix_visible": True} if layout == "graph" else {}
    engine = GraphKV.from_pretrained((MODEL, TOKENIZER), store="memory")
    graph = SegmentGraph.from_segments([Segment.from_tokens("a", random_ids(7)), Segment.from_tokens("b", random_ids(5, 1))], [("a", "b")])
    engine.encode(graph, layout=layout, prefix=one, **options)
    reused = engine.encode(graph, layout=layout, prefix=other, **options).tokens_reused
    assert reused == (len(one) + 12 if one == other else 0)


def test_keys_do_not_run_into_one_another() -> None:
    """Every part of a key is told from every other."""
    keys = {
        block_key("m", [1, 2]),
        block_key("m", [12]),
        block_key("m", [1, 2], codec="int8"),
        block_key("m|int8", [1, 2]),
        block_key("m", [1, 2], [("a", -5)]),
        block_key("m", [1, 2], [("a", -5), ("a", -5)]),
        block_key("m", [1, 2], [("a", -6)]),
        block_key("m", [1, 2], [("a", -5), ("b", -5)]),
        block_key("n", [1, 2]),
    }
    assert len(keys) == 9
    assert block_key("m", [1], [("a", -5), ("b", -6)]) == block_key("m", [1], [("b", -6), ("a", -5)]), "attention is a sum: order does not matter"
