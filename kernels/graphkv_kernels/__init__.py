"""Attention over blocks of text that read one another.

    pattern.py   what a kernel needs of a layout: BlockPattern, ContextWeight
    api.py       graph_attention: checks, then the kernel by name
    dense.py     the oracle: a boolean mask and an explicit softmax
    gather.py    the CPU's default: each block's sources gathered, its own tokens causally, merged by log-sum-exp
    flex.py      torch's flex_attention, the GPU's default
    varlen.py    flash-attn's varlen call, an optional extra
    landmark.py  landmark attention: the grouped softmax, and all of it at once
    landmark_gather.py  landmark attention chunk by chunk: a few blocks out of many
    shared.py    many rows over one shared context
    masks.py     dense masks, and block masks built straight from the edges
    softmax.py   attention spelled out, shared by the kernels
    errors.py    what can go wrong

To add a kernel: one file with `unavailable()` and `attend(...)`, one line in `api.py`, and `tests/kernels` runs it against `dense`.
"""

from graphkv_kernels.api import available_kernels, default_kernel, graph_attention
from graphkv_kernels.errors import KernelError, KernelUnavailable, PatternError, ShapeError, UnknownKernel
from graphkv_kernels.landmark import LandmarkGroups, grouped_softmax_reference, landmark_dense_attention
from graphkv_kernels.landmark_gather import causal_attention, chunk_attention, gather_blocks, merge_blocks, top_landmarks
from graphkv_kernels.masks import block_mask, dense_mask
from graphkv_kernels.pattern import BlockPattern, ContextWeight
from graphkv_kernels.shared import SharedPart, shared_attention, shared_weights

__all__ = [
    "BlockPattern",
    "ContextWeight",
    "KernelError",
    "KernelUnavailable",
    "LandmarkGroups",
    "PatternError",
    "ShapeError",
    "SharedPart",
    "UnknownKernel",
    "available_kernels",
    "block_mask",
    "causal_attention",
    "chunk_attention",
    "default_kernel",
    "dense_mask",
    "gather_blocks",
    "graph_attention",
    "grouped_softmax_reference",
    "landmark_dense_attention",
    "merge_blocks",
    "shared_attention",
    "shared_weights",
    "top_landmarks",
]
