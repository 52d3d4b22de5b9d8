"""Connections to clients that send or read too slowly, send what is no HTTP, or are too many."""

from __future__ import annotations

import asyncio
import http
import json
import socket
import struct
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from graphkv.serve.errors import ApiError
from graphkv.serve.settings import Settings


def watched(settings: Settings) -> type[H11Protocol]:
    """The protocol that uvicorn speaks with each connection: its own, and a clock for what it waits for without end.

    - The head of a request must be there `read_seconds` after the connection was made or the answer before it was done, however it drips.
    - Of bytes that wait to be read by the client some must go in each `write_seconds`.
    - Beyond `max_connections` the oldest one that no request is in work on makes room; if there is none, the new one is told so.
    - What is not HTTP is answered with the error body of everything else.
    """

    class Watched(H11Protocol):
        _since = 0.0
        _begun = False
        _unsent = 0
        _head_clock: asyncio.TimerHandle | None = None
        _write_clock: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._since = self.loop.time()
            self._await_head()
            self._watch_writes()
            if sum(not other.transport.is_closing() for other in self.connections) > settings.max_connections:
                self._make_room()

        def connection_lost(self, exc: Exception | None) -> None:
            for clock in (self._head_clock, self._write_clock):
                if clock is not None:
                    clock.cancel()
            self._head_clock = self._write_clock = None
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._begun = self.at_rest
            self._await_head()

        def on_response_complete(self) -> None:
            self._begun = False
            super().on_response_complete()
            self._await_head()

        @property
        def at_rest(self) -> bool:
            """Whether no request is in work."""
            return self.cycle is None or self.cycle.response_complete

        def send_400_response(self, msg: str) -> None:
            self._refuse(ApiError(400, "this is not HTTP/1.1 that can be read, or its head is too long", code="invalid_http"))

        def _await_head(self) -> None:
            if not self.at_rest and self._head_clock is not None:
                self._head_clock.cancel()
                self._head_clock = None
            elif self.at_rest and self._head_clock is None and not self.transport.is_closing():
                self._head_clock = self.loop.call_later(settings.read_seconds, self._too_slow)

        def _too_slow(self) -> None:
            self._head_clock = None
            if self._begun:
                self._refuse(ApiError(408, f"the head of the request was not there after {settings.read_seconds:g} seconds", code="timeout"))
            else:
                self.transport.close()

        def _watch_writes(self) -> None:
            unsent = self.transport.get_write_buffer_size()
            if self._unsent and unsent >= self._unsent:
                self._cut()
                return
            self._unsent = unsent
            self._write_clock = self.loop.call_later(settings.write_seconds, self._watch_writes)

        def _make_room(self) -> None:
            idle = [other for other in self.connections if isinstance(other, Watched) and other is not self and other.at_rest and not other.transport.is_closing()]
            if idle:
                min(idle, key=lambda other: other._since)._cut()
            else:
                self._refuse(ApiError(503, "too many connections; try again", type="server_error", code="too_many_connections", headers={"Retry-After": "1"}))

        def _cut(self) -> None:
            """Close at once, and let the system forget what it still keeps for the client."""
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

        def _refuse(self, error: ApiError) -> None:
            """Answer, where nothing of another answer is on its way, and close."""
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self.transport.write(_plain(error))
            self.transport.close()

    return Watched


def _plain(error: ApiError) -> bytes:
    """An error as the bytes of a whole HTTP answer."""
    body = json.dumps(error.body).encode()
    headers: dict[str, Any] = {"Content-Type": "application/json", "Content-Length": len(body), "Connection": "close", **error.headers}
    lines = [f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
