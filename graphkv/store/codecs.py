"""Codecs: how keys and values are stored.

| codec | keys (before rotation) | values | bytes beside 16 bits |
|---|---|---|---|
| exact | as they are | as they are | 1 |
| int8 | 256 steps a channel | 255 steps a token and head | 1/2 |
| fp8 | e4m3 around a channel's middle | e4m3 a token and head | 1/2 |
| int4 | 16 steps a channel | 15 steps a token and head | 1/4 |

Keys are quantised a channel (their outliers sit in channels, and before rotation a channel is one thing), values a token, as
KIVI does (Liu et al., ICML 2024, arXiv 2402.02750), with the whole segment as the group. What it costs in logits and answers is
measured by `graphkv bench codecs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from graphkv.errors import InputError, StoreError, one_of
from graphkv.kv import SegmentKV

Layers = tuple[Tensor, ...]


def dtype_name(dtype: torch.dtype) -> str:
    """``bfloat16`` for ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")


def join(name: str, layers: Sequence[Tensor]) -> dict[str, Tensor]:
    """One tensor ``[layers, H, T, D]`` where all layers have one shape, else one a layer, by name."""
    if len({tuple(layer.shape) for layer in layers}) == 1:
        return {name: torch.stack([layer.detach().cpu() for layer in layers])}
    return {f"{name}.{i:04d}": layer.detach().cpu().contiguous() for i, layer in enumerate(layers)}


def split(name: str, tensors: Mapping[str, Tensor]) -> Layers:
    """What :func:`join` joined: views, no copies."""
    if name in tensors:
        return tensors[name].unbind(0)
    return tuple(tensors[key] for key in sorted(tensors) if key.startswith(f"{name}."))


class Codec(Protocol):
    """Keys and values → named tensors, and back."""

    @property
    def name(self) -> str:
        """What it is called, in keys, files and options."""

    def pack(self, block: SegmentKV) -> dict[str, Tensor]:
        """What is stored of a block, on the CPU."""

    def unpack(self, tensors: Mapping[str, Tensor], dtype: str) -> tuple[Layers, Layers]:
        """Keys and values, one ``[H, T, D]`` a layer."""


class Exact:
    """As they are."""

    name = "exact"

    def pack(self, block: SegmentKV) -> dict[str, Tensor]:
        return join("keys", block.keys) | join("values", block.values)

    def unpack(self, tensors: Mapping[str, Tensor], dtype: str) -> tuple[Layers, Layers]:
        return split("keys", tensors), split("values", tensors)


class Quantised:
    """Fewer bits: ``steps`` whole numbers from -limit to limit, or float8 up to `limit`.

    Keys, for each channel over the tokens of the segment: x ≈ middle + q · step, both float16. Values, for each token and head:
    x ≈ q · scale; the scale is one byte, sixteenths of an octave below the largest of its layer and head.
    """

    def __init__(self, name: str, key_limit: float, value_limit: float, bits: int, float8: bool = False) -> None:
        self.name, self.key_limit, self.value_limit, self.bits, self.float8 = name, key_limit, value_limit, bits, float8

    def pack(self, block: SegmentKV) -> dict[str, Tensor]:
        """Raises StoreError for keys beyond float16's range."""
        keys = [self._pack_keys(layer.detach().cpu().float()) for layer in block.keys]
        values = [self._pack_values(layer.detach().cpu().float()) for layer in block.values]
        parts = {"keys": 0, "key_middle": 1, "key_step": 2}
        packed = {name: t for part, i in parts.items() for name, t in join(part, [k[i] for k in keys]).items()}
        for part, i in {"values": 0, "value_code": 1, "value_scale": 2}.items():
            packed |= join(part, [v[i] for v in values])
        return packed

    def unpack(self, tensors: Mapping[str, Tensor], dtype: str) -> tuple[Layers, Layers]:
        to: torch.dtype = getattr(torch, dtype)
        keys = zip(*(split(part, tensors) for part in ("keys", "key_middle", "key_step")), strict=True)
        values = zip(*(split(part, tensors) for part in ("values", "value_code", "value_scale")), strict=True)
        return (
            tuple(torch.addcmul(middle.float(), self._floats(q, True), step.float()).to(to) for q, middle, step in keys),
            tuple((self._floats(q, False) * _scales(code, scale)).to(to) for q, code, scale in values),
        )

    def _pack_keys(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if x.shape[-1] % 2 and self.bits == 4:
            raise StoreError(f"codec {self.name!r} packs two numbers into a byte: it needs an even head dimension, this model has {x.shape[-1]}; use int8")
        if x.shape[-2] == 0:
            return self._stored(x, True), x.new_zeros(*x.shape[:-2], 1, x.shape[-1]).half(), x.new_zeros(*x.shape[:-2], 1, x.shape[-1]).half()
        low, high = x.amin(-2, keepdim=True), x.amax(-2, keepdim=True)
        middle, step = ((low + high) / 2).half(), ((high - low) / 2 / self.key_limit).half()
        if not (torch.isfinite(middle).all() and torch.isfinite(step).all()):
            raise StoreError(f"keys reach {float(x.abs().max()):.3g}: codec {self.name!r} holds up to 65504; use codec 'exact' for this model")
        return self._stored((x - middle.float()) / step.float().clamp(min=1e-12), True), middle, step

    def _pack_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        largest = x.abs().amax(-1, keepdim=True)
        scale = largest.amax(-2, keepdim=True) if x.shape[-2] else x.new_ones(*x.shape[:-2], 1, 1)
        if not torch.isfinite(scale).all():
            raise StoreError("values are not finite: they cannot be quantised")
        scale = torch.where(scale > 0, scale, 1.0)
        code = (16 * torch.log2(scale / largest.clamp(min=1e-30))).floor().clamp(0, 255).to(torch.uint8)
        return self._stored(x / _scales(code, scale / self.value_limit), False), code, scale / self.value_limit

    def _stored(self, q: Tensor, keys: bool) -> Tensor:
        limit = self.key_limit if keys else self.value_limit
        q = q.clamp(-limit, limit)
        if self.float8:
            return q.to(torch.float8_e4m3fn)
        if self.bits == 8:  # 256 steps of keys lie half a step beside the whole numbers
            return ((q - 0.5).round() if keys else q.round()).clamp(-128, 127).to(torch.int8)
        q = ((q + 7.5).round() if keys else q.round() + 8).to(torch.uint8)
        return q[..., 0::2] | (q[..., 1::2] << 4)

    def _floats(self, q: Tensor, keys: bool) -> Tensor:
        if self.float8:
            return q.float()
        if self.bits == 8:
            return q.float() + 0.5 if keys else q.float()
        pairs = torch.stack((q & 15, q >> 4), dim=-1).flatten(-2).float()
        return pairs - (7.5 if keys else 8.0)


def _scales(code: Tensor, scale: Tensor) -> Tensor:
    return scale * torch.exp2(code.float() / -16)


CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Exact(),
        Quantised("int8", 127.5, 127, 8),
        Quantised("fp8", 448, 448, 8, float8=True),
        Quantised("int4", 7.5, 7, 4),
    )
}
"""The codecs by name."""


def codec_named(name: str) -> Codec:
    """Raises InputError for a name that is none."""
    if name not in CODECS:
        raise InputError(one_of("codec", name, CODECS))
    return CODECS[name]
