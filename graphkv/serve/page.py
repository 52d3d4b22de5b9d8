"""The page at / for trying the server in a browser: files of this package from a fixed table, nothing from anywhere else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, HTTPException, Request, Response

router = APIRouter(include_in_schema=False)

HEADERS = {
    # Everything that a user wrote goes in as text; should that ever fail, the browser still runs and loads nothing but the files below.
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",  # asked for anew every time, and answered 304 while it has not changed
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_CODE, _LINES = "text/javascript; charset=utf-8", "application/x-ndjson; charset=utf-8"
_OWN, _DEMO = "serve/page", "demo"

FILES: dict[str, tuple[str, str]] = {
    "index.html": (_OWN, "text/html; charset=utf-8"),
    "page.css": (_OWN, "text/css; charset=utf-8"),
    "icon.svg": (_OWN, "image/svg+xml"),
    **{f"{name}.js": (_OWN, _CODE) for name in ("page", "ask", "answer", "documents", "dom", "graph", "server", "table")},
    "papers.jsonl": (_DEMO, _LINES),
    "questions.json": (_DEMO, "application/json"),
}
"""Every file of the page: the folder of the package that it lies in, and its media type."""


@dataclass(frozen=True)
class _File:
    body: bytes
    media_type: str
    tag: str


@cache
def _read(name: str) -> _File:
    folder, media_type = FILES[name]
    body = files("graphkv").joinpath(folder, name).read_bytes()
    return _File(body, media_type, f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"')


def _respond(name: str, request: Request) -> Response:
    file = _read(name)
    headers = HEADERS | {"ETag": file.tag}
    if file.tag in request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)


@router.api_route("/", methods=["GET", "HEAD"])
def index(request: Request) -> Response:
    """The page."""
    return _respond("index.html", request)


@router.api_route("/page/{name}", methods=["GET", "HEAD"])
def file(name: str, request: Request) -> Response:
    """One of its files.

    Raises:
        HTTPException: 404 for any name that is not in :data:`FILES`.
    """
    if name not in FILES:
        raise HTTPException(404, "the page has no such file")
    return _respond(name, request)
