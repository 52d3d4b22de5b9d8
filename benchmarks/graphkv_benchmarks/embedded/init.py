"""An initialisation that leans towards copying, so that the circuits of reading form early.

Layer 0, heads 0-1 look at the token before. Layer 2, heads 2-3 look for a token that followed an earlier copy of the present one
(induction). In every other head query starts near key, and everywhere output starts as the transpose of value ("mimetic"), so that
attending to a token raises that token's own logit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .net import Net

EMBEDDING = 0.3  # standard deviation of an embedding's entries
LOGIT_SCALE = 0.08  # first value of the last norm: keeps the logits of large embeddings moderate
CONSTANT = 0.5  # length of the direction all embeddings share, relative to the rest of an embedding
PREVIOUS_SHARPNESS = 12.0
INDUCTION_SHARPNESS = 9.0
COPY = 1.0  # how strongly an attended token is written, relative to an embedding


def _orthogonal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A [rows, columns] matrix with orthonormal rows or columns, whichever are fewer."""
    q: Tensor = torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns), generator=generator))[0]
    return q if rows >= columns else q.T


@torch.no_grad()
def initialise(net: Net, seed: int, seeded: bool = True) -> None:
    """Set every parameter of ``net``; the same for the same seed. Without ``seeded``, plain random weights."""
    g = torch.Generator().manual_seed(seed)
    shape = net.shape
    width, dim, half = shape.width, shape.head_dim, shape.head_dim // 2
    group = shape.heads // shape.kv_heads
    for name, parameter in net.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(LOGIT_SCALE if name == "model.norm.weight" else 1.0)
        else:
            scale = EMBEDDING if "embed" in name else 0.5 * parameter.shape[1] ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=g) * scale)
    if not seeded:
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=g) * (0.02 if "embed" in name else parameter.shape[1] ** -0.5))
        for layer in net.blocks():
            for matrix in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
                matrix.mul_((2 * shape.layers) ** -0.5)
        return
    # A direction every embedding has: it gives heads something to point at that does not depend on the token.
    constant = torch.randn(width, generator=g)
    constant /= constant.norm()
    table = net.model.embed_tokens.weight
    table.copy_((table - torch.outer(table @ constant, constant)) + CONSTANT * EMBEDDING * width**0.5 * constant)

    def plain(matrix: Tensor) -> Tensor:
        """The same map, blind to the constant direction."""
        return matrix - torch.outer(matrix @ constant, constant)

    for layer in net.blocks():
        attention = layer.self_attn
        layer.mlp.down_proj.weight.mul_(0.3)
        for kv in range(shape.kv_heads):
            rows = slice(kv * dim, (kv + 1) * dim)
            shared = plain(torch.randn(dim, width, generator=g) * width**-0.5)
            value = plain(_orthogonal(dim, width, g))
            attention.k_proj.weight[rows] = shared
            attention.v_proj.weight[rows] = value
            for head in range(kv * group, (kv + 1) * group):
                noise = torch.randn(dim, width, generator=g) * width**-0.5
                attention.q_proj.weight[head * dim : (head + 1) * dim] = 0.8 * shared + 0.6 * noise
                attention.o_proj.weight[:, head * dim : (head + 1) * dim] = value.T * (COPY * EMBEDDING / group)

    # Previous-token heads: the query is a constant vector a, the key is a turned by one position, so the score at distance
    # d is the sum of cos((d - 1) * frequency), largest at d = 1.
    frequency = shape.theta ** -(torch.arange(half) / half)
    size = CONSTANT / (1 + CONSTANT**2) ** 0.5 * width**0.5  # what a constant direction measures after normalisation
    amplitude = PREVIOUS_SHARPNESS / size * torch.ones(half)
    query = torch.cat((amplitude, torch.zeros(half)))
    key = torch.cat((amplitude * frequency.cos(), amplitude * frequency.sin()))
    first = net.blocks()[0].self_attn
    spread = _orthogonal(width, dim, g)
    reads = first.v_proj.weight[:dim].clone()
    first.k_proj.weight[:dim] = torch.outer(key, constant)
    for head in range(group):
        rows = slice(head * dim, (head + 1) * dim)
        first.q_proj.weight[rows] = torch.outer(query, constant)
        first.o_proj.weight[:, rows] = spread * (COPY * EMBEDDING / group)

    # Induction heads: the key reads what the previous-token heads wrote, the query reads the token itself. Only the slowly
    # turning dimensions compare contents across a long distance.
    slow = torch.cat((torch.arange(half) >= half // 2, torch.arange(half) >= half // 2))
    third = net.blocks()[2].self_attn
    rows = slice(dim, 2 * dim)
    third.k_proj.weight[rows] = INDUCTION_SHARPNESS * spread.T * slow[:, None]
    for head in range(group, 2 * group):
        third.q_proj.weight[head * dim : (head + 1) * dim] = INDUCTION_SHARPNESS * reads * slow[:, None]
