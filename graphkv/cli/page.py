"""One self-contained HTML page for a graph and a layout: no scripts, no requests, everything escaped by the template."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from graphkv.graph import Edge, SegmentGraph
from graphkv.layout import Layout
from graphkv.places import colour_names, edge_colour, hop_of, label_of, node_colours, node_places, overview, shorten
from graphkv.plot import ROLE_COLOURS

MOST_BLOCKS = 1500
"""Blocks up to which a mask is drawn; of more nobody could make out one."""

_UNIT = 13.0  # pixels a label height


@dataclass(frozen=True)
class _Run:
    """Neighbouring cells of one row and one role, drawn as one rectangle: a wide mask stays a small file."""

    x: float
    y: float
    width: float
    role: str
    own: bool
    hint: str


def graph_page(graph: SegmentGraph, layout: Layout, *, title: str, question: str | None = None) -> str:
    """The page as text.

    Args:
        graph: what the user gave. layout: its plan; it may hold more segments, if long documents were cut.
        title: heading of the page. question: shown if there is one.

    Example:
        >>> graph_page(graph, engine.plan(graph, "Who?"), title="papers.jsonl")  # doctest: +SKIP
    """
    import jinja2

    template = files("graphkv.cli").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(
        title=title,
        question=question,
        graph=_graph_svg(graph),
        mask=_mask_svg(layout) if len(layout.blocks) <= MOST_BLOCKS else None,
        segments=_segment_rows(graph, layout),
        layout=layout,
        plan=str(layout),
        roles=[(role, colour) for role, colour in ROLE_COLOURS.items() if any(b.role == role and b.length for b in layout.blocks)],
        colours=ROLE_COLOURS,
        edges=len(graph.edges),
    )


def _graph_svg(whole: SegmentGraph) -> dict[str, Any]:
    shown = overview(whole)
    graph = shown.graph
    places = node_places(graph)
    colours, meaning = colour_names(), node_colours(graph)
    at = {id: (x * _UNIT, (y + 1) * _UNIT) for id, (x, y) in places.xy.items()}
    arrows = []
    for edge in graph.edges:
        u, v = edge
        if u == v:
            continue
        (x0, y0), (x1, y1) = at[u], at[v]
        long = math.hypot(x1 - x0, y1 - y0) or 1.0
        dx, dy = (x1 - x0) / long, (y1 - y0) / long
        arrows.append({"x0": x0 + 6 * dx, "y0": y0 + 6 * dy, "x1": x1 - 9 * dx, "y1": y1 - 9 * dy, "colour": edge_colour(edge), "hint": _edge_hint(graph, edge)})
    nodes = []
    for id, (x, y) in at.items():
        angle = places.angles.get(id)
        left = angle is not None and 90 < angle % 360 < 270
        nodes.append(
            {
                "x": x,
                "y": y,
                "label": label_of(graph, id),
                "hint": _node_hint(graph, id),
                "colour": colours[meaning[id]],
                "asked": hop_of(graph, id) == 0,
                "turn": 0 if angle is None else angle + (180 if left else 0),
                "anchor": "end" if left else "start",
                "shift": -10 if left else 10,
            }
        )
    keys = {name: colour for name, colour in colours.items() if name in meaning.values()}
    kinds = {edge.kind: edge_colour(edge) for edge in graph.edges if edge.kind}
    size = {"width": places.width * _UNIT, "height": (places.height + 2) * _UNIT}
    return {**size, "arrows": arrows, "nodes": nodes, "keys": keys, "kinds": kinds, "note": shown.note}


def _edge_hint(graph: SegmentGraph, edge: Edge) -> str:
    about = ", ".join([*([edge.kind] if edge.kind else []), *([f"weight {edge.weight:g}"] if edge.weight is not None else [])])
    return f"{label_of(graph, edge[1])} reads {label_of(graph, edge[0])}{f' ({about})' if about else ''}"


def _node_hint(graph: SegmentGraph, id: str) -> str:
    segment = graph[id]
    reads = ", ".join(graph.sources(id)[:8]) or "nothing"
    text = shorten(segment.text, 240) if segment.text else f"{len(segment.tokens or ())} token ids"
    hop = hop_of(graph, id)
    where = f" ({hop} hops away)" if hop else ""
    return f"{id}{f': {segment.title}' if segment.title else ''}{where}\n{text}\nreads: {reads}"


def _mask_svg(layout: Layout) -> dict[str, Any]:
    blocks = [(i, b) for i, b in enumerate(layout.blocks) if b.length]
    column = {i: n for n, (i, _) in enumerate(blocks)}
    cell = max(3.0, min(22.0, 1100 / len(blocks)))
    named = cell >= 11
    left = 8.0 + (7.0 * max(len(shorten(b.name)) for _, b in blocks) if named else 0.0)
    runs = []
    for row, (i, block) in enumerate(blocks):
        reads = [j for j in block.reads if j in column]
        for group in _neighbours(reads, layout, column):
            first, last = layout.blocks[group[0]], layout.blocks[group[-1]]
            what = first.name if len(group) == 1 else f"{first.name} … {last.name} ({len(group)} blocks)"
            runs.append(_Run(left + column[group[0]] * cell, row * cell, len(group) * cell, first.role, False, f"{block.name} reads {what}"))
        hint = f"{block.name}: {block.length} tokens at positions {block.position} to {block.position + block.length - 1}, causal to itself"
        runs.append(_Run(left + column[i] * cell, row * cell, cell, block.role, True, hint))
    labels = [{"y": (n + 0.5) * cell, "text": shorten(b.name)} for n, (_, b) in enumerate(blocks)] if named else []
    size = len(blocks) * cell
    return {"cell": cell, "left": left, "width": left + size + 1, "height": size + 1, "size": size, "runs": runs, "labels": labels, "count": len(blocks)}


def _neighbours(reads: list[int], layout: Layout, column: dict[int, int]) -> list[list[int]]:
    """Cut into runs of adjacent columns with one role."""
    groups: list[list[int]] = []
    for j in reads:
        before = groups[-1][-1] if groups else None
        if before is not None and column[j] == column[before] + 1 and layout.blocks[j].role == layout.blocks[before].role:
            groups[-1].append(j)
        else:
            groups.append([j])
    return groups


def _segment_rows(graph: SegmentGraph, layout: Layout) -> list[dict[str, Any]]:
    """One row a segment of the layout."""
    found: dict[str, dict[str, Any]] = {}
    for block in layout.blocks:
        if block.segment is None:
            continue
        segment = graph[block.segment]
        row = found.setdefault(
            block.segment,
            {
                "id": block.segment,
                "title": segment.title or "",
                "text": shorten(segment.text or "", 160),
                "tokens": block.length,
                "blocks": [],
                "reads": [],
            },
        )
        row["blocks"].append(block.name)
        row["reads"] = [name for j in block.reads if (name := layout.blocks[j].segment) is not None]
    return list(found.values())
