"""A Llama decoder over packed rows, with the parameter names of Hugging Face, so that its weights export unchanged.

It exists because training on a CPU needs things the library model does not offer cheaply: several episodes in one row, each with its own
mask and positions, attention over only those columns that a run of rows may read, 16-bit arithmetic in matrix products alone, and the
attention logits of a few (head, query) pairs for the auxiliary targets.

T tokens of a row, H query heads, K key-value heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """The architecture; the defaults are the embedded model's."""

    vocab: int = 1024
    width: int = 256
    layers: int = 7
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    ffn: int = 320
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


@dataclass
class Blocks:
    """Who reads whom in an episode of T tokens in B blocks, without a T × T mask.

    ``starts`` [B + 1] are the blocks' first tokens, and T; ``reads`` [B, B] is True where a block reads another one in full. Every block
    also reads itself causally.
    """

    starts: list[int]
    reads: Tensor

    @cached_property
    def owner(self) -> Tensor:
        """The block of each token, [T]."""
        starts = torch.tensor(self.starts)
        return torch.repeat_interleave(torch.arange(len(self.reads)), starts[1:] - starts[:-1])

    def mask(self, rows: Tensor | None = None, columns: Tensor | None = None) -> Tensor:
        """True where a row may read a column, [rows, columns]; all tokens where none are named."""
        every = torch.arange(self.starts[-1])
        rows, columns = every if rows is None else rows, every if columns is None else columns
        mine, theirs = self.owner[rows], self.owner[columns]
        own = (mine[:, None] == theirs[None, :]) & (rows[:, None] >= columns[None, :])
        return self.reads.index_select(0, mine).index_select(1, theirs) | own

    def runs(self, most: int) -> Iterator[tuple[int, int, Tensor]]:
        """Runs [first, last) of at most ``most`` rows, cut between blocks where possible, each with the columns some row may read."""
        first = 0
        while first < self.starts[-1]:
            ends = [e for e in self.starts if first < e <= first + most]
            last = ends[-1] if ends else first + most
            blocks = self.owner[first:last].unique()
            seen = self.reads.index_select(0, blocks).any(0)
            seen[blocks] = True
            parts = [torch.arange(a, min(b, last)) for a, b, read in zip(self.starts, self.starts[1:], seen.tolist(), strict=False) if read]
            yield first, last, torch.cat(parts)
            first = last

    def shortened(self, blocks: int) -> Blocks:
        """Only the first so many blocks."""
        return Blocks(self.starts[: blocks + 1], self.reads[:blocks, :blocks])


class Sample(Protocol):
    """What a row is packed from; see `episodes.Episode`."""

    ids: Tensor
    positions: Tensor
    blocks: Blocks
    probes: dict[int, Probe]


@dataclass
class Chunk:
    """A run of rows and the columns that some row of it may read; ``bias`` [rows, columns] is 0 or minus infinity."""

    rows: slice
    columns: Tensor
    bias: Tensor


@dataclass
class ProbeRows:
    """The targets of one head in one episode: packed rows ``query``, columns ``first`` and ``second`` counted inside the episode.

    ``mask`` [rows, columns] says what the rows may read; ``episode`` is the episode's number in the packed row.
    """

    episode: int
    head: int
    query: Tensor
    mask: Tensor
    first: Tensor
    second: Tensor


@dataclass
class Row:
    """Several episodes one after another, padded to a fixed number of tokens.

    ``starts`` are their first rows, ``lengths`` their tokens and, last, those of the padding.
    """

    ids: Tensor
    positions: Tensor
    chunks: list[Chunk]
    probes: dict[int, list[ProbeRows]]
    starts: list[int]
    lengths: list[int]
    tokens: int


def row_chunks(blocks: Blocks, start: int, dtype: torch.dtype, most: int = 192) -> list[Chunk]:
    """The rows in runs of at most ``most``, with the columns that some row of the run may read.

    Most of an episode's mask is empty (a document reads few others, a question no other question); this halves the work.
    """
    result = []
    for first, last, columns in blocks.runs(most):
        allowed = blocks.mask(torch.arange(first, last), columns)
        bias = torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, float("-inf"))
        result.append(Chunk(slice(start + first, start + last), columns + start, bias))
    return result


def pack(samples: Sequence[Sample], room: int, dtype: torch.dtype = torch.float32, pad: int = 0) -> Row:
    """Put samples into one row of at least ``room`` tokens; tokens behind the last one are padding that nobody reads."""
    starts: list[int] = []
    chunks: list[Chunk] = []
    probes: dict[int, list[ProbeRows]] = {}
    at = 0
    for sample in samples:
        starts.append(at)
        chunks += row_chunks(sample.blocks, at, dtype)
        for layer, probe in sample.probes.items():
            for head in probe.head.unique().tolist():
                query, first, second = (t[probe.head == head] for t in (probe.query, probe.first, probe.second))
                allowed = sample.blocks.mask(query)
                probes.setdefault(layer, []).append(ProbeRows(len(starts) - 1, head, query + at, allowed, first, second))
        at += len(sample.ids)
    size = max(room, at)
    ids, positions = torch.full((size,), pad), torch.zeros(size, dtype=torch.long)
    ids[:at] = torch.cat([s.ids for s in samples])
    positions[:at] = torch.cat([s.positions for s in samples])
    lengths = [*(len(s.ids) for s in samples), size - at]
    return Row(ids, positions, chunks, probes, starts, lengths, at)


def rope_tables(positions: Tensor, shape: Shape) -> tuple[Tensor, Tensor]:
    """cos and sin, each [T, 1, D], in the half-split layout."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
    angles = positions.to(torch.float64)[:, None] * shape.theta ** -exponents[None, :]
    angles = torch.cat((angles, angles), dim=-1)[:, None]
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [T, heads, D]."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def before_attention(
    x: Tensor, norm: Tensor, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, eps: float, dim: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated query [H, T, D], divided by the root of D, rotated key [T, K, D], and value [T, K, D], of the residual stream x [T, width]."""
    hidden = _norm(x, norm, eps).to(dtype)
    tokens = x.shape[0]
    query = rotate(F.linear(hidden, q.to(dtype)).view(tokens, -1, dim).float(), cos, sin) * dim**-0.5
    key = rotate(F.linear(hidden, k.to(dtype)).view(tokens, -1, dim).float(), cos, sin).to(dtype)
    value = F.linear(hidden, v.to(dtype)).view(tokens, -1, dim)
    return query.to(dtype).transpose(0, 1).contiguous(), key, value


def after_attention(
    x: Tensor, mixed: Tensor, o: Tensor, norm: Tensor, gate: Tensor, up: Tensor, down: Tensor, eps: float, dtype: torch.dtype
) -> Tensor:
    """The residual stream after attention's output ``mixed`` [T, H * D] and the feed-forward."""
    x = x + F.linear(mixed, o.to(dtype)).float()
    hidden = _norm(x, norm, eps).to(dtype)
    inner = F.silu(F.linear(hidden, gate.to(dtype))) * F.linear(hidden, up.to(dtype))
    return x + F.linear(inner, down.to(dtype)).float()


class Attention(nn.Module):
    """Weights only; the arithmetic is in the functions above, which can be compiled."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.q_proj = nn.Linear(shape.width, shape.heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.width, bias=False)


class Feedforward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.width, bias=False)


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


class _Attend(torch.autograd.Function):
    """Attention chunk by chunk. Written with its own backward because autograd would make a tensor of the whole row for every
    chunk's slice of query, key and value."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, chunks: Sequence[Chunk]) -> Tensor:
        heads, tokens, dim = query.shape
        kv_heads, group = key.shape[1], heads // key.shape[1]
        out, weights = query.new_zeros(tokens, heads, dim), []
        for chunk in chunks:
            q_KGTD = query[:, chunk.rows].reshape(kv_heads, -1, dim)
            k_KTD, v_KTD = key.index_select(0, chunk.columns).transpose(0, 1), value.index_select(0, chunk.columns).transpose(0, 1)
            w_KGTT = torch.baddbmm(chunk.bias.repeat(group, 1), q_KGTD, k_KTD.transpose(1, 2)).softmax(-1)
            out[chunk.rows] = torch.bmm(w_KGTT, v_KTD).view(heads, -1, dim).transpose(0, 1)
            weights.append(w_KGTT)
        ctx.save_for_backward(query, key, value, *weights)
        ctx.chunks = chunks
        return out.view(tokens, heads * dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, *weights = ctx.saved_tensors
        heads, tokens, dim = query.shape
        kv_heads = key.shape[1]
        grad = grads[0].view(tokens, heads, dim).transpose(0, 1)
        d_query = torch.zeros_like(query)
        d_key, d_value = (torch.zeros(t.shape, dtype=torch.float32) for t in (key, value))
        for chunk, w_KGTT in zip(ctx.chunks, weights, strict=True):
            g_KGTD, q_KGTD = grad[:, chunk.rows].reshape(kv_heads, -1, dim), query[:, chunk.rows].reshape(kv_heads, -1, dim)
            k_KTD, v_KTD = key.index_select(0, chunk.columns).transpose(0, 1), value.index_select(0, chunk.columns).transpose(0, 1)
            d_value.index_add_(0, chunk.columns, torch.bmm(w_KGTT.transpose(1, 2), g_KGTD).transpose(0, 1).float())
            d_scores = torch._softmax_backward_data(torch.bmm(g_KGTD, v_KTD.transpose(1, 2)), w_KGTT, -1, w_KGTT.dtype)
            d_query[:, chunk.rows] = torch.bmm(d_scores, k_KTD).view(heads, -1, dim)
            d_key.index_add_(0, chunk.columns, torch.bmm(d_scores.transpose(1, 2), q_KGTD).transpose(0, 1).float())
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None


def attend(query: Tensor, key: Tensor, value: Tensor, chunks: Sequence[Chunk]) -> Tensor:
    """Attention output [T, H * D] of a scaled query [H, T, D], key and value [T, K, D]; rows in no chunk are zero."""
    out: Tensor = _Attend.apply(query, key, value, chunks)  # type: ignore[no-untyped-call]
    return out


def probe_loss(query: Tensor, key: Tensor, probes: Sequence[ProbeRows], lengths: Sequence[int]) -> Tensor:
    """Mean negative log of the attention that falls on the targets, first plus second; -log 2 at the least, where both are one row."""
    heads, tokens, dim = query.shape
    group, losses = heads // key.shape[1], []
    # One gather and one split, so that backward makes one tensor of the whole row and not one for every part.
    picked = query.reshape(heads * tokens, dim).index_select(0, torch.cat([p.query + p.head * tokens for p in probes]))
    keys = key.split(list(lengths))
    for part, q_TD in zip(probes, picked.split([len(p.query) for p in probes]), strict=True):
        scores = (q_TD @ keys[part.episode][:, part.head // group].T).float().masked_fill(~part.mask, float("-inf"))
        wanted = torch.logaddexp(scores.gather(1, part.first[:, None]), scores.gather(1, part.second[:, None]))
        losses.append(torch.logsumexp(scores, dim=1) - wanted[:, 0])
    return torch.cat(losses).mean()


class Net(nn.Module):
    """The whole model; its state dict is that of ``LlamaForCausalLM`` with tied embeddings.

    Args:
        dtype: of matrix products; weights, residual stream, norms and softmax sums stay in float32.
        compiled: pass the parts between attentions through ``torch.compile``, which needs a C++ compiler.
    """

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32, compiled: bool = False) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.model = Decoder(shape)
        self._before = torch.compile(before_attention, dynamic=False) if compiled else before_attention
        self._after = torch.compile(after_attention, dynamic=False) if compiled else after_attention

    def blocks(self) -> list[Layer]:
        """The layers, typed."""
        return [cast(Layer, layer) for layer in self.model.layers]

    def forward(self, row: Row, with_probes: bool = False) -> tuple[Tensor, Tensor]:
        """Final hidden states [T, width] and the mean auxiliary loss over the layers that have targets."""
        shape, (cos, sin) = self.shape, rope_tables(row.positions, self.shape)
        x = self.model.embed_tokens(row.ids)
        aux, told = x.new_zeros(()), 0
        for index, layer in enumerate(self.blocks()):
            a, m = layer.self_attn, layer.mlp
            query, key, value = self._before(
                x, layer.input_layernorm.weight, a.q_proj.weight, a.k_proj.weight, a.v_proj.weight, cos, sin, shape.eps, shape.head_dim, self.dtype
            )
            if with_probes and row.probes.get(index):
                aux, told = aux + probe_loss(query, key, row.probes[index], row.lengths), told + 1
            mixed = attend(query, key, value, row.chunks)
            x = self._after(
                x, mixed, a.o_proj.weight, layer.post_attention_layernorm.weight, m.gate_proj.weight, m.up_proj.weight, m.down_proj.weight,
                shape.eps, self.dtype,
            )  # fmt: skip
        return self.model.norm(x), aux / max(told, 1)

    def logits(self, hidden: Tensor) -> Tensor:
        """[rows, vocab] in float32."""
        return F.linear(hidden.to(self.dtype), self.model.embed_tokens.weight.to(self.dtype)).float()
