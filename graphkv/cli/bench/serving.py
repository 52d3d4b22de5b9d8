"""`graphkv bench serving`: the HTTP server under measurement: first words, many clients, questions at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graphkv.cli.common import Json, print_json


def serving(
    model: Annotated[str | None, typer.Option("--model", "-m", help="As for graphkv serve; the embedded model without it.", show_default=False)] = None,
    tokens: Annotated[list[int] | None, typer.Option("--tokens", "-t", help="Context tokens; may be given several times.", min=64, show_default="2048 8192 32768")] = None,
    repeats: Annotated[int, typer.Option(help="Sets of documents of each size.", min=1)] = 5,
    clients: Annotated[int, typer.Option(help="Clients at a time under load.", min=1)] = 64,
    seconds: Annotated[float, typer.Option(help="How long the load lasts.", min=0.1)] = 60.0,
    contexts: Annotated[int, typer.Option(help="Contexts that the load is about.", min=1)] = 12,
    together: Annotated[int, typer.Option(help="Questions over one context at once.", min=1)] = 16,
    together_tokens: Annotated[list[int] | None, typer.Option(help="Tokens of their context; may be given several times.", min=64, show_default="1024 4096")] = None,
    turns: Annotated[int, typer.Option(help="How often questions at once and one at a time are timed.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Which held-out worlds.", min=0)] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Small contexts, few clients, two seconds of load: whether it runs, not how fast.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """A server in a process of its own, asked over HTTP.

    Seconds to the first words of the first question over documents and of later ones, also after a restart and in another order;
    many clients for a while; questions over one context at once against one at a time. Answers are compared before they count.
    Ends with code 1 if anything is not as it is wanted. The whole takes four minutes on two cores.

    [bold]A session[/bold]

    \b
    $ graphkv bench serving --quick --json > serving.json
    $ python -c "import json; print(json.load(open('serving.json'))['load']['failed'])"
    0
    """
    from graphkv_benchmarks.result_file import write_result
    from graphkv_benchmarks.serving.run import Plan, run_serving

    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"tokens": tuple(tokens) if tokens else Plan().tokens, "repeats": repeats, "clients": clients, "seconds": seconds, "contexts": contexts}
    settings |= {"together": together, "together_tokens": tuple(together_tokens) if together_tokens else Plan().together_tokens, "turns": turns, "seed": seed}
    if quick:
        settings |= {"tokens": tuple(tokens or (512,)), "repeats": 1, "clients": min(clients, 8), "seconds": min(seconds, 2.0), "contexts": min(contexts, 3), "turns": 1}
        settings |= {"load_tokens": 512, "load_questions": 4, "together_tokens": (512,)}
    result = run_serving(Plan(**settings), model=model, report=lambda line: typer.secho(line, dim=True, err=True))
    if output is not None:
        write_result(output, result)
    if as_json:
        print_json(result)
    else:
        _print(result)
    for check in result["checks"]:
        if not check["met"]:
            typer.secho(f"failed: {check['name']}: wanted {check['wanted']}, got {check['got']}", fg=typer.colors.RED, err=True)
    if not result["met"]:
        raise typer.Exit(1)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="seconds to the first words over HTTP")
    for column in ("tokens", "question"):
        table.add_column(column)
    for column in ("s", "times sooner", "cached tokens"):
        table.add_column(column, justify="right")
    for row in result["first_token"]:
        for way, found in row["ways"].items():
            table.add_row(f"{row['tokens']:,}", way, f"{found['ttft']:.3f}", f"{found['times_faster']:.1f}", f"{found['cached_tokens']:,}")
        table.add_section()
    console = Console()
    console.print(table)
    load = result["load"]
    typer.echo(f"{load['clients']} clients, {load['seconds']:.0f} s: {load['throughput']['questions_s']:.1f} questions a second, first words {load['ttft']['p50']} s (p50), {load['ttft']['p99']} s (p99)")
    for peer in result["peer"]:
        for name, way in peer["ways"].items():
            typer.echo(f"transformers over {peer['context_tokens']:,} tokens, {name.replace('_', ' ')}: {way['questions_s']:.1f} questions a second, one at a time")
    for check in result["checks"]:
        typer.echo(f"{'met   ' if check['met'] else 'missed'}  {check['name']}: {check['got']} (wanted: {check['wanted']})")
