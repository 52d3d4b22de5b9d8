"""An entry of a store, without its tensors: what is known of it, and whether its bytes are whole. No torch here.

An entry is a safetensors file that anybody can open, with a checksum over everything before it. safetensors does not notice a flipped byte.
The last tensor, ``~checksum`` (16 bytes, xxh3-128), is the digest of all bytes before it, header included; it is compared at every read.
It finds accidents, not forgers: a store is as trustworthy as who may write to it.

    | 8 bytes: header length | header: JSON | token_ids int32 [T] | keys [L, H, T, D] | values | ~checksum |
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import xxhash

FORMAT = "graphkv-kv-1"
"""Which layout of tensors and metadata a file has; another one is a miss."""

HEAD_BYTES = 8192
"""Enough for the header of nearly every entry."""

CHECKSUM = "~checksum"  # sorts behind every other name, so its bytes are the last
CHECKSUM_SIZE = 16


@dataclass(frozen=True)
class Entry:
    """What a store knows about one block without reading its keys and values.

    Attributes:
        key: its name. tokens: how many. nbytes: what it takes in the store.
        codec, dtype: how it is stored, and what it is decoded to. label, model: what it was encoded from, for people.
        used: when it was last read or written, seconds since 1970. pinned: never evicted.
    """

    key: str
    tokens: int
    nbytes: int
    codec: str
    dtype: str
    label: str
    model: str
    used: float
    pinned: bool = False


class DamagedEntry(Exception):
    """The bytes are not what was written. Stays inside the store: a reader sees a miss and a warning."""


def evictable(entries: Iterable[Entry], excess: int) -> list[Entry]:
    """The first entries that are not pinned and hold at least `excess` bytes together."""
    chosen = []
    for entry in entries:
        if excess <= 0:
            break
        if not entry.pinned:
            chosen.append(entry)
            excess -= entry.nbytes
    return chosen


def seal(data: bytearray) -> None:
    """Write the checksum into the last bytes of a file that is about to be written."""
    data[-CHECKSUM_SIZE:] = xxhash.xxh3_128_digest(memoryview(data)[:-CHECKSUM_SIZE])


def check(data: Any, key: str) -> dict[str, Any]:
    """The header of a file, after the checksum has been compared. `data` is anything with the buffer interface.

    Raises:
        DamagedEntry: one bit is not as it was written, the file is cut, it is another version's, or it holds another key's block.
    """
    view = memoryview(data)
    if len(view) < 8 + CHECKSUM_SIZE or xxhash.xxh3_128_digest(view[:-CHECKSUM_SIZE]) != bytes(view[-CHECKSUM_SIZE:]):
        raise DamagedEntry("the checksum does not fit")
    header = parse_head(bytes(view[: head_length(view[:8])]))
    if header is None or header["__metadata__"].get("format") != FORMAT:
        raise DamagedEntry(f"it is not of format {FORMAT}")
    if header["__metadata__"].get("key") != key:
        raise DamagedEntry(f"it holds the block {str(header['__metadata__'].get('key'))[:12]}")
    return header


def head_length(head: bytes | memoryview) -> int:
    """How many bytes length and header take, by the first eight bytes of a file."""
    return 8 + int(struct.unpack("<Q", head[:8])[0]) if len(head) >= 8 else 0


def parse_head(head: bytes) -> dict[str, Any] | None:
    """The header from the first bytes of a file; None if it is no header of ours, or `head` is too short. Not compared with the checksum."""
    if not 0 < head_length(head) <= len(head):
        return None
    try:
        header = json.loads(head[8 : head_length(head)])
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict) else None
