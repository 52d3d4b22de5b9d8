"""The most memory that a call takes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def status_mb(field: str) -> float:
    """A field of ``/proc/self/status`` in MiB: ``VmRSS``, ``VmHWM``, ``RssAnon``. Raises OSError where there is none (not Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise OSError(f"no {field} in /proc/self/status")


def peak_mb(call: Callable[[], T]) -> tuple[float | None, T]:
    """Rise of the resident set's high-water mark over the resident set just before the call (None where Linux does not offer it), and the result."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = status_mb("VmRSS")
    except OSError:
        return None, call()
    out = call()
    return round(status_mb("VmHWM") - before, 1), out
