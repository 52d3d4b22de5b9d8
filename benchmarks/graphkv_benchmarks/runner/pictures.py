"""The two pictures of a report: first against last, and accuracy against the length of the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphkv.plot import figure_of, save

from .metrics import ORDER, cells_by, without
from .report_tables import setting_name

# Okabe and Ito's, which stay apart for the colour-blind; the shape and the dash say the same once more.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F", "#5D3A9B")
_MARKERS = "osD^vPX*<>h"
_DASHES = ("-", "--", "-.", ":")
_LOG_FROM = 8  # times the shortest context


def draw_all(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """``gap.png`` and ``length.png`` in `folder`; one that has nothing to show is left out.

    Raises:
        InputError: matplotlib is missing.
    """
    drawn = []
    if any(gap["gap"] is not None for gap in result["gaps"]):
        drawn.append(draw_gap(result, folder / "gap.png"))
    if len({cell["tokens"] for cell in result["cells"] if cell["answered"] and cell["tokens"] is not None}) > 1:
        drawn.append(draw_length(result, folder / "length.png"))
    return drawn


def draw_gap(result: Mapping[str, Any], path: Path) -> Path:
    """A row an arm: where it stands with the gold first and with the gold last, with their intervals; a panel for each setting."""
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for gap in result["gaps"]:
        if gap["gap"] is not None:
            panels.setdefault(setting_name(gap["setting"]), []).append(gap)
    arms = list(dict.fromkeys(gap["arm"] for gap in result["gaps"]))
    bounds = {(cell["arm"], setting_name(cell["setting"])): _bounds(cell) for cell in result["cells"] if cell["answered"]}
    height = 1.35 + 0.42 * len(arms)
    figure = figure_of(1.9 + 3.1 * len(panels), height)
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)
    handles: dict[str, Any] = {}
    for axes, (title, gaps) in zip(grid.flat, panels.items(), strict=True):
        for gap in gaps:
            row = arms.index(gap["arm"])
            axes.plot([100 * gap["first"], 100 * gap["last"]], [row - 0.13, row + 0.13], color="#adb5bd", linewidth=1.4, zorder=1)
            for side, offset, colour, marker in (("first", -0.13, _COLOURS[0], "o"), ("last", 0.13, _COLOURS[1], "s")):
                low, high = bounds.get((gap["arm"], setting_name({**gap["setting"], "order": side})), (gap[side], gap[side]))
                axes.hlines(row + offset, 100 * low, 100 * high, color=colour, linewidth=1.2, alpha=0.6)
                (handles[f"gold paper {side}"],) = axes.plot([100 * gap[side]], [row + offset], marker, color=colour, markersize=5, zorder=3)
        axes.set_title(title, loc="left", fontsize=10, parse_math=False)
        axes.set_xlim(-3, 103)
        axes.set_xlabel(f"{result['metric'].replace('_', ' ')} (%)", fontsize=9, parse_math=False)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right", "left"]].set_visible(False)
    first = grid.flat[0]
    first.set_yticks(range(len(arms)), arms, fontsize=9, parse_math=False)
    first.set_ylim(len(arms) - 0.5, -0.5)
    for axes in grid.flat:
        axes.tick_params(axis="y", length=0)
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=2, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0.0, 0.3 / height, 1.0, 1.0))
    return save(figure, path)


def _bounds(cell: Mapping[str, Any]) -> tuple[float, float]:
    low, high = cell["wilson"] if cell["low"] == cell["high"] and cell["wilson"] else (cell["low"], cell["high"])
    return low, high


def draw_length(result: Mapping[str, Any], path: Path) -> Path:
    """A line an arm over its mean context: small marks for the gold first and last, with intervals, the line between them; the legend stands beside."""
    figure = figure_of(8.2, 4.2)
    axes = figure.add_subplot()
    tokens = [cell["tokens"] for cell in result["cells"] if cell["answered"] and cell["tokens"]]
    logarithmic = max(tokens) > _LOG_FROM * min(tokens)
    curves = {arm: _points(cells) for arm, cells in cells_by(result).items()}
    span = max(tokens) - min(tokens)
    for place, (arm, points) in enumerate(curves.items()):
        if not points:
            continue
        # Arms read nearly the same number of tokens: their intervals would stand on top of one another.
        step = (place - (len(curves) - 1) / 2) * 0.012
        xs = [x * (max(tokens) / min(tokens)) ** step if logarithmic else x + step * span for x, *_ in points]
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        for x, (_, middle, settings) in zip(xs, points, strict=True):
            for mean, low, high in settings:
                axes.vlines(x, 100 * low, 100 * high, color=colour, linewidth=1, alpha=0.4)
                axes.plot([x], [100 * mean], marker, color=colour, markersize=4.5 if mean == middle else 3, alpha=1 if mean == middle else 0.6)
        axes.plot(xs, [100 * middle for _, middle, _ in points], color=colour, linewidth=1.3, linestyle=_DASHES[place % len(_DASHES)])
        axes.plot([], [], color=colour, marker=marker, markersize=4.5, linewidth=1.3, linestyle=_DASHES[place % len(_DASHES)], label=arm)
    if logarithmic:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(ticks := _ticks(tokens, logarithmic), [_short(tick) for tick in ticks])
    axes.set_ylim(-3, 103)
    axes.set_xlabel("tokens of the context" + (" (logarithmic)" if logarithmic else ""), fontsize=9)
    axes.set_ylabel(f"{result['metric'].replace('_', ' ')} (%)", fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for text in axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9).get_texts():
        text.set_parse_math(False)
    figure.tight_layout()
    return save(figure, path)


def _points(cells: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, list[tuple[float, float, float]]]]:
    """(tokens, mean, (mean, low, high) of each order): the line goes through the middle of first and last."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        if cell["answered"] and cell["tokens"]:
            groups.setdefault(setting_name(without(cell["setting"], ORDER)), []).append(cell)
    found = []
    for some in groups.values():
        tokens, middle = (sum(cell[key] for cell in some) / len(some) for key in ("tokens", "mean"))
        found.append((tokens, middle, [(cell["mean"], *_bounds(cell)) for cell in some]))
    return sorted(found)


def _ticks(tokens: Sequence[float], logarithmic: bool) -> list[float]:
    """A few lengths that were measured, far enough apart for their names."""
    ratio = (max(tokens) / min(tokens)) ** 0.09
    kept: list[float] = []
    for value in sorted(set(tokens)):
        if not kept or (value > kept[-1] * ratio if logarithmic else value - kept[-1] > 0.09 * (max(tokens) - min(tokens))):
            kept.append(value)
    return kept


def _short(tokens: float) -> str:
    return f"{tokens / 1000:.0f}k" if tokens >= 10_000 else f"{tokens:,.0f}"
