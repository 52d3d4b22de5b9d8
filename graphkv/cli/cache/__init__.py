"""`graphkv cache`: look into a store and keep house. No torch is loaded.

    select.py   how blocks are named on the command line
    listing.py  ls, info
    verify.py   verify
    room.py     prune, rm, pin
    archive.py  export, import
"""

from __future__ import annotations

import typer

from graphkv.cli.cache.archive import export, import_
from graphkv.cli.cache.listing import info, ls
from graphkv.cli.cache.room import pin, prune, rm
from graphkv.cli.cache.verify import verify
from graphkv.cli.common import guarded

app = typer.Typer(help="Look into the store of encoded documents, and keep house.", no_args_is_help=True)
for name, verb in (("ls", ls), ("info", info), ("verify", verify), ("prune", prune), ("rm", rm), ("pin", pin), ("export", export), ("import", import_)):
    app.command(name)(guarded(verb))  # type: ignore[type-var]

__all__ = ["app"]
