"""Edge policies, budgets, ego graphs and paths, as literal graphs; budgets as properties."""

from __future__ import annotations

import copy

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv.edges import DERIVED, POLICIES, between, ego, limit_sources, merge_edges, with_policies
from graphkv.errors import GraphError, InputError
from graphkv.graph import Edge, SegmentGraph
from graphkv.places import overview
from graphkv.segments import Segment


def segment(id: str, score: float | None = None, **metadata: object) -> Segment:
    return Segment(id, text=f"text of {id}", score=score, metadata=metadata)


def library() -> SegmentGraph:
    """Papers p and q of two sections each, and a work r. p/1 cites q twice, p/2 cites r; q/1 cites r."""
    segments = [
        segment("p", role="paper"),
        segment("p/1", role="section", paper="p", section="Start", number=1),
        segment("p/2", role="section", paper="p", section="End", number=2),
        segment("q", role="paper"),
        segment("q/1", role="section", paper="q", section="Start", number=1),
        segment("q/2", role="section", paper="q", section="End", number=2),
        segment("r", role="reference"),
    ]
    return SegmentGraph.from_segments(
        segments, [Edge("q", "p/1", kind="cites", weight=2), Edge("r", "p/2", kind="cites", weight=1), Edge("r", "q/1", kind="cites", weight=1)]
    )


def test_an_edge_is_a_pair_that_knows_more() -> None:
    edge = Edge("a", "b", kind="cites", weight=2)
    assert edge == ("a", "b") and hash(edge) == hash(("a", "b")) and (edge.kind, edge.weight) == ("cites", 2.0)
    twin = copy.deepcopy(edge)
    assert (twin, twin.kind, twin.weight) == (edge, "cites", 2.0)
    for bad in ({"kind": ""}, {"kind": 3}, {"weight": "much"}, {"weight": float("nan")}, {"weight": True}, {"weight": 10**400}):
        with pytest.raises(GraphError, match=r"'kind'|'weight'"):
            Edge("a", "b", **bad)


def test_edges_keep_kind_and_weight_through_every_change() -> None:
    graph = library()
    wanted = {("q", "p/1"): ("cites", 2.0), ("r", "p/2"): ("cites", 1.0), ("r", "q/1"): ("cites", 1.0)}
    again = SegmentGraph.from_networkx(graph.networkx)
    for other in (graph, graph.reordered(reversed(graph.ids)), graph.with_segments(graph.segments), again, graph.subgraph(graph.ids)):
        assert {edge: (edge.kind, edge.weight) for edge in other.edges} == wanted
    assert again["p/1"].metadata == {"role": "section", "paper": "p", "section": "Start", "number": 1}
    parts = graph.split(lambda title, text: len(text.split()), 2)
    assert {e.kind for e in parts.edges if e[0].partition("#")[0] == e[1].partition("#")[0]} == {"next"}
    assert parts.edge("q#1", "p/1#2").weight == 2.0
    with pytest.raises(GraphError, match="no edge 'p' → 'q'"):
        graph.edge("p", "q")


def test_documents_name_the_kinds_of_their_edges() -> None:
    graph = SegmentGraph.from_documents([{"id": "a", "text": "x", "sources": ["b", {"id": "c", "kind": "cites", "weight": 3}]}, {"id": "b", "text": "y"}, {"id": "c", "text": "z"}])
    assert {e: (e.kind, e.weight) for e in graph.edges} == {("b", "a"): (None, None), ("c", "a"): ("cites", 3.0)}
    for bad in ({"kind": "cites"}, {"id": "b", "colour": "red"}, {"id": None}):
        with pytest.raises(InputError, match="source"):
            SegmentGraph.from_documents([{"id": "a", "text": "x", "sources": [bad]}, {"id": "b", "text": "y"}])


@pytest.mark.parametrize(
    ("policy", "edges"),
    [
        ("cites", {("q", "p/1"): 2, ("r", "p/2"): 1, ("r", "q/1"): 1}),
        ("cited_by", {("p/1", "q"): 2, ("p/2", "r"): 1, ("q/1", "r"): 1}),
        ("co_citation", {("q", "r"): 1, ("r", "q"): 1}),  # p cites both
        ("section_of", {("p", "p/1"): None, ("p", "p/2"): None, ("q", "q/1"): None, ("q", "q/2"): None}),
        ("next", {("p", "p/1"): None, ("p/1", "p/2"): None, ("q", "q/1"): None, ("q/1", "q/2"): None}),
    ],
)
def test_policies(policy: str, edges: dict[tuple[str, str], float | None]) -> None:
    graph = with_policies(library(), [policy])
    assert {edge: edge.weight for edge in graph.edges} == edges
    assert {edge.kind for edge in graph.edges} == {policy}


def test_every_policy_is_tested_and_derived_edges_are_not_taken_for_data() -> None:
    assert set(POLICIES) == {"cites", "cited_by", "co_citation", "section_of", "next"}
    everything = with_policies(library(), list(POLICIES))
    assert set(POLICIES) - {"cites"} <= DERIVED
    assert set(with_policies(everything, ["cites"]).edges) == set(library().edges)
    assert everything.edge("p", "p/1").kind == "section_of"  # named before `next`, which has the same pair
    added = merge_edges(library(), [Edge("q", "p/1", kind="nearest"), Edge("p", "q", kind="nearest")])
    assert (added.edge("q", "p/1").kind, added.edge("p", "q").kind) == ("cites", "nearest")


def test_co_citation_counts_papers_not_sections() -> None:
    segments = [segment(id) for id in "abxy"]
    edges = [Edge(s, t, kind="cites") for t in "xy" for s in "ab"]
    graph = with_policies(SegmentGraph.from_segments(segments, edges), ["co_citation"])
    assert {edge: edge.weight for edge in graph.edges} == {("a", "b"): 2, ("b", "a"): 2}


def test_unknown_policies_and_none_are_refused() -> None:
    with pytest.raises(InputError, match="unknown edge policy 'site'; valid: cited_by"):
        with_policies(library(), ["site"])
    with pytest.raises(InputError, match="no edge policy"):
        with_policies(library(), [])


def test_the_strongest_sources_stay() -> None:
    segments = [segment("a", 1.0), segment("b", 3.0), segment("c", 2.0), segment("d"), segment("t")]
    edges = [Edge("a", "t", weight=5), Edge("b", "t"), Edge("c", "t"), Edge("d", "t")]
    graph = SegmentGraph.from_segments(segments, edges)
    assert limit_sources(graph, max_sources=2).sources("t") == ("a", "b")  # weight first, then score
    assert limit_sources(graph, max_sources=3).sources("t") == ("a", "b", "c")
    sizes = {"a": 6, "b": 7, "c": 4, "d": 1, "t": 1}
    limited = limit_sources(graph, max_tokens=10, count=lambda s: sizes[s.id])
    assert limited.sources("t") == ("a", "c")  # b does not fit behind a, c does, d has no room
    for bad in ({"max_sources": 0}, {"max_tokens": 3}, {"max_tokens": 0, "count": len}):
        with pytest.raises(InputError, match=r"max_sources|max_tokens"):
            limit_sources(graph, **bad)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=30),
    weights=st.lists(st.floats(0, 9), min_size=30, max_size=30),
    sizes=st.lists(st.integers(1, 9), min_size=8, max_size=8),
    most=st.integers(1, 4),
    tokens=st.integers(1, 20),
)
def test_budgets_hold(pairs: set[tuple[int, int]], weights: list[float], sizes: list[int], most: int, tokens: int) -> None:
    edges = [Edge(str(u), str(v), weight=w) for (u, v), w in zip(sorted(pairs), weights, strict=False)]
    graph = SegmentGraph.from_segments([segment(str(i)) for i in range(8)], edges)
    limited = limit_sources(graph, max_sources=most, max_tokens=tokens, count=lambda s: sizes[int(s.id)])
    assert set(limited.edges) <= set(graph.edges)
    for id in graph.ids:
        kept = limited.sources(id)
        assert len(kept) <= most and sum(sizes[int(s)] for s in kept) <= tokens
        lost = set(graph.sources(id)) - set(kept)
        room = len(kept) < most and min((sizes[int(s)] for s in lost), default=99) <= tokens - sum(sizes[int(s)] for s in kept)
        assert not (lost and room)  # nothing is left out that would fit


def test_metadata_of_the_users_own_is_not_taken_for_ours() -> None:
    """`paper`, `role` and `number` mean something on the sections of importers only."""
    own: list[dict[str, object]] = [{"paper": None}, {"paper": "x", "role": ["editor"]}, {"role": "section", "paper": 3}, {"role": "section", "paper": "a", "number": "1.2"}]
    graph = SegmentGraph.from_segments([Segment(id, text=id, metadata=m) for id, m in zip("abcd", own, strict=True)], [Edge("a", "b", kind="cites"), Edge("c", "b")])
    assert set(with_policies(graph, ["co_citation"]).edges) == {("a", "c"), ("c", "a")}
    assert with_policies(graph, ["next"]).edges == (("a", "d"),) and with_policies(graph, ["section_of"]).edges == (("a", "d"),)
    assert {s.id for s in between(graph, "a", "c")} == {"a", "b", "c"}
    chained = SegmentGraph.from_segments([Segment(id, text=id, metadata={"role": "section", "paper": paper}) for id, paper in (("a", "b"), ("b", "c"), ("c", "d"))])
    assert set(overview(chained, shown=1).graph.ids) <= {"a", "b", "c"}


def test_a_paper_that_cites_thousands_is_refused_for_co_citation() -> None:
    works = [segment(str(i)) for i in range(1001)]
    graph = SegmentGraph.from_segments([*works, segment("p")], [Edge(s.id, "p", kind="cites") for s in works])
    with pytest.raises(InputError, match="'p' cites 1,001 works"):
        with_policies(graph, ["co_citation"])


def test_numbers_of_numpy_are_numbers() -> None:
    edge = Edge("a", "b", weight=np.float32(0.5))  # type: ignore[arg-type]
    assert edge.weight == 0.5 and type(edge.weight) is float
    found = Segment("a", text="x", score=np.int64(2))  # type: ignore[arg-type]
    assert found.score == 2.0 and type(found.score) is float and type(Segment("a", text="x", score=3).score) is int


def test_ego_graphs() -> None:
    graph = library()
    around = ego(graph, "p", hops=1)
    assert {s.id: s.metadata["hop"] for s in around} == {"p": 0, "p/1": 0, "p/2": 0, "q": 1, "r": 1}
    assert {s.id for s in ego(graph, "r", hops=1, direction="targets")} == {"r", "p/2", "q/1"}
    assert {s.id for s in ego(graph, "r", hops=3, direction="sources")} == {"r"}
    assert ego(graph, "p/1", hops=0).ids == ("p/1",)
    assert set(ego(graph, "p", hops=1).edges) == {("q", "p/1"), ("r", "p/2")}
    with pytest.raises(GraphError, match=r"no paper or segment 'pp' in the graph; close: 'p'"):
        ego(graph, "pp")
    for bad in ({"hops": -1}, {"hops": 1.5}, {"direction": "up"}):
        with pytest.raises(InputError):
            ego(graph, "p", **bad)


@settings(max_examples=60, deadline=None)
@given(pairs=st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20), hops=st.integers(0, 4))
def test_an_ego_graph_is_what_networkx_says(pairs: set[tuple[int, int]], hops: int) -> None:
    graph = SegmentGraph.from_segments([segment(str(i)) for i in range(9)], [(str(u), str(v)) for u, v in pairs])
    for direction, network in (("sources", graph.networkx.reverse()), ("targets", graph.networkx), ("both", graph.networkx.to_undirected())):
        expected = nx.single_source_shortest_path_length(network, "0", cutoff=hops)
        assert {s.id: s.metadata["hop"] for s in ego(graph, "0", hops=hops, direction=direction)} == dict(expected)  # type: ignore[arg-type]


def test_paths_between_papers() -> None:
    graph = SegmentGraph.from_segments(
        [segment(i) for i in "abcdez"], [("a", "b"), ("c", "b"), ("a", "d"), ("d", "c"), ("c", "e")]
    )
    found = between(graph, "a", "e")  # a–b–c–e and a–d–c–e, whichever way the edges run
    assert {s.id: s.metadata["hop"] for s in found} == {"a": 0, "b": 1, "d": 1, "c": 2, "e": 3}
    assert set(found.edges) == set(graph.edges)
    sections = between(library(), "q", "r")
    assert {s.id: s.metadata["hop"] for s in sections} == {"q": 0, "q/1": 0, "r": 1}
    with pytest.raises(GraphError, match="no path joins 'a' and 'z'"):
        between(graph, "a", "z")
    with pytest.raises(GraphError, match="same paper"):
        between(library(), "p", "p/1")
