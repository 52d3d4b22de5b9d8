"""The oracle: one boolean mask and an explicit softmax in float32, or float64 for float64 tensors. Slow on purpose.

For blocks A, B, C of 2, 1 and 2 tokens where C reads A, row by row:

        A A B C C
    A   1 0 0 0 0
    A   1 1 0 0 0
    B   0 0 1 0 0
    C   1 1 0 1 0
    C   1 1 0 1 1
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphkv_kernels.masks import dense_mask
from graphkv_kernels.pattern import BlockPattern
from graphkv_kernels.softmax import compute_dtype, logits, weigh_context, weighted_values


def unavailable() -> str | None:
    """Why this kernel cannot run here; None: it can."""
    return None


def attend(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, pattern: BlockPattern, scale: float, softcap: float | None) -> Tensor:
    """Attention of a pattern; see `graphkv_kernels.graph_attention`."""
    queries = q_BHTD.shape[2]
    wide = compute_dtype(q_BHTD.dtype)
    s_BKGTS = logits(q_BHTD.to(wide), k_BKSD.to(wide), scale, softcap)
    first = pattern.first_query_block(queries)
    parts = []
    for block in range(first, len(pattern.lengths)):
        start, end = pattern.span(block)
        rows = s_BKGTS[..., start - pattern.starts[first] : end - pattern.starts[first], :]
        weight = pattern.weight(block)
        if weight is not None:
            columns = torch.zeros(pattern.tokens, dtype=torch.bool, device=rows.device)
            for left, right in pattern.runs(tuple(sorted(weight.blocks))):
                columns[left:right] = True
            rows = weigh_context(rows, columns, weight)
        parts.append(rows)
    mask_TS = dense_mask(pattern, queries, device=q_BHTD.device)
    return weighted_values(torch.cat(parts, dim=-2).masked_fill(~mask_TS, -torch.inf), v_BKSD.to(wide)).to(q_BHTD.dtype)
