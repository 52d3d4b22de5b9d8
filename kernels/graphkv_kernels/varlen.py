"""flash-attn's variable-length call: every block is one sequence whose keys are [its sources | its own tokens]. CUDA only.

From version 2.1 on, flash-attn aligns the causal mask to the bottom right: of a sequence with more keys than queries, query i
of m reads the keys up to n - m + i. With the sources first and the block's own tokens last that is exactly our pattern, so one
causal call answers all blocks. Drawn for a block of 2 tokens that reads 3:

        s s s o o
    o   1 1 1 1 0
    o   1 1 1 1 1

Shape suffixes: B batch, H query heads, K key heads, T queries, S keys, D head dimension, R gathered keys of all blocks.
Source: flash_attn_varlen_func in flash-attn's README, "Change the behavior of causal flag" (2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from graphkv_kernels.errors import KernelUnavailable
from graphkv_kernels.pattern import BlockPattern

VarlenCall = Callable[..., Any]


def unavailable() -> str | None:
    """Why this kernel cannot run here; None: it can."""
    if find_spec("flash_attn") is None:
        return "flash-attn is not installed; it needs CUDA: pip install 'graphkv[flash]'"
    try:
        found = version("flash-attn")
    except PackageNotFoundError:
        return "flash_attn can be imported but its version is unknown; install flash-attn 2.1 or later"
    if tuple(int(part) for part in found.split(".")[:2]) < (2, 1):
        return f"flash-attn {found} aligns its causal mask to the upper left; install 2.1 or later"
    if not torch.cuda.is_available():
        return "flash-attn runs on CUDA devices, and torch finds none"
    return None


def attend(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, pattern: BlockPattern, scale: float, softcap: float | None) -> Tensor:
    """Attention of a pattern; see `graphkv_kernels.graph_attention`."""
    if q_BHTD.device.type != "cuda":
        raise KernelUnavailable(f"kernel 'varlen' takes CUDA tensors, got tensors on {q_BHTD.device}")
    if q_BHTD.dtype not in (torch.float16, torch.bfloat16):
        raise KernelUnavailable(f"kernel 'varlen' computes in float16 and bfloat16, got {q_BHTD.dtype}; use impl='flex' or 'gather'")
    return attend_with(import_module("flash_attn").flash_attn_varlen_func, q_BHTD, k_BKSD, v_BKSD, pattern, scale, softcap)


def attend_with(
    call: VarlenCall, q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, pattern: BlockPattern, scale: float, softcap: float | None
) -> Tensor:
    """`attend` through any function with the signature of `flash_attn_varlen_func`."""
    batch, heads, queries, dim = q_BHTD.shape
    book = _sequences(pattern, queries)
    index = book.index.to(k_BKSD.device)
    # The batch is so many more sequences: token axis [B · T], with the offsets of each copy after those of the last.
    gathered_k, gathered_v = (x.index_select(2, index).transpose(1, 2).flatten(0, 1) for x in (k_BKSD, v_BKSD))
    extra = {} if softcap is None else {"softcap": softcap}
    out = call(
        q_BHTD.transpose(1, 2).flatten(0, 1),
        gathered_k,
        gathered_v,
        _repeated(book.query_offsets, batch).to(q_BHTD.device),
        _repeated(book.key_offsets, batch).to(q_BHTD.device),
        book.longest_query,
        book.longest_key,
        softmax_scale=scale,
        causal=True,
        **extra,
    )
    answer: Tensor = out.view(batch, queries, heads, dim).transpose(1, 2)
    return answer


@dataclass(frozen=True)
class _Sequences:
    index: Tensor  # [R] which keys, block after block, a block's own tokens last
    query_offsets: Tensor  # [blocks + 1] int32, where each block's queries start
    key_offsets: Tensor  # [blocks + 1] int32, where each block's gathered keys start
    longest_query: int
    longest_key: int


@lru_cache(maxsize=16)
def _sequences(pattern: BlockPattern, queries: int) -> _Sequences:
    first = pattern.first_query_block(queries)
    blocks = range(first, len(pattern.lengths))
    runs = [pattern.runs((*pattern.reads[block], block)) for block in blocks]
    query_lengths = torch.tensor([pattern.lengths[block] for block in blocks])
    key_lengths = torch.tensor([sum(end - start for start, end in spans) for spans in runs])
    index = torch.cat([torch.arange(start, end) for start, end in chain.from_iterable(runs)])
    return _Sequences(index, _offsets(query_lengths), _offsets(key_lengths), int(query_lengths.max()), int(key_lengths.max()))


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(torch.int32)


def _repeated(offsets: Tensor, batch: int) -> Tensor:
    steps = torch.arange(batch, dtype=torch.int32)[:, None] * offsets[-1]
    return torch.cat([offsets[:1], (offsets[1:] + steps).flatten()])
