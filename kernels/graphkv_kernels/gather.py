"""The CPU's default: each group of queries over its gathered keys, its own tokens causally, the parts merged by log-sum-exp.

No compiler is needed, what is not read is never multiplied, and no mask larger than one tile exists. With gradients or a
softcap, and on other devices, the work goes through `masked.py`: the log-sum-exp of the fused call carries no gradient, so a
backward through the merge would be wrong without a word.

Shape suffixes: B batch, H query heads, K key heads, G = H / K, T queries, S keys, D head dimension, N equal tiles in one call,
F = G · T, the queries of one key head folded into one axis in the order tile, chunk, query head, token.
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
_CHUNK = 64
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
    q_KFD = _fold(q_HTD, k_KSD.shape[0], group)
    read = _read(q_KFD, k_KSD, v_KSD, group, scale)
    for tiles in group.causal:
        _attend_tiles(q_KFD, k_KSD, v_KSD, out_HTD, read, group, tiles, scale)


def _chunks(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + _CHUNK, length)) for start in range(0, length, _CHUNK)]


def _split(x: Tensor, axis: int, parts: int) -> Tensor:
    """A view with one axis cut into equal parts."""
    return x.view(*x.shape[:axis], parts, x.shape[axis] // parts, *x.shape[axis + 1 :])


def _tile_view(x_KFD: Tensor, group: Group, tiles: Causal, per_token: int) -> Tensor:
    """Equal tiles of a tensor that holds `per_token` rows for each token of a group: [K, N, F, ...]."""
    start, rows = (tiles.start - group.start) * per_token, tiles.length * per_token
    return _split(x_KFD[:, start : start + tiles.count * rows], 1, tiles.count)


def _fold(q_HTD: Tensor, kv_heads: int, group: Group) -> Tensor:
    heads, rows, dim = q_HTD.shape
    per_token = heads // kv_heads
    q_KFD = q_HTD.new_empty(kv_heads, per_token * rows, dim, dtype=compute_dtype(q_HTD.dtype))
    q_KGTD = _split(q_HTD, 0, kv_heads)
    for tiles in group.causal:
        folded = _tile_view(q_KFD, group, tiles, per_token)
        start = tiles.start - group.start
        given = _split(q_KGTD[:, :, start : start + tiles.count * tiles.length], 2, tiles.count)
        for top, bottom in _chunks(tiles.length):
            into = _split(folded[:, :, top * per_token : bottom * per_token], 2, per_token)
            into.copy_(given[:, :, :, top:bottom].transpose(1, 2))
    return q_KFD


def _flash(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> _Part:
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, False, attn_mask=mask, scale=scale)
    return _Part(out, lse)


def _merge(one: _Part, other: _Part) -> _Part:
    out = torch.lerp(one.out, other.out, torch.sigmoid(other.lse - one.lse).unsqueeze(-1))
    return _Part(out, torch.logaddexp(one.lse, other.lse))


def _read(q_KFD: Tensor, k_KSD: Tensor, v_KSD: Tensor, group: Group, scale: float) -> _Part | None:
    """The group's queries over all that they read in full."""
    part = _rectangle(q_KFD, k_KSD, v_KSD, group.runs, scale) if group.runs[0] else None
    if group.weight is not None:
        context = _rectangle(q_KFD, k_KSD, v_KSD, group.context, scale / group.weight.temperature)
        context = _Part(context.out, context.lse * group.weight.scale)
        part = context if part is None else _merge(part, context)
    return part


def _rectangle(q_KFD: Tensor, k_KSD: Tensor, v_KSD: Tensor, runs: tuple[Runs, ...], scale: float) -> _Part:
    if len(runs) > 1:  # each of N equal tiles reads its own keys
        keys, values = (_gathered(x, sum(runs, ()), q_KFD.dtype) for x in (k_KSD, v_KSD))
        q_NKFD, k_NKSD, v_NKSD = (_split(x, 1, len(runs)).transpose(0, 1) for x in (q_KFD, keys, values))
        return _joined(_flash(q_NKFD, k_NKSD, v_NKSD, None, scale))

    def over(piece: Runs) -> _Part:
        keys, values = (_gathered(x, piece, q_KFD.dtype) for x in (k_KSD, v_KSD))
        return _joined(_flash(q_KFD[None], keys[None], values[None], None, scale))

    return reduce(_merge, map(over, _pieces(runs[0])))


def _joined(part: _Part) -> _Part:
    """[N, K, F, D] of a call as [K, N · F, D] of a group."""
    return _Part(part.out.transpose(0, 1).flatten(1, 2), part.lse.transpose(0, 1).flatten(1, 2))


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


@lru_cache(maxsize=64)
def _causal_mask(top: int, bottom: int, per_token: int, dtype: torch.dtype) -> Tensor:
    """0 where row top + i of a tile may read key j, -inf elsewhere, repeated for each query head of a key head."""
    return torch.full((bottom - top, bottom), -torch.inf, dtype=dtype).triu(top + 1).repeat(per_token, 1)


def _attend_tiles(
    q_KFD: Tensor, k_KSD: Tensor, v_KSD: Tensor, out_HTD: Tensor, read: _Part | None, group: Group, tiles: Causal, scale: float
) -> None:
    kv_heads, per_token = k_KSD.shape[0], out_HTD.shape[0] // k_KSD.shape[0]
    span = slice(tiles.start, tiles.start + tiles.count * tiles.length)
    q_KNFD = _tile_view(q_KFD, group, tiles, per_token)
    k_KNSD, v_KNSD = (_split(x[:, span].to(q_KFD.dtype), 1, tiles.count) for x in (k_KSD, v_KSD))
    out_KGNTD = _split(_split(out_HTD[:, span.start - group.start : span.stop - group.start], 1, tiles.count), 0, kv_heads)
    for top, bottom in _chunks(tiles.length):
        rows = slice(top * per_token, bottom * per_token)
        mask = _causal_mask(top, bottom, per_token, q_KFD.dtype)
        out, lse = _flash(
            q_KNFD[:, :, rows].transpose(0, 1), k_KNSD[:, :, :bottom].transpose(0, 1), v_KNSD[:, :, :bottom].transpose(0, 1), mask, scale
        )
        into = out_KGNTD[:, :, :, top:bottom].permute(2, 0, 1, 3, 4)  # [N, K, G, T, D], as F = (query head, token) within a chunk
        if read is None:
            into.copy_(_split(out, 2, per_token))
            continue
        before_out, before_lse = (_tile_view(x, group, tiles, per_token)[:, :, rows].transpose(0, 1) for x in read)
        share = torch.sigmoid(lse - before_lse).unsqueeze(-1)
        before_out, out, share = (_split(x, 2, per_token) for x in (before_out, out, share))
        if into.dtype == out.dtype:
            torch.lerp(before_out, out, share, out=into)
        else:
            into.copy_(torch.lerp(before_out, out, share))
