"""The CPU's default: each group of queries over its gathered keys, its own tokens causally, the parts merged by log-sum-exp.

No compiler is needed, what is not read is never multiplied, and no mask larger than one tile exists. With gradients or a
softcap, and on other devices, the work goes through `masked.py`: the log-sum-exp of the fused call carries no gradient, so a
backward through the merge would be wrong without a word.

Shape suffixes: B batch, H query heads, K key heads, G = H / K, T queries, S keys, D head dimension, N tiles in one call,
F = G · T, the queries of one key head folded into one axis: larger matrix products, and no key is read twice.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from typing import NamedTuple

import torch
from torch import Tensor

from graphkv_kernels.masked import attend_masked
from graphkv_kernels.pattern import BlockPattern
from graphkv_kernels.softmax import compute_dtype
from graphkv_kernels.tiles import Causal, Group, Runs, plan

# Rows of a tile that share one causal call: the square of keys above their diagonal is all that is computed in vain.
_CHUNK = 32
# Keys gathered at once; bounds the scratch memory of a query that reads everything.
_KEYS = 4096


class _Part(NamedTuple):
    """A softmax over some of the keys: its output, and the log-sum-exp that weighs it against the others."""

    out: Tensor
    lse: Tensor


def unavailable() -> str | None:
    """Why this kernel cannot run here; None: it can."""
    return None


def attend(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, pattern: BlockPattern, scale: float, softcap: float | None) -> Tensor:
    """Attention of a pattern; see `graphkv_kernels.graph_attention`."""
    gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (q_BHTD, k_BKSD, v_BKSD))
    if gradient or softcap is not None or q_BHTD.device.type != "cpu":
        return attend_masked(q_BHTD, k_BKSD, v_BKSD, pattern, scale, softcap)
    batch, heads, queries, dim = q_BHTD.shape
    # Laid out [B, T, H, D] as the projection after attention wants it.
    out_BHTD = q_BHTD.new_empty(batch, queries, heads, dim).transpose(1, 2)
    offset = pattern.tokens - queries
    for group in plan(pattern, queries):
        for one in range(batch):
            rows = slice(group.start - offset, group.end - offset)
            _attend_group(q_BHTD[one, :, rows], k_BKSD[one], v_BKSD[one], out_BHTD[one, :, rows], group, scale)
    return out_BHTD


def _attend_group(q_HTD: Tensor, k_KSD: Tensor, v_KSD: Tensor, out_HTD: Tensor, group: Group, scale: float) -> None:
    """Fills `out_HTD` with the attention of one group of queries."""
    kv_heads = k_KSD.shape[0]
    q_NKGTD = _split(_split(q_HTD, 1, len(group.runs)).transpose(0, 1), 1, kv_heads)
    q_NKGTD = q_NKGTD.to(compute_dtype(q_HTD.dtype))
    read = None
    if group.runs[0] or group.weight is not None:
        q_NKGTD = q_NKGTD.contiguous()
        read = _read(q_NKGTD.flatten(2, 3), k_KSD, v_KSD, group, scale)
    for tiles in group.causal:
        _attend_tiles(q_NKGTD, k_KSD, v_KSD, out_HTD, read, group, tiles, scale)


def _split(x: Tensor, axis: int, parts: int) -> Tensor:
    """A view with one axis cut into equal parts."""
    return x.view(*x.shape[:axis], parts, x.shape[axis] // parts, *x.shape[axis + 1 :])


def _tile_view(x_NKGT: Tensor, group: Group, tiles: Causal) -> Tensor:
    """Equal tiles of a group's tensor, [N, K, G, T, ...], whether it holds them one by one or all in one row."""
    if x_NKGT.shape[0] > 1:
        return x_NKGT
    start = tiles.start - group.start
    return _split(x_NKGT[0, :, :, start : start + tiles.count * tiles.length], 2, tiles.count).movedim(2, 0)


def _flash(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> _Part:
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, False, attn_mask=mask, scale=scale)
    return _Part(out, lse)


def _merge(one: _Part, other: _Part) -> _Part:
    out = torch.lerp(one.out, other.out, torch.sigmoid(other.lse - one.lse).unsqueeze(-1))
    return _Part(out, torch.logaddexp(one.lse, other.lse))


def _read(q_NKFD: Tensor, k_KSD: Tensor, v_KSD: Tensor, group: Group, scale: float) -> _Part | None:
    """The group's queries over all that they read in full."""
    part = _rectangle(q_NKFD, k_KSD, v_KSD, group.runs, scale) if group.runs[0] else None
    if group.weight is not None:
        context = _rectangle(q_NKFD, k_KSD, v_KSD, group.context, scale / group.weight.temperature)
        context = _Part(context.out, context.lse * group.weight.scale)
        part = context if part is None else _merge(part, context)
    return part


def _rectangle(q_NKFD: Tensor, k_KSD: Tensor, v_KSD: Tensor, runs: tuple[Runs, ...], scale: float) -> _Part:
    def over(piece: Runs) -> _Part:
        keys, values = (_split(_gathered(x, piece, q_NKFD.dtype), 1, len(runs)).transpose(0, 1) for x in (k_KSD, v_KSD))
        return _flash(q_NKFD, keys, values, None, scale)

    # Different keys for each tile are few enough for one piece (see tiles.py); shared ones may be many.
    return reduce(_merge, map(over, _pieces(runs[0]) if len(runs) == 1 else (sum(runs, ()),)))


@lru_cache(maxsize=4096)
def _pieces(runs: Runs) -> tuple[Runs, ...]:
    """Runs cut into pieces of at most `_KEYS` keys."""
    pieces: list[list[tuple[int, int]]] = [[]]
    room = _KEYS
    for start, end in runs:
        while start < end:
            if room == 0:
                pieces.append([])
                room = _KEYS
            stop = min(end, start + room)
            pieces[-1].append((start, stop))
            room -= stop - start
            start = stop
    return tuple(tuple(piece) for piece in pieces)


def _gathered(x_KSD: Tensor, runs: Runs, dtype: torch.dtype) -> Tensor:
    if len(runs) == 1:
        return x_KSD[:, runs[0][0] : runs[0][1]].to(dtype)  # a view where the dtype is the same
    out = x_KSD.new_empty(x_KSD.shape[0], sum(end - start for start, end in runs), x_KSD.shape[2], dtype=dtype)
    place = 0
    for start, end in runs:
        out[:, place : place + end - start].copy_(x_KSD[:, start:end])
        place += end - start
    return out


@lru_cache(maxsize=128)
def _causal_mask(top: int, bottom: int, dtype: torch.dtype) -> Tensor:
    """0 where row top + i of a tile may read key j, -inf elsewhere."""
    return torch.full((bottom - top, bottom), -torch.inf, dtype=dtype).triu(top + 1)


def _attend_tiles(
    q_NKGTD: Tensor, k_KSD: Tensor, v_KSD: Tensor, out_HTD: Tensor, read: _Part | None, group: Group, tiles: Causal, scale: float
) -> None:
    kv_heads, per_key_head = q_NKGTD.shape[1:3]
    span = slice(tiles.start, tiles.start + tiles.count * tiles.length)
    k_NKSD, v_NKSD = (_split(x[:, span].to(q_NKGTD.dtype), 1, tiles.count).transpose(0, 1) for x in (k_KSD, v_KSD))
    own_NHTD = _tile_view(q_NKGTD, group, tiles).flatten(1, 2)
    into_NKGTD = _tile_view(_split(out_HTD, 0, kv_heads)[None], group, tiles)
    if read is not None:
        read_out, read_lse = (_tile_view(_split(x, 2, per_key_head), group, tiles) for x in read)
    for top in range(0, tiles.length, _CHUNK):
        bottom = min(top + _CHUNK, tiles.length)
        mask = _causal_mask(top, bottom, own_NHTD.dtype)
        part = _flash(own_NHTD[:, :, top:bottom], k_NKSD[:, :, :bottom], v_NKSD[:, :, :bottom], mask, scale)
        out, lse = (_split(x, 1, kv_heads) for x in part)
        into = into_NKGTD[:, :, :, top:bottom]
        if read is None:
            into.copy_(out)
            continue
        before, share = read_out[:, :, :, top:bottom], torch.sigmoid(lse - read_lse[:, :, :, top:bottom]).unsqueeze(-1)
        if into.dtype == out.dtype:
            torch.lerp(before, out, share, out=into)
        else:
            into.copy_(torch.lerp(before, out, share))
