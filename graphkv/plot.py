"""Pictures: the block mask of a layout, the graph, and the curves of a training run. matplotlib is imported only while one is drawn.

Nothing here touches pyplot, so the caller's backend and open figures stay as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np

from graphkv.errors import InputError
from graphkv.graph import SegmentGraph

if TYPE_CHECKING:
    from graphkv.layout import Layout

ROLE_COLOURS = {"prefix": "#8d99ae", "source": "#2a9d8f", "target": "#e76f51", "question": "#7b5ea7"}
"""One colour a role, in every picture and on the HTML page."""

_PIXELS = 1600  # of the mask; more than the drawing has, so that thin blocks stay sharp


@dataclass(frozen=True)
class Places:
    """Where the nodes of a drawing stand, in units of one label's height (y grows downwards).

    Attributes:
        xy: centre of each node, by id. width, height: extent of the drawing.
        angles: direction of each label in degrees for a circle; empty if the labels stand to the right of their nodes.
    """

    xy: dict[str, tuple[float, float]]
    width: float
    height: float
    angles: dict[str, float]


def node_places(graph: SegmentGraph, *, column: float = 15.0, rows: int = 48) -> Places:
    """Places for the nodes: columns from sources to targets, or a circle if the graph has a cycle.

    Every node gets a line of its own, so labels do not collide however many nodes there are.

    Args:
        column: width of a column, in label heights. rows: the most nodes in one column; longer ones are wrapped.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "x", "sources": ["b"]}, {"id": "b", "text": "y"}])
        >>> places = node_places(graph).xy
        >>> places["b"][0] < places["a"][0]
        True
    """
    network = graph.networkx
    network.remove_edges_from(list(nx.selfloop_edges(network)))
    if not nx.is_directed_acyclic_graph(network):
        return _circle(graph)
    loose = [id for id in graph.ids if network.degree(id) == 0]
    linked = network.subgraph([id for id in graph.ids if network.degree(id) > 0])
    rank = {id: i for i, id in enumerate(graph.ids)}
    columns: list[list[str]] = []
    height: dict[str, float] = {}
    for layer in [*map(list, nx.topological_generations(linked)), loose]:
        for id in layer:  # next to what it reads, so that arrows cross less
            above = [height[s] for s in network.predecessors(id)]
            height[id] = sum(above) / len(above) if above else rank[id] / len(rank)
        layer.sort(key=lambda id: (height[id], rank[id]))
        for i, id in enumerate(layer):
            height[id] = (i + 0.5) / len(layer)
        parts = math.ceil(len(layer) / rows)
        columns += [layer[i::parts] for i in range(parts)]  # dealt out in turn: each column spans the whole height
    span = max(4, *map(len, columns)) * 1.6
    xy = {
        id: (1.0 + x * column, (i + 0.5) / len(ids) * span + 0.45 * (x % 2))  # neighbouring columns half a line apart
        for x, ids in enumerate(columns)
        for i, id in enumerate(ids)
    }
    return Places(xy, column * len(columns) - 1.0, span + 1.0, {})


def _circle(graph: SegmentGraph) -> Places:
    """Around a circle, labels pointing outwards; its size grows with the number of nodes."""
    count = len(graph)
    radius = max(6.0, count * 1.5 / math.tau)
    middle = radius + 2.0 + 0.58 * max(len(label_of(graph, id)) for id in graph.ids)  # room for the longest label
    turns = [math.tau * i / count - math.pi / 2 for i in range(count)]
    xy = {id: (middle + radius * math.cos(t), middle + radius * math.sin(t)) for id, t in zip(graph.ids, turns, strict=True)}
    return Places(xy, 2 * middle, 2 * middle, {id: math.degrees(t) for id, t in zip(graph.ids, turns, strict=True)})


def label_of(graph: SegmentGraph, id: str) -> str:
    """What stands beside a node: the segment's title, or else its id."""
    return shorten(graph[id].title or id)


def shorten(text: str, limit: int = 22) -> str:
    """`text` on one line, cut with an ellipsis if it is longer than `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def draw_graph(graph: SegmentGraph, path: str | Path) -> Path:
    """Draw the graph as a PNG: a dot a segment, an arrow from each source to the target that reads it.

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
    places = node_places(graph)
    unit = 0.15  # inches a label height
    figure = _figure(max(4.0, places.width * unit), max(1.6, places.height * unit + 0.6))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(-0.5, places.width)
    axes.set_ylim(places.height + 2.4, -1.0)
    axes.axis("off")
    reads = {id: bool(graph.sources(id)) for id in graph.ids}
    faint = 0.75 if len(graph.edges) < 150 else 0.35
    for u, v in graph.edges:
        (x0, y0), (x1, y1) = places.xy[u], places.xy[v]
        if u == v:
            continue
        bend = 0.07 if not places.angles else 0.0
        axes.annotate(
            "",
            xy=(x1, y1),
            xytext=(x0, y0),
            arrowprops={
                "arrowstyle": "-|>",
                "color": "#6c757d",
                "alpha": faint,
                "linewidth": 0.8,
                "shrinkA": 4,
                "shrinkB": 4,
                "mutation_scale": 8,
                "connectionstyle": f"arc3,rad={bend if y1 <= y0 else -bend}",
            },
        )
    for id, (x, y) in places.xy.items():
        axes.plot(x, y, "o", markersize=6, color=ROLE_COLOURS["target" if reads[id] else "source"], zorder=3)
        _label(axes, label_of(graph, id), x, y, places.angles.get(id))
    _legend(axes, {"reads others": ROLE_COLOURS["target"], "reads no other": ROLE_COLOURS["source"]}, "lower left")
    return _save(figure, path)


def _label(axes: Any, text: str, x: float, y: float, angle: float | None) -> None:
    style = {"fontsize": 7.5, "va": "center", "zorder": 4, "rotation_mode": "anchor"}
    if angle is None:
        box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        axes.text(x + 0.7, y, text, ha="left", bbox=box, **style)
        return
    left = 90 < angle % 360 < 270  # never upside down
    out = math.radians(angle)
    axes.text(
        x + 0.7 * math.cos(out), y + 0.7 * math.sin(out), text, ha="right" if left else "left", rotation=-angle + (180 if left else 0), **style
    )


def draw_shares(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float, float, float]]]],
    path: str | Path,
    *,
    x_label: str,
    y_label: str,
    columns: int = 3,
    colours: Mapping[str, str] | None = None,
) -> Path:
    """Draw shares with their intervals as a PNG: panels side by side, a line and a band for every name, one legend for all.

    Args:
        panels: for each panel (by its title) its lines by name, each as points (x, share, low, high), shares from 0 to 1.
        columns: panels in a row. colours: of the names.

    Raises:
        InputError: matplotlib is missing.

    Example:
        >>> draw_shares({"2 hops": {"graph": [(8, 0.98, 0.96, 0.99), (16, 0.97, 0.95, 0.98)]}}, "a.png", x_label="n", y_label="%")  # doctest: +SKIP
    """
    columns = min(columns, max(1, len(panels)))
    rows = math.ceil(len(panels) / columns)
    height = 2.6 * rows + 0.6
    figure = _figure(max(4.8, 3.3 * columns), height)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    lines: dict[str, Any] = {}
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
        for place, (name, points) in enumerate(curves.items()):
            x, share, low, high = ([row[i] * (100 if i else 1) for row in points] for i in range(4))
            colour = (colours or {}).get(name, f"C{place}")
            (lines[name],) = axes.plot(x, share, marker="o", markersize=3.5, linewidth=1.4, color=colour)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xticks(sorted({point[0] for points in curves.values() for point in points}))
        axes.set_ylim(0, 102)
        axes.tick_params(labelsize=8, labelleft=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for place, axes in enumerate(grid.flat[: len(panels)]):
        axes.set_ylabel(y_label if place % columns == 0 else "", fontsize=9)
        axes.set_xlabel(x_label if place + columns >= len(panels) else "", fontsize=9)
    figure.legend(lines.values(), lines.keys(), loc="lower center", ncols=max(1, len(lines)), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0.0, 0.3 / height, 1.0, 1.0))
    return _save(figure, path)


def draw_layout(layout: Layout, path: str | Path) -> Path:
    """Draw the block mask as a PNG: a row for every block, in packed tokens; it reads what is coloured.

    The colour is the role of what is read; a block's own tokens, read causally, are the triangles on the diagonal.
    The strip at the left shows the role of the row itself.

    Args:
        layout: from ``engine.plan(...)`` or :func:`graphkv.layouts.make_layout`.
        path: where to write; folders are made.

    Returns:
        The path.

    Raises:
        InputError: matplotlib is missing.

    Example:
        >>> draw_layout(engine.plan(graph, "Who wrote it?"), "mask.png")  # doctest: +SKIP
    """
    shown = [i for i, block in enumerate(layout.blocks) if block.length]
    total = layout.total_tokens
    figure = _figure(8.4, 7.6)
    axes = figure.add_axes((0.2, 0.02, 0.78, 0.87))
    axes.imshow(_mask_image(layout), extent=(0, total, total, 0), interpolation="nearest", aspect="auto")
    edges = [layout.starts[i] for i in shown] + [total]
    if len(shown) <= 60:
        lines = edges
    else:  # only where one round, or one role, ends
        lines = [layout.starts[b] for a, b in itertools.pairwise(shown) if _group(layout, a) != _group(layout, b)]
    axes.hlines(lines, 0, total, color="#adb5bd", linewidth=0.4)
    axes.vlines(lines, 0, total, color="#adb5bd", linewidth=0.4)
    for i in shown:
        colour = ROLE_COLOURS[layout.blocks[i].role]
        axes.fill_betweenx([layout.starts[i], layout.starts[i + 1]], -0.02 * total, -0.005 * total, color=colour, clip_on=False, linewidth=0)
    axes.set_xlim(0, total)
    axes.set_ylim(total, 0)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(labelsize=7)
    axes.set_xlabel("packed tokens (what is read)", fontsize=8)
    names = _row_names(layout, shown)
    axes.set_yticks([at for at, _ in names], [name for _, name in names], fontsize=7 if len(names) <= 40 else 6)
    axes.tick_params(axis="y", length=0, pad=14)
    options = ", ".join(f"{k}={v}" for k, v in layout.options.items())
    title = f"{layout.name}{f' ({options})' if options else ''}: {len(shown)} blocks, {total:,} tokens, window {layout.window:,}"
    figure.text(0.2, 0.972, title, fontsize=10, va="center")
    roles = {role: colour for role, colour in ROLE_COLOURS.items() if any(layout.blocks[i].role == role for i in shown)}
    _legend(axes, roles, "upper right")
    return _save(figure, path)


def draw_curves(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], path: str | Path) -> Path:
    """Draw curves as a PNG, one panel above the other, steps to the right.

    Args:
        panels: for each panel (by its title) its curves by name, each as points (step, value). Empty panels are left out.

    Raises:
        InputError: matplotlib is missing.
    """
    shown = {title: curves for title, curves in panels.items() if any(curves.values())}
    figure = _figure(7.0, 2.6 * max(1, len(shown)) + 0.4)
    for place, (title, curves) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(len(shown), 1, place)
        for name, points in curves.items():
            if points:
                axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, marker="." if len(points) < 40 else None)
        axes.set_title(title, loc="left", fontsize=10)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if place == 1:
            axes.legend(frameon=False, fontsize=8)
        if place == len(shown):
            axes.set_xlabel("step")
    figure.tight_layout()
    return _save(figure, path)


def draw_times(
    lines: Mapping[str, Sequence[tuple[float, float]]], path: str | Path, *, title: str, x_label: str, y_label: str, colours: Mapping[str, str] | None = None
) -> Path:
    """Draw seconds against a size as a PNG, both logarithmic: a line for every name, as points (size, seconds).

    Raises:
        InputError: matplotlib is missing.
    """
    figure = _figure(6.4, 4.2)
    axes = figure.add_subplot()
    for place, (name, points) in enumerate(lines.items()):
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, linewidth=1.6, label=name, color=(colours or {}).get(name, f"C{place}"))
    axes.set(xscale="log", yscale="log", xlabel=x_label, ylabel=y_label)
    ticks = sorted({x for points in lines.values() for x, _ in points})
    axes.set_xticks(ticks, [f"{x:,.0f}" for x in ticks])
    axes.minorticks_off()
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return _save(figure, path)


def _mask_image(layout: Layout) -> Any:
    """RGB pixels of the packed mask. Sampled, never built token by token: the size does not depend on the context."""
    total, blocks = layout.total_tokens, layout.blocks
    size = min(_PIXELS, total * 40)
    tokens = (np.arange(size) + 0.5) * total / size
    block = np.searchsorted(np.array(layout.starts[1:]), tokens, side="right")
    allowed = np.zeros((len(blocks), len(blocks)), dtype=bool)
    for i, b in enumerate(blocks):
        allowed[i, list(b.reads)] = True
    image = np.full((size, size, 3), 255, dtype=np.uint8)
    colours = np.array([_rgb(ROLE_COLOURS[b.role]) for b in blocks], dtype=np.uint8)
    read = allowed[block[:, None], block[None, :]]
    image[read] = np.broadcast_to(colours[block][None, :], (size, size, 3))[read]
    own = (block[:, None] == block[None, :]) & (tokens[None, :] <= tokens[:, None])
    image[own] = (np.broadcast_to(colours[block][None, :], (size, size, 3))[own] * 0.62).astype(np.uint8)  # darker than what is read of others
    return image


def _row_names(layout: Layout, shown: list[int]) -> list[tuple[float, str]]:
    """Labels that fit: block by block while there is room, else one a round."""
    middle = [(layout.starts[i] + layout.starts[i + 1]) / 2 for i in shown]
    gap = layout.total_tokens / 62
    if all(b - a >= gap for a, b in itertools.pairwise(middle)):
        return [(at, shorten(layout.blocks[i].name, 26)) for at, i in zip(middle, shown, strict=True)]
    groups: dict[tuple[str, int], list[int]] = {}
    for i in shown:
        groups.setdefault(_group(layout, i), []).append(i)
    if len(shown) <= 60:  # uneven lengths: as many names as keep their distance, the longest blocks first
        kept: list[tuple[float, str]] = []
        for i in sorted(shown, key=lambda i: -layout.blocks[i].length):
            at = (layout.starts[i] + layout.starts[i + 1]) / 2
            if all(abs(at - other) >= gap for other, _ in kept):
                kept.append((at, shorten(layout.blocks[i].name, 26)))
        return kept
    rows = []
    for (role, number), members in groups.items():
        at = (layout.starts[members[0]] + layout.starts[members[-1] + 1]) / 2
        rows.append((at, role if role in ("prefix", "question") else f"round {number}: {len(members)} blocks"))
    return [row for i, row in enumerate(rows) if i == 0 or abs(row[0] - rows[i - 1][0]) >= gap]


def _group(layout: Layout, index: int) -> tuple[str, int]:
    block = layout.blocks[index]
    return ("segment" if block.segment is not None else block.role, block.round)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _legend(axes: Any, colours: dict[str, str], where: str) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    axes.legend(handles=handles, loc=where, fontsize=7, frameon=True, framealpha=0.9, edgecolor="#dee2e6")


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("drawing needs matplotlib, which is not installed: pip install graphkv[viz]") from None
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
