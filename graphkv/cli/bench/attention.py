"""`graphkv bench attention`: every attention kernel on every shape."""

from __future__ import annotations

from typing import Any

from graphkv.cli.common import Json


def attention(as_json: Json = False) -> None:
    """stub"""
    from graphkv_benchmarks.attention import run_attention_bench

    result: Any = run_attention_bench()
    print(result, as_json)
