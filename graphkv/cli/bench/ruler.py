"""`graphkv bench ruler`: the 11 of RULER's 13 tasks that need no download, by every strategy."""

from __future__ import annotations

from pathlib import Path
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


def ruler(
    model: Model = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="niah_single_1 to _3, niah_multikey_1 to _3, niah_multivalue, niah_multiquery, vt, cwe, fwe, or all. May be given several times.", show_default="all")
    ] = None,
    strategy: Strategies = None,
    lengths: Lengths = "4k",
    cases: Annotated[int, typer.Option(help="Cases of each task and length; RULER itself takes 500.", min=1)] = 10,
    bare: Annotated[bool, typer.Option("--bare", help="Without RULER's solved examples and the first words of the answer.")] = False,
    text: Annotated[Path | None, typer.Option(metavar="FILE", help="The essays; without it sentences about nothing.", show_default=False)] = None,
    document_tokens: DocumentTokens = 512,
    max_segment_tokens: MaxSegmentTokens = None,
    option: StrategyOptions = None,
    landmark_model: LandmarkModel = None,
    seed: Seed = 42,
    output: Output = None,
    plot: Plot = False,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """RULER (arXiv 2404.06654) in its own wording, with its own scores; the two tasks that need SQuAD and HotpotQA are left out.

    Its essays and word lists are downloads: here sentences about nothing (or --text) and other words stand in for them. With
    --document-tokens 0 the text is RULER's in every space; else a line end stands between documents. A chat template with a place for
    documents keeps its own marks around documents and question. Where cwe's list (ten words 30 times, others 3 times) has no room, which
    is so for the embedded tokenizer at 4k, RULER's list for shorter texts is taken (6 times, once).
    --bare is for models that were trained to answer with the values alone, as the embedded one is.
    Lengths, --output and cells beyond the window are as in `graphkv bench needle`.

    [bold]A session[/bold]

    \b
    $ graphkv bench ruler --task niah_single_1 --task fwe --lengths 2k --cases 2 -s graph | grep "###"
    ### fwe
    ### niah_single_1
    ### Cost
    """
    sizes = lengths_of(lengths)
    places_of(output)
    from graphkv_benchmarks.long_context.haystack import Meter, filler_haystack, text_haystack
    from graphkv_benchmarks.long_context.ruler import TASKS, Setting, check_tasks, ruler_contexts

    tasks = list(TASKS) if not task or "all" in task else list(dict.fromkeys(task))
    check_tasks(tasks)
    ways = ways_of(strategy, option, model, dtype, max_segment_tokens, landmark_model)
    meter = Meter(ways[0].engine)
    essays = filler_haystack(meter, max(sizes), seed) if text is None else text_haystack(meter, text)
    settings: dict[str, Any] = {"seed": seed, "document_tokens": document_tokens, "bare": bare}
    contexts = ruler_contexts(Setting(meter, essays, **settings), tasks, sizes, cases)
    plan = {"benchmark": "ruler", "tasks": tasks, "lengths": sizes, "cases": cases, "text": None if text is None else text.name, **settings}
    run_and_show(ways, contexts, plan, output, plot, as_json)
