"""`graphkv cache prune`, `rm` and `pin`: what stays and what goes."""

from __future__ import annotations

from typing import Annotated

import typer

from graphkv.cli.cache.select import Blocks, OfModel, chosen, open_folder
from graphkv.cli.common import Json, StorePlace, print_json
from graphkv.errors import InputError
from graphkv.progress import late_progress
from graphkv.store.place import format_size, parse_size


def prune(
    max_size: Annotated[str, typer.Option("--max-size", help="What may be left: 10GiB, 500MB, 0.", show_default=False)],
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Remove the least recently used blocks until the store is small enough. Pinned ones stay.

    [bold]A session[/bold]

    \b
    $ graphkv cache prune --store kv --max-size 2MiB
    removed 5 blocks (1.2 MiB); 1.9 MiB are left
    """
    budget = parse_size(max_size)
    folder = open_folder(store)
    gone, left = folder.prune(budget)
    freed = sum(entry.nbytes for entry in gone)
    if as_json:
        print_json({"place": folder.place, "removed": [entry.key for entry in gone], "bytes_removed": freed, "bytes_left": left})
        return
    held = "; the rest is pinned" if left > budget else ""
    typer.echo(f"removed {len(gone):,} blocks ({format_size(freed)}); {format_size(left)} are left{held}")


def rm(
    blocks: Blocks = None,
    of_model: OfModel = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Remove blocks, pinned or not: by key, by document, of one model, or all.

    [bold]A session[/bold]

    \b
    $ graphkv cache rm --store kv paper7
    removed 1 blocks (448.9 KiB)
    """
    if not (blocks or of_model or everything):
        raise InputError("nothing is named: give blocks, --of-model, or --all")
    if everything and (blocks or of_model):
        raise InputError("--all means everything: leave out blocks and --of-model")
    folder = open_folder(store)
    picked = chosen(folder.entries(), blocks, of_model)
    with late_progress("removing blocks") as progress:
        for number, entry in enumerate(picked, start=1):
            folder.remove(entry.key)
            progress(number, len(picked))
    freed = sum(entry.nbytes for entry in picked)
    if as_json:
        print_json({"place": folder.place, "removed": [entry.key for entry in picked], "bytes_removed": freed})
        return
    typer.echo(f"removed {len(picked):,} blocks ({format_size(freed)})")


def pin(
    blocks: Blocks = None,
    of_model: OfModel = None,
    off: Annotated[bool, typer.Option("--off", help="Let them be evicted again.")] = False,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Never evict these blocks; with --off, let them go again.

    [bold]A session[/bold]

    \b
    $ graphkv cache pin --store kv paper4
    pinned 1 blocks (308.9 KiB)
    """
    if not (blocks or of_model):
        raise InputError("nothing is named: give blocks, or --of-model")
    folder = open_folder(store)
    picked = chosen(folder.entries(), blocks, of_model)
    with late_progress("pinning blocks") as progress:
        for number, entry in enumerate(picked, start=1):
            (folder.unpin if off else folder.pin)(entry.key)
            progress(number, len(picked))
    if as_json:
        print_json({"place": folder.place, "unpinned" if off else "pinned": [entry.key for entry in picked]})
        return
    typer.echo(f"{'unpinned' if off else 'pinned'} {len(picked):,} blocks ({format_size(sum(entry.nbytes for entry in picked))})")
