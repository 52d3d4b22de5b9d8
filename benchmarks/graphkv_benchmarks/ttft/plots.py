"""The pictures of a run: time to the first token against context length, one file a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphkv.plot import draw_times

LABELS = {
    "sequential": "transformers' prefill",
    "cold_nearest": "cold, nearest neighbours",
    "cold_ego": "cold, ego graph",
    "warm_disk": "warm from disk",
    "warm_memory": "warm from memory",
    "shuffled": "warm, shuffled",
}
COLOURS = {"sequential": "#1d3557", "cold_nearest": "#7b5ea7", "cold_ego": "#2a9d8f", "warm_disk": "#e9a23b", "warm_memory": "#e76f51", "shuffled": "#adb5bd"}


def draw_all(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """``ttft_<model>.png`` for every model that was measured at two lengths or more. Raises InputError if matplotlib is missing."""
    drawn = []
    for model in sorted({row["model"] for row in result["rows"]}):
        rows = [row for row in result["rows"] if row["model"] == model]
        if len(rows) < 2:
            continue
        lines = {label: [(row["tokens"], row["ways"][way]["ttft"]) for row in rows if way in row["ways"]] for way, label in LABELS.items()}
        colours = {LABELS[way]: colour for way, colour in COLOURS.items()}
        name = Path(model).name.replace(".", "_")
        title = f"{model}, {rows[0]['dtype']}, {rows[0]['machine']['threads']} threads"
        path = folder / f"ttft_{name}.png"
        drawn.append(draw_times({k: v for k, v in lines.items() if v}, path, title=title, x_label="context tokens", y_label="seconds to the first token", colours=colours))
    return drawn
