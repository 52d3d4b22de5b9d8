"""`graphkv cache ls` and `graphkv cache info`."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from graphkv.cli.cache.select import Blocks, OfModel, chosen, open_folder
from graphkv.cli.common import Json, StorePlace, print_json
from graphkv.store.place import format_size


def ls(
    blocks: Blocks = None,
    of_model: OfModel = None,
    limit: Annotated[int | None, typer.Option(help="Only the N most recently used.", min=1, show_default=False)] = None,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """List what is in the store, the most recently used last.

    [bold]A session[/bold]

    \b
    $ graphkv cache ls --store kv --limit 2
    key           tokens       size  codec  dtype    used  pin  model     label
    1c0c6fe0e1f2      64  448.9 KiB  exact  float32  now   -    embedded  paper7@1
    f3a9b2c4d5e6      57  400.0 KiB  exact  float32  now   -    embedded  paper1@1
    """
    entries = chosen(open_folder(store).entries(), blocks, of_model)
    entries = entries[-limit:] if limit else entries
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    now = time.time()
    rows = [("key", "tokens", "size", "codec", "dtype", "used", "pin", "model", "label")]
    rows += [(e.key[:12], f"{e.tokens}", format_size(e.nbytes), e.codec, e.dtype, _ago(now - e.used), "pin" if e.pinned else "-", e.model or "?", e.label) for e in entries]
    widths = [max(len(row[i]) for row in rows) for i in range(8)]
    for row in rows:
        cells = (cell.rjust(width) if i in (1, 2) else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=False)))
        typer.echo("  ".join([*cells, row[8]]).rstrip())


def info(blocks: Blocks = None, store: StorePlace = None, as_json: Json = False) -> None:
    """What a store holds by model, dtype and codec; with BLOCK, everything that is known of these blocks.

    [bold]A session[/bold]

    \b
    $ graphkv cache info --store kv
    place: /home/me/kv
    blocks: 10, 449 tokens, 3.1 MiB; 0 pinned (0 B)
    embedded, float32, exact: 10 blocks, 3.1 MiB
    """
    folder = open_folder(store)
    entries = list(folder.entries())
    if blocks:
        picked = [asdict(entry) for entry in chosen(entries, blocks)]
        if as_json:
            print_json(picked)
        for about in [] if as_json else picked:
            typer.echo("\n".join(f"{name}: {value}" for name, value in about.items()) + "\n")
        return
    kinds: Counter[tuple[str, str, str]] = Counter()
    sizes: Counter[tuple[str, str, str]] = Counter()
    for entry in entries:
        kind = (entry.model or "?", entry.dtype, entry.codec)
        kinds[kind] += 1
        sizes[kind] += entry.nbytes
    pinned = [entry.nbytes for entry in entries if entry.pinned]
    total = sum(entry.nbytes for entry in entries)
    tokens = sum(entry.tokens for entry in entries)
    if as_json:
        by = [{"model": m, "dtype": d, "codec": c, "blocks": n, "bytes": sizes[m, d, c]} for (m, d, c), n in kinds.items()]
        print_json({"place": folder.place, "blocks": len(entries), "tokens": tokens, "bytes": total, "pinned": len(pinned), "pinned_bytes": sum(pinned), "by": by})
        return
    typer.echo(f"place: {folder.place}")
    typer.echo(f"blocks: {len(entries):,}, {tokens:,} tokens, {format_size(total)}; {len(pinned)} pinned ({format_size(sum(pinned))})")
    for (model, dtype, codec), count in sorted(kinds.items()):
        typer.echo(f"{model}, {dtype}, {codec}: {count:,} blocks, {format_size(sizes[model, dtype, codec])}")


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return "now"
