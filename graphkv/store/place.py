"""The default store, and how a place or a size is written."""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from graphkv.errors import InputError

if TYPE_CHECKING:
    from graphkv.store.base import Store

PLACE = "GRAPHKV_STORE"
SIZE = "GRAPHKV_STORE_SIZE"
DEFAULT_SIZE = "20GiB"

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def default_place() -> str:
    """``GRAPHKV_STORE`` if it is set, else ``kv`` in graphkv's folder under the user's cache folder."""
    from platformdirs import user_cache_dir

    return os.environ.get(PLACE) or str(Path(user_cache_dir("graphkv", appauthor=False)) / "kv")


def default_size() -> int:
    """The default store's budget in bytes: ``GRAPHKV_STORE_SIZE`` if it is set, else 20 GiB. Raises InputError for a size that is none."""
    try:
        return parse_size(os.environ.get(SIZE) or DEFAULT_SIZE)
    except InputError as error:
        raise InputError(f"{SIZE}: {error}") from None


def open_store(place: str | os.PathLike[str] | None = None, *, max_bytes: int | None = None, codec: str = "exact", read_only: bool = False) -> Store:
    """A store by its place: a folder, an fsspec address, ``memory`` for this process only (``./memory`` is a folder), None for the default store.

    The default store has a budget of 20 GiB, or ``GRAPHKV_STORE_SIZE``; every other has the budget that is given, or none.

    Raises:
        StoreError: see :class:`graphkv.store.FileStore`. InputError: a size that cannot be read.

    Example:
        >>> open_store("memory").nbytes
        0
    """
    from graphkv.store.file import FileStore
    from graphkv.store.memory import MemoryStore

    if place is None:
        place = default_place()
        max_bytes = default_size() if max_bytes is None else max_bytes
    if os.fspath(place) == "memory":
        return MemoryStore(max_bytes, codec)
    return FileStore(place, max_bytes=max_bytes, codec=codec, read_only=read_only)


def parse_size(text: str) -> int:
    """Bytes: ``500MB`` (powers of 1000), ``20GiB`` (powers of 1024), ``1048576``.

    Raises:
        InputError: anything else.

    Example:
        >>> parse_size("1.5 GiB"), parse_size("2k")
        (1610612736, 2000)
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]i?|)b?\s*", text, re.IGNORECASE)
    if match is None:
        raise InputError(f"expected a size such as 500MB, 20GiB or a number of bytes, got {text!r}")
    return int(Decimal(match[1]) * _UNITS[match[2].lower()])


def format_size(nbytes: float) -> str:
    """``1.5 GiB``, ``812 B``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"
