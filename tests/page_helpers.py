"""The page in a browser: what a test does with it, and a server that answers as it is told: slowly, with gaps, with errors; its graph is a column."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from playwright.sync_api import Locator, Page, expect

from graphkv.serve.page import router

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed (Debian: apt install chromium)")

Open = Callable[..., Page]

KEY = "open sesame"


def chunk(text: str | None = None, *, used: dict[str, float] | None = None, **delta: Any) -> dict[str, Any]:
    """One event of a stream."""
    content = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": content | delta, "finish_reason": None}]} | ({"graphkv": {"used": used}} if used else {})


def cite(start: int, end: int, *sources: tuple[str, float]) -> dict[str, Any]:
    """A citation in Cohere's form."""
    return {"start": start, "end": end, "text": "", "type": "TEXT_CONTENT", "sources": [{"type": "document", "id": id, "score": share, "document": {"id": id, "text": ""}} for id, share in sources]}


def usage(reused: int, computed: int, written: int) -> dict[str, Any]:
    """The last event, with ``include_usage``."""
    parts = {"exact": reused, "composed": 0, "computed": computed}
    prompt = reused + computed
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written, "prompt_tokens_details": {"cached_tokens": reused}, "graphkv": parts}}


class Script:
    """What the server says.

    Attributes:
        events: of the next answers: dicts, or seconds of silence; "cut" closes the connection without an end.
        refusal: a status, a message and headers instead, if there is one. locked: whether a key is wanted.
        asked: the bodies of the questions. gone: set when a client left in the middle of an answer.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As at first: nothing to say, no key."""
        self.events: list[dict[str, Any] | float | str] = []
        self.refusal: tuple[int, str, dict[str, str]] | None = None
        self.locked = False
        self.asked: list[dict[str, Any]] = []
        self.gone = threading.Event()

    def refuse(self, request: Request) -> JSONResponse | None:
        """The answer to a request without the key."""
        if self.locked and request.headers.get("authorization") != f"Bearer {KEY}":
            return _error(401, "the API key is missing or wrong", {"WWW-Authenticate": "Bearer"})
        return None

    async def stream(self) -> AsyncIterator[str]:
        try:
            for event in self.events:
                if event == "cut":
                    return
                if isinstance(event, float):
                    await asyncio.sleep(event)
                else:
                    yield f": a comment\r\ndata: {json.dumps(event)}\r\n\r\n"
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.gone.set()
            raise


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error", "code": None, "param": None}}, status, headers)


def scripted_app(script: Script) -> FastAPI:
    """The routes that the page asks."""
    app = FastAPI()
    app.include_router(router)

    @app.get("/v1/models", response_model=None)
    async def models(request: Request) -> JSONResponse | dict[str, Any]:
        return script.refuse(request) or {"object": "list", "data": [{"id": "scripted", "object": "model"}]}

    @app.post("/v1/graph", response_model=None)
    async def graph(request: Request) -> JSONResponse | dict[str, Any]:
        documents = (await request.json())["documents"]
        if len(documents) > 500:
            return _error(400, "too many documents: expected at most 500")
        common = {"angle": None, "colour": "#2a9d8f"}
        nodes = [{"id": d["id"], "title": d.get("title"), "label": d.get("title", d["id"])[:22], "text": "", "tokens": 7, "x": 14, "y": 22 * i, **common} for i, d in enumerate(documents)]
        edges = [{"source": s, "target": d["id"], "kind": None, "colour": "#6c757d"} for d in documents for s in d["sources"]]
        plan = {"tokens": 7 * len(nodes), "blocks": len(nodes), "positions": 7, "window": 64}
        return script.refuse(request) or {"nodes": nodes, "edges": edges, "width": 200, "height": 200, "plan": plan, "note": None, "colours": {"reads no other": "#2a9d8f"}}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> JSONResponse | StreamingResponse:
        script.asked.append(await request.json())
        if script.refusal:
            return _error(*script.refusal)
        return script.refuse(request) or StreamingResponse(script.stream(), media_type="text/event-stream")

    return app


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The address of the app, served from a thread on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(10)


def upload(page: Page, name: str, content: str | bytes | list[dict[str, Any]]) -> None:
    text = json.dumps(content) if isinstance(content, list) else content
    page.set_input_files("#files", {"name": name, "mimeType": "text/plain", "buffer": text if isinstance(text, bytes) else text.encode()})


def ask(page: Page, question: str, *, wait: bool = True) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")
    if wait:
        expect(page.locator("#send")).to_be_enabled()
        expect(page.locator("#state")).not_to_have_text(re.compile("…"))


def lit(page: Page) -> set[str]:
    """Ids of the rows that are lit; the nodes of the drawing must be the same."""
    rows = {row.locator("td").first.inner_text() for row in page.locator("tr.lit").all()}
    assert page.locator(".node.lit").count() == len(rows)
    return rows


def row(page: Page, id: str) -> Locator:
    return page.locator("#rows tr").filter(has=page.locator(f'td.id:text-is("{id}")'))
