"""The options that choose a part of a graph: around a paper, or between two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from graphkv.errors import InputError

if TYPE_CHECKING:
    from graphkv.graph import SegmentGraph

Ego = Annotated[str | None, typer.Option("--ego", metavar="ID", help="Only the part around this paper; its id (as in the graph's file) or its title.", show_default=False)]
Hops = Annotated[int | None, typer.Option("--hops", help="With --ego: how many edges away.", min=0, show_default="1")]
Direction = Annotated[str | None, typer.Option("--direction", help="With --ego: sources (what it reads), targets (its readers), both.", show_default="both")]
PathEnds = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="ID", help="Given twice: only the shortest paths between two papers: their heads, and the segments that join them.", show_default=False),
]


def part_of(graph: SegmentGraph, id: str | None, hops: int | None, direction: str | None, path: list[str] | None) -> SegmentGraph:
    """The part that the options name, or the whole graph.

    Raises:
        InputError: both kinds of part at once, or a path without two ends. GraphError: an unknown paper.
    """
    from graphkv.edges import between, ego

    if id is not None and path:
        raise InputError("--ego and --path choose different parts: give one of them")
    if id is None and (hops is not None or direction is not None):
        raise InputError(f"--{'hops' if hops is not None else 'direction'} says how far around a paper: it needs --ego ID")
    if path:
        if len(path) != 2:
            raise InputError(f"--path needs two papers, got {len(path)}: --path FIRST --path SECOND")
        return between(graph, *path)
    return graph if id is None else ego(graph, id, hops=1 if hops is None else hops, direction=direction or "both")  # type: ignore[arg-type]  # checked there
