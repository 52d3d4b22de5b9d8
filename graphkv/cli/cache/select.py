"""How blocks are named on the command line: the beginning of a key, a document's id, or a block's label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from graphkv.errors import InputError, StoreError
from graphkv.store.entry import Entry
from graphkv.store.folder import Folder

Blocks = Annotated[
    list[str] | None,
    typer.Argument(metavar="[BLOCK]...", help="The beginning of a key (4 digits or more), a document's id, or a label such as paper1@1.", show_default=False),
]
OfModel = Annotated[str | None, typer.Option("--of-model", help="All blocks of this model, as ls names it.", show_default=False)]


def open_folder(place: str | None, *, read_only: bool = False, new: bool = False) -> Folder:
    """The folder of a store. Raises InputError for 'memory', StoreError if there is no store there and none may be made (`new`)."""
    from graphkv.store.place import default_place

    where = default_place() if place is None else place
    if where == "memory":
        raise InputError("a store in memory ends with its process: give a folder or an address with --store")
    folder = Folder(where, read_only=read_only)
    if not folder.exists and not new:
        raise StoreError(f"there is no store at {folder.place}: graphkv encode and graphkv ask make one")
    return folder


def chosen(entries: Iterable[Entry], names: Sequence[str] | None, model: str | None = None) -> list[Entry]:
    """The entries that `names` and `model` mean; all of `model` without names.

    Raises:
        InputError: a name that means nothing, or the beginning of several keys.
    """
    pool = [entry for entry in entries if model is None or entry.model == model]
    if model is not None and not pool:
        raise InputError(f"no block is of model {model!r}: graphkv cache info lists the models")
    if not names:
        return pool
    picked: dict[str, Entry] = {}
    for name in names:
        if not name:
            raise InputError("a block's name is empty: give the beginning of a key, a document's id, or a label")
        found = [e for e in pool if e.label == name or e.label.rpartition("@")[0] == name]
        if not found and re.fullmatch(r"[0-9a-f]{4,}", name):
            found = [e for e in pool if e.key.startswith(name)]
            if len(found) > 1:
                raise InputError(f"{len(found)} keys begin with {name}: give more digits")
        if not found:
            raise InputError(f"no block is called {name!r}: graphkv cache ls lists keys and labels")
        picked |= {e.key: e for e in found}
    return list(picked.values())
