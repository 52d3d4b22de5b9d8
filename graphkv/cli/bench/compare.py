"""`graphkv bench compare`: two runs, or two arms of one, question by question."""

from __future__ import annotations

from typing import Annotated

import typer

from graphkv.cli.common import Json, print_json


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Folder of a run, or DIR:ARM for one of its arms.", show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help="What it is compared with: the same benchmark, of any model.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Differences B minus A on the same questions, with 95% intervals (paired bootstrap; Agresti and Min's where all differences are equal) and McNemar's exact test (with
    seeds, its generalisation).

    Without arms every arm and setting that both runs have is compared. Runs of other data, or scored otherwise, are refused; another model, dtype or
    prompt is named.

    [bold]Two layouts of one run, and two models[/bold]

    \b
    $ graphkv bench compare runs/embedded:sequential runs/embedded:graph
    $ graphkv bench compare runs/embedded runs/qwen --json
    """
    from graphkv_benchmarks.runner.compare import compare as compared
    from graphkv_benchmarks.runner.compare import markdown, read_side

    result = compared(read_side(a), read_side(b))
    if as_json:
        print_json(result)
    else:
        typer.echo(markdown(result), nl=False)
