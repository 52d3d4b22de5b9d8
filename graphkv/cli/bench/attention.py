"""`graphkv bench attention`: every attention kernel on every shape, beside causal SDPA and the machine's matrix product."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graphkv.cli.common import Json, print_json, working
from graphkv.errors import KernelError


def attention(
    quick: Annotated[bool, typer.Option("--quick", help="One small shape of each kind.")] = False,
    repeats: Annotated[int, typer.Option(help="Timed calls of each kernel.", min=1)] = 5,
    threads: Annotated[int | None, typer.Option(help="torch's threads.", min=1, show_default=False)] = None,
    cpu_time: Annotated[bool, typer.Option("--cpu-time", help="Count seconds on the CPU, on one thread: for a machine that others use.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Time every attention kernel that runs here.

    Each is first compared with the oracle. over default and over causal are ratios of time, below 1 is faster.
    Efficiency is the work of the allowed pairs over what a matrix product of the same run would do in that time.

    [bold]A session[/bold]

    \b
    $ graphkv bench attention --quick --json > attention.json
    $ python -c "import json; print(*json.load(open('attention.json')))"
    machine how clock repeats shapes block_mask targets seconds
    """
    from graphkv_benchmarks.attention import run_attention_bench

    try:
        with working("measuring the kernels; --quick takes seconds, the whole grid minutes"):
            result = run_attention_bench(quick=quick, repeats=repeats, threads=threads, cpu_time=cpu_time, output=output)
    except ArithmeticError as error:  # a kernel that is wrong has no speed
        raise KernelError(str(error)) from error
    if as_json:
        print_json(result)
        return
    _print_table(result)


def _print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("shape", "heads", "dtype", "kernel", "seconds", "over\ndefault", "over\ncausal", "efficiency", "peak MB"):
        table.add_column(column, justify="left" if column in ("shape", "heads", "dtype", "kernel") else "right")
    for shape in result["shapes"]:
        first = (f"{shape['graph']} {shape['segments']}×{shape['tokens_each']}", "/".join(map(str, shape["heads"])), shape["dtype"])
        for i, (name, entry) in enumerate(shape["kernels"].items()):
            peak = entry["peak_mb"]
            numbers = (f"{entry['seconds']:.4f}", f"{entry['over_default']:.2f}", f"{entry['over_causal']:.2f}", f"{entry['efficiency']:.2f}", f"{peak:.0f}" if peak is not None else "–")
            table.add_row(*(first if i == 0 else ("", "", "")), name, *numbers)
        table.add_section()
    Console().print(table)
    for name, target in result["targets"].items():
        typer.echo(f"{name.replace('_', ' ')}: worst {target['worst']}, target {target['target']}, {'met' if target['met'] else 'not met'}")
