"""The attention function for many answers over one context: it reads the context where it lies, and notes which segments were looked at.

`model.py` registers it as ``graphkv_shared``; the kernel is :func:`graphkv_kernels.shared_attention`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphkv.attention import Reweigh
from graphkv.errors import ModelError
from graphkv_kernels import SharedPart, shared_attention, shared_weights


@dataclass(eq=False)
class Looks:
    """How much of its attention each new token gives to each part of the context, by the mean over chosen heads.

    Attributes:
        heads: layer → its heads. groups: for each token of the context the part it belongs to, ``[N]``; the number `count` for a token that is not
            counted. count: how many parts there are.
        shares: float32 ``[B, count]``, filled by a forward.
    """

    heads: Mapping[int, tuple[int, ...]]
    groups: Tensor
    count: int
    shares: Tensor | None = None

    def add(self, weights: Tensor) -> None:
        """Weights ``[B, h, N]`` of one layer's chosen heads."""
        summed = weights.sum(1).cpu()
        found = torch.zeros(len(summed), self.count + 1).index_add_(1, self.groups, summed)[:, : self.count]
        found /= sum(len(heads) for heads in self.heads.values())
        self.shares = found if self.shares is None else self.shares + found


@dataclass(eq=False)
class SharedReading:
    """What the attention function needs to know; reaches it as a forward keyword.

    Attributes:
        keys, values: the context, one ``[H_kv, N, D]`` a layer, keys rotated.
        mask: bool ``[B, T, S]``: which of its own tokens each new one sees.
        reweigh: APE's, or None. looks: what is noted, or None.
    """

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    mask: Tensor
    reweigh: Reweigh | None = None
    looks: Looks | None = None
    _parts: tuple[SharedPart, ...] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.reweigh is not None:
            ape = self.reweigh
            self._parts = (SharedPart(0, ape.start), SharedPart(ape.start, ape.stop, ape.temperature, ape.scale))

    @property
    def parts(self) -> tuple[SharedPart, ...] | None:
        """How the kernel is to cut the context."""
        return self._parts


def shared_context_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    graphkv: SharedReading | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """New tokens ``[B, H, T, D]`` over the context and their row's own keys ``[B, H_kv, S, D]``; the output is ``[B, T, H, D]``."""
    if graphkv is None:
        raise ModelError("attention 'graphkv_shared' runs only while graphkv answers: load the model with another attn_implementation")
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    reading, query = graphkv, query.to(key.dtype)
    if reading.keys:
        shared_key, shared_value = reading.keys[layer], reading.values[layer]
    else:  # no context at all
        shared_key = shared_value = key.new_empty(key.shape[1], 0, key.shape[3])
    mask = reading.mask.to(query.device)  # a model's layers may lie on several devices
    if reading.looks is not None and layer in reading.looks.heads:
        chosen = torch.tensor(reading.looks.heads[layer], device=query.device)
        of = chosen // (query.shape[1] // key.shape[1])
        reading.looks.add(shared_weights(query[:, chosen], key[:, of], shared_key[of], mask, scale=scaling, softcap=softcap))
    out = shared_attention(query, key, value, shared_key, shared_value, mask, parts=reading.parts, scale=scaling, softcap=softcap)
    return out.transpose(1, 2).contiguous(), None
