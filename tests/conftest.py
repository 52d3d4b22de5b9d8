"""Fixtures; the builders of tiny models, tokenizers and graphs are in `helpers.py`."""

from __future__ import annotations

import os

os.environ["GRAPHKV_STORE"] = "memory"  # every engine begins with an empty store, and nothing goes into the user's own

import pytest
from helpers import byte_tokenizer, tiny_engine, tiny_model

from graphkv import GraphKV


@pytest.fixture
def engine() -> GraphKV:
    """A fresh tiny Llama engine."""
    return tiny_engine()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny random Llama and the byte tokenizer, for the command line."""
    folder = tmp_path_factory.mktemp("model")
    tiny_model().save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)
