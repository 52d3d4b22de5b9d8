"""A Llama decoder over one packed episode, with the parameter names of Hugging Face, so that its weights export unchanged.

It exists because training needs two things the library model does not offer cheaply: no batch dimension (an episode is one row with
its own mask and positions) and the attention logits of a few (head, query) pairs for the auxiliary targets.

T tokens of an episode, H query heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """The architecture; the defaults are the embedded model's."""

    vocab: int = 1024
    width: int = 256
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 384
    theta: float = 10000.0
    eps: float = 1e-5

    def config(self, bos: int, eos: int, pad: int) -> dict[str, object]:
        """The same architecture as keyword arguments of ``transformers.LlamaConfig``."""
        values = asdict(self)
        names = {"vocab": "vocab_size", "width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads"}
        names |= {"kv_heads": "num_key_value_heads", "head_dim": "head_dim", "ffn": "intermediate_size", "eps": "rms_norm_eps"}
        config: dict[str, object] = {names[key]: value for key, value in values.items() if key in names}
        config |= {"rope_theta": self.theta, "max_position_embeddings": 8192, "tie_word_embeddings": True}
        return config | {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}


@dataclass
class Probe:
    """Auxiliary attention targets of one layer: head ``head[i]`` at token ``query[i]`` should look at ``first[i]`` or ``second[i]``."""

    head: Tensor
    query: Tensor
    first: Tensor
    second: Tensor


Chunk = tuple[slice, Tensor, Tensor]


def rope_tables(positions: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """cos and sin, each [T, D], in the half-split layout."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
    angles = positions.to(torch.float64)[:, None] * shape.theta ** -exponents[None, :]
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [heads, T, D]."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def row_chunks(mask: Tensor, size: int = 96) -> list[Chunk]:
    """Cut the rows of a [T, T] mask into runs of ``size`` and keep for each only the columns some row of it may read.

    Most of an episode's mask is empty (a document reads few others, a question no other question); this halves the work.
    """
    result = []
    for start in range(0, len(mask), size):
        rows = slice(start, min(start + size, len(mask)))
        columns = mask[rows].any(0).nonzero()[:, 0]
        result.append((rows, columns, mask[rows].index_select(1, columns)[None, None]))
    return result


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.width, shape.heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.width, bias=False)

    def _probe_loss(self, query: Tensor, key: Tensor, mask: Tensor, probe: Probe) -> Tensor:
        """Mean negative log of the attention that falls on the targets."""
        group = self.shape.heads // self.shape.kv_heads
        losses = []
        for head in range(self.shape.heads):
            mine = probe.head == head
            if not bool(mine.any()):
                continue
            rows, first, second = probe.query[mine], probe.first[mine], probe.second[mine]
            scores = query[head].index_select(0, rows) @ key[head // group].T * self.shape.head_dim**-0.5
            scores = scores.masked_fill(~mask.index_select(0, rows), float("-inf"))
            wanted = torch.logaddexp(scores.gather(1, first[:, None]), scores.gather(1, second[:, None]))
            losses.append(torch.logsumexp(scores, dim=1) - wanted[:, 0])
        return torch.cat(losses).mean()

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor, chunks: Sequence[Chunk], probe: Probe | None
    ) -> tuple[Tensor, Tensor]:
        tokens, group = x.shape[0], self.shape.heads // self.shape.kv_heads
        query = rotate(self.q_proj(x).view(tokens, -1, self.shape.head_dim).transpose(0, 1), *rope)
        key = rotate(self.k_proj(x).view(tokens, -1, self.shape.head_dim).transpose(0, 1), *rope)
        value = self.v_proj(x).view(tokens, -1, self.shape.head_dim).transpose(0, 1)
        loss = x.new_zeros(())
        if probe is not None:
            loss = self._probe_loss(query, key, mask, probe)
        key, value = key.repeat_interleave(group, 0), value.repeat_interleave(group, 0)
        parts = []
        for rows, columns, allowed in chunks:
            q_1HTD = query[None, :, rows]
            k_1HTD, v_1HTD = key.index_select(1, columns)[None], value.index_select(1, columns)[None]
            parts.append(F.scaled_dot_product_attention(q_1HTD, k_1HTD, v_1HTD, attn_mask=allowed)[0])
        out = torch.cat(parts, dim=1).transpose(0, 1).reshape(tokens, -1)
        return self.o_proj(out), loss


class Feedforward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Feedforward(shape)
        self.input_layernorm = nn.RMSNorm(shape.width, eps=shape.eps)
        self.post_attention_layernorm = nn.RMSNorm(shape.width, eps=shape.eps)


class Decoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.eps)


class Net(nn.Module):
    """The whole model; its state dict is that of ``LlamaForCausalLM`` with tied embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Decoder(shape)

    def blocks(self) -> list[Layer]:
        """The layers, typed."""
        return [cast(Layer, layer) for layer in self.model.layers]

    def forward(self, ids: Tensor, positions: Tensor, mask: Tensor, probes: dict[int, Probe] | None = None) -> tuple[Tensor, Tensor]:
        """Final hidden states [T, width] and the mean auxiliary loss.

        Args:
            ids, positions: [T].
            mask: [T, T] bool, True where the row may read the column.
            probes: attention targets by layer.
        """
        rope, chunks = rope_tables(positions, self.shape), row_chunks(mask)
        x = self.model.embed_tokens(ids)
        probes, aux = probes or {}, x.new_zeros(())
        for index, layer in enumerate(self.blocks()):
            update, loss = layer.self_attn(layer.input_layernorm(x), rope, mask, chunks, probes.get(index))
            aux = aux + loss
            x = x + update
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.model.norm(x), aux / max(len(probes), 1)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.model.embed_tokens.weight.T
