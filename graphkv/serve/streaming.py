"""An answer as server-sent events: chunks, then ``[DONE]``; an error event where it cannot be finished."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

from fastapi import Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from graphkv.serve.completion import Writer
from graphkv.serve.errors import error_body
from graphkv.serve.state import seconds_left, state_of
from graphkv.serve.waiting import Running
from graphkv.strategy import Answer

PING_SECONDS = 15
"""How often a comment is sent while the model is busy, so that no proxy takes the connection for dead."""


def stream_response(request: Request, running: Running, writer: Writer, *, usage: bool, answered: Callable[[Answer], None]) -> EventSourceResponse:
    """The response that sends the answer as it is written. The question is given up when the client goes away.

    Args:
        usage: whether a chunk with the usage is sent. answered: called with the whole answer.
    """
    return _Stream(_events(request, running, writer, usage=usage, answered=answered), running, state_of(request).settings.stop_seconds)


class _Stream(EventSourceResponse):
    """Server-sent events of one question, which is given up however the response ends, even before its first event."""

    def __init__(self, events: AsyncIterator[ServerSentEvent], running: Running, grace: float) -> None:
        # The grace lets streams of a stopping server end, which would be cut off at once without it.
        super().__init__(events, ping=PING_SECONDS, sep="\n", headers={"Cache-Control": "no-cache"}, shutdown_grace_period=grace)
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._running.cancel()


async def _events(request: Request, running: Running, writer: Writer, *, usage: bool, answered: Callable[[Answer], None]) -> AsyncIterator[ServerSentEvent]:
    events = running.events()
    try:
        yield _event(writer.opening())
        while True:
            async with asyncio.timeout(seconds_left(request)):
                event = await anext(events)
            if isinstance(event, Answer):
                break
            if (chunk := writer.piece(event.text, event.used)) is not None:
                yield _event(chunk)
        answered(event)
        yield _event(writer.closing(event))
        if usage:
            yield _event(writer.usage(event))
        yield ServerSentEvent("[DONE]", sep="\n")
    except Exception as error:  # the status has been sent: what went wrong can only be told as an event
        body = error_body(error, request)
        state_of(request).metrics.refused(body["error"]["code"] or body["error"]["type"])
        yield _event(body)


def _event(data: object) -> ServerSentEvent:
    # In ASCII: some readers of event streams take U+2028 and the like for the end of a line.
    return ServerSentEvent(json.dumps(data, ensure_ascii=True, separators=(",", ":")), sep="\n")
