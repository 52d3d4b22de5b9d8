"""`graphkv bench retrieval-scale`: BM25 and vectors over a hundred thousand segments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.common import Json, print_json, quiet


def retrieval_scale(
    segments: Annotated[int, typer.Option(help="Sentences in the corpus.", min=1)] = 100_000,
    embedder: Annotated[str, typer.Option(help="minilm, engine, or a sentence-transformers model.")] = "minilm",
    queries: Annotated[int, typer.Option(help="Questions.", min=1)] = 200,
    quick: Annotated[bool, typer.Option("--quick", help="At most 2,000 segments and 50 questions.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Seconds to build, milliseconds a question, recall of HNSW, memory, and whether an interrupted build goes on.

    [bold]A session[/bold]

    \b
    $ graphkv bench retrieval-scale --quick --embedder engine --json > scale.json
    $ python -c "import json; print(json.load(open('scale.json'))['search']['bm25']['search']['median'] < 50)"
    True
    """
    from graphkv.progress import late_progress

    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    if quick:
        segments, queries = min(segments, 2_000), min(queries, 50)
    with quiet("loading"):
        from graphkv_benchmarks.result_file import write_result
        from graphkv_benchmarks.retrieval_scale import lines, run_retrieval_scale

    with late_progress("embedding segments") as report:
        result = run_retrieval_scale(segments=segments, embedder=embedder, queries=queries, report=report)
    if output is not None:
        write_result(output, result)
    if as_json:
        print_json(result)
        return
    for line in lines(result):
        typer.echo(line)
