"""`graphkv train`: train or fine-tune a decoder under a mixture of layouts; the same command again goes on after a kill."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.common import LayoutOptions, MaxSegmentTokens, Model, parse_options, quiet


def train(
    rows: Annotated[Path, typer.Argument(help="Training rows as JSON Lines: documents and questions with answers.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="The run's folder; a run that is in it goes on.", show_default=False)],
    model: Model = None,
    init: Annotated[str, typer.Option(help="pretrained, or scratch: the model's config with random weights.")] = "pretrained",
    lora: Annotated[int | None, typer.Option(help="Train a LoRA adapter of this rank in place of the weights.", min=1, show_default=False)] = None,
    layouts: Annotated[str, typer.Option("--layouts", "-l", help="The mixture: graph=2,block=1,sequential=1; landmark is a reading too.")] = "graph",
    landmark_block: Annotated[
        int | None, typer.Option(help="With landmark in the mixture, the first time: tokens a block, the landmark included.", min=2, show_default=False)
    ] = None,
    landmark_weight: Annotated[float, typer.Option(help="Weight of the landmarks' divergence from their blocks, a help at small budgets.")] = 0.0,
    landmark_ramp: Annotated[float, typer.Option(help="First share of the steps, over which landmarks take over from plain attention.")] = 0.0,
    option: LayoutOptions = None,
    eval: Annotated[Path | None, typer.Option("--eval", help="Held-out rows, measured under every layout of the mixture.", show_default=False)] = None,
    eval_every: Annotated[int, typer.Option(help="In steps.", min=1)] = 100,
    eval_rows: Annotated[int, typer.Option(help="At most so many held-out rows.", min=1)] = 50,
    steps: Annotated[int, typer.Option(help="Optimizer steps of the whole run.", min=1)] = 200,
    batch_tokens: Annotated[int, typer.Option(help="A step adds episodes up to so many tokens.", min=1)] = 4096,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-4,
    muon: Annotated[float, typer.Option(help="Peak learning rate of Muon for the matrices inside the layers; 0 for AdamW alone.")] = 0.0,
    warmup: Annotated[int, typer.Option(help="Steps of linear rise.", min=0)] = 20,
    decay: Annotated[float, typer.Option(help="Last share of the steps, in which the rate falls to 0.")] = 0.2,
    weight_decay: Annotated[float, typer.Option(help="On matrices.")] = 0.0,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0 for none.")] = 1.0,
    text_weight: Annotated[float, typer.Option(help="Weight of the loss on the documents' own tokens.")] = 0.0,
    questions: Annotated[int | None, typer.Option(help="At most so many questions an episode.", min=1, show_default=False)] = None,
    max_segment_tokens: MaxSegmentTokens = None,
    skip_long: Annotated[bool, typer.Option("--skip-long", help="Pass over rows that do not fit into the model's window.")] = False,
    seed: Annotated[int, typer.Option(help="Of the order of rows, of random weights and of dropout.", min=0)] = 0,
    dtype: Annotated[str, typer.Option(help="float32, or bfloat16: autocast, the trained weights stay float32.")] = "float32",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; cuda if there is one.", show_default=False)] = None,
    threads: Annotated[int | None, typer.Option(help="torch's threads.", min=1, show_default=False)] = None,
    kernel: Annotated[str, typer.Option(help="Attention kernel; see graphkv doctor.")] = "gather",
    save_every: Annotated[float, typer.Option(help="Minutes between checkpoints.")] = 5.0,
    log_every: Annotated[int, typer.Option(help="Steps between lines of metrics.jsonl.", min=1)] = 10,
) -> None:
    """Train a decoder to answer from documents that read one another.

    A row is {"documents": [{"id", "title", "text", "sources"}], "questions": [{"question", "answer"}]}.

    Every step draws a layout for each row and asks all its questions in one forward. The folder gets metrics.jsonl, loss.png,
    checkpoints, and at the end model. Ctrl-C saves; the same command goes on, and makes the steps that it would have made.

    [bold]A session[/bold]

    \b
    $ python -m graphkv_benchmarks.citation_world --worlds 500 --out worlds.jsonl
    $ graphkv train worlds.jsonl --out run --layouts graph=2,block=1 --questions 12
    $ graphkv ask papers.jsonl "Who wrote Ruby Geyser?" --model run/model
    """
    with quiet("loading torch"):
        from graphkv.train import TrainSettings
        from graphkv.train import train as run

    settings = TrainSettings(
        rows=rows,
        out=out,
        model=model,
        init=init,
        lora=lora,
        layouts=layouts,
        landmark_block=landmark_block,
        landmark_weight=landmark_weight,
        landmark_ramp=landmark_ramp,
        options=parse_options(option),
        eval=eval,
        eval_every=eval_every,
        eval_rows=eval_rows,
        steps=steps,
        batch_tokens=batch_tokens,
        lr=lr,
        muon=muon,
        warmup=warmup,
        decay=decay,
        weight_decay=weight_decay,
        clip=clip,
        text_weight=text_weight,
        questions=questions,
        max_segment_tokens=max_segment_tokens,
        skip_long=skip_long,
        seed=seed,
        dtype=dtype,
        device=device,
        threads=threads,
        kernel=kernel,
        save_every=save_every,
        log_every=log_every,
    )
    summary = run(settings)
    if "note" in summary:
        typer.secho(summary["note"], fg=typer.colors.YELLOW, err=True)
    typer.echo(json.dumps(summary))
    if "stopped_by" in summary:
        raise typer.Exit(128 + signal.Signals[summary["stopped_by"]])
