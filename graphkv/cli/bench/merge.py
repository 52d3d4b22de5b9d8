"""`graphkv bench merge`: the shards of a run as one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.common import Json, print_json


def merge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of the shards, in any order.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the whole run.", show_default=False)],
    partial: Annotated[bool, typer.Option("--partial", help="Although a shard is missing or not done; the report says so.")] = False,
    as_json: Json = False,
) -> None:
    """Put the shards of a run (--shard i/n) together; metrics.json is the one of the undivided run.

    [bold]Three machines[/bold]

    \b
    $ graphkv bench arxiv-qa --data datahub/arxiv --shard 1/3 --out runs/1   # 2/3 and 3/3 elsewhere
    $ graphkv bench merge runs/1 runs/2 runs/3 --out runs/all
    """
    from graphkv_benchmarks.runner.merge import merge as merged

    result = merged(runs, out, partial)
    if as_json:
        print_json(result)
        return
    answered, asked = (sum(cell[key] for cell in result["cells"]) for key in ("answered", "questions"))
    typer.echo(f"{out}: {len(runs)} runs merged, {answered:,} of {asked:,} questions answered in {len(result['cells'])} cells; read {out / 'report.md'}")
