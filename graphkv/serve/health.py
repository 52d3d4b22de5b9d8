"""/health: the process lives. /ready: it takes questions. /metrics: what it did, for Prometheus."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from graphkv.serve.errors import ApiError, responses
from graphkv.serve.keys import Scope
from graphkv.serve.state import state_of

router = APIRouter(tags=["operation"])

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Health(BaseModel):
    """How it is."""

    status: Literal["ok", "ready"]


@router.head("/health", include_in_schema=False)
@router.get("/health", summary="Is the process alive?")
async def health() -> Health:
    return Health(status="ok")


@router.head("/ready", include_in_schema=False)
@router.get("/ready", summary="Does the server take questions?", responses=responses(503))
async def ready(request: Request) -> Health:
    state = state_of(request)
    if state.closing or not state.scheduler.alive:  # dead: a bug, or somebody else closed it
        raise ApiError(503, "the server is stopping, or its model's thread has ended", type="server_error", code="stopping", headers={"Retry-After": "5"})
    return Health(status="ready")


@router.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses(401)})
def metrics(request: Request, _scope: Scope) -> Response:
    # Not async: the size of a store on disk is looked up in it, in a thread.
    return Response(state_of(request).metrics.text(), headers={"Content-Type": _TEXT})
