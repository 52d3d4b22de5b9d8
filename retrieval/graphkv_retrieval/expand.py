"""From the segments that were found along the edges to those around them, up to a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from graphkv.errors import InputError, LengthError, check_count, one_of
from graphkv.graph import SegmentGraph
from graphkv.segments import Segment
from graphkv_retrieval.links import Links
from graphkv_retrieval.pagerank import Floats, check_damping, pagerank, restarts

WAYS = ("ppr", "hops", "none")
PATIENCE = 200
"""After so many segments in a row that do not fit, the rest is not counted any more."""


def expand(
    graph: SegmentGraph,
    seeds: Mapping[str, float],
    *,
    how: str = "ppr",
    hops: int = 1,
    max_tokens: int | None = None,
    count: Callable[[Segment], int] | None = None,
    max_segments: int | None = None,
    damping: float = 0.85,
) -> dict[str, float]:
    """The seeds and what stands near them, best first, as much as fits.

    The seeds come first and keep their scores; the others follow with scores below the lowest of the seeds', so that the layouts
    rank the segments in this order. Edges are followed both ways.

    Args:
        seeds: segments and scores, such as a retriever's hits.
        how: "ppr" (by personalised PageRank, everything that can be reached), "hops" (what is at most `hops` edges away; the score of
            its best seed falls by `damping` an edge), or "none" (the seeds only).
        max_tokens: the budget. What does not fit is passed over, and smaller segments behind it still come in.
        count: tokens of a segment; needed for a budget. max_segments: at most so many.

    Returns:
        Scores by id, in rank order.

    Raises:
        InputError: no seeds, an unknown way, a number out of range, a budget without `count`. LengthError: not a single segment fits.
        GraphError: a seed that is not in the graph.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "A", "cites": ["b"]}, {"id": "b", "text": "B"}, {"id": "c", "text": "C"}])
        >>> list(expand(graph, {"a": 1.0}, how="hops", hops=1))
        ['a', 'b']
    """
    if how not in WAYS:
        raise InputError(one_of("way to expand", how, WAYS))
    for name, value in (("hops", hops), ("max_tokens", max_tokens), ("max_segments", max_segments)):
        if value is not None:
            check_count(name, value)
    check_damping(damping)
    if max_tokens is not None and count is None:
        raise InputError("max_tokens needs count=, a function that tells the tokens of a segment")
    links = Links.of(graph)
    start = restarts(links, seeds)  # seeds that cannot be used are refused, whatever the way
    near = np.zeros(len(start))
    if how == "ppr":
        near = pagerank(links, start, damping)
    elif how == "hops":
        near = _by_hops(links, start, seeds, hops, damping)
    return _within(graph, _ranked(links, seeds, near, damping), max_tokens, count, max_segments)


def _by_hops(links: Links, start: Floats, seeds: Mapping[str, float], hops: int, damping: float) -> Floats:
    """The best seed's share of the start, less `damping` an edge."""
    # A seed that nothing starts from still has neighbours: they come last.
    best = {links.row[id]: max(float(start[links.row[id]]), 1e-12) for id in seeds}
    edge = dict(best)
    for _ in range(hops):
        reached: dict[int, float] = {}
        for row, value in edge.items():
            for near in links.next_to(row):
                reached[near] = max(reached.get(near, 0.0), (damping or 1e-12) * value)
        edge = {row: value for row, value in reached.items() if value > best.get(row, 0.0)}
        best |= edge
    out = np.zeros(len(start))
    out[list(best)] = list(best.values())
    return out


def _ranked(links: Links, seeds: Mapping[str, float], near: Floats, damping: float) -> Iterator[tuple[str, float]]:
    """The seeds by their scores, then the others by nearness; equal ones in the graph's order."""
    for id in sorted(seeds, key=lambda id: (-seeds[id], links.row[id])):
        yield id, seeds[id]
    others = near.copy()
    others[[links.row[id] for id in seeds]] = 0
    rows = np.flatnonzero(others > 0)
    floor, most = min(seeds.values()), others.max()
    for row in rows[np.argsort(-others[rows], kind="stable")]:
        yield links.ids[row], floor - (1 - damping * float(others[row] / most)) * (abs(floor) or 1.0)


def _within(
    graph: SegmentGraph, ranked: Iterable[tuple[str, float]], max_tokens: int | None, count: Callable[[Segment], int] | None, max_segments: int | None
) -> dict[str, float]:
    kept: dict[str, float] = {}
    left, too_large, least = max_tokens, 0, None
    for id, score in ranked:
        if len(kept) == max_segments or too_large == PATIENCE or left == 0:
            break
        if left is not None and count is not None:
            tokens = count(graph[id])
            if tokens > left:
                too_large += 1
                least = tokens if least is None else min(least, tokens)
                continue
            left -= tokens
            too_large = 0
        kept[id] = score
    if not kept:
        raise LengthError(f"no segment fits into max_tokens={max_tokens}: the smallest that was found has {least}; raise it (--context-tokens) to at least that, or cut the documents (--max-segment-tokens)")
    return kept
