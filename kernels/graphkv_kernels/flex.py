"""torch's flex_attention over a block mask built from the edges: the default on CUDA.

A new graph of the same bucket (tokens and blocks rounded up) does not recompile: the mask function is the same code over
tensors of the same shapes. Shape suffixes: B batch, H query heads, K key heads, T queries, S keys, D head dimension.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from graphkv_kernels.errors import KernelUnavailable
from graphkv_kernels.masks import block_mask
from graphkv_kernels.pattern import BlockPattern

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

_TILE = 128
# Compiled variants kept: pairs of buckets, dtypes, head shapes and softcaps.
_BUCKETS = 256
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def unavailable() -> str | None:
    """Why this kernel cannot run here; None: it can."""
    if torch.cuda.is_available() or any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return None
    return "torch.compile needs a C++ compiler on the CPU; install g++ or clang"


def bucket(count: int, unit: int) -> int:
    """`count` rounded up to a multiple of `unit` that is 4, 5, 6 or 7 times a power of two, so that shapes repeat.

    >>> bucket(1000, 128), bucket(1100, 128), bucket(9000, 128)
    (1024, 1280, 10240)
    """
    units = -(-count // unit)
    step = 1 << max(0, units.bit_length() - 3)
    return -(-units // step) * step * unit


def attend(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, pattern: BlockPattern, scale: float, softcap: float | None) -> Tensor:
    """Attention of a pattern; see `graphkv_kernels.graph_attention`."""
    if q_BHTD.device.type == "cpu" and torch.is_grad_enabled() and any(x.requires_grad for x in (q_BHTD, k_BKSD, v_BKSD)):
        raise KernelUnavailable("kernel 'flex' has no backward on the CPU; use impl='gather' or torch.no_grad()")
    if q_BHTD.dtype == torch.float64:
        raise KernelUnavailable("kernel 'flex' computes in float32, bfloat16 and float16, got float64; use impl='gather' or 'dense'")
    queries, keys = q_BHTD.shape[2], k_BKSD.shape[2]
    mask = _mask(pattern, queries, q_BHTD.device)
    padded_T, padded_S = mask.seq_lengths
    # Beyond its limit (8 by default, too few for the buckets of one corpus) torch.compile would quietly run flex_attention
    # uncompiled, with every logit in memory. With fullgraph=True and a limit of our own it raises instead.
    with torch._dynamo.config.patch(recompile_limit=_BUCKETS, accumulated_recompile_limit=4 * _BUCKETS):
        out: Tensor = _compiled()(
            pad(q_BHTD, (0, 0, 0, padded_T - queries)),
            pad(k_BKSD, (0, 0, 0, padded_S - keys)),
            pad(v_BKSD, (0, 0, 0, padded_S - keys)),
            score_mod=_cap(softcap),
            block_mask=mask,
            scale=scale,
            enable_gqa=q_BHTD.shape[1] != k_BKSD.shape[1],
        )
    return out[:, :, :queries]


@lru_cache(maxsize=16)
def _mask(pattern: BlockPattern, queries: int, device: torch.device) -> BlockMask:
    padded = (bucket(queries, _TILE), bucket(pattern.tokens, _TILE))
    return block_mask(pattern, _TILE, queries, tokens=padded, blocks=bucket(len(pattern.lengths), 16), device=device)


@cache
def _cap(softcap: float | None) -> ScoreMod | None:
    if softcap is None:
        return None

    def capped(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return capped


@cache
def _compiled() -> Any:
    # Compiled on first use. Not dynamic: flex_attention's CPU template does not take symbolic lengths.
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False, fullgraph=True)
