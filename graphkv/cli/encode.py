"""`graphkv encode`: documents into a store, now, so that questions find them encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graphkv.cli.common import (
    CodecName,
    Dtype,
    Json,
    LayoutOptions,
    MaxSegmentTokens,
    Model,
    StorePlace,
    load_engine,
    parse_options,
    print_json,
    quiet,
    read_graph,
    working,
)
from graphkv.errors import InputError
from graphkv.progress import late_progress


def encode(
    docs: Annotated[Path, typer.Argument(help="Documents as JSON Lines, or anything that `graphkv build` reads.", show_default=False)],
    store: StorePlace = None,
    layout: Annotated[str, typer.Option("--layout", "-l", help="The layout that will be asked with.")] = "graph",
    option: LayoutOptions = None,
    codec: CodecName = "exact",
    max_size: Annotated[str | None, typer.Option(help="Budget of the store: 20GiB, 500MB; the least recently used blocks go first.", show_default=False)] = None,
    workers: Annotated[int, typer.Option(help="Processes, each with its own copy of the model.", min=1)] = 1,
    pin: Annotated[bool, typer.Option("--pin", help="Never evict what these documents need.")] = False,
    model: Model = None,
    dtype: Dtype = None,
    max_segment_tokens: MaxSegmentTokens = None,
    as_json: Json = False,
) -> None:
    """Encode documents into a store. Stopped or killed, the same command goes on where it was.

    [bold]A session[/bold]

    \b
    $ graphkv encode papers.jsonl --store kv
    10 blocks: 0 were there, 10 encoded (449 tokens)
    kv: 10 blocks, 3.1 MiB
    $ graphkv encode papers.jsonl --store kv
    10 blocks: 10 were there, 0 encoded (0 tokens)
    kv: 10 blocks, 3.1 MiB
    $ graphkv ask papers.jsonl "Who wrote Ruby Geyser?" --store kv
    """
    from graphkv.store.place import format_size, open_store, parse_size

    options = parse_options(option)
    budget = None if max_size is None else parse_size(max_size)
    graph = read_graph(docs)
    with quiet("opening the store"):
        from graphkv.bulk import encode_corpus
        from graphkv.store import FileStore

        kept = open_store(store, max_bytes=budget, codec=codec)
    if not isinstance(kept, FileStore):
        raise InputError("a store in memory ends with this command: give a folder or an address with --store")
    engine = load_engine(model, dtype, max_segment_tokens, kept)
    load: dict[str, Any] = {"model": model, "dtype": dtype, "max_segment_tokens": max_segment_tokens}
    with working("reading the documents"):
        engine.plan(graph, layout=layout, **options)  # refuses what cannot be encoded, before the bar
    with late_progress("encoding tokens") as progress:
        done = encode_corpus(engine, graph, layout=layout, workers=workers, load=load, pin=pin, progress=progress, **options)
    count, nbytes = len(kept), kept.nbytes
    if done.blocks_kept < len(done.keys):
        held = f"only {done.blocks_kept} of the {len(done.keys)} blocks are in the store: its budget of {format_size(kept.max_bytes or 0)} is too small for them"
        typer.secho(f"warning: {held}", fg=typer.colors.YELLOW, err=True)
    if as_json:
        print_json(
            {
                "store": kept.place,
                "blocks": len(done.keys),
                "blocks_found": done.blocks_found,
                "blocks_encoded": done.blocks_encoded,
                "tokens_found": done.tokens_found,
                "tokens_encoded": done.tokens_encoded,
                "blocks_kept": done.blocks_kept,
                "pinned": pin,
                "store_blocks": count,
                "store_bytes": nbytes,
            }
        )
        return
    typer.echo(f"{len(done.keys)} blocks: {done.blocks_found} were there, {done.blocks_encoded} encoded ({done.tokens_encoded:,} tokens)")
    typer.echo(f"{store or kept.place}: {count:,} blocks, {format_size(nbytes)}{', pinned' if pin else ''}")
