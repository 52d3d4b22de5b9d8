"""`graphkv bench infini-retri-peer`: InfiniRetri beside the package of its authors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graphkv.cli.common import Json, print_json
from graphkv.errors import InputError


def infini_retri_peer(
    peer: Annotated[Path, typer.Option(envvar="GRAPHKV_INFINI_RETRI", help="The Python of an environment in which infini-retri 0.0.3 is installed.")] = Path("peer/bin/python"),
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="embedded, qwen2.5-0.5b-shape or a folder (read in bfloat16); may be given several times.", show_default="the first two")] = None,
    window: Annotated[list[int] | None, typer.Option("--window", "-w", help="Tokens of a window; may be given several times.", min=64, show_default="1024; 1024 and 4096 with the larger model")] = None,
    cases: Annotated[int | None, typer.Option(help="Texts, a question each.", min=1, show_default="50; 3 and 1 with the larger model")] = None,
    tokens: Annotated[int | None, typer.Option(help="About the length of each text.", min=64, show_default="3500; 2000 and 4400 with the larger model")] = None,
    text: Annotated[Path | None, typer.Option(help="A text of your own to hide the needles in, instead of the invented ones.", show_default=False)] = None,
    repeats: Annotated[int, typer.Option(help="Timed runs of each side.", min=1)] = 3,
    threads: Annotated[int | None, typer.Option(help="Threads of both.", min=1, show_default="all cores")] = None,
    seed: Annotated[int, typer.Option(help="Which texts, and random weights.", min=0)] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="The embedded model, 2 texts of 1500 tokens, one repeat.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here after every row; rows it holds already are kept.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """The package infini-retri 0.0.3 and ours: kept sentences, seconds, memory.

    The same texts, questions, prompt, model, windows and settings; each side in its own process and environment, by turns. The package
    needs other things than graphkv does:

    \b
    $ python3 -m venv peer
    $ peer/bin/pip install -c constraints.txt torch transformers tiktoken scipy seaborn matplotlib
    $ peer/bin/pip install --no-deps infini-retri==0.0.3

    The whole takes about three quarters of an hour on two cores and 20 GB of memory (the package's); --quick a minute.

    [bold]A session[/bold]

    \b
    $ graphkv bench infini-retri-peer --peer peer/bin/python --quick --json > peer.json
    $ python -c "import json; print(json.load(open('peer.json'))['rows'][0]['agreement']['led']['same'])"
    1.0
    """
    if quick and (model or window):
        raise InputError("--quick is the embedded model at a window of 1024: leave --model and --window out, or --quick")
    from dataclasses import replace

    from graphkv_benchmarks.infini_retri_peer.cases import ROWS, rows_of
    from graphkv_benchmarks.infini_retri_peer.run import run_infini_retri_peer

    rows = [replace(ROWS[0], cases=2, tokens=1500)] if quick else rows_of(model, window)
    changes: dict[str, Any] = {key: value for key, value in (("cases", cases), ("tokens", tokens)) if value is not None}
    rows = [replace(r, repeats=1 if quick else repeats, **changes) for r in rows]
    result = run_infini_retri_peer(
        peer, rows, threads=threads, seed=seed, text=text, output=output, report=lambda line: typer.secho(line, dim=True, err=True)
    )
    if as_json:
        print_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="infini-retri 0.0.3 and ours")
    for column in ("model", "window"):
        table.add_column(column)
    for column in ("cases", "sentences shared", "cases alike", "led alike", "s peer", "s ours", "times faster", "MiB peer", "MiB ours"):
        table.add_column(column, justify="right")
    for row in result["rows"]:
        settings, agreed, seconds, peak = row["settings"], row["agreement"], row["seconds"], row["peak_mb"]
        table.add_row(
            settings["model"],
            f"{settings['window']:,}",
            str(agreed["alone"]["cases"]),
            f"{100 * agreed['alone']['shared']:.1f}%",
            f"{100 * agreed['alone']['same']:.0f}%",
            f"{100 * agreed['led']['same']:.1f}%",
            f"{seconds['peer']:.1f}",
            f"{seconds['ours']:.1f}",
            f"{seconds['times_faster']:.1f}",
            *("–" if peak[side] is None else f"{peak[side]:,.0f}" for side in ("peer", "ours")),
        )
    Console().print(table)
    for row in result["rows"]:
        for cause, count in row["agreement"]["causes"].items():
            typer.echo(f"{row['settings']['model']}, window {row['settings']['window']:,}: {count} cases differ: {cause}")
