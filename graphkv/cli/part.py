"""The options that choose a part of a graph: around a paper, or between two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from graphkv.errors import InputError

if TYPE_CHECKING:
    from graphkv.graph import SegmentGraph

Ego = Annotated[str | None, typer.Option("--ego", metavar="ID", help="Only the part around this paper.", show_default=False)]
Hops = Annotated[int, typer.Option("--hops", help="With --ego: how many edges away.", min=0)]
Direction = Annotated[str, typer.Option("--direction", help="With --ego: sources (what it reads), targets (its readers), both.")]
PathEnds = Annotated[list[str] | None, typer.Option("--path", metavar="ID", help="Given twice: only the shortest paths between two papers.", show_default=False)]


def part_of(graph: SegmentGraph, id: str | None, hops: int, direction: str, path: list[str] | None) -> SegmentGraph:
    """The part that the options name, or the whole graph.

    Raises:
        InputError: both kinds of part at once, or a path without two ends. GraphError: an unknown paper.
    """
    from graphkv.edges import between, ego

    if id is not None and path:
        raise InputError("--ego and --path choose different parts: give one of them")
    if path:
        if len(path) != 2:
            raise InputError(f"--path needs two papers, got {len(path)}: --path FIRST --path SECOND")
        return between(graph, *path)
    return graph if id is None else ego(graph, id, hops=hops, direction=direction)  # type: ignore[arg-type]  # checked there
