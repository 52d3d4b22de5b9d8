"""JSON that would hurt its parser or its readers, found by one look over the bytes before it is parsed."""

from __future__ import annotations

import json
import re

from graphkv.serve.errors import ApiError

LONGEST_NUMBER = 200
"""Digits; longer ones cost a parser quadratic time, and no field needs them."""

_TOKEN = re.compile(
    rb"""[^"\[\]{}0-9A-Za-z]*+            # what stands between tokens is skipped in one step
    ("[^"\\]*+(?:\\.[^"\\]*+)*+"?        # a string; one that does not end takes the rest
    |[\[\]{}]|[0-9][0-9.eE+\-]*+|[A-Za-z]++)?""",
    re.DOTALL | re.VERBOSE,
)
_EXPONENT = re.compile(rb"[eE]\+?0*[1-9][0-9]{2}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_OPEN, _CLOSE, _DIGITS = b"[{", b"]}", b"0123456789"


def check_json(body: bytes, *, max_depth: int, max_values: int) -> None:
    """Refuse a body whose parsing would be dear, or whose values no encoding or number type can carry. Whether it is JSON at all, the parser says.

    It takes time proportional to the body, and at most `max_values` steps in Python; no recursion.

    Args:
        body: as it was sent. max_depth: of lists and objects in one another. max_values: strings, numbers, names and brackets together.

    Raises:
        ApiError: 400. Not UTF-8; nested too deeply; too many values; NaN or Infinity; a number with too many digits or beyond what a double
            holds; half of a surrogate pair.

    Example:
        >>> check_json(b'{"a": [1, 2]}', max_depth=2, max_values=100)
        >>> check_json(b"[[[]]]", max_depth=2, max_values=100)
        Traceback (most recent call last):
        ...
        graphkv.serve.errors.ApiError: the body is nested more than 2 deep
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(f"the body is not UTF-8: byte {error.start} cannot be read") from None
    if b"\0" in body:  # no JSON has it raw; UTF-16 does, and would be read as such
        raise _bad("the body is not UTF-8 JSON: it holds a NUL byte")
    depth = values = 0
    for match in _TOKEN.finditer(body):
        token: bytes | None = match[1]
        if token is None:  # the end
            continue
        values += 1
        if values > max_values:
            raise _bad(f"the body holds more than {max_values:,} values", "too_many_values")
        first = token[0]
        if first in _OPEN:
            depth += 1
            if depth > max_depth:
                raise _bad(f"the body is nested more than {max_depth} deep", "too_deep")
        elif first in _CLOSE:
            depth -= 1
        elif first in _DIGITS:
            _check_number(token)
        elif token in (b"NaN", b"Infinity"):
            raise _bad(f"{token.decode()} is not JSON: send a finite number")
    if _SURROGATE.search(body):
        _check_surrogates(text)


def _check_number(number: bytes) -> None:
    if len(number) > LONGEST_NUMBER:
        raise _bad(f"a number of {len(number):,} digits: at most {LONGEST_NUMBER} are read")
    if _EXPONENT.search(number):
        raise _bad(f"the number {number[:40].decode()} is out of range: exponents go to 99")


def _check_surrogates(text: str) -> None:
    r"""``"\ud83d\ude00"`` is a character, ``"\ud83d"`` alone is none: it could be neither tokenised nor sent back."""
    try:
        value = json.loads(text)
    except ValueError:
        return  # the parser proper will say what is wrong with it
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _bad(r"a string holds half of a surrogate pair (\ud800 to \udfff): send whole characters") from None


def _bad(message: str, code: str = "invalid_json") -> ApiError:
    return ApiError(400, message, code=code)
