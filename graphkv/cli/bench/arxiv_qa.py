"""`graphkv bench arxiv-qa`: questions about a paper among the papers that it cites, alone and beside other ego graphs."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.bench.task_options import (
    Arms,
    AsPublished,
    Data,
    Device,
    DryRun,
    LandmarkModel,
    Limit,
    MaxMemory,
    MaxNewTokens,
    Out,
    Prompt,
    Shard,
    StorePlace,
    Workers,
    numbers_of,
    options_of,
    prompt_of,
    run_task,
)
from graphkv.cli.common import Dtype, Json, MaxSegmentTokens, Model
from graphkv.errors import InputError

ARMS = ("sequential", "block", "pcw", "ape", "graph", "full", "hops2", "infini_retri", "infini_retri:neighbours=sources", "landmark")


def arxiv_qa(
    data: Data = None,
    offline: Annotated[bool, typer.Option("--offline", help="60 invented ego graphs in place of --data, made in the folder of --out; a dry run leaves none.")] = False,
    model: Model = None,
    arms: Arms = None,
    distractors: Annotated[str, typer.Option(metavar="N,M", help="How many other ego graphs stand beside the paper's.")] = "0,1,2",
    order: Annotated[str, typer.Option(metavar="first,last", help="Where the paper's own stands among them.")] = "first,last",
    seeds: Annotated[str | None, typer.Option(metavar="N,M", help="Of the draw of distractors; with --as-published 42 and no other.", show_default="42,43,44")] = None,
    prompt: Prompt = None,
    as_published: AsPublished = False,
    out: Out = Path("arxiv-qa"),
    limit: Limit = None,
    shard: Shard = None,
    workers: Workers = 1,
    dry_run: DryRun = False,
    max_new_tokens: MaxNewTokens = None,
    max_memory: MaxMemory = None,
    store: StorePlace = None,
    dtype: Dtype = None,
    device: Device = None,
    max_segment_tokens: MaxSegmentTokens = None,
    landmark_model: LandmarkModel = None,
    as_json: Json = False,
) -> None:
    """Arxiv-QA of the Graph-KV paper: best_subspan_em by arm, distractors, and whether the paper stands first or last.

    --data is the released folder: questions/1.txt, answers/1.txt, text_data/1.json and so on, or one above it (`graphkv bench download`).
    --offline does without: invented papers in the same layout; `graphkv bench offline arxiv-qa` makes such sets of other sizes.
    All arms read one wording, distractors are drawn for each paper by itself and never are the paper, first and last have the same ones.
    With --as-published draw, wording, caps and scores are the official code's; it goes with --prompt paper.

    [bold]A session[/bold]

    \b
    $ graphkv bench arxiv-qa --offline --arms block,graph --limit 2 --distractors 0 --dry-run --out arxiv-qa --json | grep '"arm"'
          "arm": "block",
          "arm": "graph",
    """
    options = options_of(locals())
    if offline == (data is not None):
        raise InputError("expected --data DIR (the released data set) or --offline (an invented one), and not both")
    from graphkv_benchmarks.tasks.arxiv_qa import ArxivQA
    from graphkv_benchmarks.tasks.offline_arxiv import write_offline_arxiv

    # a dry run leaves nothing behind
    with tempfile.TemporaryDirectory() if offline and dry_run else nullcontext(out) as folder:
        place = Path(folder) / "data" if data is None else data
        task = ArxivQA(
            str(place),
            distractors=numbers_of("distractors", distractors),
            orders=tuple(part.strip() for part in order.split(",")),
            seeds=() if seeds is None else numbers_of("seeds", seeds),
            prompt=prompt_of(prompt, model),
            as_published=as_published,
        )
        run_task(
            task,
            ARMS,
            **options,
            prepare=(lambda: write_offline_arxiv(place)) if offline else None,
        )
