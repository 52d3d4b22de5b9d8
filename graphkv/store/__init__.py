"""Where encoded blocks are kept between calls, processes and days.

    base.py      Store: what every store can do; read first
    memory.py    MemoryStore: in this process
    file.py      FileStore: a folder, or any place that fsspec reaches
    folder.py    the files of a FileStore: listing, pins, eviction, checksums; no torch
    entry.py     one file: safetensors with a checksum; no torch
    tensors.py   a block as such a file's bytes, and back
    codecs.py    exact, int8, fp8, int4
    files.py     reading and writing whole files: memory maps locally, fsspec elsewhere
    manifest.py  a list of what is there, to make listing quick; rebuilt from the files whenever it is missing
    place.py     the default store, and how a place or a size is written
    archive.py   export to and import from one tar file
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkv.store.base import Store
    from graphkv.store.codecs import CODECS
    from graphkv.store.entry import Entry
    from graphkv.store.file import FileStore
    from graphkv.store.folder import Folder
    from graphkv.store.memory import MemoryStore
    from graphkv.store.place import default_place, open_store, parse_size

# As in graphkv/__init__.py: `graphkv cache ls` does not wait for torch.
_HOMES = {
    "CODECS": "codecs",
    "Entry": "entry",
    "FileStore": "file",
    "Folder": "folder",
    "MemoryStore": "memory",
    "Store": "base",
    "default_place": "place",
    "open_store": "place",
    "parse_size": "place",
}

__all__ = ["CODECS", "Entry", "FileStore", "Folder", "MemoryStore", "Store", "default_place", "open_store", "parse_size"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphkv.store' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"graphkv.store.{_HOMES[name]}"), name)
    return value
