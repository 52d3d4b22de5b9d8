"""`graphkv bench store-size`: a store with ten thousand blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.common import Json, load_engine, print_json


def store_size(
    segments: Annotated[int, typer.Option(help="Blocks in the store.", min=1)] = 10_000,
    repeats: Annotated[int, typer.Option(help="Timed calls of each kind.", min=1)] = 5,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Seconds of listing, look-up and start with many blocks, and whether memory grows with what is on disk.

    [bold]A session[/bold]

    \b
    $ graphkv bench store-size --segments 500 --json > size.json
    $ python -c "import json; print(json.load(open('size.json'))['seconds']['hit'] < 1)"
    True
    """
    from graphkv.progress import late_progress

    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    engine = load_engine(None, None)
    from graphkv_benchmarks.result_file import write_result
    from graphkv_benchmarks.store_size import run_store_size

    with late_progress("writing blocks") as report:
        result = run_store_size(engine, segments=segments, repeats=repeats, report=report)
    if output is not None:
        write_result(output, result)
    if as_json:
        print_json(result)
        return
    for name, seconds in result["seconds"].items():
        typer.echo(f"{name:<14} {seconds:.4f} s")
    typer.echo(f"memory that stays after 100 look-ups {result['memory']['after_a_hundred_mb']} MiB, after {segments:,} {result['memory']['after_all_mb']} MiB")
