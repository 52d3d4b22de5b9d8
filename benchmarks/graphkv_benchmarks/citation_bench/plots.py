"""The two pictures: accuracy against the gold document's place, and against the number of documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphkv.plot import draw_shares

from ..scoring import wilson
from .presets import HOPS

Cells = Sequence[dict[str, Any]]
Lines = dict[str, list[tuple[float, float, float, float]]]

COLOURS = {"graph": "#e76f51", "block": "#2a9d8f", "pcw": "#7b5ea7", "sequential": "#1d3557", "graph-wrong": "#adb5bd"}


def draw_all(cells: Cells, folder: Path) -> list[Path]:
    """Both pictures as ``citation_place.png`` and ``citation_documents.png`` in `folder`; one that has nothing to show is left out.

    Raises:
        InputError: matplotlib is missing.
    """
    drawn = []
    places = place_panels(cells)
    if places:
        moved = any(cell["place"] is not None for cell in cells)
        label = "place of the gold document (1: first)" if moved else "quarter with the gold document"
        drawn.append(draw_shares(places, folder / "citation_place.png", x_label=label, y_label="exact match (%)", columns=2 if moved else 3, colours=COLOURS))
    documents = document_panels(cells)
    if documents:
        drawn.append(draw_shares(documents, folder / "citation_documents.png", x_label="documents", y_label="exact match (%)", columns=3, colours=COLOURS))
    return drawn


def place_panels(cells: Cells) -> dict[str, Lines]:
    """A panel for each number of documents, style and hops. Where no gold document was moved, by quarter of the context instead."""
    placed = [cell for cell in cells if cell["place"] is not None and "accuracy" in cell]
    panels: dict[str, Lines] = {}
    for cell in placed:
        point = (cell["place"] + 1.0, cell["accuracy"], cell["low"], cell["high"])
        panels.setdefault(_title(cell), {}).setdefault(cell["arm"], []).append(point)
    if placed:
        return panels
    hops = [cell for cell in cells if cell["kind"] in HOPS and "accuracy" in cell and cell["words"] == 0 and cell["arm"] in COLOURS]
    most = max((cell["documents"] for cell in hops), default=0)
    for cell in hops:
        if cell["documents"] == most:
            lines = panels.setdefault(_title(cell), {})
            lines[cell["arm"]] = [(i + 1.0, r / n, *wilson(r, n)) for i, (r, n) in enumerate(cell["quarters"]) if n]
    return panels


def document_panels(cells: Cells) -> dict[str, Lines]:
    """A panel for each style and hops, where at least two numbers of documents were measured."""
    panels: dict[str, Lines] = {}
    for cell in sorted(cells, key=lambda cell: int(cell["documents"])):
        if cell["place"] is None and cell["words"] == 0 and cell["kind"] in HOPS and cell["arm"] in COLOURS and "accuracy" in cell:
            point = (float(cell["documents"]), cell["accuracy"], cell["low"], cell["high"])
            panels.setdefault(f"{cell['style']}, {cell['kind']}", {}).setdefault(cell["arm"], []).append(point)
    order = ["named", "numbered", "bare"]
    panels = dict(sorted(panels.items(), key=lambda item: (order.index(item[0].split(",")[0]), item[0])))
    return {title: lines for title, lines in panels.items() if len({point[0] for points in lines.values() for point in points}) > 1}


def _title(cell: dict[str, Any]) -> str:
    return f"{cell['documents']} documents, {cell['style']}, {cell['kind']}"
