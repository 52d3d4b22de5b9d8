"""The layout that a request asks for, with its options; one that would make more work than a server allows is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphkv.graph import SegmentGraph
from graphkv.layouts import layout_options
from graphkv.serve.errors import ApiError

_LARGEST = 10**9
_WEIGHTS = (1e-3, 1e3)  # beyond, ape's sums leave the range of a float


@dataclass(frozen=True)
class Choice:
    """A layout's name and its options, as :func:`graphkv.layouts.make_layout` takes them."""

    layout: str
    options: Mapping[str, Any] = field(default_factory=dict)


def read_choice(value: object, default: str, place: str = "graph.layout") -> Choice:
    """A request's ``layout``: nothing, a name, or ``{"name": ..., option: value}``.

    Raises:
        ApiError: 400, another shape. LayoutError: an unknown name.

    Example:
        >>> read_choice({"name": "graph_topk", "m": 2}, "graph")
        Choice(layout='graph_topk', options={'m': 2})
    """
    if value is None:
        return Choice(default)
    if isinstance(value, str):
        layout_options(value)  # refuses a name that is none
        return Choice(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ApiError(400, f'{place}: expected a layout\'s name, or an object {{"name": ..., option: value}}', param=place)
    options = {name: _option(given, f"{place}.{name}") for name, given in value.items() if name != "name"}
    valid = layout_options(value["name"])
    if unknown := [name for name in options if name not in valid]:
        known = ", ".join(sorted(valid)) or "it has none"
        raise ApiError(400, f"{place}: layout {value['name']!r} has no option {unknown[0]!r}; valid: {known}", param=place)
    if value["name"] == "ape":
        for name, given in options.items():
            if isinstance(given, bool) or not isinstance(given, int | float) or not _WEIGHTS[0] <= given <= _WEIGHTS[1]:
                raise ApiError(400, f"{place}.{name}: expected a number from {_WEIGHTS[0]:g} to {_WEIGHTS[1]:g}, got {str(given)[:60]}", param=f"{place}.{name}")
    return Choice(value["name"], options)


def _option(value: object, place: str) -> Any:
    """A layout checks its own options; here it is only made sure that they are small and finite."""
    if isinstance(value, list):
        if len(value) > 1000:
            raise ApiError(400, f"{place}: expected at most 1000 values, got {len(value)}", param=place)
        return [_refuse(place) if isinstance(part, list) else _option(part, f"{place}[{i}]") for i, part in enumerate(value)]
    if isinstance(value, str) and len(value) <= 100:
        return value
    if isinstance(value, bool) or (isinstance(value, int | float) and -_LARGEST <= value <= _LARGEST and math.isfinite(value)):
        return value
    return _refuse(place)


def _refuse(place: str) -> Any:
    raise ApiError(400, f"{place}: expected true, false, a name, a number of at most {_LARGEST:,}, or a list of such", param=place)


def check_reads(choice: Choice, graph: SegmentGraph, most: int) -> None:
    """Refuse a layout that lets blocks read each other more than `most` times, before it is laid out.

    Raises:
        ApiError: 400, it would.
    """
    count, edges = len(graph), len(graph.edges)
    options = {**layout_options(choice.layout), **choice.options}
    match choice.layout:
        case "sequential":
            reads = count * (count - 1) // 2
        case "graph":
            reads = edges * _rounds(options)
        case "graph_full":
            reads = count * (count - 1) * _rounds(options)
        case "graph_topk" | "graph_sequential":
            best = min(count, options["m"]) if isinstance(options["m"], int) else 0
            reads = best * count
        case "graph_hops":
            reads = _hops(options["tiers"], count)
        case _:
            reads = 0  # no edges are made
    if reads > most:
        raise ApiError(400, f"layout {choice.layout!r} would let {count:,} documents read each other {reads:,} times, at most {most:,} are allowed", param="graph.layout")


def _rounds(options: Mapping[str, Any]) -> int:
    rounds = options["rounds"]
    return rounds if isinstance(rounds, int) else 1


def _hops(tiers: object, count: int) -> int:
    """Reads between tiers that hold `count` documents."""
    if not isinstance(tiers, list | tuple) or not all(isinstance(size, int) for size in tiers):
        return 0  # make_layout says what is wrong with them
    reads, left, before = 0, count, 0
    for size in (*tiers, count):
        size = max(0, min(size, left))
        reads, left, before = reads + before * size, left - size, size
    return reads
