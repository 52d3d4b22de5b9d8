"""One question over HTTP: what came, when its first words came, and how often the server said that it was busy."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx

CHAT = "/v1/chat/completions"
LONGEST_WAIT = 10.0
"""Seconds; the most that is waited for a server that says it is busy, whatever it asks for."""


@dataclass(frozen=True)
class Reply:
    """What came of one question.

    Attributes:
        status: of HTTP; 0 if the connection failed. text: the answer, None without one. usage: the server's count of tokens.
        first: seconds from the request to the first words, None where they came all at once. seconds: to the end.
        busy: how often the server said 429 before. left: True if the client went away in mid-stream. error: what went wrong, in the server's words or ours.
    """

    status: int
    text: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    first: float | None = None
    seconds: float = 0.0
    busy: int = 0
    left: bool = False
    error: str | None = None

    @property
    def cached(self) -> int:
        """Tokens of the prompt that were not computed for this answer."""
        return int((self.usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0))


async def ask(client: httpx.AsyncClient, body: bytes, *, stream: bool = False, leave: bool = False, tries: int = 20) -> Reply:
    """Send a question; where the server is busy, wait as long as it asks for and send it again.

    Args:
        stream: whether `body` asks for a stream. leave: go away as soon as it begins. tries: how often it is sent before a 429 is taken for the answer.
    """
    busy = 0
    while True:
        begin = time.perf_counter()
        try:
            request = client.build_request("POST", CHAT, content=body, headers={"Content-Type": "application/json"})
            response = await client.send(request, stream=True)
            try:
                if response.status_code == 429 and busy + 1 < tries:
                    busy += 1
                    await response.aread()
                    wait = float(response.headers.get("Retry-After", "1"))
                    await asyncio.sleep(min(LONGEST_WAIT, wait))
                    continue
                if response.status_code != 200:
                    message = (await response.aread()).decode("utf-8", "replace")
                    return Reply(response.status_code, error=message[:500], seconds=time.perf_counter() - begin, busy=busy)
                if stream:
                    return await _streamed(response, begin, busy, leave)
                return _whole(json.loads(await response.aread()), begin, busy)
            finally:
                await response.aclose()
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:  # no answer, or one that is none
            return Reply(0, error=f"{type(error).__name__}: {error}"[:500], seconds=time.perf_counter() - begin, busy=busy)


def client_of(url: str, connections: int = 1) -> httpx.AsyncClient:
    """A client that keeps its connections, and waits long."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(300.0), limits=limits, trust_env=False)


def _whole(reply: Mapping[str, Any], begin: float, busy: int) -> Reply:
    return Reply(200, str(reply["choices"][0]["message"]["content"]), reply["usage"], seconds=time.perf_counter() - begin, busy=busy)


async def _streamed(response: httpx.Response, begin: float, busy: int, leave: bool) -> Reply:
    text, usage, first, ended = "", dict[str, Any](), None, False
    async with aclosing(_events(response)) as events:
        async for data in events:
            if data == "[DONE]":
                ended = True
                break
            chunk = json.loads(data)
            if "error" in chunk:
                return Reply(200, error=json.dumps(chunk["error"])[:500], first=first, seconds=time.perf_counter() - begin, busy=busy)
            if leave:
                return Reply(200, seconds=time.perf_counter() - begin, busy=busy, left=True)
            usage = chunk.get("usage") or usage
            piece = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
            if piece:
                first = first if first is not None else time.perf_counter() - begin
                text += piece
    if not ended:
        return Reply(200, error="the stream ended without [DONE]", first=first, seconds=time.perf_counter() - begin, busy=busy)
    return Reply(200, text, usage, first, time.perf_counter() - begin, busy)


async def _events(response: httpx.Response) -> AsyncGenerator[str, None]:
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()
