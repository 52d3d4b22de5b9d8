"""lm_eval's own command with model `graphkv` in its registry: `graphkv-lm-eval run --model graphkv --tasks ...`."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point ``graphkv-lm-eval``: lm_eval finds models of other packages only where they were imported, which this does."""
    try:
        from lm_eval.__main__ import cli_evaluate  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        if error.name != "lm_eval":
            raise
        sys.exit("error: lm_eval is not installed: pip install 'graphkv[bench]'")
    from . import lm  # noqa: F401  # its import registers the model

    cli_evaluate()


if __name__ == "__main__":
    main()
