"""Heat maps: depth by length, one picture for each strategy and task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .cases import short


def grids(result: Mapping[str, Any]) -> dict[tuple[str, str], dict[tuple[int, float], float | None]]:
    """For (task, strategy): the score at (length, depth); None beyond the window."""
    found: dict[tuple[str, str], dict[tuple[int, float], float | None]] = {}
    for cell in result["cells"]:
        found.setdefault((cell["task"], cell["strategy"]), {})[cell["length"], cell["depth"]] = cell.get("score")
    return found


def draw_all(result: Mapping[str, Any], stem: Path) -> list[Path]:
    """Draw ``<stem>_<task>_<strategy>.png`` for everything that has depths.

    Raises:
        InputError: matplotlib is missing.
    """
    from graphkv.plot import draw_heatmap

    drawn = []
    for (task, strategy), grid in grids(result).items():
        lengths, depths = sorted({length for length, _ in grid}), sorted({depth for _, depth in grid})
        rows = [[grid.get((length, depth)) for length in lengths] for depth in depths]
        name = re.sub(r"[^\w.-]+", "-", strategy)
        path = stem.with_name(f"{stem.name}_{task}_{name}.png" if stem.name else f"{task}_{name}.png")
        drawn.append(
            draw_heatmap(
                rows,
                path,
                columns=[short(length) for length in lengths],
                rows=[f"{100 * depth:.0f}%" for depth in depths],
                x_label="tokens",
                y_label="depth of the answer",
                title=f"{task}, {strategy}",
                none="beyond the window, or not run",
            )
        )
    return drawn
