"""`graph_sequential` is staged only: here is a second writing of the official RAG procedure, on transformers alone."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from helpers import ARCHITECTURES, random_graph, random_ids, tiny_engine
from torch import Tensor
from transformers import DynamicCache

from graphkv import LayoutError

PREFIX, QUESTION = random_ids(6, seed=3), random_ids(11, seed=4)
RANKED = {"best": 19, "second": 30, "third": 8, "fourth": 25}  # in the graph's order, best first


def turn(keys: Tensor, by: int, model: Any, layer: int) -> Tensor:
    """Rotate keys ``[1, H, T, D]`` further by `by` positions: angle in float64, without attention scaling; a partial rope turns the first dimensions only."""
    rope, kinds = model.model.rotary_emb, getattr(model.config, "layer_types", None)
    frequencies = rope.inv_freq if hasattr(rope, "inv_freq") else getattr(rope, f"{kinds[layer]}_inv_freq")
    angle = torch.cat([by * frequencies.double()] * 2)
    head, rest = keys[..., : len(angle)].double(), keys[..., len(angle) :]
    first, second = head.chunk(2, dim=-1)
    return torch.cat(((head * angle.cos() + torch.cat((-second, first), -1) * angle.sin()).to(keys.dtype), rest), -1)


def forward(model: Any, ids: list[int], start: int, past: list[tuple[Tensor, Tensor]]) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Plain forward of `ids` at positions from `start` after a cache; the new tokens' keys and values, and the logits."""
    seen = past[0][0].shape[2] if past else 0
    cache = DynamicCache(past) if past else DynamicCache()
    out = model(
        torch.tensor([ids]),
        position_ids=torch.arange(start, start + len(ids))[None],
        attention_mask=torch.ones(1, seen + len(ids), dtype=torch.long),
        use_cache=True,
        **{"cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values": cache},
    )
    return [(layer.keys[:, :, seen:].clone(), layer.values[:, :, seen:].clone()) for layer in cache.layers], out.logits[0]


def join(parts: list[list[tuple[Tensor, Tensor]]]) -> list[tuple[Tensor, Tensor]]:
    return [(torch.cat([p[n][0] for p in parts], 2), torch.cat([p[n][1] for p in parts], 2)) for n in range(len(parts[0]))]


def moved(part: list[tuple[Tensor, Tensor]], by: int, model: Any) -> list[tuple[Tensor, Tensor]]:
    return [(turn(k, by, model, layer), v) for layer, (k, v) in enumerate(part)]


@pytest.mark.parametrize("m", [1, 3, 4])
@pytest.mark.parametrize("arch", ARCHITECTURES)
@torch.no_grad()
def test_against_the_official_procedure(arch: str, m: int) -> None:
    """1. each passage alone; 2. the m best in a row, every passage re-encoded behind them; 3. one running range for the question."""
    engine = tiny_engine(arch)
    model = engine.model.model
    graph = random_graph(RANKED, [])
    passages = [list(segment.tokens or ()) for segment in graph.segments][::-1]  # ascending: the best last

    alone = [forward(model, ids, 0, [])[0] for ids in passages]
    placed, at = [], 0
    for part, ids in list(zip(alone, passages, strict=True))[-m:]:
        placed.append(moved(part, at, model))
        at += len(ids)
    sources = join(placed)
    again = [moved(forward(model, ids, at, sources)[0], -at, model) for ids in passages]

    prefix, _ = forward(model, PREFIX, 0, [])
    running, parts = len(PREFIX), [prefix]
    for part, ids in zip(alone + again, passages + passages, strict=True):
        parts.append(moved(part, running, model))
        running += len(ids)
    _, expected = forward(model, QUESTION, running, join(parts))

    got = engine.logits(graph, QUESTION, layout="graph_sequential", prefix=PREFIX, m=m)
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5
    with pytest.raises(LayoutError, match="moves keys between its phases"):
        engine.logits(graph, QUESTION, layout="graph_sequential", m=m, packed=True)
