"""The curves of a run, from its metrics file."""

from __future__ import annotations

from pathlib import Path

from graphkv.plot import draw_curves
from graphkv.train.metrics import read_metrics


def draw_metrics(metrics: str | Path, path: str | Path) -> Path:
    """Draw loss and answer accuracy of a metrics file as a PNG; held-out values by layout, where there are some.

    Raises:
        InputError: matplotlib is missing. DocumentError: the metrics file holds something else.

    Example:
        >>> draw_metrics("run/metrics.jsonl", "run/loss.png")  # doctest: +SKIP
    """
    lines = read_metrics(metrics)
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for key, title in (("loss", "loss of the answer tokens"), ("accuracy", "answer tokens right"), ("exact", "answers right")):
        curves = {"training": [(line["step"], line[key]) for line in lines if key in line]}
        for line in lines:
            for layout, values in line.get("eval", {}).items():
                curves.setdefault(f"held out, {layout}", []).append((line["step"], values[key]))
        panels[title] = curves
    return draw_curves(panels, path)
