"""`graphkv bench topic`: the class of a paper of Cora or Pubmed from its text and its neighbours' texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.bench.task_options import (
    Arms,
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
    options_of,
    prompt_of,
    run_task,
)
from graphkv.cli.common import Dtype, Json, MaxSegmentTokens, Model
from graphkv.errors import InputError

ARMS = ("sequential", "block", "pcw", "ape", "graph")


def topic(
    set: Annotated[str, typer.Option("--set", help="cora (7 classes) or pubmed (3).")] = "cora",
    data: Data = None,
    offline: Annotated[bool, typer.Option("--offline", help="A small invented set in place of --data, made in the folder of --out.")] = False,
    model: Model = None,
    arms: Arms = None,
    neighbours: Annotated[int, typer.Option(help="How many neighbours a paper reads at most.", min=0)] = 10,
    choose: Annotated[str, typer.Option(metavar="bm25|id", help="Which, where there are more: nearest to the paper's own text, or the lowest ids.")] = "bm25",
    hops: Annotated[int, typer.Option(help="2: neighbours read their own neighbours too; arm graph:rounds=2 carries them on.", min=1, max=2)] = 1,
    test: Annotated[int, typer.Option(help="How many papers are asked, chosen by --seed.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Which papers are asked.", min=0)] = 1,
    prompt: Prompt = None,
    answers: Annotated[
        str, typer.Option(metavar="strict|first", help="strict: an answer names one class, no other; first: the first of the list that it names counts.")
    ] = "strict",
    out: Out = Path("topic"),
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
    """Accuracy on Cora or Pubmed, zero-shot: no paper's class is ever shown, the question lists the classes.

    A paper reads the papers that it cites or that cite it. --data is the folder of the LINQS release with its texts, as TAPE packs them;
    a wrong one is answered with all that is expected. Graph-KV's authors released no code for this, and which papers they asked is
    not known: the prompt, --test, --seed and --answers are ours.

    [bold]A session[/bold]

    \b
    $ graphkv bench topic --offline --arms graph --dry-run --out topic --json | grep '"task"'
      "task": "topic-cora",
    """
    options = options_of(locals())
    if offline == (data is not None):
        raise InputError("expected --data DIR (the released data set) or --offline (an invented one), and not both")
    from graphkv_benchmarks.tasks.offline_topic import write_offline_topic
    from graphkv_benchmarks.tasks.topic import TopicTask

    wording = prompt_of(prompt, model)
    choices = {"neighbours": neighbours, "choose": choose, "hops": hops, "test": test, "seed": seed, "prompt": wording, "answers": answers}
    task = TopicTask(set, str(out / "data" / f"topic-{set}" if data is None else data), **choices)  # type: ignore[arg-type]
    run_task(
        task,
        ARMS,
        **options,
        prepare=(lambda: write_offline_topic(task.data, set)) if offline else None,
    )
