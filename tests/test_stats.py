"""Numbers about graphs, and costs against counts made another way: torch's own FLOP counter, the bytes of blocks in a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import ARCHITECTURES, random_ids, tiny_engine
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from graphkv.cli import app
from graphkv.graph import Edge, SegmentGraph
from graphkv.model import GraphModel
from graphkv.segments import Segment
from graphkv.stats import graph_numbers, layout_cost


def five() -> SegmentGraph:
    """a → b → c, a reads itself, d alone, e a section of c."""
    segments = [Segment.from_text(id, id * 10) for id in "abcd"]
    segments.append(Segment("e", text="e" * 10, metadata={"role": "section", "paper": "c"}))
    return SegmentGraph.from_segments(segments, [Edge("a", "b", kind="cites"), ("b", "c"), Edge("c", "e", kind="section_of")])


def test_numbers() -> None:
    numbers = graph_numbers(five(), {"a": 1, "b": 2, "c": 3, "d": 4, "e": 10})
    assert numbers == {
        "segments": {"total": 5, "roles": {"document": 4, "section": 1}},
        "documents": 4,
        "edges": {"total": 3, "kinds": {"cites": 1, "without a kind": 1, "section_of": 1}},
        "components": {"total": 2, "largest": 4, "alone": 1},
        "cycles": False,
        "sources": {"mean": 0.6, "median": 1, "max": 1},
        "readers": {"mean": 0.6, "median": 1, "max": 1},
        "tokens": {"total": 20, "mean": 4, "median": 3, "max": 10},
    }
    assert graph_numbers(five().with_edges([("a", "b"), ("b", "a")]))["cycles"] is True


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_flops_are_those_that_torch_counts(arch: str) -> None:
    """1. One packed forward of a model under torch's counter: matrix products, attention over T × T. 2. Our estimate, whose attention has the causal pairs only."""
    engine = tiny_engine(arch)
    ids = torch.tensor([random_ids(37)])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        engine.model.decoder(ids)
    plan = engine.plan([{"id": "a", "text": "x"}], layout="sequential", prefix=random_ids(30)).with_question(0)
    cost = layout_cost(plan, engine.model)
    config = engine.model.config
    attention = 4 * config.num_attention_heads * config.head_dim * config.num_hidden_layers
    head = 2 * config.vocab_size * config.hidden_size
    weights_only = (cost.flops - head - attention * cost.pairs) / cost.tokens
    assert weights_only == pytest.approx((counter.get_total_flops() - attention * 37 * 37) / 37)


def test_bytes_are_those_of_the_blocks() -> None:
    engine = tiny_engine()
    graph = five()
    for layout in ("graph", "block", "sequential"):
        cost = layout_cost(engine.plan(graph, layout=layout), engine.model)
        context = engine.encode(graph, layout=layout)
        assert cost.kv_bytes == sum(t.nbytes for kv in context.blocks for t in (*kv.keys, *kv.values)), layout


def test_a_model_without_weights_is_enough() -> None:
    here, there = GraphModel.load(None), GraphModel.load(None, device_map="meta")
    plan = tiny_engine().plan(five())
    assert layout_cost(plan, here) == layout_cost(plan, there)
    assert next(there.model.parameters()).device.type == "meta"


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "papers.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in ({"id": "a", "text": "One."}, {"id": "b", "text": "Two.", "sources": ["a"]})))
    found = CliRunner().invoke(app, ["stats", str(file), "--json"])
    assert found.exit_code == 0, found.output
    numbers = json.loads(found.stdout)
    assert numbers["edges"]["total"] == 1 and [c["layout"] for c in numbers["layouts"]] == ["sequential", "block", "graph"]
    assert all(c["fits"] and c["flops"] > 0 and c["kv_bytes"] > 0 for c in numbers["layouts"])
    shown = CliRunner().invoke(app, ["stats", str(file), "--ego", "a", "--hops", "0", "-l", "graph"])
    assert shown.exit_code == 0 and "1 segment (1 document) of 1 document, 0 edges, no cycle" in shown.output
    wrong = CliRunner().invoke(app, ["stats", str(file), "--ego", "a", "--path", "b"])
    assert wrong.exit_code == 2 and "different parts" in wrong.output
