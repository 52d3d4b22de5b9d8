"""The two attention functions that graphkv gives to transformers; `model.py` registers them.

``graphkv`` encodes blocks: it gets queries and keys before rotation, rotates them to the blocks' positions and calls
:func:`graphkv_kernels.graph_attention`. ``graphkv_answer`` re-weighs the context as APE does.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphkv.errors import ModelError
from graphkv.kv import Rope, rotate
from graphkv_kernels import BlockPattern, LandmarkGroups, graph_attention, landmark_dense_attention

Pattern = BlockPattern | LandmarkGroups
"""Who reads whom: blocks that read one another, or one running text with landmarks."""


@dataclass
class LandmarkHelp:
    """What landmarks are trained with beside the loss; see :func:`graphkv_kernels.landmark_dense_attention`.

    Attributes:
        blend: how much of the attention to other blocks goes by their landmarks. divergences: one is added a layer.
    """

    blend: float = 1.0
    divergences: list[Tensor] | None = None

    def keywords(self) -> dict[str, Any]:
        """As the kernel takes them."""
        return {"blend": self.blend, "divergences": self.divergences}


@dataclass
class Encoding:
    """What the attention function needs to know while blocks are encoded; reaches it as a forward keyword."""

    pattern: Pattern
    query_positions: Tensor
    key_positions: Tensor
    ropes: Sequence[Rope]
    impl: str | None
    help: LandmarkHelp | None = None
    tables: dict[int, tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]] = field(default_factory=dict)

    def table(self, layer: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """cos and sin for queries and for keys; made once for all the layers that share a rope."""
        rope = self.ropes[layer]
        if id(rope) not in self.tables:
            self.tables[id(rope)] = (rope.table(self.query_positions), rope.table(self.key_positions))
        return self.tables[id(rope)]


@dataclass(frozen=True)
class Reweigh:
    """APE: keys ``[start, stop)`` of the cache are the context; their logits are divided by `temperature`, their log-sum-exp multiplied by `scale`."""

    start: int
    stop: int
    temperature: float
    scale: float


REWEIGH: ContextVar[Reweigh | None] = ContextVar("graphkv_reweigh", default=None)


def encode_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    graphkv: Encoding | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Blocks that are being encoded: query and key ``[B, H, T, D]`` come in before rotation; the output is ``[B, T, H, D]``."""
    if graphkv is None:
        raise ModelError("attention 'graphkv' runs only inside graphkv's encoder: load the model with another attn_implementation")
    (q_cos, q_sin), (k_cos, k_sin) = graphkv.table(int(module.layer_idx))  # type: ignore[arg-type]
    query, key = query.to(value.dtype), key.to(value.dtype)  # under autocast a norm on queries and keys leaves them in float32
    query, key = rotate(query, q_cos, q_sin), rotate(key, k_cos, k_sin)
    if isinstance(graphkv.pattern, LandmarkGroups):
        out = landmark_dense_attention(query, key, value, graphkv.pattern, scale=scaling, softcap=softcap, **graphkv.help.keywords() if graphkv.help else {})
    else:
        out = graph_attention(query, key, value, graphkv.pattern, impl=graphkv.impl, scale=scaling, softcap=softcap)
    return out.transpose(1, 2).contiguous(), None


def answer_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Few query rows over a long cache, the context re-weighed as APE does. float32 logits, ``[B, H, T_q, T_k]``."""
    reweigh = REWEIGH.get()
    if reweigh is None:
        raise ModelError("attention 'graphkv_answer' runs only while graphkv answers: load the model with another attn_implementation")
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    work = torch.promote_types(query.dtype, torch.float32)
    logits = query.to(work) @ key.to(work).transpose(-1, -2) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    rows, columns = logits.shape[-2:]
    allowed = torch.ones(rows, columns, dtype=torch.bool, device=logits.device).tril(columns - rows) if attention_mask is None else attention_mask
    logits = logits.masked_fill(~allowed, float("-inf"))
    context = logits[..., reweigh.start : reweigh.stop] / reweigh.temperature
    context = context + (reweigh.scale - 1) * context.logsumexp(-1, keepdim=True).nan_to_num(neginf=0.0)
    logits = torch.cat((logits[..., : reweigh.start], context, logits[..., reweigh.stop :]), dim=-1)
    # A row that is all padding has nothing to read; its output is never used.
    weights = logits.softmax(-1).nan_to_num(0.0)
    return (weights @ value.to(work)).to(query.dtype).transpose(1, 2).contiguous(), None
