"""Fixtures; the builders of tiny models, tokenizers and graphs are in `helpers.py`."""

from __future__ import annotations

import os

os.environ["GRAPHKV_STORE"] = "memory"  # every engine begins with an empty store, and nothing goes into the user's own

import pytest
from helpers import tiny_engine

from graphkv import GraphKV


@pytest.fixture
def engine() -> GraphKV:
    """A fresh tiny Llama engine."""
    return tiny_engine()
