"""The bytes of one block: a safetensors file that anybody can open, with a checksum over everything before it.

safetensors does not notice a flipped byte. The last tensor, ``~checksum`` (16 bytes, xxh3-128), is the digest of all bytes before it,
header included; it is compared at every read. It finds accidents, not forgers: a store is as trustworthy as who may write to it.

    | 8 bytes: header length | header: JSON | token_ids int32 [T] | keys [L, H, T, D] | values | ~checksum |
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import torch
import xxhash
from safetensors.torch import save
from torch import Tensor

from graphkv.kv import SegmentKV
from graphkv.store.codecs import CODECS, Codec, dtype_name

FORMAT = "graphkv-kv-1"
"""Which layout of tensors and metadata a file has; another one is a miss."""

HEAD_BYTES = 8192
"""Enough for the header of nearly every entry."""

_CHECKSUM = "~checksum"  # sorts behind every other name, so its bytes are the last
_SIZE = 16
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
}


class DamagedEntry(Exception):
    """The bytes are not what was written. Stays inside the store: a reader sees a miss and a warning."""


def to_bytes(block: SegmentKV, codec: Codec, packed: Mapping[str, Tensor]) -> bytearray:
    """The file of a block; `packed` is what the codec made of it."""
    metadata = {
        "format": FORMAT,
        "key": block.key,
        "codec": codec.name,
        "dtype": dtype_name(block.keys[0].dtype),
        "tokens": str(len(block)),
        "label": block.label[:200],
        "model": block.model[:200],
    }
    tensors = {"token_ids": torch.tensor(block.token_ids, dtype=torch.int32), **packed, _CHECKSUM: torch.zeros(_SIZE, dtype=torch.uint8)}
    data = bytearray(save(dict(tensors), metadata))
    data[-_SIZE:] = xxhash.xxh3_128_digest(memoryview(data)[:-_SIZE])
    return data


def check(data: Any) -> dict[str, Any]:
    """The header of a file, after the checksum has been compared. `data` is anything with the buffer interface.

    Raises:
        DamagedEntry: one bit is not as it was written, or the file is cut, or it is another version's.
    """
    view = memoryview(data)
    if len(view) < 8 + _SIZE or xxhash.xxh3_128_digest(view[:-_SIZE]) != bytes(view[-_SIZE:]):
        raise DamagedEntry("the checksum does not fit")
    header = parse_head(bytes(view[: 8 + struct.unpack("<Q", view[:8])[0]]))
    if header is None or header["__metadata__"].get("format") != FORMAT:
        raise DamagedEntry(f"it is not of format {FORMAT}")
    return header


def parse_head(head: bytes) -> dict[str, Any] | None:
    """The header from the first bytes of a file, None if it is no safetensors header of ours or `head` is too short. Not checked against the checksum."""
    if len(head) < 8 or len(head) < 8 + struct.unpack("<Q", head[:8])[0]:
        return None
    try:
        header = json.loads(head[8 : 8 + struct.unpack("<Q", head[:8])[0]])
    except ValueError:
        return None
    return header if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict) else None


def head_length(head: bytes) -> int:
    """How many bytes the header takes, by the first eight of a file."""
    return 8 + int(struct.unpack("<Q", head[:8])[0]) if len(head) >= 8 else 0


def from_bytes(data: Any, key: str) -> SegmentKV:
    """The block in a file. Tensors are views of `data`, which lives as long as they do.

    Raises:
        DamagedEntry: see :func:`check`, or the file holds another key's block.
    """
    header = check(data)
    meta = header.pop("__metadata__")
    if meta["key"] != key:
        raise DamagedEntry(f"it holds the block {meta['key'][:12]}")
    base = 8 + struct.unpack("<Q", memoryview(data)[:8])[0]
    tensors = {name: _view(data, base, about) for name, about in header.items()}
    keys, values = CODECS[meta["codec"]].unpack(tensors, meta["dtype"])
    return SegmentKV(key, tuple(tensors["token_ids"].tolist()), keys, values, meta["label"], meta["model"])


def _view(data: Any, base: int, about: Mapping[str, Any]) -> Tensor:
    """A tensor over bytes that are not copied."""
    start, stop = about["data_offsets"]
    dtype = _DTYPES[about["dtype"]]
    if start == stop:
        return torch.empty(about["shape"], dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=(stop - start) // dtype.itemsize, offset=base + start).view(about["shape"])

