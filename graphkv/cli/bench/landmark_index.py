"""`graphkv bench landmark-index`: FAISS over landmark keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.common import Json, load_engine, print_json


def landmark_index(
    model: Annotated[str, typer.Option(help="A model that was trained with landmarks: a folder, a hub id, or embedded-landmark.")] = "embedded-landmark",
    tokens: Annotated[int, typer.Option(help="Tokens of the text.", min=1)] = 32_768,
    questions: Annotated[int, typer.Option(help="Questions whose tokens are the queries.", min=1)] = 20,
    k: Annotated[int, typer.Option("-k", help="Blocks that are chosen.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Of the text.", min=0)] = 0,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Recall and milliseconds of searching landmarks in FAISS, flat and HNSW, against torch.

    [bold]A session[/bold]

    \b
    $ graphkv bench landmark-index --tokens 4096 --questions 5 --json > index.json
    $ python -c "import json; print(json.load(open('index.json'))['kinds']['flat']['recall'] > 0.999)"
    True
    """
    from graphkv.progress import late_progress

    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    engine = load_engine(model, None)
    from graphkv_benchmarks.landmark_index import lines, run_landmark_index
    from graphkv_benchmarks.result_file import write_result

    with late_progress("reading tokens") as report:
        result = run_landmark_index(engine, tokens=tokens, questions=questions, k=k, seed=seed, report=report)
    if output is not None:
        write_result(output, result)
    if as_json:
        print_json(result)
        return
    for line in lines(result):
        typer.echo(line)
