"""Keys without position, and the rotation that puts them somewhere.

Keys are kept as the model makes them *before* rotary embedding, so one encoding serves every place in every layout.
Placing a key is the model's own rotation at that position: same frequencies, same float32 angles, same scaling.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rope:
    """Rotary embedding of one layer: rotate-half convention, possibly over the first part of the head only.

    Attributes:
        inv_freq: float32 ``[R / 2]``, R the rotary dimensions (R ≤ D).
        scaling: factor on cos and sin (yarn's attention scaling; 1 elsewhere).
    """

    inv_freq: Tensor
    scaling: float = 1.0

    def table(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, float32 ``[T, R]``, for integer positions ``[T]``. Angles are float32, as the models compute them."""
        angles = positions.to(self.inv_freq.device, torch.float32)[:, None] * self.inv_freq.float()
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos() * self.scaling, angles.sin() * self.scaling


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of `x` ``[..., T, D]`` by tables ``[T, R]``; dimensions from R on stay as they are.

    Arithmetic is float32 (float64 for float64 input), the result has x's dtype.

    Example:
        >>> rope = Rope(torch.tensor([1.0]))
        >>> rotate(torch.tensor([[1.0, 0.0]]), *rope.table(torch.tensor([0])))
        tensor([[1., 0.]])
    """
    work = torch.float64 if x.dtype == torch.float64 else torch.float32
    cos, sin = cos.to(x.device, work), sin.to(x.device, work)
    width = cos.shape[-1]
    head = x[..., :width].to(work)
    first, second = head.chunk(2, dim=-1)
    turned = (head * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)
    return turned if width == x.shape[-1] else torch.cat((turned, x[..., width:]), dim=-1)


@dataclass(frozen=True, eq=False)
class SegmentKV:
    """The keys and values of one block, keys before rotation. Never changed after it is made.

    Attributes:
        key: digest that names it, see :func:`block_key`.
        token_ids: the block's tokens, compared on every hit.
        keys, values: one tensor ``[H_kv, T, D]`` a layer.
        label, model: what it was encoded from (``paper1@1``) and by, for people who look into a store.
    """

    key: str
    token_ids: tuple[int, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    label: str = ""
    model: str = ""

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    def to(self, devices: Sequence[torch.device]) -> SegmentKV:
        """The same with each layer on its device; itself if it is there already."""
        if all(k.device == d and v.device == d for k, v, d in zip(self.keys, self.values, devices, strict=True)):
            return self
        return replace(
            self,
            keys=tuple(k.to(d) for k, d in zip(self.keys, devices, strict=True)),
            values=tuple(v.to(d) for v, d in zip(self.values, devices, strict=True)),
        )


def block_key(identity: str, token_ids: Sequence[int], sources: Iterable[tuple[str, int]] = (), codec: str = "exact") -> str:
    """Name of a block's KV: a digest of everything that its numbers depend on.

    Args:
        identity: model, weights, dtype and tokenizer (:attr:`graphkv.model.GraphModel.identity`).
        token_ids: the block's own tokens.
        sources: for each block it reads that block's key and its first position relative to this block's. Order does not
            matter: attention is a sum. Only distances enter, because rotary attention sees only distances. What those blocks
            read is in their keys (a Merkle tree), so another graph behind a source is another key.
        codec: how keys and values are stored; what reads a block that lost something in storage is another block.

    Example:
        >>> block_key("m", [1, 2]) == block_key("m", [1, 2]), block_key("m", [1, 2]) == block_key("m", [12])
        (True, False)
    """
    digest = hashlib.sha256()
    digest.update(f"graphkv-1|{identity}|{codec}|".encode())
    digest.update(",".join(map(str, token_ids)).encode())
    for key, distance in sorted(sources):
        digest.update(f"|{key}@{distance}".encode())
    return digest.hexdigest()
