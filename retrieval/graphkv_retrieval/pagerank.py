"""Personalised PageRank over a graph's links, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphkv.errors import InputError
from graphkv.graph import SegmentGraph
from graphkv_retrieval.links import Links

Floats = np.ndarray[Any, np.dtype[np.float64]]

_PRECISE = 1e-8
"""Of the sum of all changes in the last round."""


def personalised_pagerank(graph: SegmentGraph, seeds: Mapping[str, float], *, damping: float = 0.85) -> dict[str, float]:
    """Where a walker is found who follows edges, in either direction, and now and then starts again at a seed (Haveliwala 2002).

    Args:
        seeds: segments and how often the walk starts there; zero and less count as never, if any is above zero.
        damping: how likely a step follows an edge, 0 to below 1; an edge is chosen by its weight (:class:`~graphkv_retrieval.links.Links`).

    Returns:
        A probability for every segment, in the graph's order.

    Raises:
        InputError: no seeds, or a damping outside [0, 1). GraphError: a seed that is not in the graph.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "A", "cites": ["b"]}, {"id": "b", "text": "B"}, {"id": "c", "text": "C"}])
        >>> {id: round(p, 2) for id, p in personalised_pagerank(graph, {"a": 1}).items()}
        {'a': 0.54, 'b': 0.46, 'c': 0.0}
    """
    check_damping(damping)
    links = Links.of(graph)
    return dict(zip(links.ids, pagerank(links, restarts(links, seeds), damping).tolist(), strict=True))


def pagerank(links: Links, start: Floats, damping: float) -> Floats:
    """A probability for every row, from the probabilities of starting there."""
    rows = np.flatnonzero(np.isin(links.component, links.component[start > 0]))  # the walk stays among these
    inside = np.zeros(len(start), dtype=bool)
    inside[rows] = True
    kept, place = inside[links.start], np.cumsum(inside) - 1
    source, target, weight, begin = place[links.start[kept]], place[links.stop[kept]], links.weight[kept], start[rows]
    strength = np.bincount(source, weights=weight, minlength=len(rows))
    ends = strength == 0  # nothing to follow from here: the walk starts again
    share = weight / strength[source]
    now, change = begin, 1.0
    while change > _PRECISE:  # each round shrinks the error by the damping
        moved = np.bincount(target, weights=now[source] * share, minlength=len(rows))
        after = damping * (moved + now[ends].sum() * begin) + (1 - damping) * begin
        change, now = float(np.abs(after - now).sum()), after
    out = np.zeros(len(start))
    out[rows] = now
    return out


def restarts(links: Links, seeds: Mapping[str, float]) -> Floats:
    """The seeds' scores as probabilities: those above zero by their share, or all alike if none is. Raises InputError without seeds."""
    if not seeds:
        raise InputError("no seeds: expected at least one segment to start from, with its score")
    weights = links.vector({id: max(score, 0.0) for id, score in seeds.items()})
    if not weights.any():
        weights = links.vector(dict.fromkeys(seeds, 1.0))
    probabilities: Floats = weights / weights.sum()
    return probabilities


def check_damping(damping: float) -> None:
    """Raises InputError unless `damping` is a number from 0 to below 1."""
    if isinstance(damping, bool) or not isinstance(damping, int | float) or not 0 <= damping < 1:
        raise InputError(f"damping must be a number from 0 to below 1, got {damping!r}")
