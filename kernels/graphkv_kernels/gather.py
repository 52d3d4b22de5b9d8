"""The default on the CPU."""

from __future__ import annotations

from torch import Tensor

from graphkv_kernels.masked import attend_masked
from graphkv_kernels.pattern import BlockPattern


def unavailable() -> str | None:
    """Why this kernel cannot run here; None: it can."""
    return None


def attend(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, pattern: BlockPattern, scale: float, softcap: float | None) -> Tensor:
    """Attention of a pattern; see `graphkv_kernels.graph_attention`."""
    return attend_masked(q_BHTD, k_BKSD, v_BKSD, pattern, scale, softcap)
