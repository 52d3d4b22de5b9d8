"""A graph's edges as numpy arrays, both ways: whoever reads is as near to what is read as the other way round."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from graphkv.errors import GraphError
from graphkv.graph import SegmentGraph

_KNOWN: weakref.WeakKeyDictionary[SegmentGraph, Links] = weakref.WeakKeyDictionary()
"""A graph does not change after it is made, and its links are made once."""


class Links:
    """Who is next to whom, in both directions.

    An edge counts by its weight, or 1 where it has none. Edges from a segment to itself, and edges whose weight is not above
    zero, do not count.
    """

    def __init__(self, graph: SegmentGraph) -> None:
        self.ids = graph.ids
        self.row = {id: row for row, id in enumerate(self.ids)}
        pairs = [(self.row[edge[0]], self.row[edge[1]], 1.0 if edge.weight is None else edge.weight) for edge in graph.edges if edge[0] != edge[1]]
        table = np.array([pair for pair in pairs if pair[2] > 0], dtype=np.float64).reshape(-1, 3)
        ends = table[:, :2].astype(np.int64)
        start, stop = np.concatenate([ends[:, 0], ends[:, 1]]), np.concatenate([ends[:, 1], ends[:, 0]])
        order = np.argsort(start, kind="stable")
        self.start, self.stop, self.weight = start[order], stop[order], np.tile(table[:, 2], 2)[order]
        self._first = np.searchsorted(self.start, np.arange(len(self.ids) + 1))

    @classmethod
    def of(cls, graph: SegmentGraph) -> Links:
        """The links of a graph."""
        if graph not in _KNOWN:
            _KNOWN[graph] = cls(graph)
        return _KNOWN[graph]

    @functools.cached_property
    def component(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """A number for each segment, the same for two if there is a way between them."""
        number = np.full(len(self.ids), -1)
        known = bytearray(len(self.ids))
        for first in range(len(self.ids)):
            if known[first]:
                continue
            known[first], found = 1, [first]
            for row in found:  # grows meanwhile
                for near in self.next_to(row):
                    if not known[near]:
                        known[near] = 1
                        found.append(near)
            number[found] = first
        return number

    def next_to(self, row: int) -> list[int]:
        """Rows of the segments that `row` reads or is read by."""
        near: list[int] = self.stop[self._first[row] : self._first[row + 1]].tolist()
        return near

    def vector(self, values: Mapping[str, float]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """One number a segment, zero where none is given. Raises GraphError for an id that is not in the graph."""
        out = np.zeros(len(self.ids))
        for id, value in values.items():
            if id not in self.row:
                raise GraphError(f"no segment {id!r} in the graph: it may come from an index of another graph")
            out[self.row[id]] = value
        return out

    def distances(self, ids: Iterable[str], to: Iterable[str]) -> dict[str, int]:
        """Edges between the nearest of `ids` and each of `to`, as far as there is a way."""
        wanted = {self.row[id] for id in to}
        found = {self.row[id]: 0 for id in ids}
        edge, distance = list(found), 0
        while edge and not wanted <= found.keys():
            distance += 1
            edge = [near for near in dict.fromkeys(n for row in edge for n in self.next_to(row)) if near not in found]
            found |= dict.fromkeys(edge, distance)
        return {self.ids[row]: found[row] for row in wanted if row in found}
