"""API keys, and the scope that each of them opens: nothing left or encoded under one is seen under another."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from graphkv.serve.errors import ApiError
from graphkv.serve.state import state_of

# They read nothing here: they are what the OpenAPI document tells about keys.
_BEARER = HTTPBearer(auto_error=False, scheme_name="Bearer", description="A key of GRAPHKV_API_KEY.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="X-API-Key", description="The same key in a header of its own.")


def scope_of(request: Request, _bearer: Annotated[object, Security(_BEARER)] = None, _header: Annotated[object, Security(_HEADER)] = None) -> str:
    """Whose request it is: a digest of its key, ``""`` where no keys are asked for. A FastAPI dependency, see :data:`Scope`.

    Raises:
        ApiError: 401, the key is missing or wrong.
    """
    return scope_for(request.headers.items(), state_of(request).settings.keys)


Scope = Annotated[str, Depends(scope_of)]
"""The type of a route's argument that wants to know whose request it is."""


def wants_key(path: str) -> bool:
    """Whether a path is open to those who have a key only: all that reads or answers, and the numbers about it.

    Example:
        >>> wants_key("/v1/models"), wants_key("/metrics"), wants_key("/health")
        (True, True, False)
    """
    return path == "/metrics" or takes_body(path)


def takes_body(path: str) -> bool:
    """Whether a request to a path may have a body."""
    return path == "/v1" or path.startswith("/v1/")


def scope_for(headers: Iterable[tuple[str, str]], keys: tuple[str, ...]) -> str:
    """The scope that headers open.

    Args:
        headers: pairs, names in lower case. keys: those that are valid; none: everybody is in the scope ``""``.

    Raises:
        ApiError: 401, no header holds a key, or none that is valid.
    """
    if not keys:
        return ""
    given = _given(headers)
    if given is None:
        raise _refused("no API key: send it as 'Authorization: Bearer KEY'")
    sent, found = _digest(given), False
    for key in keys:  # all of them, whichever matches: how long it takes says nothing
        found |= hmac.compare_digest(sent, _digest(key))
    if not found:
        raise _refused("the API key is not valid")
    return hashlib.sha256(b"graphkv scope\0" + given.encode("latin-1", "replace")).hexdigest()[:32]


def _given(headers: Iterable[tuple[str, str]]) -> str | None:
    """The key that was sent; what stands under Authorization comes first."""
    found = {name: value for name, value in headers if name in ("authorization", "x-api-key")}
    kind, _, token = found.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    return found.get("x-api-key", "").strip() or None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("latin-1", "replace")).digest()


def _refused(message: str) -> ApiError:
    return ApiError(401, message, type="authentication_error", code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
