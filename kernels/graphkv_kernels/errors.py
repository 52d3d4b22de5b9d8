"""The errors of the attention kernels.

KernelError (ValueError)
├── UnknownKernel        no kernel of that name; the message lists the names there are
├── KernelUnavailable    the kernel exists but cannot do this here; the message says why and what would help
├── ShapeError           a tensor's shape, dtype or device is not what the pattern asks for
└── PatternError         the block pattern contradicts itself
"""

from __future__ import annotations


class KernelError(ValueError):
    """Anything that this package refuses to do."""


class UnknownKernel(KernelError):
    """The name is not that of a kernel."""


class KernelUnavailable(KernelError):
    """The kernel cannot run here, or does not do what was asked."""


class ShapeError(KernelError):
    """A tensor does not fit the other tensors or the pattern."""


class PatternError(KernelError):
    """The pattern's own fields do not fit each other."""
