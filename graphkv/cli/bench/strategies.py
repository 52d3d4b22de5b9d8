"""`graphkv bench strategies`: all strategies on the same questions, from four thousand to a hundred and thirty thousand tokens."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from graphkv.cli.bench.long_context import (
    DocumentTokens,
    LandmarkModel,
    Lengths,
    Output,
    Plot,
    Seed,
    Strategies,
    StrategyOptions,
    lengths_of,
    places_of,
    run_and_show,
    ways_of,
)
from graphkv.cli.common import Dtype, Json, MaxSegmentTokens, Model


def strategies(
    model: Model = None,
    strategy: Strategies = None,
    lengths: Lengths = "4k,16k,64k,128k",
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="citation, needle, multi_needle, multi_value, vt. May be given several times.", show_default="all")
    ] = None,
    scale: Annotated[int, typer.Option(help="So many times as many contexts as usual (4 up to 4k tokens, 2 up to 16k, then 1; vt, which asks one question of each, has four times as many).", min=1)] = 1,
    document_tokens: DocumentTokens = 512,
    max_segment_tokens: MaxSegmentTokens = None,
    option: StrategyOptions = None,
    landmark_model: LandmarkModel = None,
    seed: Seed = 1,
    output: Output = None,
    plot: Plot = False,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """All strategies on the same questions: what is right, what was read and kept, seconds, memory.

    Citation-world questions over one and two hops, needles, needles that differ in their keys only, several values a key, variable
    tracking. Ten questions share a context (several values: four; variable tracking: one). With --output FILE.json the tables go into FILE.md too.

    [bold]A session[/bold]

    \b
    $ graphkv bench strategies --lengths 2k --task needle -s graph | grep "| .graph" | head -1 | cut -c 1-18
    | `graph` | 100.0
    """
    sizes = lengths_of(lengths)
    summary = places_of(output)[0]
    from graphkv_benchmarks.long_context.haystack import Meter
    from graphkv_benchmarks.long_context.strategies import TASKS, check_tasks, markdown_page, table_contexts

    tasks = list(dict.fromkeys(task or TASKS))
    check_tasks(tasks)
    ways = ways_of(strategy, option, model, dtype, max_segment_tokens, landmark_model)
    settings: dict[str, Any] = {"seed": seed, "document_tokens": document_tokens, "scale": scale}
    contexts = table_contexts(Meter(ways[0].engine), sizes, tasks, **settings)
    result = run_and_show(ways, contexts, {"benchmark": "strategies", "tasks": tasks, "lengths": sizes, **settings}, output, plot, as_json)
    if summary is not None:
        summary.with_suffix(".md").write_text(markdown_page(result), encoding="utf-8")
