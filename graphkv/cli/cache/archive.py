"""`graphkv cache export` and `import`: blocks in one tar file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.cache.select import OfModel, chosen, open_folder
from graphkv.cli.common import Json, StorePlace, print_json
from graphkv.store.place import default_size, format_size


def export(
    file: Annotated[Path, typer.Argument(help="The tar file to write.", show_default=False)],
    blocks: Annotated[list[str] | None, typer.Argument(metavar="[BLOCK]...", help="As for rm; everything without it.", show_default=False)] = None,
    of_model: OfModel = None,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Write blocks into one tar file, to carry them to another machine.

    [bold]A session[/bold]

    \b
    $ graphkv cache export papers.tar --store kv
    wrote 10 blocks to papers.tar (3.1 MiB)
    """
    from graphkv.progress import late_progress
    from graphkv.store.archive import export_blocks

    folder = open_folder(store, read_only=True)
    keys = [entry.key for entry in chosen(folder.entries(), blocks, of_model)]
    with late_progress("exporting blocks") as progress:
        count = export_blocks(folder, keys, file, progress)
    nbytes = file.stat().st_size
    if as_json:
        print_json({"file": str(file), "blocks": count, "bytes": nbytes})
        return
    typer.echo(f"wrote {count:,} blocks to {file} ({format_size(nbytes)})")


def import_(
    file: Annotated[Path, typer.Argument(help="A tar file that export wrote.", show_default=False)],
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Put the blocks of a tar file into the store. Each is compared with its checksum first. The default store keeps to its budget.

    [bold]A session[/bold]

    \b
    $ graphkv cache import papers.tar --store kv2
    10 blocks came in, 0 were there
    """
    from graphkv.progress import late_progress
    from graphkv.store.archive import import_blocks

    folder = open_folder(store, new=True)
    with late_progress("importing blocks") as progress:
        came, known = import_blocks(folder, file, progress)
    if store is None:
        folder.prune(default_size())
    if as_json:
        print_json({"file": str(file), "came": came, "known": known})
        return
    typer.echo(f"{came:,} blocks came in, {known:,} were there")
