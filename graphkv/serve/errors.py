"""Every failure as OpenAI's error body: one clear line, and nothing of the server's inside."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from graphkv.errors import BusyError, CancelledError, GraphKVError, InputError, LengthError, ModelError, StoreError
from graphkv.serve.log import log_failure
from graphkv.serve.state import request_id

_LONGEST = 1000  # characters of a message; what was sent may be quoted in it


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    code: str | None = None
    param: str | None = None


class ErrorBody(BaseModel):
    """The body of every answer that is not 2xx."""

    error: ErrorDetail


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP. message: one clear line. type, code, param: as OpenAI has them. headers: sent along.

    Example:
        >>> ApiError(404, "there is no document 'a'", code="document_not_found").body["error"]["type"]
        'invalid_request_error'
    """

    def __init__(
        self, status: int, message: str, *, type: str = "invalid_request_error", code: str | None = None, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, one_line(message)
        self.type, self.code, self.param, self.headers = type, code, param, dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """``{"error": {"message", "type", "code", "param"}}``."""
        return {"error": {"message": self.message, "type": self.type, "code": self.code, "param": self.param}}

    def response(self) -> JSONResponse:
        """The answer over HTTP."""
        return JSONResponse(self.body, self.status, self.headers)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route tells the OpenAPI document about its errors: ``@router.post(..., responses=responses(404, 429))``.

    Every route may be answered by the guard as well: app.py adds those.
    """
    return {status: {"model": ErrorBody, "description": _MEANING[status]} for status in statuses}


_MEANING = {
    400: "The request cannot be used; the message says why.",
    401: "The API key is missing or wrong.",
    403: "The Host header names another machine.",
    404: "There is no such thing.",
    405: "The path does not know this method.",
    408: "The request was sent too slowly.",
    409: "It is not in the state that this needs.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "The queue is full; see Retry-After.",
    431: "Path and headers are too long.",
    500: "The server failed.",
    503: "The server cannot take requests now; see Retry-After.",
    504: "The answer took too long.",
}


def error_body(error: BaseException, request: Request | None = None) -> dict[str, Any]:
    """The body for any exception: for an error event inside a stream. What was not expected is logged with the request's id."""
    return api_error(error, "-" if request is None else request_id(request)).body


def api_error(error: BaseException, id: str = "-") -> ApiError:
    """Any exception as an :class:`ApiError`; an unexpected one is logged under the request's `id` and tells the client nothing but that."""
    match error:
        case ApiError():
            return error
        case LengthError():
            return ApiError(400, str(error), code="context_length_exceeded")
        case InputError():
            return ApiError(400, str(error))
        case BusyError(closing=True):
            return ApiError(503, "the server is stopping", type="server_error", code="stopping", headers={"Retry-After": str(max(1, math.ceil(error.retry_after)))})
        case BusyError():
            seconds = {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
            return ApiError(429, str(error), type="rate_limit_error", code="busy", headers=seconds)
        case TimeoutError() | concurrent.futures.TimeoutError():
            return ApiError(504, "the answer took too long and was given up; ask for fewer tokens or send fewer documents", type="server_error", code="timeout")
        case CancelledError() | asyncio.CancelledError() | concurrent.futures.CancelledError():
            return ApiError(503, "the request was cancelled", type="server_error", code="cancelled", headers={"Retry-After": "1"})
        case StoreError():  # its message may name folders of this machine
            log_failure(error, id)
            return ApiError(503, f"the store of encoded documents cannot be used now; the server's log says why (request {id})", type="server_error", code="store", headers={"Retry-After": "10"})
        case _:
            log_failure(error, id)
            known = "the model failed" if isinstance(error, ModelError) else "graphkv failed" if isinstance(error, GraphKVError) else "the server failed"
            return ApiError(500, f"{known}; its log says why (request {id})", type="server_error", code="internal_error")


def validation_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """What pydantic found, as one line about the first of it.

    Example:
        >>> validation_error([{"loc": ("body", "messages", 0, "role"), "msg": "Field required", "type": "missing"}]).message
        'messages[0].role: Field required'
    """
    first: Mapping[str, Any] = errors[0] if errors else {"loc": (), "msg": "the request cannot be used"}
    if first.get("type") == "json_invalid":
        reason = first.get("ctx", {}).get("error", "it cannot be read")
        at = first.get("loc", ("body",))[-1]
        return ApiError(400, f"the body is not JSON: {reason}{f' at character {at}' if isinstance(at, int) else ''}", code="invalid_json")
    where = list(first.get("loc", ()))
    if where and where[0] in ("body", "query", "path", "header"):
        where = where[1:] or where
    param = one_line("".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).removeprefix("."), 200) or None
    message = str(first.get("msg", "")).removeprefix("Value error, ")
    if first.get("type") in ("model_attributes_type", "model_type", "dict_type"):
        message = "expected a JSON object"  # not what pydantic calls one
    elif where == ["body"] and first.get("type") == "missing":
        message = "expected a JSON object, got nothing"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return ApiError(400, f"{f'{param}: ' if param else ''}{message}{more}", param=param)


def one_line(text: str, longest: int = _LONGEST) -> str:
    """A text without line breaks and control characters, cut where it gets too long, that any encoding can carry."""
    text = "".join(c if c.isprintable() else " " for c in text[: 4 * longest].encode("utf-8", "replace").decode("utf-8"))
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 2] + " …"


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Let an application answer every failure with OpenAI's error body; `routes` are those that it has."""

    def respond(request: Request, error: ApiError) -> JSONResponse:
        request.state.refused = error.code or error.type  # the guard counts it
        return error.response()

    async def any_error(request: Request, error: Exception) -> JSONResponse:
        return respond(request, api_error(error, request_id(request)))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        return respond(request, validation_error(error.errors() if isinstance(error, RequestValidationError) else ()))

    async def by_status(request: Request, error: Exception) -> JSONResponse:
        status, headers = (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
        if status == 405:  # the framework names the methods of one route only
            headers = {**(headers or {}), "Allow": ", ".join(_methods(routes, request))}
        return respond(request, _of_status(request, status, headers))

    for kind in (ApiError, GraphKVError, TimeoutError):
        app.add_exception_handler(kind, any_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, by_status)


def _methods(routes: Sequence[BaseRoute], request: Request) -> list[str]:
    """What may be done at the path of a request."""
    found = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in found for method in getattr(route, "methods", None) or ()})


def _of_status(request: Request, status: int, headers: Mapping[str, str] | None) -> ApiError:
    """What the framework itself refuses: unknown paths, wrong methods, bodies that it cannot read."""
    method, path = request.method, request.url.path
    messages = {404: f"there is no {method} {path}; see /openapi.json", 405: f"{path} does not take {method}", 400: "the body cannot be read: expected JSON in UTF-8"}
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return ApiError(status, messages.get(status, f"refused with status {status}"), type=kind, code={404: "not_found", 405: "method_not_allowed"}.get(status), headers=headers)
