"""`graphkv bench codecs`: what int8, fp8 and int4 cost in logits and answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.common import Dtype, Json, Model, load_engine, print_json


def codecs(
    model: Model = None,
    documents: Annotated[int, typer.Option(help="Documents a question.", min=1)] = 8,
    questions: Annotated[int, typer.Option(help="Questions, ten a world.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Which held-out worlds.", min=0)] = 1,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.", show_default=False)] = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Exact match, distance of the logits and bytes of every codec, on the same held-out questions.

    [bold]A session[/bold]

    \b
    $ graphkv bench codecs --questions 20 --json > codecs.json
    $ python -c "import json; print(json.load(open('codecs.json'))['codecs']['int8']['top1'] > 0.95)"
    True
    """
    from graphkv.progress import late_progress

    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    engine = load_engine(model, dtype)
    from graphkv_benchmarks.codecs import run_codecs
    from graphkv_benchmarks.result_file import write_result

    with late_progress("answering questions") as report:
        result = run_codecs(engine, documents=documents, questions=questions, seed=seed, report=report)
    if output is not None:
        write_result(output, result)
    if as_json:
        print_json(result)
        return
    typer.echo("codec  exact match [95%]        same answer  logits apart (median, largest)  top-1   bytes")
    for name, row in result["codecs"].items():
        match = f"{100 * row['exact_match']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        apart = f"{row['logits_median']:.2g}, {row['logits_largest']:.2g}"
        typer.echo(f"{name:<5}  {match:<24} {100 * row['same_answer']:>10.1f}%  {apart:<30}  {100 * row['top1']:>5.1f}%  {row['bytes_512']:.3f}")
