"""Edge policies by name, budgets, and the parts of a graph around a paper: graphs in, graphs out.

An edge u→v means that v reads u. Segments of one paper carry its id as ``metadata["paper"]``, see :mod:`graphkv.importers`.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import networkx as nx

from graphkv.errors import GraphError, InputError, check_count, one_of
from graphkv.graph import Edge, SegmentGraph
from graphkv.segments import Segment

MOST_CITED = 1000
"""The most works of one paper that are joined by co-citation."""

Direction = Literal["sources", "targets", "both"]


def cites(graph: SegmentGraph) -> list[Edge]:
    """What the data say: every edge that no other policy made (citations, links, edges of a file)."""
    return [edge for edge in graph.edges if edge.kind not in DERIVED]


def cited_by(graph: SegmentGraph) -> list[Edge]:
    """The citations turned round: what is cited reads those who cite it."""
    return [Edge(v, u, kind="cited_by", weight=edge.weight) for edge in cites(graph) for u, v in [edge] if u != v]


def co_citation(graph: SegmentGraph) -> list[Edge]:
    """Works that one paper cites read each other; the weight is the number of papers that cite both (Small, 1973).

    Raises:
        InputError: a paper cites more than 1,000 works, so that millions of edges would come of it.
    """
    cited: dict[str, dict[str, None]] = {}
    for u, v in cites(graph):
        if paper_of(graph, u) != paper_of(graph, v):
            cited.setdefault(paper_of(graph, v), {})[u] = None
    together: Counter[tuple[str, str]] = Counter()
    for paper, works in cited.items():
        if len(works) > MOST_CITED:
            raise InputError(f"{paper!r} cites {len(works):,} works: co_citation would join each with each other one; leave the policy or the paper out")
        together.update(itertools.permutations(works, 2))
    return [Edge(u, v, kind="co_citation", weight=count) for (u, v), count in together.items()]


def section_of(graph: SegmentGraph) -> list[Edge]:
    """Each section reads the head of its paper (title and abstract)."""
    return [Edge(paper, s.id, kind="section_of") for s in graph if (paper := home_of(s)) is not None and paper in graph]


def next_section(graph: SegmentGraph) -> list[Edge]:
    """Each section reads the one before it, the first one the head of its paper."""
    chains: dict[str, list[Segment]] = {}
    for segment in graph:
        if (paper := home_of(segment)) is not None:
            chains.setdefault(paper, []).append(segment)
    edges = []
    for paper, sections in chains.items():
        ids = [s.id for s in sorted(sections, key=_number)]
        edges += [Edge(a, b, kind="next") for a, b in itertools.pairwise([*([paper] if paper in graph else []), *ids])]
    return edges


POLICIES: dict[str, Callable[[SegmentGraph], list[Edge]]] = {
    "cites": cites,
    "cited_by": cited_by,
    "co_citation": co_citation,
    "section_of": section_of,
    "next": next_section,
}
"""Every policy by its name, which is also the kind of the edges it makes (``cites`` keeps the kinds that the data have)."""

DERIVED = frozenset({*POLICIES, "nearest", "mentions"} - {"cites"})
"""Kinds of edges that are computed, not found in the data."""


def home_of(segment: Segment) -> str | None:
    """The id of the paper that a segment is a section of, as :mod:`graphkv.importers` marks it; None if it is none's."""
    paper = segment.metadata.get("paper") if segment.metadata.get("role") == "section" else None
    return paper if isinstance(paper, str) and paper and paper != segment.id else None


def _number(section: Segment) -> int:
    number = section.metadata.get("number")
    return number if isinstance(number, int) else 0


def paper_of(graph: SegmentGraph, id: str) -> str:
    """The id of the paper that a segment is a section of; its own id if it is none's."""
    return home_of(graph[id]) or id


def with_policies(graph: SegmentGraph, names: Sequence[str]) -> SegmentGraph:
    """The same segments under the edges of the named policies; of two edges between the same two the one of the earlier policy stays.

    Raises:
        InputError: an unknown policy, or none.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "x", "sources": ["b"]}, {"id": "b", "text": "y"}])
        >>> with_policies(graph, ["cited_by"]).edges
        (('a', 'b'),)
    """
    if not names:
        raise InputError(f"no edge policy is named; valid: {', '.join(POLICIES)}")
    for name in names:
        if name not in POLICIES:
            raise InputError(one_of("edge policy", name, POLICIES))
    return graph.with_edges(edge for name in names for edge in POLICIES[name](graph))


def limit_sources(
    graph: SegmentGraph, *, max_sources: int | None = None, max_tokens: int | None = None, count: Callable[[Segment], int] | None = None
) -> SegmentGraph:
    """No target reads more than a budget allows: the best sources stay.

    Best is the greatest weight of the edge (one without a weight counts as 0), then the greatest score of the source, then the graph's
    order. Sources are taken best first; one that does not fit into what is left of `max_tokens` is passed over.

    Args:
        max_sources: the most sources of one target.
        max_tokens: the most tokens of one target's sources together. count: tokens of a segment; needed with `max_tokens`.

    Raises:
        InputError: a budget below 1, or `max_tokens` without `count`.

    Example:
        >>> graph = SegmentGraph.from_segments([Segment.from_text(i, i) for i in "abc"], [Edge("a", "c", weight=1), Edge("b", "c", weight=2)])
        >>> limit_sources(graph, max_sources=1).edges
        (('b', 'c'),)
    """
    for name, value in (("max_sources", max_sources), ("max_tokens", max_tokens)):
        if value is not None:
            check_count(name, value)
    if max_tokens is not None and count is None:
        raise InputError("max_tokens needs count=, a function that tells the tokens of a segment")
    tokens = {s.id: count(s) for s in graph} if max_tokens is not None and count is not None else {}

    def strength(source: str, target: str) -> tuple[float, float]:
        return graph.edge(source, target).weight or 0.0, graph[source].score or 0.0

    kept: set[tuple[str, str]] = set()
    for target in graph.ids:
        left, taken = max_tokens, 0
        for source in sorted(graph.sources(target), key=lambda s: strength(s, target), reverse=True):
            if taken == max_sources:
                break
            if left is not None:
                if tokens[source] > left:
                    continue
                left -= tokens[source]
            kept.add((source, target))
            taken += 1
    return graph.with_edges(edge for edge in graph.edges if edge in kept)


def ego(graph: SegmentGraph, id: str, *, hops: int = 1, direction: Direction = "both") -> SegmentGraph:
    """The part of a graph within `hops` edges of a paper (all its segments) or of one segment; ``metadata["hop"]`` says how far each is.

    Args:
        direction: ``sources`` follows edges to what is read, ``targets`` to the readers, ``both`` either way.

    Raises:
        GraphError: no such paper or segment. InputError: fewer than 0 hops, or an unknown direction.
    """
    if direction not in ("sources", "targets", "both"):
        raise InputError(one_of("direction", direction, ("sources", "targets", "both")))
    if isinstance(hops, bool) or not isinstance(hops, int) or hops < 0:
        raise InputError(f"hops must be a whole number of at least 0, got {hops!r}")
    distance = dict.fromkeys(segments_of(graph, id), 0)
    waiting = deque(distance)
    while waiting:
        here = waiting.popleft()
        if distance[here] == hops:
            continue
        around = (*(graph.sources(here) if direction != "targets" else ()), *(graph.targets(here) if direction != "sources" else ()))
        for there in around:
            if there not in distance:
                distance[there] = distance[here] + 1
                waiting.append(there)
    return with_hops(graph.subgraph(distance), distance)


def between(graph: SegmentGraph, first: str, second: str) -> SegmentGraph:
    """Every shortest path between two papers, whichever way its edges run; ``metadata["hop"]`` counts papers from the first.

    Of each paper on a path there are the segments at which a path's edges begin or end, and its head.

    Raises:
        GraphError: one of them is not in the graph, both are the same, or no path joins them.
    """
    start, end = (paper_of(graph, segments_of(graph, id)[0]) for id in (first, second))
    if start == end:
        raise GraphError(f"{first!r} and {second!r} are the same paper: a path needs two")
    papers = nx.Graph((paper_of(graph, u), paper_of(graph, v)) for u, v in graph.edges)
    papers.add_nodes_from((start, end))
    there, back = (dict(nx.single_source_shortest_path_length(papers, paper)) for paper in (start, end))
    if end not in there:
        raise GraphError(f"no path joins {first!r} and {second!r}")
    hop = {paper: far for paper, far in there.items() if paper in back and far + back[paper] == there[end]}
    kept = {paper: far for paper, far in hop.items() if paper in graph}
    for edge in graph.edges:
        ends = [paper_of(graph, id) for id in edge]
        if all(paper in hop for paper in ends) and abs(hop[ends[0]] - hop[ends[1]]) == 1:
            kept |= {id: hop[paper] for id, paper in zip(edge, ends, strict=True)}
    return with_hops(graph.subgraph(kept), kept)


def segments_of(graph: SegmentGraph, id: str) -> list[str]:
    """The segments of a paper, in the graph's order, or the one segment that has this id; a paper may also be named by its title.

    Raises:
        GraphError: there is none; close ids and titles are named.
    """
    if id not in graph:
        titled = next((s.id for s in graph if home_of(s) is None and (s.title or "").casefold() == id.casefold()), id)
        id = id if any(home_of(s) == id for s in graph) else titled
    found = [s.id for s in graph if s.id == id or home_of(s) == id]
    if not found:
        import difflib

        names = [name for s in graph if home_of(s) is None for name in (s.id, s.title) if name]
        close = difflib.get_close_matches(id, names, n=3)
        raise GraphError(f"no paper or segment {id!r} in the graph" + (f"; close: {', '.join(map(repr, close))}" if close else ""))
    return found


def with_hops(graph: SegmentGraph, distance: dict[str, int]) -> SegmentGraph:
    """The same graph with ``metadata["hop"]`` on every segment."""
    return graph.with_segments(replace(s, metadata={**s.metadata, "hop": distance[s.id]}) for s in graph)


def merge_edges(graph: SegmentGraph, new: Iterable[Edge]) -> SegmentGraph:
    """The graph with more edges; where two segments are joined already, the edge that is there stays."""
    return graph.with_edges([*graph.edges, *new])
