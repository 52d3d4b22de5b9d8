"""Landmark attention as it is read: few blocks out of many, fetched through their landmarks.

A text is read chunk by chunk. What a token reads has two parts, and one softmax over both (the grouped softmax of
:mod:`graphkv_kernels.landmark`, arXiv 2305.16300, section 3):

* its own chunk, or the question it is part of: :func:`chunk_attention`, :func:`causal_attention`. Each gives what was read and the
  log-sum-exp of the logits that take part in the shared group: the text of the token's own block, and the landmarks of the chunk's
  earlier blocks;
* the blocks that were chosen for it, out of any number: :func:`gather_blocks`. For each it gives what a softmax over the block's own
  text reads, and the logit of its landmark.

:func:`merge_blocks` puts them together: a block counts as one key whose logit is its landmark's.

How the gathering is made cheap: a thousand queries choose from a hundred blocks, so the choices are sorted by block, as tokens are
sorted by expert in a mixture of experts; each block's queries are cut into tiles, and every tile is a small dense product.

Shape suffixes: B batch, H query heads, K key heads, G = H / K, T queries, S keys, D head dimension, C chosen blocks of a query, W tokens
of a block with its landmark, N blocks of a chunk, U different pairs (key head, block), X tiles, Y queries of a tile, P places.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphkv_kernels.errors import ShapeError
from graphkv_kernels.landmark import check_tensors
from graphkv_kernels.softmax import compute_dtype, logits

Fetch = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From key heads and blocks, int64 ``[U]`` each, in order and without doubles, to keys and values ``[U, W, D]`` and how many of the W
tokens are the block's, its landmark included and last, ``[U]``."""

_LARGEST_TILE = 64
_SLAB = 2**17
"""Numbers of a tensor that are worked on at one time: they stay in the cache, and the allocator keeps their pages."""
_MOST_SCORES = 2**24
"""Dot products that :func:`top_landmarks` holds at one time: with more landmarks fewer queries are compared at once, so memory does not grow."""


def chunk_attention(query: Tensor, key: Tensor, value: Tensor, block: int, *, scale: float | None = None, softcap: float | None = None) -> tuple[Tensor, Tensor]:
    """A chunk of text among itself under the grouped softmax: its blocks are of `block` tokens, the last may be shorter.

    Args:
        query: ``[B, H, T, D]``. key, value: ``[B, K, T, D]``. block: tokens of a block, its landmark included and last.
        scale: on the logits; 1 / sqrt(D) by default. softcap: as in Gemma 2.

    Returns:
        What is read, ``[B, H, T, D]``, and the log-sum-exp of the shared group ``[B, H, T]``; both float32, or float64 for float64.

    Raises:
        ShapeError: the tensors do not fit each other, or a block is shorter than two tokens.
    """
    check_tensors(query, key, value)
    batch, heads, rows, dim = query.shape
    if key.shape[2] != rows or block < 2 or rows % block == 1:
        raise ShapeError(f"expected as many keys as queries, cut into blocks of {block} and at least two tokens, got {rows} queries and {key.shape[2]} keys")
    wide, many = compute_dtype(query.dtype), -(-rows // block)
    padded = many * block
    key, value = (torch.nn.functional.pad(x.to(wide), (0, 0, 0, padded - rows)) for x in (key, value))
    s_BKGTS = logits(query.to(wide), key, dim**-0.5 if scale is None else scale, softcap)
    landmark_BKGTN = s_BKGTS[..., block - 1 :: block].clone()
    at = torch.arange(padded, device=query.device)
    own = at[:rows] // block
    # A block that comes later is masked as a whole: with a finite number its softmax is even, and its share is 0.
    hidden_TS = (at > at[:rows, None]) | (at % block == block - 1) | (at == rows - 1)
    s_BKGTNW = s_BKGTS.masked_fill_(hidden_TS, torch.finfo(wide).min).view(*s_BKGTS.shape[:-1], many, block)
    mine_BKGT = s_BKGTNW.gather(-2, own[:, None, None].expand(*s_BKGTNW.shape[:4], 1, block)).squeeze(-2).logsumexp(-1)
    after_TN = torch.arange(many, device=query.device) >= own[:, None]
    share_BKGTN = landmark_BKGTN.masked_fill_(after_TN, -torch.inf)
    share_BKGTN = share_BKGTN.scatter_(-1, own[:, None].expand_as(share_BKGTN[..., :1]), mine_BKGT.unsqueeze(-1))
    mass_BKGT = share_BKGTN.logsumexp(-1)
    weights = s_BKGTNW.softmax(-1).mul_((share_BKGTN - mass_BKGT.unsqueeze(-1)).exp_().unsqueeze(-1))
    out = weights.flatten(-2) @ value.unsqueeze(2)
    return out.reshape(batch, heads, rows, dim), mass_BKGT.reshape(batch, heads, rows)


def causal_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, scale: float | None = None, softcap: float | None = None
) -> tuple[Tensor, Tensor]:
    """Text that is one block without a landmark, as a question and its answer are: plain attention, and its log-sum-exp.

    Args:
        query: ``[B, H, T, D]``, of the last T tokens. key, value: ``[B, K, S, D]``. mask: which keys a query reads, ``[B, 1, T, S]``;
            causal by default. scale, softcap: as in :func:`chunk_attention`.

    Returns:
        As :func:`chunk_attention`; 0 and -inf for a row that reads nothing.

    Raises:
        ShapeError: the tensors do not fit each other.
    """
    check_tensors(query, key, value)
    batch, heads, rows, dim = query.shape
    columns, wide = key.shape[2], compute_dtype(query.dtype)
    s_BKGTS = logits(query.to(wide), key.to(wide), dim**-0.5 if scale is None else scale, softcap)
    allowed = torch.ones(rows, columns, dtype=torch.bool, device=query.device).tril(columns - rows) if mask is None else mask.unsqueeze(2)
    s_BKGTS = s_BKGTS.masked_fill_(~allowed, -torch.inf)
    mass_BKGT = s_BKGTS.logsumexp(-1)
    weights = (s_BKGTS - mass_BKGT.unsqueeze(-1)).exp().nan_to_num(0.0)
    return (weights @ value.to(wide).unsqueeze(2)).reshape(batch, heads, rows, dim), mass_BKGT.reshape(batch, heads, rows)


def top_landmarks(query: Tensor, landmarks: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The landmarks with the largest dot products; of two that are equal the later one.

    Args:
        query: ``[K, N, D]``. landmarks: ``[K, M, D]``, any M. k: how many, at most M.

    Returns:
        Dot products and numbers ``[K, N, k]``, largest first.

    Raises:
        ShapeError: there are fewer than `k` landmarks.

    Example:
        >>> top_landmarks(torch.tensor([[[1.0]]]), torch.tensor([[[2.0], [3.0], [3.0], [1.0]]]), 2)[1].tolist()
        [[[2, 1]]]
    """
    many = landmarks.shape[1]
    if not 1 <= k <= many:
        raise ShapeError(f"expected from 1 to {many} blocks to be chosen of {many}, got {k}")
    step = max(1, _MOST_SCORES // (len(query) * many))
    if query.shape[1] > step:
        parts = [top_landmarks(part, landmarks, k) for part in torch.split(query, step, dim=1)]
        return torch.cat([best for best, _ in parts], dim=1), torch.cat([chosen for _, chosen in parts], dim=1)
    scores = query @ landmarks.transpose(-1, -2)
    best, chosen = scores.topk(min(k + 1, many), dim=-1)
    tied = (best[..., 1:] == best[..., :-1]).any(-1)
    best, chosen = best[..., :k], chosen[..., :k]
    if tied.any():  # topk says nothing about which of two equal ones it takes
        rows = scores[tied]
        chosen[tied] = many - 1 - rows.flip(-1).sort(dim=-1, descending=True, stable=True).indices[:, :k]
        best[tied] = rows.gather(-1, chosen[tied])
    return best, chosen


def gather_blocks(
    query: Tensor, place: Tensor, block: Tensor, key_heads: int, fetch: Fetch, *, scale: float | None = None, softcap: float | None = None
) -> tuple[Tensor, Tensor]:
    """What each query reads in each of the blocks that were chosen for it, and the logit of the block's landmark.

    Where a block stands is the query's matter: the same query comes once for every place, rotated to the place's first position, and a
    key carries the rotation of its position inside the block. So a block can stand at another place for every query.

    Args:
        query: ``[P, B, H, T, D]``. place: which of the P a chosen block stands at, int64 ``[B, H, T, C]``. block: its number, the same shape.
        key_heads: K, a divisor of H. fetch: gives the keys and values, one call for everything that was chosen.
        scale, softcap: as in :func:`chunk_attention`.

    Returns:
        ``[B, H, T, C, D]`` and ``[B, H, T, C]``; float32, or float64 for float64.

    Raises:
        ShapeError: the tensors do not fit each other.
    """
    if query.dim() != 5 or place.shape != block.shape or place.shape[:3] != query.shape[1:4] or query.shape[2] % key_heads:
        raise ShapeError(
            f"expected queries [P, B, H, T, D], places and blocks [B, H, T, C], and key heads that divide H, got {[tuple(x.shape) for x in (query, place, block)]} and {key_heads}"
        )
    _, batch, heads, rows, dim = query.shape
    wide, chosen = compute_dtype(query.dtype), block.shape[-1]
    scale = dim**-0.5 if scale is None else scale
    head = torch.arange(heads, device=query.device) // (heads // key_heads)
    stride = int(block.max()) + 1
    pair = (head[:, None, None] * stride + block).flatten()
    order = pair.argsort()
    inline = pair[order]
    begins = torch.cat((inline.new_ones(1, dtype=torch.bool), inline[1:] != inline[:-1]))
    first = begins.nonzero()[:, 0]
    distinct, of_pair = inline[first], begins.cumsum(0) - 1
    counts = torch.cat((first[1:], first.new_tensor([len(inline)]))) - first
    key_UWD, value_UWD, length_U = fetch(torch.div(distinct, stride, rounding_mode="floor"), distinct % stride)

    size = _tile_size(len(pair), len(distinct))
    tiles_U = -(-counts // size)
    first_tile = tiles_U.cumsum(0) - tiles_U
    seat = torch.empty_like(order)
    seat[order] = first_tile[of_pair] * size + torch.arange(len(order), device=query.device) - first[of_pair]
    tiles = int(tiles_U.sum())
    row = place.flatten() * (batch * heads * rows) + torch.arange(batch * heads * rows, device=query.device).repeat_interleave(chosen)
    # An empty seat reads with the first query, and what it reads goes to a row behind the last.
    source, target = row.new_zeros(tiles * size), row.new_full((tiles * size,), len(row))
    source[seat], target[seat] = row, torch.arange(len(row), device=query.device)
    tile_of = torch.repeat_interleave(torch.arange(len(distinct), device=query.device), tiles_U)
    rows_PD = query.reshape(-1, dim)
    out, landmark_XY = query.new_empty(len(row) + 1, dim, dtype=wide), query.new_empty(tiles, size, dtype=wide)
    step = max(1, _SLAB // (dim * max(size, key_UWD.shape[1])))
    for start in range(0, tiles, step):
        part, seats = slice(start, start + step), slice(start * size, (start + step) * size)
        k_XWD, v_XWD, end_X = (x.index_select(0, tile_of[part]) for x in (key_UWD, value_UWD, length_U - 1))
        q_XYD = rows_PD.index_select(0, source[seats]).to(wide).view(-1, size, dim)
        s_XYW = torch.bmm(q_XYD, k_XWD.to(wide).transpose(1, 2)).mul_(scale)
        if softcap is not None:
            s_XYW = s_XYW.div_(softcap).tanh_().mul_(softcap)
        landmark_XY[part] = s_XYW.gather(2, end_X[:, None, None].expand(-1, size, 1)).squeeze(2)
        no_text_XW = torch.arange(s_XYW.shape[-1], device=query.device) >= end_X[:, None]
        o_XYD = torch.bmm(s_XYW.masked_fill_(no_text_XW[:, None], -torch.inf).softmax(-1), v_XWD.to(wide))
        out.index_copy_(0, target[seats], o_XYD.flatten(0, 1))
    return out[:-1].view(*block.shape, dim), landmark_XY.flatten()[seat].view(block.shape)


def merge_blocks(out: Tensor, mass: Tensor, blocks: Tensor, landmark: Tensor) -> tuple[Tensor, Tensor]:
    """One softmax over a token's own part and its chosen blocks.

    Args:
        out, mass: ``[B, H, T, D]`` and ``[B, H, T]`` of :func:`chunk_attention` or :func:`causal_attention`.
        blocks, landmark: ``[B, H, T, C, D]`` and ``[B, H, T, C]`` of :func:`gather_blocks`.

    Returns:
        What is read, ``[B, H, T, D]``, and the weight of each block ``[B, H, T, C]``; what they leave of 1 is the own part's.
    """
    weights = torch.cat((mass.unsqueeze(-1), landmark), dim=-1).softmax(-1)
    read = (weights[..., 1:].unsqueeze(-1) * blocks).sum(-2)
    return torch.addcmul(read, out, weights[..., :1]), weights[..., 1:]


def _tile_size(queries: int, pairs: int) -> int:
    """The power of two that is nearest to the queries of an average block: small tiles repeat keys, large ones are half empty."""
    size = 1
    while size * 3 * pairs <= 2 * queries and size < _LARGEST_TILE:
        size *= 2
    return size

