"""`graphkv stats`: what a graph is like, and what reading it costs under each layout."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphkv.cli.common import Dtype, Json, MaxSegmentTokens, Model, load_engine, planned, print_json, read_graph
from graphkv.cli.part import Direction, Ego, Hops, PathEnds, part_of

if TYPE_CHECKING:
    from graphkv.stats import Cost

DEFAULT = ("sequential", "block", "graph")
"""Layouts whose cost is shown when none is named."""


def stats(
    docs: Annotated[Path, typer.Argument(help="A graph, or anything that `graphkv build` reads.", show_default=False)],
    layout: Annotated[list[str] | None, typer.Option("--layout", "-l", help="Show its cost; may be given several times.", show_default=", ".join(DEFAULT))] = None,
    ego: Ego = None,
    hops: Hops = None,
    direction: Direction = None,
    path: PathEnds = None,
    model: Model = None,
    dtype: Dtype = None,
    max_segment_tokens: MaxSegmentTokens = None,
    as_json: Json = False,
) -> None:
    """Count nodes, edges, components, degrees and tokens; estimate KV bytes and prefill FLOPs.

    The model's config and tokenizer are read, not its weights.

    [bold]A session[/bold]

    \b
    $ graphkv stats graph.jsonl
    8 segments (8 paper) of 8 documents, 5 edges (5 cites), no cycle
    3 components, the largest has 5 segments; 1 alone
    a segment reads 0.62 (median 1, at most 1), is read by 0.62 (median 0, at most 3)
    413 tokens, a segment has 51.62 (median 52.5, at most 66)
    layout      tokens  positions  KV MiB  prefill GFLOP
    sequential     414        414     2.8            3.2
    block          414        414     2.8            2.6
    graph          461        120     3.2            3.0
    """
    from graphkv.stats import graph_numbers, layout_cost

    graph = part_of(read_graph(docs), ego, hops, direction, path)
    engine = load_engine(model, dtype, max_segment_tokens, weights=False)
    plans = []
    for name in layout or DEFAULT:
        graph, plan = planned(engine, graph, None, name, {})
        plans.append(plan)
    numbers = graph_numbers(graph, {block.segment: block.length for block in plans[0].blocks if block.segment is not None})
    costs = [layout_cost(plan, engine.model) for plan in plans]
    if as_json:
        print_json(numbers | {"layouts": [asdict(cost) for cost in costs], "model_window": engine.model.window})
        return
    typer.echo(_text(numbers))
    _print_costs(costs, engine.model.window)


def _text(numbers: dict[str, Any]) -> str:
    from graphkv.importers.report import plural

    segments, edges, components, tokens = (numbers[key] for key in ("segments", "edges", "components", "tokens"))
    reads, read_by = numbers["sources"], numbers["readers"]

    def kinds(counts: dict[str, int]) -> str:
        return f" ({', '.join(f'{n:,} {kind}' for kind, n in counts.items())})" if counts else ""

    def spread(of: dict[str, float]) -> str:
        return f"{of['mean']:,} (median {of['median']:,g}, at most {of['max']:,})"

    of = f"{plural(segments['total'], 'segment')}{kinds(segments['roles'])} of {plural(numbers['documents'], 'document')}"
    return "\n".join(
        (
            f"{of}, {plural(edges['total'], 'edge')}{kinds(edges['kinds'])}, {'with cycles' if numbers['cycles'] else 'no cycle'}",
            f"{plural(components['total'], 'component')}, the largest has {plural(components['largest'], 'segment')}; {components['alone']:,} alone",
            f"a segment reads {spread(reads)}, is read by {spread(read_by)}",
            f"{tokens['total']:,} tokens, a segment has {spread(tokens)}",
        )
    )


def _print_costs(costs: list[Cost], window: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("layout", "tokens", "positions", "KV MiB", "prefill GFLOP"):
        table.add_column(column, justify="left" if column == "layout" else "right")
    for cost in costs:
        positions = f"{cost.window:,}" + ("" if cost.fits else "!")
        table.add_row(cost.layout, f"{cost.tokens:,}", positions, f"{cost.kv_bytes / 2**20:,.1f}", f"{cost.flops / 1e9:,.1f}")
    Console().print(table)
    if not all(cost.fits for cost in costs):
        typer.echo(f"! more positions than the model's window of {window:,}: choose a part (--ego, or ask --retrieve), or a layout with shared positions")
