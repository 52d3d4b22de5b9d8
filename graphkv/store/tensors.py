"""A block as the bytes of an entry, and back without copying them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from graphkv.errors import StoreError
from graphkv.kv import SegmentKV
from graphkv.store.codecs import CODECS, Codec, dtype_name
from graphkv.store.entry import CHECKSUM, CHECKSUM_SIZE, FORMAT, DamagedEntry, check, head_length, parse_head, seal
from graphkv.store.files import populate

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
    start = head_length(memoryview(data)[:8])
    header = parse_head(bytes(data[:start]))
    if header is None or start + header[CHECKSUM]["data_offsets"][1] != len(data):
        raise StoreError("this version of safetensors does not write tensors in the order that the store's checksum needs: use another version")
    seal(data)
    return data


def map_file(path: str, size: int) -> Any:
    """A file of `size` bytes as a buffer that is mapped and private to this process. Holds no file descriptor, as Python's own mmap does, so a context of
    many thousand blocks can be held. Raises OSError where the disk fails."""
    mapped = torch.from_file(path, shared=False, size=size, dtype=torch.uint8)
    populate(mapped.data_ptr(), size)
    return mapped.numpy()


def from_bytes(data: Any, key: str) -> SegmentKV:
    """The block in a file. Tensors are views of `data`, which lives as long as they do.

    Raises:
        DamagedEntry: see :func:`graphkv.store.entry.check`.
    """
    header = check(data, key)
    meta = header.pop("__metadata__")
    base = head_length(memoryview(data)[:8])
    try:
        tensors = {name: _view(data, base, about) for name, about in header.items() if name != CHECKSUM}
        keys, values = CODECS[meta["codec"]].unpack(tensors, meta["dtype"])
        return SegmentKV(key, tuple(tensors["token_ids"].tolist()), keys, values, meta["label"], meta["model"])
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        raise DamagedEntry(f"its bytes are as they were written, but not by this version: codec {meta.get('codec')!r}, dtype {meta.get('dtype')!r}") from error


def _view(data: Any, base: int, about: Mapping[str, Any]) -> Tensor:
    start, stop = about["data_offsets"]
    dtype = _DTYPES[about["dtype"]]
    if start == stop:
        return torch.empty(about["shape"], dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=(stop - start) // dtype.itemsize, offset=base + start).view(about["shape"])
