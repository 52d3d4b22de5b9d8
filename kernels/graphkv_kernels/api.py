"""The one entry point: checks the inputs once, picks the kernel by name, and calls it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

import torch
from torch import Tensor

from graphkv_kernels.errors import KernelUnavailable, ShapeError, UnknownKernel
from graphkv_kernels.pattern import BlockPattern

Attend = Callable[[Tensor, Tensor, Tensor, BlockPattern, float, float | None], Tensor]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class _Kernel(NamedTuple):
    module: str  # imported on first use
    weighted: bool  # knows APE's context weights


_KERNELS = {
    "dense": _Kernel("graphkv_kernels.dense", weighted=True),
    "gather": _Kernel("graphkv_kernels.gather", weighted=True),
    "flex": _Kernel("graphkv_kernels.flex", weighted=False),
    "varlen": _Kernel("graphkv_kernels.varlen", weighted=False),
}


def graph_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: BlockPattern,
    *,
    impl: str | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Attention where every block reads some earlier blocks in full and itself causally.

    Args:
        query: [B, Hq, Tq, D]. Tq may be smaller than Tk: the queries then belong to the trailing blocks, and the blocks
            before them are keys only (their KV is cached).
        key: [B, Hkv, Tk, D], Tk the tokens of all blocks, Hq a multiple of Hkv.
        value: [B, Hkv, Tk, D].
        pattern: the blocks and who reads whom.
        impl: the kernel's name; see `available_kernels`. By default `default_kernel` chooses.
        scale: what the logits are multiplied by; D ** -0.5 by default.
        softcap: Gemma 2's cap on the logits, cap * tanh(logits / cap), applied before any context weight.

    Returns:
        [B, Hq, Tq, D] in the query's dtype.

    Raises:
        UnknownKernel: no kernel is called `impl`.
        KernelUnavailable: that kernel cannot run here or cannot do what the pattern asks. Another one is never taken instead.
        ShapeError: the tensors do not fit each other or the pattern.

    Example:
        >>> pattern = BlockPattern(lengths=(3, 2), reads=((), (0,)))
        >>> q, k, v = torch.randn(1, 4, 5, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
        >>> graph_attention(q, k, v, pattern).shape
        torch.Size([1, 4, 5, 8])

    Source: Graph-KV, arXiv 2506.07334, section 3; the context weights are APE's, arXiv 2502.05431.
    """
    _check_tensors(query, key, value, pattern)
    if softcap is not None and not softcap > 0:
        raise ShapeError(f"expected a softcap above 0 or None, got {softcap}")
    name = impl if impl is not None else default_kernel(query.device, weighted=bool(pattern.context))
    kernel = _find(name)
    module = import_module(kernel.module)
    reason = module.unavailable()
    if reason is not None:
        raise KernelUnavailable(f"kernel {name!r} cannot run here: {reason}")
    if pattern.context and not kernel.weighted:
        able = ", ".join(repr(other) for other, entry in _KERNELS.items() if entry.weighted)
        raise KernelUnavailable(f"kernel {name!r} does not weigh contexts (APE's temperature and scale); these do: {able}")
    attend: Attend = module.attend
    return attend(query, key, value, pattern, scale if scale is not None else query.shape[-1] ** -0.5, softcap)


def default_kernel(device: torch.device | str = "cpu", *, weighted: bool = False) -> str:
    """The kernel taken when none is named: flex on CUDA unless contexts are weighted, gather everywhere else."""
    return "flex" if torch.device(device).type == "cuda" and not weighted else "gather"


def available_kernels() -> dict[str, str | None]:
    """Every kernel's name, with None if it can run here and otherwise the reason why not.

    Example:
        >>> available_kernels()["gather"] is None
        True
    """
    return {name: import_module(kernel.module).unavailable() for name, kernel in _KERNELS.items()}


def _find(name: str) -> _Kernel:
    try:
        return _KERNELS[name]
    except KeyError:
        raise UnknownKernel(f"no kernel is called {name!r}; there are {', '.join(map(repr, _KERNELS))}") from None


def _check_tensors(query: Tensor, key: Tensor, value: Tensor, pattern: BlockPattern) -> None:
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.dim() != 4:
            raise ShapeError(f"expected {name} [B, H, T, D], got {tuple(tensor.shape)}")
        if tensor.dtype != query.dtype or tensor.dtype not in _DTYPES:
            allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
            raise ShapeError(f"expected query, key and value in one dtype of {allowed}, got {query.dtype} and for {name} {tensor.dtype}")
        if tensor.device != query.device:
            raise ShapeError(f"expected query, key and value on one device, got {query.device} and for {name} {tensor.device}")
    batch, heads, _, dim = query.shape
    expected = (batch, key.shape[1], pattern.tokens, dim)
    for name, tensor in (("key", key), ("value", value)):
        if tuple(tensor.shape) != expected:
            raise ShapeError(f"expected {name} [B, Hkv, Tk, D] = {expected} for this query and pattern, got {tuple(tensor.shape)}")
    if key.shape[1] == 0 or heads % key.shape[1]:
        raise ShapeError(f"expected query heads to be a multiple of the {key.shape[1]} key heads, got {heads}")
    pattern.first_query_block(query.shape[2])
