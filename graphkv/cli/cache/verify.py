"""`graphkv cache verify`: read every byte and compare checksums."""

from __future__ import annotations

from typing import Annotated

import typer

from graphkv.cli.cache.select import Blocks, chosen, open_folder
from graphkv.cli.common import Json, StorePlace, print_json


def verify(
    blocks: Blocks = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove damaged blocks (they are encoded again when asked for), and what killed writers left.")] = False,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Read every block and compare it with its checksum. With --remove, damaged ones go and the manifest is made anew from the files.

    Exit code 1 if damage was found and is still there.

    [bold]A session[/bold]

    \b
    $ graphkv cache verify --store kv
    10 blocks are whole, 0 are damaged
    """
    from graphkv.progress import late_progress

    folder = open_folder(store, read_only=not remove)
    keys = [entry.key for entry in chosen(folder.entries(), blocks)] if blocks else list(folder.keys())
    damaged: dict[str, str] = {}
    with late_progress("verifying blocks") as progress:
        for number, key in enumerate(keys, start=1):
            if (what := folder.damage(key)) is not None:
                damaged[key] = what
            progress(number, len(keys))
    swept = 0
    if remove:
        for key in damaged:
            folder.remove(key)
        swept = folder.sweep()
        folder.rebuild_manifest()
    if as_json:
        print_json({"place": folder.place, "whole": len(keys) - len(damaged), "damaged": damaged, "removed": remove, "swept": swept})
    else:
        for key, what in damaged.items():
            typer.secho(f"{key}: {what}", fg=typer.colors.RED)
        typer.echo(f"{len(keys) - len(damaged):,} blocks are whole, {len(damaged)} are damaged" + (" and were removed" if remove and damaged else ""))
    if damaged and not remove:
        raise typer.Exit(1)
