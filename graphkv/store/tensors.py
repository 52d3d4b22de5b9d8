"""A block as the bytes of an entry, and back without copying them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from graphkv.kv import SegmentKV
from graphkv.store.codecs import CODECS, Codec, dtype_name
from graphkv.store.entry import CHECKSUM, CHECKSUM_SIZE, FORMAT, DamagedEntry, check, head_length, seal

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
}


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
    tensors = {"token_ids": torch.tensor(block.token_ids, dtype=torch.int32), **packed, CHECKSUM: torch.zeros(CHECKSUM_SIZE, dtype=torch.uint8)}
    data = bytearray(save(tensors, metadata))
    seal(data)
    return data


def from_bytes(data: Any, key: str) -> SegmentKV:
    """The block in a file. Tensors are views of `data`, which lives as long as they do.

    Raises:
        DamagedEntry: see :func:`graphkv.store.entry.check`.
    """
    header = check(data, key)
    meta = header.pop("__metadata__")
    if meta.get("codec") not in CODECS or not hasattr(torch, meta.get("dtype", "")) or any(about["dtype"] not in _DTYPES for about in header.values()):
        raise DamagedEntry(f"it was written by another version: codec {meta.get('codec')!r}, dtype {meta.get('dtype')!r}")
    base = head_length(memoryview(data)[:8])
    tensors = {name: _view(data, base, about) for name, about in header.items() if name != CHECKSUM}
    keys, values = CODECS[meta["codec"]].unpack(tensors, meta["dtype"])
    return SegmentKV(key, tuple(tensors["token_ids"].tolist()), keys, values, meta["label"], meta["model"])


def _view(data: Any, base: int, about: Mapping[str, Any]) -> Tensor:
    start, stop = about["data_offsets"]
    dtype = _DTYPES[about["dtype"]]
    if start == stop:
        return torch.empty(about["shape"], dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=(stop - start) // dtype.itemsize, offset=base + start).view(about["shape"])
