"""Attention of many rows that read one shared context beside tokens of their own: the context is neither copied nor read once a row.

A row of a batch sees all of the context and what `mask` lets it see of its own tokens::

             shared            own (row 0)    own (row 1)
    row 0    x x x x x x       x x x
    row 1    x x x x x x                      . x x       "." is padding

The queries of all rows stand in one matrix over the context; the two parts are merged by log-sum-exp.

Shape suffixes: B rows, H query heads, K key heads, G = H / K, T new tokens, S own keys, N shared keys, D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphkv_kernels.errors import ShapeError
from graphkv_kernels.softmax import compute_dtype, logits

_WEIGHTS = 2**24
"""Attention weights that are held at once where they are spelled out: 64 MiB in float32."""


@dataclass(frozen=True)
class SharedPart:
    """Shared keys ``[start, stop)``: their logits are divided by `temperature`, their log-sum-exp multiplied by `scale` (APE; 1 and 1 elsewhere)."""

    start: int
    stop: int
    temperature: float = 1.0
    scale: float = 1.0


def shared_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    shared_key: Tensor,
    shared_value: Tensor,
    mask: Tensor,
    *,
    parts: Sequence[SharedPart] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention of ``[B, H, T, D]`` over a context that every row sees and over the row's own keys.

    Args:
        query: ``[B, H, T, D]``. key, value: the rows' own, ``[B, H_kv, S, D]``, the new tokens last.
        shared_key, shared_value: ``[H_kv, N, D]``; N may be 0. mask: bool ``[B, T, S]``, True where a token sees an own key; every token sees one at least.
        parts: how the context is cut, for APE; one plain part by default. scale: of the logits, ``D ** -0.5`` by default. softcap: Gemma 2's.

    Returns:
        ``[B, H, T, D]``, in the query's dtype. There is no gradient.

    Raises:
        ShapeError: shapes that do not fit together, a token that sees no key of its own, or parts that do not cover the context.

    Example:
        >>> q, k, v = torch.randn(2, 4, 1, 8), torch.randn(2, 2, 3, 8), torch.randn(2, 2, 3, 8)
        >>> shared_attention(q, k, v, torch.randn(2, 50, 8), torch.randn(2, 50, 8), torch.ones(2, 1, 3, dtype=torch.bool)).shape
        torch.Size([2, 4, 1, 8])
    """
    _check(query, key, value, shared_key, shared_value, mask, parts)
    batch, heads, tokens, dim = query.shape
    kv_heads = key.shape[1]
    scale = dim**-0.5 if scale is None else scale
    attend = _flash if softcap is None and query.device.type == "cpu" else _spelled
    with torch.no_grad():
        out, lse = attend(query, key, value, mask, scale, softcap)
        folded = query.view(batch, kv_heads, heads // kv_heads, tokens, dim).permute(1, 2, 0, 3, 4).reshape(1, kv_heads, -1, dim)
        for part in parts if parts is not None else (SharedPart(0, shared_key.shape[1]),):
            if part.stop <= part.start:
                continue
            keys, values = (x[None, :, part.start : part.stop] for x in (shared_key, shared_value))
            seen, mass = attend(folded, keys, values, None, scale, softcap, part.temperature)
            seen = seen.view(kv_heads, -1, batch, tokens, dim).permute(2, 0, 1, 3, 4).flatten(1, 2)
            mass = mass.view(kv_heads, -1, batch, tokens).permute(2, 0, 1, 3).flatten(1, 2) * part.scale
            out, lse = torch.lerp(out, seen, torch.sigmoid(mass - lse).unsqueeze(-1)), torch.logaddexp(lse, mass)
    return out.to(query.dtype)


def shared_weights(query: Tensor, key: Tensor, shared_key: Tensor, mask: Tensor, *, scale: float | None = None, softcap: float | None = None) -> Tensor:
    """Softmax weights that the last new token of each row gives to the shared keys, float32 ``[B, H, N]``; what is missing to 1 is on the row's own keys.

    Arguments as in :func:`shared_attention`; `query` may hold some of the heads only, with as many key heads.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    work = compute_dtype(query.dtype)
    last = query[:, :, -1:].to(work)
    own = logits(last, key.to(work), scale, softcap).flatten(1, 2)[:, :, 0].masked_fill(~mask[:, None, -1], -torch.inf)
    kv_heads, rows = shared_key.shape[0], last.shape[0]
    folded = last.view(rows, kv_heads, -1, last.shape[-1]).permute(1, 2, 0, 3).flatten(1, 2)  # [K, G·B, D]: the context is read once, and not copied for every row
    shared = logits(folded[None], shared_key[None].to(work), scale, softcap)[0, :, 0]
    shared = shared.reshape(kv_heads, -1, rows, shared.shape[-1]).permute(2, 0, 1, 3).flatten(1, 2)
    return torch.cat((shared, own), dim=-1).softmax(-1)[..., : shared.shape[-1]].float()


def _check(query: Tensor, key: Tensor, value: Tensor, shared_key: Tensor, shared_value: Tensor, mask: Tensor, parts: Sequence[SharedPart] | None) -> None:
    if query.dim() != 4 or key.dim() != 4:
        raise ShapeError(f"expected query [B, H, T, D] and key [B, H_kv, S, D], got {list(query.shape)} and {list(key.shape)}")
    batch, heads, tokens, dim = query.shape
    kv_heads, own = key.shape[1:3]
    expected = (batch, kv_heads, own, dim)
    if key.shape != expected or value.shape != expected:
        raise ShapeError(f"expected the rows' own keys and values of {list(expected)} for this query, got {list(key.shape)} and {list(value.shape)}")
    if mask.shape != (batch, tokens, own) or mask.dtype != torch.bool:
        raise ShapeError(f"expected a boolean mask of {[batch, tokens, own]} (rows, new tokens, own keys), got {mask.dtype} of {list(mask.shape)}")
    if shared_key.shape != shared_value.shape or shared_key.dim() != 3 or shared_key.shape[::2] != (kv_heads, dim) or heads % kv_heads:
        raise ShapeError(f"expected shared keys and values of [{kv_heads}, N, {dim}], got {list(shared_key.shape)} and {list(shared_value.shape)} for {heads} query heads")
    if not bool(mask.any(-1).all()):
        raise ShapeError("every token must see at least one of its row's own keys (itself, say): a row without any has no softmax")
    edges = [0, *(edge for part in parts for edge in (part.start, part.stop)), shared_key.shape[1]] if parts is not None else []
    if edges[::2] != edges[1::2] or edges != sorted(edges):
        raise ShapeError(f"the parts must cover the {shared_key.shape[1]} shared keys once, in order, got {[(part.start, part.stop) for part in parts or ()]}")


def _flash(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float | None, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp, both in the dtype of computation, by the fused call of the CPU."""
    added = None if mask is None else torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, -torch.inf)[:, None]
    k, v = k.to(q.dtype), v.to(q.dtype)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, False, attn_mask=added, scale=scale / temperature)
    work = compute_dtype(q.dtype)
    return out.to(work), lse.to(work)


def _spelled(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, softcap: float | None, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The same by an explicit softmax, some tokens at a time, on any device and with a softcap."""
    work = compute_dtype(q.dtype)
    step = max(1, _WEIGHTS // (q.shape[0] * q.shape[1] * k.shape[2]))
    outs, masses = [], []
    for start in range(0, q.shape[2], step):
        s = logits(q[:, :, start : start + step].to(work), k.to(work), scale, softcap) / temperature  # behind the cap, as APE divides what attention weighs
        if mask is not None:
            s = s.masked_fill(~mask[:, None, None, start : start + step], -torch.inf)
        masses.append(s.logsumexp(-1).flatten(1, 2))
        outs.append((s.softmax(-1) @ v.to(work).unsqueeze(2)).flatten(1, 2))
    return torch.cat(outs, 2), torch.cat(masses, 2)
