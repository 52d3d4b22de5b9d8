"""What a question needs is known before it runs."""

from __future__ import annotations

import json

import pytest
from helpers import tiny_engine
from runner_helpers import Worlds, plan

from graphkv import GraphKV, SegmentGraph
from graphkv.errors import InputError, ModelError
from graphkv_benchmarks.runner.arms import make_arms
from graphkv_benchmarks.runner.fit import costs, need

DOCUMENTS = [{"id": "a", "text": "It rains in Ulm."}, {"id": "b", "text": "Ulm lies on the Danube.", "sources": ["a"]}]


@pytest.mark.parametrize("name", ["sequential", "block", "pcw", "ape", "graph", "full", "top1", "hops2", "official-full"])
def test_kv_bytes_are_those_that_are_encoded(name: str) -> None:
    engine = tiny_engine()
    graph = SegmentGraph.from_documents(DOCUMENTS)
    (arm,) = make_arms([name])
    needed = need(engine, arm, graph, "Where?", 2**30)
    encoded = engine.encode(graph, **arm.options)
    assert needed.kv_bytes == sum(block.nbytes for block in encoded.blocks)
    assert needed.tokens == sum(len(ids) for ids in engine.reader.read(graph, ["Where?"], None).segments.values()) and not needed.reason


def test_too_little_memory_is_a_reason() -> None:
    engine = tiny_engine()
    (arm,) = make_arms(["graph"])
    graph = SegmentGraph.from_documents(DOCUMENTS)
    bytes_ = need(engine, arm, graph, "Where?", 2**30).kv_bytes
    assert bytes_ is not None
    assert need(engine, arm, graph, "Where?", bytes_).reason == ""
    assert need(engine, arm, graph, "Where?", bytes_ - 1).reason.startswith("memory: ")


@pytest.mark.parametrize(("name", "fits"), [("sequential", False), ("full_context", False), ("block", False), ("graph", True), ("infini_retri", True)])
def test_a_window_that_is_too_short_is_a_reason_where_it_matters(name: str, fits: bool) -> None:
    engine = tiny_engine()
    graph = SegmentGraph.from_documents([{"id": str(i), "text": "It rains. " * 150} for i in range(8)])
    (arm,) = make_arms([name])
    assert need(engine, arm, graph, "Where?", 2**40).reason.startswith("length: ") is not fits


def test_landmarks_read_any_length_and_a_model_without_them_none() -> None:
    graph = SegmentGraph.from_documents([{"id": str(i), "text": "It rains. " * 150} for i in range(40)])
    (arm,) = make_arms(["landmark"])
    trained = need(GraphKV.from_pretrained("embedded-landmark"), arm, graph, "Where?", 2**40)
    assert not trained.reason and trained.tokens > 8192 and trained.kv_bytes
    with pytest.raises(ModelError):
        need(tiny_engine(), arm, graph, "Where?", 2**40)
    (row,) = costs(plan(Worlds(count=1), ("landmark",), landmark_model="embedded"), GraphKV.from_pretrained(device_map="meta"))
    assert row["fit"] == 0 and all(reason.startswith("model: ") for reason in row["reasons"])


def test_costs_need_no_weights_and_count_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = GraphKV.from_pretrained(device_map="meta")
    rows = costs(plan(Worlds(count=3, broken=1, long=2), ("sequential", "graph", "infini_retri")), engine)
    assert [(row["arm"], row["questions"], row["fit"], row["broken"]) for row in rows] == [("sequential", 8, 4, 1), ("graph", 8, 4, 1), ("infini_retri", 8, 8, 1)]
    assert list(rows[0]["reasons"].values()) == [4] and all(reason.startswith("length: ") for reason in rows[0]["reasons"])
    assert rows[0]["tokens_max"] > 8192 > rows[0]["tokens_mean"]  # what does not fit has its numbers too
    assert rows[1]["flops"] > 0 and rows[1]["kv_bytes_max"] >= rows[1]["kv_bytes_mean"] > 0 and rows[2]["kv_bytes_mean"] is None
    json.dumps(rows)


def test_nothing_to_plan_for_an_arm_that_is_none() -> None:
    with pytest.raises(InputError, match="unknown arm"):
        costs(plan(arms=("grpah",)), GraphKV.from_pretrained(device_map="meta"))
