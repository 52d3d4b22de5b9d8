"""`graphkv bench retrieval`: recall of supporting passages, with and without the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.common import Json, Model, load_engine, print_json, quiet


def retrieval(
    rows: Annotated[Path, typer.Argument(help="A MoreHopQA file.", show_default=False)],
    embedder: Annotated[
        str | None,
        typer.Option(help="For dense and hybrid: minilm, engine, or a sentence-transformers model; without it only BM25 is measured.", show_default=False),
    ] = None,
    model: Model = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N rows.", min=1, show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Recall of a question's supporting passages among all rows' passages: BM25, dense, hybrid, and each along the edges around its hits.

    [bold]A session[/bold]

    \b
    $ graphkv bench retrieval morehopqa.json --embedder minilm --output retrieval.json
    | retriever | recall@2 | ...
    """
    from graphkv.progress import late_progress
    from graphkv_benchmarks.readers import read_morehopqa
    from graphkv_benchmarks.result_file import write_result
    from graphkv_benchmarks.retrieval_recall import run_retrieval, table
    from graphkv_retrieval import load_embedder

    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    found = read_morehopqa(rows)[:limit]
    loaded = load_engine(model, None).model if embedder == "engine" else None
    with quiet(f"loading {embedder}"):
        ready = None if embedder is None else load_embedder(embedder, model=loaded)
    with late_progress("retrieving") as report:
        result = run_retrieval(found, embedder=ready, seed=seed, report=report)
    if output is not None:
        write_result(output, result)
    if as_json:
        print_json(result)
        return
    typer.echo("\n".join(table(result)))
