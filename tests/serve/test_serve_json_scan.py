"""The look over a body before it is parsed: it lets JSON through, measures what would hurt, and takes linear time."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from graphkv.serve.errors import ApiError
from graphkv.serve.json_scan import check_json

values = st.recursive(st.none() | st.booleans() | st.floats(-1e90, 1e90) | st.integers(-(10**90), 10**90) | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=30)


@trials(max_examples=50, deadline=None)
@given(value=values, ascii=st.booleans())
def test_the_scan_lets_json_through_and_measures_its_depth(value: Any, ascii: bool) -> None:
    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return max(map(depth, inner), default=0) + 1 if isinstance(value, list | dict) else 0

    body = json.dumps(value, ensure_ascii=ascii).encode()
    check_json(body, max_depth=max(1, depth(value)), max_values=10_000)
    if depth(value) > 1:
        with pytest.raises(ApiError, match="deep"):
            check_json(body, max_depth=depth(value) - 1, max_values=10_000)


@pytest.mark.parametrize("unit", [b" ", b",", b"[],", b"1", b'\\"', b'"', b'"a",', b"true,", b"a", b"\\", b"-", b"\\ud83d"], ids=repr)
def test_the_scan_takes_linear_time(unit: bytes) -> None:
    """Whatever the bytes: a megabyte takes well under a second, where quadratic time would be minutes."""
    body = unit * (2**20 // len(unit))
    begun = time.process_time()
    for text in (body, b'"' + body, b"[" + body):
        with contextlib.suppress(ApiError):
            check_json(text, max_depth=64, max_values=1_000_000)
    assert time.process_time() - begun < 6


@pytest.mark.parametrize("body, count", [(b"[]", 2), (b'{"a": [1, 2.5e3, true]}', 8), (b'["[{", "\\"]", "\\\\"]', 5)], ids=repr)
def test_what_counts_as_a_value(body: bytes, count: int) -> None:
    """Brackets, strings, numbers and names; nothing inside a string."""
    json.loads(body)
    check_json(body, max_depth=2, max_values=count)
    with pytest.raises(ApiError, match=f"more than {count - 1} values"):
        check_json(body, max_depth=2, max_values=count - 1)
