"""The picture of a graph: a dot a segment, an arrow from each source to the target that reads it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from graphkv.graph import Edge, SegmentGraph
from graphkv.places import Places, colour_names, edge_colour, hop_of, label_of, node_colours, node_places, overview
from graphkv.plot import figure_of, legend, save

STRAIGHT = 400
"""Edges up to which each is an arrow of its own; more are thin lines, which run from left to right."""


def draw_graph(graph: SegmentGraph, path: str | Path) -> Path:
    """Draw the graph as a PNG: a dot a segment, an arrow from each source to the target that reads it.

    Dots are coloured by role, arrows by kind; where segments know how many hops away they are, the dot says it. Of a graph of more
    than 200 segments the papers are drawn, of one of more than 600 papers the best-connected; the picture says what it leaves out.

    Args:
        graph: any size; the picture grows with it.
        path: where to write; folders are made.

    Returns:
        The path.

    Raises:
        InputError: matplotlib is missing.

    Example:
        >>> draw_graph(SegmentGraph.from_jsonl("docs.jsonl"), "graph.png")  # doctest: +SKIP
    """
    shown = overview(graph)
    graph = shown.graph
    places = node_places(graph)
    edges = [edge for edge in graph.edges if edge[0] != edge[1]]
    meaning = node_colours(graph)
    entries = _legend_entries(graph, edges, meaning)
    unit = 0.15  # inches a label height
    width = max(4.0, places.width * unit)
    columns = max(1, int(width / 1.2))  # of the legend, below the nodes
    foot = 1.5 + 1.2 * math.ceil(len(entries) / columns)
    figure = figure_of(width, max(1.6, (places.height + foot + 1.0) * unit))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-0.5, places.width)
    axes.set_ylim(places.height + foot, -1.0)
    axes.axis("off")
    if len(edges) <= STRAIGHT:
        _arrows(axes, edges, places)
    else:
        _lines(axes, edges, places)
    colours = colour_names()
    hops = {id: hop for id in graph.ids if (hop := hop_of(graph, id)) is not None}
    for id, (x, y) in places.xy.items():
        hop = hops.get(id)
        outline = {"markeredgecolor": "#1d2229", "markeredgewidth": 1.4} if hop == 0 else {}
        axes.plot(x, y, "o", markersize=6 if hop is None else 8, color=colours[meaning[id]], zorder=3, **outline)
        if hop:
            axes.text(x, y, str(hop), fontsize=5, color="white", ha="center", va="center", zorder=4)
        _label(axes, label_of(graph, id), x, y, places.angles.get(id))
    legend(axes, entries, "lower left", columns)
    notes = [note for note in (shown.note, "in a dot: hops away" if any(hops.values()) else None) if note]
    if notes:
        axes.text(places.width - 0.5, places.height + 0.2, "; ".join(notes), fontsize=7, ha="right", va="bottom", color="#5c6773")
    return save(figure, path)


def _legend_entries(graph: SegmentGraph, edges: list[Edge], meaning: dict[str, str]) -> dict[str, str]:
    """The colours that occur: of dots, then of arrows where their kinds are known."""
    entries = {name: colour for name, colour in colour_names().items() if name in meaning.values()}
    kinds = sorted({edge.kind for edge in edges if edge.kind})
    return entries | {f"→ {kind}": edge_colour(next(e for e in edges if e.kind == kind)) for kind in kinds}


def _arrows(axes: Any, edges: list[Edge], places: Places) -> None:
    for edge in edges:
        (x0, y0), (x1, y1) = places.xy[edge[0]], places.xy[edge[1]]
        bend = 0.07 if not places.angles else 0.0
        axes.annotate(
            "",
            xy=(x1, y1),
            xytext=(x0, y0),
            arrowprops={
                "arrowstyle": "-|>",
                "color": edge_colour(edge),
                "alpha": 0.75 if len(edges) < 150 else 0.35,
                "linewidth": 0.8,
                "shrinkA": 4,
                "shrinkB": 4,
                "mutation_scale": 8,
                "connectionstyle": f"arc3,rad={bend if y1 <= y0 else -bend}",
            },
        )


def _lines(axes: Any, edges: list[Edge], places: Places) -> None:
    from matplotlib.collections import LineCollection

    ends = [(places.xy[u], places.xy[v]) for u, v in edges]
    axes.add_collection(LineCollection(ends, colors=[edge_colour(edge) for edge in edges], linewidths=0.5, alpha=0.3, zorder=1))


def _label(axes: Any, text: str, x: float, y: float, angle: float | None) -> None:
    style = {"fontsize": 7.5, "va": "center", "zorder": 4, "rotation_mode": "anchor", "parse_math": False}  # a title's $ is a dollar
    if angle is None:
        box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        axes.text(x + 0.7, y, text, ha="left", bbox=box, **style)
        return
    left = 90 < angle % 360 < 270  # never upside down
    out = math.radians(angle)
    axes.text(
        x + 0.7 * math.cos(out), y + 0.7 * math.sin(out), text, ha="right" if left else "left", rotation=-angle + (180 if left else 0), **style
    )
