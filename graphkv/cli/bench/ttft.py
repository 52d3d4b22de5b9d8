"""`graphkv bench ttft`: the time to the first token, encoded documents beside transformers' own prefill."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graphkv.cli.common import Json, print_json


def ttft(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="qwen2.5-0.5b-shape, embedded, a folder or a hub id; may be given several times.")] = None,
    tokens: Annotated[list[int] | None, typer.Option("--tokens", "-t", help="Context tokens; may be given several times.", min=8, show_default="512 2048 8192 32768")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16, for all models.", show_default="bfloat16; float32 for embedded")] = None,
    repeats: Annotated[int, typer.Option(help="Timed answers a way.", min=1)] = 5,
    decode: Annotated[int, typer.Option(help="Tokens decoded after the first one.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Of documents and random weights.", min=0)] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="The embedded model at 512 tokens, two repeats.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write the JSON here after every row; rows it holds already are kept.", show_default=False)] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw the pictures into this folder.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Seconds from the question to the first token, by context length.

    transformers' own prefill, documents encoded now, and documents that were encoded before: from memory, from disk, and in another
    order. Before a row is timed, its numbers are compared. The whole takes about an hour and a half on two cores; --quick a few seconds.

    [bold]A session[/bold]

    \b
    $ graphkv bench ttft --quick --json > ttft.json
    $ python -c "import json; print(json.load(open('ttft.json'))['rows'][0]['ways']['warm_memory']['over_sequential'] > 1)"
    True
    """
    from graphkv_benchmarks.ttft.run import MODELS, SIZES, run_ttft

    settings: dict[str, Any] = {"dtype": dtype, "repeats": repeats, "decode": decode, "seed": seed}
    models, sizes = tuple(model or MODELS), tuple(tokens or SIZES)
    if quick:
        models, sizes, settings["repeats"] = tuple(model or ("embedded",)), tuple(tokens or (512,)), min(repeats, 2)
    result = run_ttft(models, sizes, output=output, report=lambda line: typer.secho(line, dim=True, err=True), **settings)
    if plots is not None:
        from graphkv_benchmarks.ttft.plots import draw_all

        plots.mkdir(parents=True, exist_ok=True)
        for path in draw_all(result, plots):
            typer.secho(f"wrote {path}", dim=True, err=True)
    if as_json:
        print_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="seconds to the first token, and how many times faster than transformers' prefill")
    for column in ("model", "tokens", "way"):
        table.add_column(column)
    for column in ("s", "times faster", "tokens/s after", "peak MiB"):
        table.add_column(column, justify="right")
    for row in result["rows"]:
        for way, m in row["ways"].items():
            peak = "–" if m["peak_mb"] is None else f"{m['peak_mb']:,.0f}"
            table.add_row(row["model"], f"{row['tokens']:,}", way, f"{m['ttft']:.3f}", f"{m['over_sequential']:.1f}", f"{m['decode_tokens_s']:.1f}", peak)
        table.add_section()
    Console().print(table)
