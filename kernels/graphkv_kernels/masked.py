"""Attention block by block over gathered keys, with a mask and torch's own backward.

What `gather` does when gradients are needed, on devices other than the CPU, and for logits that the fused call cannot form
(softcap). Shape suffixes: B batch, H query heads, K key heads, G = H / K, T queries, S keys, D head dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from graphkv_kernels.pattern import BlockPattern
from graphkv_kernels.softmax import compute_dtype, logits, weigh_context, weighted_values

# Logits held at once when they are spelled out: 2^24 float32 are 64 MiB.
_MAX_LOGITS = 1 << 24


def attend_masked(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, pattern: BlockPattern, scale: float, softcap: float | None) -> Tensor:
    """Attention of a pattern, differentiable in query, key and value."""
    first = pattern.first_query_block(q_BHTD.shape[2])
    parts = []
    for block in range(first, len(pattern.lengths)):
        start, end = pattern.span(block)
        runs = pattern.runs((*pattern.reads[block], block))
        keys, values = _gathered(k_BKSD, runs), _gathered(v_BKSD, runs)
        spelled_out = softcap is not None or pattern.weight(block) is not None
        height = max(1, _MAX_LOGITS // (q_BHTD.shape[0] * q_BHTD.shape[1] * keys.shape[2])) if spelled_out else end - start
        for top in range(start, end, height):
            bottom = min(top + height, end)
            rows = q_BHTD[:, :, top - pattern.starts[first] : bottom - pattern.starts[first]]
            # The block's own tokens are the last keys; row r of the block reads its first r + 1 of them.
            mask_TS = torch.ones(bottom - top, keys.shape[2], dtype=torch.bool, device=keys.device).tril(keys.shape[2] - (end - top))
            if spelled_out:
                parts.append(_spelled_out(rows, keys, values, mask_TS, pattern, block, scale, softcap))
            else:
                parts.append(_folded(rows, keys, values, mask_TS, scale))
    return torch.cat(parts, dim=2)


def _gathered(x_BKSD: Tensor, runs: tuple[tuple[int, int], ...]) -> Tensor:
    pieces = [x_BKSD[:, :, start:end] for start, end in runs]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)


def _folded(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask_TS: Tensor, scale: float) -> Tensor:
    # The query heads of one key head become rows of one longer query: no repeated keys, larger matrix products.
    batch, heads, rows, dim = q_BHTD.shape
    kv_heads = k_BKSD.shape[1]
    folded = q_BHTD.reshape(batch, kv_heads, heads // kv_heads * rows, dim)
    out = scaled_dot_product_attention(folded, k_BKSD, v_BKSD, attn_mask=mask_TS.repeat(heads // kv_heads, 1), scale=scale)
    return out.reshape(batch, heads, rows, dim)


def _spelled_out(
    q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask_TS: Tensor, pattern: BlockPattern, block: int, scale: float, softcap: float | None
) -> Tensor:
    wide = compute_dtype(q_BHTD.dtype)
    s_BKGTS = logits(q_BHTD.to(wide), k_BKSD.to(wide), scale, softcap)
    weight = pattern.weight(block)
    if weight is not None:
        s_BKGTS = weigh_context(s_BKGTS, _context_columns(pattern, block, weight.blocks, s_BKGTS.device), weight)
    return weighted_values(s_BKGTS.masked_fill(~mask_TS, -torch.inf), v_BKSD.to(wide)).to(q_BHTD.dtype)


def _context_columns(pattern: BlockPattern, block: int, context: tuple[int, ...], device: torch.device) -> Tensor:
    """Which of a block's gathered keys belong to its context."""
    gathered = (*pattern.reads[block], block)
    inside = torch.tensor([source in set(context) for source in gathered], device=device)
    return inside.repeat_interleave(torch.tensor([pattern.lengths[source] for source in gathered], device=device))
