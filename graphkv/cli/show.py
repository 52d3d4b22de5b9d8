"""`graphkv show`: the graph, its block mask, and one HTML page with both and the plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphkv.cli.common import (
    Dtype,
    Edges,
    Json,
    LayoutOptions,
    MaxSegmentTokens,
    Model,
    choose_rows,
    load_engine,
    parse_options,
    planned,
    print_json,
    read_graph,
    read_rows,
    working,
)
from graphkv.cli.part import Direction, Ego, Hops, PathEnds, part_of
from graphkv.cli.retrieval import ContextTokens, Expand, ExpandHops, Index, Retrieve, retrieval_of
from graphkv.errors import InputError

if TYPE_CHECKING:
    from graphkv.graph import SegmentGraph
    from graphkv.layout import Layout


def show(
    docs: Annotated[Path, typer.Argument(help="Documents as JSON Lines, anything that `graphkv build` reads, or a MoreHopQA file.", show_default=False)],
    question: Annotated[str | None, typer.Argument(help="Planned behind the documents.", show_default=False)] = None,
    layout: Annotated[str, typer.Option("--layout", "-l", help="The layout.")] = "graph",
    option: LayoutOptions = None,
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.")] = Path("graphkv-show"),
    model: Model = None,
    dtype: Dtype = None,
    max_segment_tokens: MaxSegmentTokens = None,
    row: Annotated[int, typer.Option(help="Of a data set, the row to show.", min=0)] = 0,
    edges: Edges = "none",
    ego: Ego = None,
    hops: Hops = None,
    direction: Direction = None,
    path: PathEnds = None,
    retrieve: Retrieve = None,
    index: Index = None,
    expand: Expand = "none",
    expand_hops: ExpandHops = 1,
    context_tokens: ContextTokens = None,
    as_json: Json = False,
) -> None:
    """Draw a graph of documents and who reads whom under a layout.

    All of it, the part around a paper (--ego), the paths between two (--path twice), or what a question would read (--retrieve).

    Writes graph.png, mask.png and index.html, a page that needs nothing else.

    [bold]A session[/bold]

    \b
    $ graphkv show papers.jsonl "Who is the author of the paper extended by Violet Oak?"
    layout graph
      block     role      tokens  positions      reads
      prefix    prefix         1  0–0            –
      paper3@0  source        53  1–53           –
      ...
      paper1@1  target        57  54–110         paper4@0
      ...
    wrote graphkv-show/graph.png
    wrote graphkv-show/mask.png
    wrote graphkv-show/index.html
    """
    options = parse_options(option)
    rows = read_rows(docs, edges)
    chosen = choose_rows(rows, row, None)[0] if rows is not None else None
    graph = chosen.graph if chosen is not None else read_graph(docs)
    asked = question or (chosen.question if chosen is not None else None)
    retrieval = retrieval_of(retrieve, index, expand, expand_hops, context_tokens)
    graph = part_of(graph, ego, hops, direction, path)
    engine = load_engine(model, dtype, max_segment_tokens, weights=index is not None)  # an index may embed the question with the model
    if retrieval is not None:
        if asked is None:
            raise InputError("--retrieve needs a question to retrieve for")
        graph = retrieval.apply(engine, graph, asked)
    graph, plan = planned(engine, graph, asked, layout, options)
    files = write_pictures(graph, plan, out, title=docs.name, question=asked)
    if as_json:
        fits = {"model_window": engine.model.window, "fits": plan.window <= engine.model.window}
        counts = {"segments": len(graph), "edges": len(graph.edges), "blocks": len(plan.blocks), "tokens": plan.total_tokens, "window": plan.window, "pairs": plan.pairs}
        print_json({"files": [str(f) for f in files], **counts, **fits})
        return
    typer.echo(str(plan) if len(plan.blocks) <= 40 else "\n".join([str(plan).splitlines()[0], str(plan).splitlines()[-1]]))
    if plan.window > engine.model.window:
        typer.echo(f"the model's window of {engine.model.window:,} positions is too small to ask it: choose a part, or retrieve")
    for file in files:
        typer.echo(f"wrote {file}")


def write_pictures(graph: SegmentGraph, plan: Layout, out: Path, *, title: str, question: str | None) -> list[Path]:
    """graph.png, mask.png (of layouts of up to 1,500 blocks) and index.html in the folder `out`, which is made."""
    from graphkv.cli.page import MOST_BLOCKS, graph_page
    from graphkv.plot import draw_layout
    from graphkv.plot_graph import draw_graph

    with working("drawing"):
        out.mkdir(parents=True, exist_ok=True)
        page = out / "index.html"
        page.write_text(graph_page(graph, plan, title=title, question=question), encoding="utf-8")
        mask = [draw_layout(plan, out / "mask.png")] if len(plan.blocks) <= MOST_BLOCKS else []
        return [draw_graph(graph, out / "graph.png"), *mask, page]
