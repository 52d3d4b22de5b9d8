"""lm_eval's own command with model ``graphkv`` in its registry: ``python -m graphkv_benchmarks.harness run --model graphkv --tasks ...``."""

from __future__ import annotations

from lm_eval.__main__ import cli_evaluate  # type: ignore[import-untyped]

from . import lm

__all__ = ["lm"]  # imported for what the import does: it registers the model

if __name__ == "__main__":
    cli_evaluate()
