"""lm_eval's own command with model `graphkv` in its registry: `graphkv-lm-eval run --model graphkv --tasks ...`."""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point ``graphkv-lm-eval``: lm_eval finds models of other packages only where they were imported, which this does."""
    try:
        import lm_eval  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "lm_eval":
            raise
        sys.exit("error: lm_eval is not installed: pip install 'graphkv[bench]'")
    from graphkv.errors import InputError

    from . import parts_of_lm_eval

    try:
        with parts_of_lm_eval():
            from lm_eval.__main__ import cli_evaluate  # type: ignore[import-untyped]
        from . import lm  # noqa: F401  # its import registers the model
    except InputError as error:
        sys.exit(f"error: {error}")
    cli_evaluate()


if __name__ == "__main__":
    main()
