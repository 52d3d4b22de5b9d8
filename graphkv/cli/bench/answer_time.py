"""`graphkv bench answer-time`: how long a whole answer takes, with documents encoded before, without, and by transformers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.common import Dtype, Json, Model, load_engine, print_json, working
from graphkv.errors import ModelError


def answer_time(
    model: Model = None,
    documents: Annotated[int, typer.Option(help="Documents a question.", min=1)] = 8,
    questions: Annotated[int, typer.Option(help="Questions, each over other documents.", min=1)] = 24,
    repeats: Annotated[int, typer.Option(help="Timed answers a question and way.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Which held-out worlds.", min=0)] = 1,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.", show_default=False)] = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Seconds from the question to the end of the answer.

    Each question is asked over encoded documents, over the same ones not encoded yet, and as one prompt through
    transformers' own generate; the answer read sequentially must be transformers' before anything is timed.

    [bold]A session[/bold]

    \b
    $ graphkv bench answer-time --questions 2 --json > time.json
    $ python -c "import json; print(json.load(open('time.json'))['ways']['encoded']['largest'] < 1)"
    True
    """
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    engine = load_engine(model, dtype)
    from graphkv_benchmarks.answer_time import run_answer_time
    from graphkv_benchmarks.result_file import write_result

    try:
        with working("answering"):
            result = run_answer_time(engine, documents=documents, questions=questions, repeats=repeats, seed=seed)
    except ArithmeticError as error:
        raise ModelError(str(error)) from error
    if output is not None:
        write_result(output, result)
    if as_json:
        print_json(result)
        return
    for way, seconds in result["ways"].items():
        typer.echo(f"{way.replace('_', ' '):<14} median {seconds['median']:.3f} s, largest {seconds['largest']:.3f} s   {result['how'][way]}")
    typer.echo(f"transformers alone takes {result['over_encoded']:.2f} times the median with encoded documents")
