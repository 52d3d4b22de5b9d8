"""Pictures: the block mask of a layout, curves, shares, heat maps and times. matplotlib is imported only while one is drawn.

Nothing here touches pyplot, so the caller's backend and open figures stay as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphkv.errors import InputError
from graphkv.places import shorten

if TYPE_CHECKING:
    from graphkv.layout import Layout

ROLE_COLOURS = {"prefix": "#8d99ae", "source": "#2a9d8f", "target": "#e76f51", "question": "#7b5ea7"}
"""One colour a role, in every picture and on the HTML page."""

_PIXELS = 1600  # of the mask; more than the drawing has, so that thin blocks stay sharp


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
    figure = figure_of(max(4.8, 3.3 * columns), height)
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
    return save(figure, path)


def draw_heatmap(
    values: Sequence[Sequence[float | None]],
    path: str | Path,
    *,
    columns: Sequence[str],
    rows: Sequence[str],
    x_label: str,
    y_label: str,
    title: str = "",
    none: str = "not measured",
) -> Path:
    """Draw shares as coloured squares, their percentages written in them, as a PNG.

    Args:
        values: shares from 0 to 1, a list a row, the first row on top; None is drawn hatched.
        columns, rows: their names. none: what a hatched square means.

    Raises:
        InputError: matplotlib is missing, or there are not as many names as rows and columns.

    Example:
        >>> draw_heatmap([[1.0, 0.5], [0.9, None]], "a.png", columns=["4k", "8k"], rows=["0%", "100%"], x_label="n", y_label="depth")  # doctest: +SKIP
    """
    if len(rows) != len(values) or any(len(row) != len(columns) for row in values) or not rows or not columns:
        raise InputError(f"expected a value for each of {len(rows)} rows and {len(columns)} columns, got rows of {[len(row) for row in values]}")
    width, height = max(4.2, 1.5 + 0.62 * len(columns)), max(2.4, 1.3 + 0.36 * len(rows))
    figure = figure_of(width, height)
    axes = figure.add_subplot()
    shown = np.array([[math.nan if value is None else value for value in row] for row in values])
    picture = axes.imshow(shown, vmin=0.0, vmax=1.0, cmap="RdYlGn", aspect="auto")
    missing = False
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value is None:
                missing = True
                axes.fill_between([x - 0.5, x + 0.5], y - 0.5, y + 0.5, facecolor="#f1f3f5", edgecolor="#adb5bd", hatch="///", linewidth=0)
            else:
                axes.text(x, y, f"{100 * value:.0f}", ha="center", va="center", fontsize=7)
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xlabel(x_label + (f"; hatched: {none}" if missing else ""), fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes, format=lambda value, _: f"{100 * value:.0f}%")
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    figure.tight_layout()
    return save(figure, path)


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
    figure = figure_of(8.4, 7.6)
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
    axes.set_yticks([at for at, _ in names], [name for _, name in names], fontsize=7 if len(names) <= 40 else 6, parse_math=False)
    axes.tick_params(axis="y", length=0, pad=14)
    options = ", ".join(f"{k}={v}" for k, v in layout.options.items())
    title = f"{layout.name}{f' ({options})' if options else ''}: {len(shown)} blocks, {total:,} tokens, window {layout.window:,}"
    figure.text(0.2, 0.972, title, fontsize=10, va="center")
    roles = {role: colour for role, colour in ROLE_COLOURS.items() if any(layout.blocks[i].role == role for i in shown)}
    legend(axes, roles, "upper right")
    return save(figure, path)


def draw_curves(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], path: str | Path) -> Path:
    """Draw curves as a PNG, one panel above the other, steps to the right.

    Args:
        panels: for each panel (by its title) its curves by name, each as points (step, value). Empty panels are left out.

    Raises:
        InputError: matplotlib is missing.
    """
    shown = {title: curves for title, curves in panels.items() if any(curves.values())}
    figure = figure_of(7.0, 2.6 * max(1, len(shown)) + 0.4)
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
    return save(figure, path)


def draw_times(
    lines: Mapping[str, Sequence[tuple[float, float]]], path: str | Path, *, title: str, x_label: str, y_label: str, colours: Mapping[str, str] | None = None
) -> Path:
    """Draw seconds against a size as a PNG, both logarithmic: a line for every name, as points (size, seconds).

    Raises:
        InputError: matplotlib is missing.
    """
    figure = figure_of(6.4, 4.2)
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
    return save(figure, path)


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


def legend(axes: Any, colours: Mapping[str, str], where: str, columns: int = 1) -> None:
    """A legend of coloured patches."""
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    shown = axes.legend(handles=handles, loc=where, ncols=columns, fontsize=7, frameon=True, framealpha=0.9, edgecolor="#dee2e6")
    for text in shown.get_texts():
        text.set_parse_math(False)


def figure_of(width: float, height: float) -> Any:
    """An empty figure, in inches, on a canvas of its own. Raises InputError if matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("drawing needs matplotlib, which is not installed: pip install graphkv[viz]") from None
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: str | Path) -> Path:
    """Write a figure; its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
