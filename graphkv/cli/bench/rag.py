"""`graphkv bench rag`: accuracy on NQ, 2Wiki, TQA, HotpotQA, MultiHop-RAG, MoreHopQA or LongBench-v2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.bench.task_options import (
    Arms,
    AsPublished,
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
    options_of,
    prompt_of,
    run_task,
)
from graphkv.cli.common import Dtype, Json, MaxSegmentTokens, Model
from graphkv.errors import InputError

ARMS = ("sequential", "pcw", "ape", "block", "top1", "top3", "full", "hops2", "hops3")


def rag(
    set: Annotated[str, typer.Option("--set", help="nq, 2wiki, tqa, hotpotqa, multihop-rag, morehopqa or longbench-v2.")] = "nq",
    data: Annotated[Path | None, typer.Option("--data", help="The set's file, or a folder above it in the released tree.", show_default=False)] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Invented rows in place of --data, made in the folder of --out.")] = False,
    rows: Annotated[int | None, typer.Option(help="With --offline: how many.", min=1, show_default="100")] = None,
    words: Annotated[int | None, typer.Option(help="With --offline: least words of a document; 0: facts only, some 40.", min=0, show_default="0")] = None,
    seed: Annotated[int | None, typer.Option(help="With --offline: which rows.", min=0, show_default="1")] = None,
    domain: Annotated[str, typer.Option(help="Of LongBench-v2; '' for all.")] = "Single-Document QA",
    passage_words: Annotated[int, typer.Option(help="Words of a passage of LongBench-v2.", min=1)] = 512,
    model: Model = None,
    arms: Arms = None,
    prompt: Prompt = None,
    as_published: AsPublished = False,
    out: Out = Path("rag"),
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
    """Accuracy of a question over its retrieved passages, for every layout.

    The passages stand in ascending order of their retrieval score; Top-m and the hops go by that score. Of morehopqa the JSON list
    of its authors is read too. A row that cannot be read is named in the report, and the rest goes on. What --as-published changes, and
    where paper and code differ, stands in graphkv_benchmarks/tasks/rag.py.

    [bold]A session[/bold]

    \b
    $ graphkv bench rag --set nq --offline --rows 4 --arms sequential,full --dry-run --out rag --json | grep '"task"'
      "task": "rag-nq",
    """
    options = options_of(locals())
    if offline == (data is not None):
        raise InputError("expected --data FILE|DIR (a released set, see `graphkv bench download`) or --offline (invented rows), and not both")
    made = {"rows": rows, "words": words, "seed": seed}
    if not offline and (given := [name for name, value in made.items() if value is not None]):
        raise InputError(f"--{given[0]} is for invented rows: it goes with --offline, not with --data")
    from graphkv_benchmarks.tasks.offline_rag import write_offline_rag
    from graphkv_benchmarks.tasks.rag import RagQA

    place = str(out / "data" if data is None else data)
    task = RagQA(set, place, prompt=prompt_of(prompt, model), as_published=as_published, domain=domain, passage_words=passage_words)
    further = {name: value for name, value in made.items() if value is not None}
    run_task(
        task,
        ARMS,
        **options,
        prepare=(lambda: write_offline_rag(place, **further)) if offline else None,
    )
