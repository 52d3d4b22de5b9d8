"""Helpers of the store tests: blocks of random numbers, and what equality means for them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphkv.kv import SegmentKV
from graphkv.store import Store

MakeStore = Callable[..., Store]


def block(number: int, tokens: int = 5, dtype: torch.dtype = torch.float32, layers: int = 2, dim: int = 4) -> SegmentKV:
    """A block of random numbers whose key ends in `number`."""
    generator = torch.Generator().manual_seed(number)
    keys, values = (tuple(torch.randn(2, tokens, dim, generator=generator).to(dtype) for _ in range(layers)) for _ in range(2))
    return SegmentKV(f"{number:064x}", tuple(range(number, number + tokens)), keys, values, f"doc{number}@0", "tiny")


def same(one: SegmentKV | None, other: SegmentKV) -> bool:
    """Bit by bit."""
    return (
        one is not None
        and (one.key, one.token_ids, one.label, one.model) == (other.key, other.token_ids, other.label, other.model)
        and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip((*one.keys, *one.values), (*other.keys, *other.values), strict=True))
    )
