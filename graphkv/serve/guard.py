"""Guard: what stands before every route. Hosts, keys, sizes, slow clients, JSON that hurts; request ids, headers, one log line each."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graphkv.serve.errors import ApiError, api_error, one_line
from graphkv.serve.json_scan import check_json
from graphkv.serve.keys import scope_for, takes_body, wants_key
from graphkv.serve.log import log_request
from graphkv.serve.state import State

SLOWEST = 64 * 1024
"""Bytes a second; a large body may take longer than `read_seconds` if it comes at least that fast."""

GRACE_SECONDS = 10.0
"""A route ends a request whose time is up by itself; if it does not, the guard ends it that much later."""

LONGEST_HEAD = 32 * 1024
"""Bytes of path, query and headers; uvicorn itself lets any through that comes in one piece."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Sent with every answer that does not say otherwise."""

SMALL_BODY = 64 * 1024
"""Bytes; a body up to that size is taken however much is held, so that large ones of some shut nobody out."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:\d{1,5})?")
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;\s*charset\s*=\s*\"?utf-?8\"?\s*)?;?\s*", re.IGNORECASE)
_IN_THREAD = 64 * 1024  # bytes; a smaller body is looked through faster than a thread is asked
_GONE = 499


class Guard:
    """An ASGI middleware. What it refuses no route sees; what a route fails at becomes one error body.

    Nothing of a request is read before its host and its key are right, and outside of ``/v1`` no body is. A body is read whole, within the limits of
    :class:`Settings`, and only handed on if it is JSON in form. While `max_held_bytes` of bodies are held, or half of it under one of several keys,
    large ones are refused.
    """

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app, self.state = app, state
        self._held: dict[str, int] = {}  # bytes of bodies by scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        id = headers.get("x-request-id", "")
        exchange = _Exchange(scope, send, id if _ID.fullmatch(id) else uuid4().hex)
        deadline = asyncio.get_running_loop().time() + self.state.settings.request_seconds
        scope.setdefault("state", {}).update(request_id=exchange.id, deadline=deadline)
        self.state.metrics.begun()
        try:
            await self._serve(scope, headers, receive, exchange, deadline)
        finally:
            self._hold(exchange.owner, -exchange.bytes_in)
            self._note(exchange)

    async def _serve(self, scope: Scope, headers: Headers, receive: Receive, exchange: _Exchange, deadline: float) -> None:
        try:
            exchange.owner = self._check_head(scope, headers)
            body = await self._body(headers, receive, exchange, deadline)
            if body is None:
                return  # the client went away before it had asked
            self._check_open(scope)  # it may have taken its time
            async with asyncio.timeout_at(deadline + GRACE_SECONDS):
                await self.app(scope, _replayed(body, receive), exchange.send)
        except Exception as error:
            refusal = api_error(error, exchange.id)
            exchange.kind = refusal.code or refusal.type
            if exchange.status:
                raise  # part of an answer is on its way: the connection is cut, so that nobody takes it for whole
            await refusal.response()(scope, receive, exchange.send)

    def _check_head(self, scope: Scope, headers: Headers) -> str:
        """Whose request it is; ``""`` where no key is needed."""
        settings = self.state.settings
        if len(scope["path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in headers.raw) > LONGEST_HEAD:
            raise ApiError(431, f"path and headers are longer than {LONGEST_HEAD:,} bytes together", code="head_too_long")
        host = headers.get("host")
        if settings.hosts and host is not None and _name(host) not in settings.hosts:  # HTTP/1.0 has none, and no browser speaks it
            raise ApiError(403, f"this server is not {one_line(host, 100)!r}: ask for it by one of {', '.join(settings.hosts)}, or allow the name when it is started", code="wrong_host")
        self._check_open(scope)
        return scope_for(headers.items(), settings.keys) if wants_key(scope["path"]) else ""

    def _check_open(self, scope: Scope) -> None:
        if self.state.closing and scope["path"] != "/health":
            raise ApiError(503, "the server is stopping", type="server_error", code="stopping", headers={"Retry-After": "5", "Connection": "close"})

    async def _body(self, headers: Headers, receive: Receive, exchange: _Exchange, deadline: float) -> bytes | None:
        """The whole body, looked through; None if the client went away."""
        settings = self.state.settings
        path, length = exchange.scope["path"], headers.get("content-length", "")
        most = settings.max_body_bytes if takes_body(path) else 0
        if length.isdecimal() and int(length[:20]) > most:
            raise _too_large(path, most)
        loop = asyncio.get_running_loop()
        begun, parts = loop.time(), []
        while True:
            by = min(begun + settings.read_seconds + exchange.bytes_in / SLOWEST, deadline)
            try:
                async with asyncio.timeout_at(by):
                    message = await receive()
            except TimeoutError:
                raise ApiError(408, f"the body was not there after {loop.time() - begun:.0f} seconds", code="timeout", headers={"Connection": "close"}) from None
            if message["type"] == "http.disconnect":
                exchange.status = _GONE
                return None
            parts.append(part := message.get("body", b""))
            exchange.bytes_in += len(part)
            self._hold(exchange.owner, len(part))
            if exchange.bytes_in > most:
                raise _too_large(path, most)
            if exchange.bytes_in > SMALL_BODY and self._is_full(exchange.owner):
                raise ApiError(503, "too many large requests at a time; try again", type="server_error", code="overloaded", headers={"Retry-After": "1"})
            if not message.get("more_body", False):
                break
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if body:
            await self._check_body(headers, body)
        return body

    def _hold(self, owner: str, size: int) -> None:
        held = self._held.pop(owner, 0) + size
        if held:
            self._held[owner] = held

    def _is_full(self, owner: str) -> bool:
        """Whether more is held than may be: of all, or of one key where there are others."""
        settings = self.state.settings
        share = settings.max_held_bytes if len(settings.keys) < 2 else max(settings.max_body_bytes, settings.max_held_bytes // 2)
        return sum(self._held.values()) > settings.max_held_bytes or self._held[owner] > share

    async def _check_body(self, headers: Headers, body: bytes) -> None:
        kinds = headers.getlist("content-type")
        if len(kinds) != 1 or _JSON.fullmatch(kinds[0].strip()) is None:
            got = " and ".join(repr(one_line(kind, 60)) for kind in kinds[:3]) or "none"
            raise ApiError(415, f"expected Content-Type application/json, got {got}", code="unsupported_media_type")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, f"expected a body as it is, got one in Content-Encoding {one_line(headers['content-encoding'], 60)!r}", code="unsupported_media_type")
        limits = {"max_depth": self.state.settings.max_json_depth, "max_values": self.state.settings.max_json_values}
        if len(body) < _IN_THREAD:
            check_json(body, **limits)
        else:
            await asyncio.to_thread(check_json, body, **limits)

    def _note(self, exchange: _Exchange) -> None:
        route = getattr(exchange.scope.get("route"), "path", None) or "-"
        method = one_line(exchange.scope["method"], 16)
        if exchange.status >= 400:
            self.state.metrics.refused(exchange.kind or exchange.scope["state"].get("refused") or str(exchange.status))
        known = method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
        self.state.metrics.done(known, route, exchange.status)
        about = {"id": exchange.id, "method": method, "path": route, "status": exchange.status}
        log_request(about | {"seconds": round(time.perf_counter() - exchange.begun, 4), "bytes_in": exchange.bytes_in, "bytes_out": exchange.bytes_out})


@dataclass
class _Exchange:
    """A request and what was answered so far; status 0: nothing. `owner` is the scope of its key."""

    scope: Scope
    to_client: Send
    id: str
    owner: str = ""
    status: int = 0
    kind: str = ""
    bytes_in: int = 0
    bytes_out: int = 0
    begun: float = field(default_factory=time.perf_counter)

    async def send(self, message: Message) -> None:
        """To the client, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-Id"] = self.id
            message = {**message, "headers": headers.raw}
        elif message["type"] == "http.response.body":
            self.bytes_out += len(message.get("body", b""))
        await self.to_client(message)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body at once, and then whatever comes: that the client goes away."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _name(host: str) -> str:
    """``Host`` without its port and brackets; ``""`` if it is none."""
    match = _HOST.fullmatch(host.strip().lower())
    return match[1].strip("[]").rstrip(".") if match else ""


def _too_large(path: str, most: int) -> ApiError:
    said = f"the body is larger than {most:,} bytes" if most else f"{one_line(path, 100)} takes no body"
    return ApiError(413, said, code="body_too_large")
