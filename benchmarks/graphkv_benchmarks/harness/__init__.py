"""lm_eval (EleutherAI's evaluation harness) with an engine of ours as its model; documents and edges come from a task's rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graphkv.errors import InputError

TESTED = "0.4.13"
"""The version of lm_eval whose inner parts are known."""


@contextmanager
def parts_of_lm_eval() -> Iterator[None]:
    """Around imports from lm_eval: some are of names that it does not promise to keep.

    Raises:
        InputError: lm_eval is not installed, or does not have them.
    """
    try:
        yield
    except ImportError as error:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("lm_eval")
        except PackageNotFoundError:
            raise InputError("lm_eval is not installed: pip install 'graphkv[bench]'") from error
        what = f"lm_eval {found} is installed, and lacks what is needed of it ({error})"
        raise InputError(f"{what}: expected {TESTED}, `pip install lm_eval=={TESTED}`") from error
