"""Reading attention while a model runs without computing it: only the rows that are asked for, and nothing above the last layer that is asked for.

A model under SDPA never holds a matrix of attention weights. The function here takes the place of its attention for one forward (`model.py`
registers it as ``graphkv_watch``): it computes the layer's output by SDPA as before, and in the layers that are watched also the weights of a
few rows, from the layer's own queries and keys, in blocks that stay small. Behind the last of these layers the forward is left::

    layer 0    SDPA
    layer 1    SDPA, and rows × columns of the weights → visit
    layer 2    rows × columns of the weights → visit, and out: no output, no feed-forward, no logits

Rows are padded on the right and no mask is given, so that SDPA stays on its causal path: a token never sees the padding behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from graphkv.errors import ModelError

BLOCK = 2**24
"""Attention weights that are held at once: 64 MiB in float32."""

Visit = Callable[[int, slice, Tensor], None]
"""Called with the layer, the rows (as a slice of `Watch.rows`) and their weights ``[B, H, R, T]``, each row a sum of 1."""


@dataclass(frozen=True, eq=False)
class Watch:
    """What is read, and who gets it.

    Attributes:
        heads: layer → its heads, None for all of them. Layers are counted from 0.
        rows: ``[B, R]``, the tokens whose attention is read, by their place in the padded batch.
        visit: called block by block; what it is given is float32 (float64 in a float64 model), on the layer's device.
        block: weights held at once.
        seen: layers that the forward has reached, filled while it runs.

    Example:
        >>> kept = []
        >>> watch = Watch({1: (0, 3)}, torch.tensor([[6, 7]]), lambda layer, rows, weights: kept.append(weights))
    """

    heads: Mapping[int, tuple[int, ...] | None]
    rows: Tensor
    visit: Visit
    block: int = BLOCK
    seen: set[int] = field(default_factory=set)

    @property
    def last(self) -> int:
        """The layer behind which the forward is left."""
        return max(self.heads)


class _Enough(Exception):
    """Everything that was to be seen has been seen: no error, but the way out of a forward."""


_WATCH: ContextVar[Watch | None] = ContextVar("graphkv_watch", default=None)


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """While this is open the attention function knows `watch`; the forward inside ends early, and quietly.

    Raises:
        ModelError: a layer was never reached.
    """
    watch.seen.clear()
    token = _WATCH.set(watch)
    try:
        yield
    except _Enough:
        pass
    finally:
        _WATCH.reset(token)
    if missing := sorted(set(watch.heads) - watch.seen):
        raise ModelError(f"the model was run, but its layers {missing} did not call the attention function: their attention cannot be read")


def watch_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The layer's attention ``[B, T, H, D]`` by SDPA; `attention_mask` is None (causal) or boolean ``[B, 1, T, T]`` (a sliding window).

    Raises:
        ModelError: no :func:`watching` is open, or the layer does not say which one it is.
    """
    watch = _WATCH.get()
    if watch is None:
        raise ModelError("attention 'graphkv_watch' runs only while graphkv reads attention: load the model with another attn_implementation")
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise ModelError(f"{type(module).__name__} does not say which layer it is (no layer_idx): its attention cannot be read")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    query = query.to(key.dtype)
    if layer in watch.heads:
        _read_rows(watch, layer, query, key, attention_mask, scale, softcap)
        watch.seen.add(layer)
        if layer == watch.last:
            raise _Enough
    if softcap is None:
        causal = attention_mask is None
        out = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, is_causal=causal, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    else:
        out = _capped_attention(query, key, value, attention_mask, scale, softcap)
    return out.transpose(1, 2).contiguous(), None


def _read_rows(watch: Watch, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scale: float, softcap: float | None) -> None:
    """Weights of the watched rows, `watch.block` of them at a time, to `watch.visit`."""
    batch, every, columns, width = query.shape
    heads, rows = watch.heads[layer], watch.rows.to(query.device)
    group = every // key.shape[1]
    if heads is not None and set(heads) != set(range(every)):
        chosen = torch.tensor(heads, device=query.device)
        query, key, group = query[:, chosen], key[:, chosen // group], 1
    place = rows[:, None, :, None].expand(batch, query.shape[1], rows.shape[1], width)
    query = query.gather(2, place)
    step = max(1, watch.block // (batch * query.shape[1] * columns))
    for start in range(0, rows.shape[1], step):
        part = slice(start, min(start + step, rows.shape[1]))
        allowed = _allowed(rows[:, part], columns, mask)
        watch.visit(layer, part, _weights(query[:, :, part], key, allowed, scale, softcap, group))


def _allowed(rows: Tensor, columns: int, mask: Tensor | None) -> Tensor:
    """Which columns each row sees, ``[B, 1, R, T]``."""
    if mask is not None:
        mask = mask.expand(rows.shape[0], -1, -1, -1)
        return mask.gather(2, rows[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3]))
    return torch.arange(columns, device=rows.device) <= rows[:, None, :, None]


def _weights(query: Tensor, key: Tensor, allowed: Tensor, scale: float, softcap: float | None, group: int) -> Tensor:
    """Softmax of some rows ``[B, H, R, D]`` over all keys ``[B, H_kv, T, D]``; the heads of a group share their key without a copy of it."""
    work = torch.promote_types(query.dtype, torch.float32)
    batch, heads, rows, width = query.shape
    grouped = query.to(work).reshape(batch, heads // group, group * rows, width)
    logits = (grouped @ key.to(work).transpose(-1, -2)).mul_(scale).reshape(batch, heads, rows, key.shape[2])
    if softcap is not None:
        logits = logits.div_(softcap).tanh_().mul_(softcap)
    return logits.masked_fill_(~allowed, float("-inf")).softmax(-1)


def _capped_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, softcap: float) -> Tensor:
    """Attention with capped logits, which SDPA does not have, by blocks of rows; ``[B, H, T, D]``."""
    batch, heads, length, _ = query.shape
    group = heads // key.shape[1]
    values = value.to(torch.promote_types(value.dtype, torch.float32))
    parts = []
    step = max(1, BLOCK // (batch * heads * length))
    for start in range(0, length, step):
        rows = torch.arange(start, min(start + step, length), device=query.device).expand(batch, -1)
        weights = _weights(query[:, :, start : start + step], key, _allowed(rows, length, mask), scale, softcap, group)
        grouped = weights.reshape(batch, heads // group, -1, length) @ values
        parts.append(grouped.reshape(batch, heads, -1, value.shape[-1]).to(query.dtype))
    return torch.cat(parts, dim=2)
