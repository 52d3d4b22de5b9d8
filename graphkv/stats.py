"""Numbers about a graph, and what reading it costs under each layout: KV bytes and prefill FLOPs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx

from graphkv.edges import paper_of
from graphkv.graph import SegmentGraph
from graphkv.layout import Layout
from graphkv.model import GraphModel


@dataclass(frozen=True)
class Cost:
    """What one layout costs.

    Attributes:
        tokens: encoded in all blocks, prefix and question included. window: positions in use. fits: whether the model has that many.
        pairs: query-key pairs that the mask allows. kv_bytes: keys and values of all blocks but the question, in the model's dtype.
        flops: floating-point operations of encoding everything once: two a weight and token in the decoder's layers, four a query-key
            pair and head dimension in attention, and one row of logits.
    """

    layout: str
    tokens: int
    window: int
    fits: bool
    pairs: int
    kv_bytes: int
    flops: int


def graph_numbers(graph: SegmentGraph, tokens: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Nodes, edges, components, degrees, and tokens if their numbers are given.

    Args:
        tokens: tokens of each segment, by id.

    Returns:
        A dict of JSON values. ``documents`` counts a paper with all its sections once; ``sources`` and ``readers`` are in- and out-degrees: how many a segment reads, and is read by.

    Example:
        >>> graph_numbers(SegmentGraph.from_documents([{"id": "a", "text": "x", "sources": ["b"]}, {"id": "b", "text": "y"}]))["edges"]["total"]
        1
    """
    network = graph.networkx
    components = sorted((len(c) for c in nx.weakly_connected_components(network)), reverse=True)
    numbers: dict[str, Any] = {
        "segments": {"total": len(graph), "roles": dict(Counter(str(s.metadata.get("role", "document")) for s in graph).most_common())},
        "documents": len({paper_of(graph, id) for id in graph.ids}),
        "edges": {"total": network.number_of_edges(), "kinds": dict(Counter(e.kind or "without a kind" for e in graph.edges).most_common())},
        "components": {"total": len(components), "largest": components[0], "alone": components.count(1)},
        "cycles": not nx.is_directed_acyclic_graph(network),
        "sources": _spread([len(graph.sources(id)) for id in graph.ids]),
        "readers": _spread([len(graph.targets(id)) for id in graph.ids]),
    }
    if tokens is not None:
        numbers["tokens"] = {"total": sum(tokens.values()), **_spread(list(tokens.values()))}
    return numbers


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {"mean": round(statistics.fmean(values), 2), "median": statistics.median(values), "max": max(values)}


def layout_cost(plan: Layout, model: GraphModel) -> Cost:
    """What a layout costs with a model; the model's weights are not needed (``device_map="meta"``)."""
    tokens = plan.total_tokens
    stored = sum(plan.blocks[i].length for i in plan.context)
    config = model.config
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    embeddings = model.model.get_input_embeddings().weight.numel()
    weights = sum(p.numel() for p in model.decoder.parameters() if p.dim() > 1) - embeddings  # matrices; norms and biases do not weigh
    flops = 2 * weights * tokens + 4 * heads * head_dim * layers * plan.pairs + 2 * config.vocab_size * config.hidden_size
    kv_bytes = 2 * layers * kv_heads * head_dim * model.dtype.itemsize * stored
    return Cost(plan.name, tokens, plan.window, plan.window <= model.window, plan.pairs, kv_bytes, flops)
