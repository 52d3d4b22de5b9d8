"""Where encoded blocks are kept between calls, processes and days.

    base.py      Store: what every store can do; read first
    memory.py    MemoryStore: in this process
    file.py      FileStore: a folder, or any place that fsspec reaches
    entry.py     the bytes of one block: safetensors with a checksum
    codecs.py    exact, int8, fp8, int4
    files.py     reading and writing whole files: memory maps locally, fsspec elsewhere
    manifest.py  a list of what is there, to make listing quick; rebuilt from the files whenever it is missing
    place.py     the default store, and how a place or a size is written
    archive.py   export to and import from one tar file
"""

from __future__ import annotations

from graphkv.store.base import Entry, Store
from graphkv.store.codecs import CODECS
from graphkv.store.file import FileStore
from graphkv.store.memory import MemoryStore
from graphkv.store.place import default_place, open_store, parse_size

__all__ = ["CODECS", "Entry", "FileStore", "MemoryStore", "Store", "default_place", "open_store", "parse_size"]
