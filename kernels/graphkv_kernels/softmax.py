"""Attention spelled out: logits, mask, softmax. Shared by the kernels that must be differentiable or exact.

Shape suffixes: B batch, H query heads, K key heads, G = H / K query heads to a key head, T queries, S keys, D head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphkv_kernels.pattern import ContextWeight


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 stays; everything narrower is computed in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def logits(q_BHTD: Tensor, k_BKSD: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Scaled and, for Gemma 2, capped logits of grouped heads: [B, K, G, T, S]."""
    batch, heads, rows, dim = q_BHTD.shape
    q_BKGTD = q_BHTD.reshape(batch, k_BKSD.shape[1], heads // k_BKSD.shape[1], rows, dim)
    s_BKGTS = q_BKGTD @ k_BKSD.unsqueeze(2).transpose(-1, -2) * scale
    return s_BKGTS if softcap is None else softcap * torch.tanh(s_BKGTS / softcap)


def weigh_context(s_BKGTS: Tensor, columns_S: Tensor, weight: ContextWeight) -> Tensor:
    """Logits with APE's temperature and scale on the keys whose column is True."""
    cooled = s_BKGTS / weight.temperature
    mass = torch.logsumexp(cooled.masked_fill(~columns_S, -torch.inf), dim=-1, keepdim=True)
    return torch.where(columns_S, cooled + (weight.scale - 1) * mass, s_BKGTS)


def weighted_values(s_BKGTS: Tensor, v_BKSD: Tensor) -> Tensor:
    """Softmax over the keys, then the mean of the values: [B, H, T, D]."""
    return (torch.softmax(s_BKGTS, dim=-1) @ v_BKSD.unsqueeze(2)).flatten(1, 2)
