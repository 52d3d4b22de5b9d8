"""The numbers: every layout against the model's own forward under a hand-made mask, in one go and block by block.

The oracle is independent of our encoder and kernels: transformers' eager attention, its own rotary embedding, a 4-D mask
and position ids that are written here token by token from what each layout is said to be.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import ARCHITECTURES, byte_tokenizer, random_graph, random_ids, tiny_engine, tiny_model
from torch import Tensor

from graphkv import GraphKV, SegmentGraph
from graphkv_kernels import available_kernels

LENGTHS = {"a": 63, "b": 1, "c": 128, "d": 20}
EDGES = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "a")]  # a cycle a → c → a, a chain, and d without edges
PREFIX, QUESTION = random_ids(5, seed=1), random_ids(17, seed=2)
PACKED_LAYOUTS: dict[str, dict[str, Any]] = {
    "sequential": {},
    "block": {},
    "pcw": {},
    "graph": {},
    "graph rounds 2": {"rounds": 2},
    "graph final paper": {"view": "final", "positions": "paper", "rounds": 2},
    "graph prefix sequential": {"prefix_visible": True, "positions": "sequential"},
    "graph_full": {},
    "graph_topk": {"m": 2},
    "graph_hops": {"tiers": (1, 2)},
}


def relative(ours: Tensor, reference: Tensor) -> float:
    """Largest error over the largest value."""
    ours, reference = ours.detach(), reference.detach()
    return float((ours.double() - reference.double()).abs().max() / reference.double().abs().max())


def oracle(model: Any, engine: GraphKV, graph: SegmentGraph, name: str, options: dict[str, Any]) -> Tensor:
    """Question logits from transformers' eager forward over the packed tokens, mask written pair by pair."""
    plan = engine.plan(graph, QUESTION, layout=name, prefix=PREFIX, **options)
    tokens, owner, positions = [], [], []
    for i, block in enumerate(plan.blocks):
        ids = {None: PREFIX if i == 0 else QUESTION}.get(block.segment) or graph[block.segment or ""].tokens
        tokens += list(ids or ())
        owner += [i] * block.length
        positions += range(block.position, block.position + block.length)
    rows = torch.tensor(owner)
    reads = torch.zeros(len(plan.blocks), len(plan.blocks), dtype=torch.bool)
    for i, block in enumerate(plan.blocks):
        reads[i, list(block.reads)] = True
    total = len(tokens)
    allowed = reads[rows][:, rows] | ((rows[:, None] == rows[None]) & torch.ones(total, total, dtype=torch.bool).tril())
    mask = torch.zeros(1, 1, total, total, dtype=model.dtype).masked_fill(~allowed, torch.finfo(model.dtype).min)
    masks: Any = mask
    if model.config.model_type.startswith("gemma"):
        masks = {"full_attention": mask, "sliding_attention": mask}
    with torch.no_grad():
        out = model(input_ids=torch.tensor([tokens]), position_ids=torch.tensor([positions]), attention_mask=masks, use_cache=False)
    logits: Tensor = out.logits[0, -len(QUESTION) :]
    return logits


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("case", PACKED_LAYOUTS)
def test_packed_and_staged_equal_the_models_own_attention(arch: str, case: str) -> None:
    """1. eager forward, own mask; 2. our packed forward; 3. several blocks a forward; 4. block by block. All the same to 1e-5."""
    name, options = case.split()[0], PACKED_LAYOUTS[case]
    engine = tiny_engine(arch)
    graph = random_graph(LENGTHS, EDGES)
    reference = oracle(engine.model.model, engine, graph, name, options)
    packed = engine.logits(graph, QUESTION, layout=name, prefix=PREFIX, packed=True, **options)
    assert relative(packed, reference) < 1e-5
    for batch_tokens in (4096, 70, 1):
        engine.store.clear()
        engine.batch_tokens = batch_tokens
        assert relative(engine.logits(graph, QUESTION, layout=name, prefix=PREFIX, **options), reference) < 1e-5


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("length", [1, 63, 128, 1000])
def test_sequential_equals_the_models_own_forward(arch: str, length: int) -> None:
    engine = tiny_engine(arch)
    graph = random_graph({"a": length, "b": 7}, [("a", "b")])
    ids = [*PREFIX, *(graph["a"].tokens or ()), *(graph["b"].tokens or ()), *QUESTION]
    with torch.no_grad():
        own = engine.model.model(torch.tensor([ids])).logits[0, -len(QUESTION) :]
    assert relative(engine.logits(graph, QUESTION, layout="sequential", prefix=PREFIX), own) < 1e-5
    assert relative(engine.logits(graph, QUESTION, layout="sequential", prefix=PREFIX, packed=True), own) < 1e-5


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("length", [1, 63, 128, 1000])
def test_a_single_segment_equals_plain_prefill(arch: str, length: int) -> None:
    """Without a prefix every layout of one segment is the model's own forward over segment and question."""
    engine = tiny_engine(arch)
    graph = random_graph({"a": length}, [])
    with torch.no_grad():
        own = engine.model.model(torch.tensor([[*(graph["a"].tokens or ()), *QUESTION]])).logits[0, -len(QUESTION) :]
    for name in ("sequential", "block", "pcw", "graph", "graph_full", "graph_topk", "graph_hops"):
        assert relative(engine.logits(graph, QUESTION, layout=name), own) < 1e-5


@pytest.mark.parametrize("kernel", ["dense", "gather"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("name", ["sequential", "graph", "graph_full", "pcw"])
def test_bfloat16_is_as_close_to_float64_as_the_models_own_bfloat16(arch: str, name: str, kernel: str) -> None:
    """1. float64 oracle; 2. the model's own bfloat16 under the same mask; 3. ours in bfloat16: not further from 1 than 2 is, times 1.5: two roundings of one thing scatter."""
    graph = random_graph(LENGTHS, EDGES)
    low, high = tiny_model(arch, dtype=torch.bfloat16), tiny_model(arch, dtype=torch.float64)
    high.load_state_dict({k: v.double() for k, v in low.state_dict().items()})
    engine = GraphKV.from_pretrained((low, byte_tokenizer()), kernel=kernel)
    exact = oracle(high, engine, graph, name, {})
    theirs = float((oracle(low, engine, graph, name, {}).double() - exact).norm())
    for packed in (False, True):
        ours = engine.logits(graph, QUESTION, layout=name, prefix=PREFIX, packed=packed)
        assert ours.dtype == torch.bfloat16
        assert float((ours.detach().double() - exact).norm()) <= 1.5 * theirs


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("length", [1, 63, 128, 1000])
def test_bfloat16_at_every_length(arch: str, length: int) -> None:
    graph = random_graph({"a": length, "b": 63}, [("a", "b")])
    low, high = tiny_model(arch, dtype=torch.bfloat16), tiny_model(arch, dtype=torch.float64)
    high.load_state_dict({k: v.double() for k, v in low.state_dict().items()})
    engine = GraphKV.from_pretrained((low, byte_tokenizer()))
    exact = oracle(high, engine, graph, "graph", {})
    theirs = float((oracle(low, engine, graph, "graph", {}).double() - exact).norm())
    ours = engine.logits(graph, QUESTION, prefix=PREFIX)
    assert float((ours.double() - exact).norm()) <= 1.5 * theirs


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_ape_staged_equals_packed_and_plain_ape_is_pcw(arch: str) -> None:
    """The packed form re-weighs in the kernel, the staged one in the answering attention: two independent writings."""
    engine = tiny_engine(arch)
    graph = random_graph(LENGTHS, EDGES)
    options = {"layout": "ape", "prefix": PREFIX, "temperature": 0.7, "scale": 0.6}
    staged = engine.logits(graph, QUESTION, **options)
    assert relative(engine.logits(graph, QUESTION, packed=True, **options), staged) < 1e-5
    assert relative(engine.logits(graph, QUESTION, packed=True, impl="dense", **options), staged) < 1e-5
    plain = engine.logits(graph, QUESTION, layout="pcw", prefix=PREFIX)
    assert relative(engine.logits(graph, QUESTION, layout="ape", prefix=PREFIX, temperature=1, scale=1), plain) < 1e-6
    assert relative(staged, plain) > 1e-3


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("length", [1, 63, 128, 1000])
def test_kernels_agree_inside_the_model(arch: str, length: int) -> None:
    engine = tiny_engine(arch)
    graph = random_graph({"a": length, "b": 63, "c": 5}, [("a", "b"), ("b", "c"), ("a", "c")])
    dense = engine.logits(graph, QUESTION, layout="graph", prefix=PREFIX, packed=True, impl="dense")
    gather = engine.logits(graph, QUESTION, layout="graph", prefix=PREFIX, packed=True, impl="gather")
    assert relative(gather, dense) < 1e-5


def test_flex_inside_the_model() -> None:
    """One compile is enough here: the kernel's own tests cover its shapes."""
    reason = available_kernels()["flex"]
    if reason is not None:
        pytest.skip(f"flex cannot run here: {reason}")
    engine = tiny_engine("qwen2")
    graph = random_graph(LENGTHS, EDGES)
    with torch.no_grad():
        dense = engine.logits(graph, QUESTION, prefix=PREFIX, packed=True, impl="dense")
        flex = engine.logits(graph, QUESTION, prefix=PREFIX, packed=True, impl="flex")
    assert relative(flex, dense) < 1e-5


@pytest.mark.parametrize("arch", ["llama", "gemma2"])
def test_gradients_of_a_packed_forward_match_the_dense_kernel(arch: str) -> None:
    engine = tiny_engine(arch)
    graph = random_graph(LENGTHS, EDGES)
    gradients = {}
    for impl in ("dense", "gather"):
        engine.model.model.zero_grad()
        engine.logits(graph, QUESTION, prefix=PREFIX, packed=True, impl=impl).float().logsumexp(-1).sum().backward()
        gradients[impl] = torch.cat([p.grad.flatten() for p in engine.model.model.parameters() if p.grad is not None])
    assert gradients["dense"].abs().max() > 0
    assert relative(gradients["gather"], gradients["dense"]) < 1e-4


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 1.3},
    ],
    ids=lambda rope: rope["rope_type"],
)
def test_every_movable_rope_type(rope: dict[str, Any]) -> None:
    engine = tiny_engine(rope_parameters={"rope_theta": 10000.0, **rope})
    graph = random_graph(LENGTHS, EDGES)
    for name in ("sequential", "graph", "block"):
        reference = oracle(engine.model.model, engine, graph, name, {})
        assert relative(engine.logits(graph, QUESTION, layout=name, prefix=PREFIX), reference) < 1e-5


@pytest.mark.parametrize("biased", [{"attention_bias": True}])
def test_attention_bias_of_the_projections(biased: dict[str, Any]) -> None:
    engine = tiny_engine("llama", **biased)
    with torch.no_grad():
        for name, parameter in engine.model.model.named_parameters():
            if name.endswith("_proj.bias"):
                parameter.normal_()
    graph = random_graph(LENGTHS, EDGES)
    reference = oracle(engine.model.model, engine, graph, "graph", {})
    assert relative(engine.logits(graph, QUESTION, prefix=PREFIX), reference) < 1e-5
