"""From hits along the edges to a budget: PageRank against a dense solution, budgets as properties, and retrieve()."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import tiny_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_helpers import WordHashes, graph_of

from graphkv import GraphError, InputError, LengthError, Segment, SegmentGraph
from graphkv.graph import Edge
from graphkv.layouts import ranking
from graphkv_retrieval import BM25Retriever, DenseRetriever, expand, personalised_pagerank, retrieve

NODES = [f"s{i}" for i in range(8)]
EDGES = st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES), st.sampled_from([None, 0.5, 2.0, 0.0, -1.0])), max_size=20)
SEEDS = st.dictionaries(st.sampled_from(NODES), st.floats(-2, 5), min_size=1, max_size=4)


def linked(edges: list[tuple[str, str, float | None]]) -> SegmentGraph:
    return graph_of([f"text {id}" for id in NODES], [Edge(u, v, weight=w) for u, v, w in edges])


def solved(graph: SegmentGraph, start: np.ndarray, damping: float) -> np.ndarray:
    """The fixed point, by solving the linear equations with a full matrix."""
    near = np.zeros((len(graph), len(graph)))
    for edge in graph.edges:
        weight = 1.0 if edge.weight is None else edge.weight
        if edge[0] != edge[1] and weight > 0:
            u, v = graph.ids.index(edge[0]), graph.ids.index(edge[1])
            near[u, v] += weight
            near[v, u] += weight
    strength = near.sum(1, keepdims=True)
    steps = np.where(strength > 0, near / np.where(strength > 0, strength, 1), start)
    return np.linalg.solve(np.eye(len(graph)) - damping * steps.T, (1 - damping) * start)


@settings(max_examples=50, deadline=None)
@given(EDGES, SEEDS, st.sampled_from([0.0, 0.5, 0.85]))
def test_pagerank_is_the_fixed_point(edges: list[tuple[str, str, float | None]], seeds: dict[str, float], damping: float) -> None:
    graph = linked(edges)
    start = np.array([max(seeds.get(id, 0.0), 0.0) for id in NODES])
    if not start.any():
        start = np.array([float(id in seeds) for id in NODES])
    found = personalised_pagerank(graph, seeds, damping=damping)
    assert list(found) == NODES
    np.testing.assert_allclose(list(found.values()), solved(graph, start / start.sum(), damping), atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(EDGES, SEEDS, st.sampled_from(["ppr", "hops", "none"]), st.lists(st.integers(1, 9), min_size=8, max_size=8), st.integers(1, 30), st.integers(1, 8))
def test_budgets(edges: list[tuple[str, str, float | None]], seeds: dict[str, float], how: str, sizes: list[int], budget: int, most: int) -> None:
    """Never more than the budget; seeds first; scores fall; what was passed over did not fit; all of it without a budget."""
    graph, tokens = linked(edges), dict(zip(NODES, sizes, strict=True))
    everything = expand(graph, seeds, how=how, hops=2)
    order = list(everything)
    assert set(order[: len(seeds)]) == set(seeds) and all(everything[id] == seeds[id] for id in seeds)
    assert list(everything.values()) == sorted(everything.values(), reverse=True)
    assert all(everything[id] < min(seeds.values()) for id in order[len(seeds) :])

    if all(tokens[id] > budget for id in order):
        with pytest.raises(LengthError, match=r"no segment fits into max_tokens=.*raise it"):
            expand(graph, seeds, how=how, hops=2, max_tokens=budget, count=lambda segment: tokens[segment.id])
        return
    kept = expand(graph, seeds, how=how, hops=2, max_tokens=budget, count=lambda segment: tokens[segment.id], max_segments=most)
    taken: list[str] = []
    for id in order:  # the greedy rule, plainly
        if len(taken) < most and sum(tokens[t] for t in taken) + tokens[id] <= budget:
            taken.append(id)
    assert list(kept) == taken and all(kept[id] == everything[id] for id in kept)


CHAIN = [("s0", "s1", None), ("s1", "s2", None), ("s3", "s2", None), ("s4", "s5", None)]


def test_hops_both_ways() -> None:
    graph = linked(CHAIN)
    assert list(expand(graph, {"s1": 1.0}, how="hops")) == ["s1", "s0", "s2"]
    assert list(expand(graph, {"s1": 1.0}, how="hops", hops=2)) == ["s1", "s0", "s2", "s3"]
    assert list(expand(graph, {"s1": 1.0, "s4": 3.0}, how="hops", hops=2)) == ["s4", "s1", "s5", "s0", "s2", "s3"]
    assert expand(graph, {"s1": 2.0}, how="hops", hops=2, damping=0.5) == {"s1": 2.0, "s0": 1.0, "s2": 1.0, "s3": 0.5}
    assert list(expand(graph, {"s1": 1.0}, how="ppr")) == ["s1", "s2", "s0", "s3"], "s2 has two neighbours and s0 one"


def test_a_large_graph_is_not_counted_to_its_end() -> None:
    asked: list[str] = []

    def count(segment: Segment) -> int:
        asked.append(segment.id)
        return 1 if segment.id == "s0" else 100

    graph = graph_of(["hub", *["leaf"] * 1000], [("s0", f"s{i}") for i in range(1, 1001)])
    assert list(expand(graph, {"s0": 1.0}, max_tokens=50, count=count)) == ["s0"]
    assert len(asked) == 201


def test_what_cannot_be_expanded() -> None:
    graph = linked(CHAIN)
    for options, message in (
        ({"how": "pagerank"}, "unknown way to expand 'pagerank'; valid: hops, none, ppr"),
        ({"hops": 0}, "hops must be a whole number"),
        ({"max_tokens": 0}, "max_tokens must be a whole number"),
        ({"max_tokens": 5}, "max_tokens needs count="),
        ({"max_segments": 0}, "max_segments must be"),
        ({"damping": 1.0}, "damping must be a number from 0 to below 1"),
    ):
        with pytest.raises(InputError, match=message):
            expand(graph, {"s0": 1.0}, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no seeds"):
        expand(graph, {}, how="none")
    with pytest.raises(GraphError, match="no segment 'x' in the graph"):
        expand(graph, {"x": 1.0}, how="none")


def library() -> SegmentGraph:
    documents = [
        {"id": "a", "text": "The survey of everything.", "cites": ["b", "d"], "topic": "all"},
        {"id": "b", "text": "A river and its valley.", "cites": ["c"]},
        {"id": "c", "text": "Water, measured.", "score": 9.0},
        {"id": "d", "text": "Maples by the river bank, by night."},
        {"id": "e", "text": "Nothing to do with it."},
    ]
    return SegmentGraph.from_documents(documents)


def test_retrieve_makes_a_graph_that_the_layouts_can_rank() -> None:
    found = retrieve(library(), "Which river?", k=2, expand="hops", hops=1)
    assert found.ids == ("a", "b", "c", "d"), "the corpus' order"
    assert found.edges == (("b", "a"), ("c", "b"), ("d", "a"))
    assert {segment.id: segment.metadata["hop"] for segment in found} == {"a": 1, "b": 0, "c": 1, "d": 0}
    assert found["a"].metadata["topic"] == "all" and ranking(found)[:2] == ("b", "d")
    scores = dict(BM25Retriever.build(library()).search(["Which river?"], 2)[0])
    assert found["b"].score == scores["b"] and all((found[id].score or 0) < min(scores.values()) for id in ("a", "c"))
    assert retrieve(library(), "Which river?", k=1).ids == ("b",)
    far = retrieve(library(), "river valley", k=1, expand="ppr")
    assert {segment.id: segment.metadata["hop"] for segment in far} == {"a": 1, "b": 0, "c": 1, "d": 2}


def test_retrieve_then_ask() -> None:
    engine = tiny_engine()
    found = retrieve(library(), "Which river?", k=2, expand="ppr", max_tokens=100, count=engine.reader.count)
    assert sum(engine.reader.count(segment) for segment in found) <= 100
    for layout, options in (("graph_topk", {"m": 1}), ("graph_hops", {"tiers": (1, 1)}), ("graph", {})):
        answer = engine.ask(found, "Which river?", layout=layout, max_new_tokens=2, **options)
        assert {use.id for use in answer.segments} == set(found.ids)


def test_retrieve_with_an_index() -> None:
    dense = DenseRetriever.build(library(), WordHashes())
    assert len(retrieve(library(), "unheard words", k=3, retriever=dense)) == 3
    with pytest.raises(GraphError, match="the index has a segment 'b' that the graph lacks"):
        retrieve(library().subgraph(["a"]), "A river and its valley.", k=1, retriever=dense)


def test_what_cannot_be_retrieved() -> None:
    with pytest.raises(InputError, match="no segment shares a word with it"):
        retrieve(library(), "xyzzy")
    with pytest.raises(InputError, match="a question must be some text"):
        retrieve(library(), "")
    with pytest.raises(InputError, match="a question must be some text"):
        retrieve(library(), ["river"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown way to expand"):
        retrieve(library(), "river", expand="wide")
