"""What the page draws: places, colours, tokens; nothing is encoded for it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from graphkv import GraphKV, SegmentGraph
from graphkv.cli.demo import read_demo
from graphkv.serve.graph_view import draw
from graphkv.serve.layout_choice import Choice

GRAPH, QUESTIONS = read_demo()
PAPERS = [{"id": s.id, "title": s.title, "text": s.text, "sources": list(GRAPH.sources(s.id))} for s in GRAPH]


def test_the_demos_papers(app_client: TestClient, embedded: GraphKV) -> None:
    before = set(embedded.store.keys())
    reply = app_client.post("/v1/graph", json={"documents": PAPERS}).json()
    assert set(embedded.store.keys()) == before
    assert [n["id"] for n in reply["nodes"]] == list(GRAPH.ids) and {(e["source"], e["target"]) for e in reply["edges"]} == set(GRAPH.edges)
    lengths = {s.id: embedded.reader.count(s) for s in GRAPH}
    assert {n["id"]: n["tokens"] for n in reply["nodes"]} == lengths
    assert all(0 <= n["x"] <= reply["width"] and 0 <= n["y"] <= reply["height"] for n in reply["nodes"])
    assert all(n["text"] and n["label"] == n["title"] and n["colour"] in reply["colours"].values() and n["angle"] is None for n in reply["nodes"])
    plan = embedded.plan(GRAPH)
    assert reply["plan"] == {"tokens": plan.total_tokens, "blocks": sum(b.segment is not None for b in plan.blocks), "positions": plan.window, "window": 8192}


def test_layouts_cycles_and_the_library(app_client: TestClient) -> None:
    cycle = {"documents": ["x", "y"], "graph": {"edges": [["doc_0", "doc_1"], {"source": "doc_1", "target": "doc_0", "kind": "cites"}], "layout": "sequential"}}
    reply = app_client.post("/v1/graph", json=cycle).json()
    assert [e["kind"] for e in reply["edges"]] == [None, "cites"] and reply["plan"]["blocks"] == 2
    assert {n["angle"] for n in reply["nodes"]} != {None}  # around a circle
    for body in ({}, {"documents": []}, {"graph": {"edges": [["a", "b"]]}}):
        refused = app_client.post("/v1/graph", json=body)
        assert refused.status_code == 400 and "document" in refused.json()["error"]["message"]
    long = app_client.post("/v1/graph", json={"documents": ["word " * 20_000]}).json()["error"]
    assert long["code"] == "context_length_exceeded"


def test_parts_of_long_documents_are_one_node(embedded: GraphKV) -> None:
    graph = SegmentGraph.from_documents([{"id": "long", "text": "A sentence of some words. " * 30}, {"id": "b", "text": "x", "sources": ["long"]}], max_segment_tokens=60)
    reply = draw(embedded, graph, Choice("graph"))
    assert [n.id for n in reply.nodes] == ["long", "b"] and reply.nodes[0].tokens > 150 and reply.plan.blocks > 2


@pytest.mark.parametrize("metadata", [{"role": 5, "hop": "x", "section": []}, {"role": "section", "paper": {}, "number": "x"}, {"text_": None, "year": 1}])
def test_strange_metadata(app_client: TestClient, metadata: dict[str, Any]) -> None:
    documents = [{"id": f"d{i}", "text": "x", **metadata} for i in range(250)]
    reply = app_client.post("/v1/graph", json={"documents": documents, "graph": {"edges": [[f"d{i}", f"d{i + 1}"] for i in range(249)]}})
    assert reply.status_code == 200 and len(reply.json()["nodes"]) == 250


def test_of_a_large_graph_the_best_connected_are_drawn(app_client: TestClient) -> None:
    documents = [{"id": f"d{i}", "text": "x", "sources": ["d0"] if 0 < i < 300 else []} for i in range(900)]
    reply = app_client.post("/v1/graph", json={"documents": documents}).json()
    assert len(reply["nodes"]) == 600 and "600 of 900" in reply["note"] and len(reply["edges"]) == 299
