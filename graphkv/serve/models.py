"""``GET /v1/models``: the one model that is served."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request

from graphkv.serve.asking import check_model
from graphkv.serve.errors import responses
from graphkv.serve.keys import Scope
from graphkv.serve.replies import ModelList, ModelReply
from graphkv.serve.state import State, state_of

router = APIRouter(tags=["models"])

_STARTED = int(time.time())


@router.get("/v1/models", response_model=ModelList, responses=responses(401))
async def models(request: Request, _scope: Scope) -> ModelList:
    """The model that is served, as a list of one."""
    return ModelList(data=[_model(state_of(request))])


@router.get("/v1/models/{name:path}", response_model=ModelReply, responses=responses(401, 404))
async def model(name: str, request: Request, _scope: Scope) -> ModelReply:
    """The model that is served, by its name."""
    check_model(name, state_of(request))
    return _model(state_of(request))


def _model(state: State) -> ModelReply:
    return ModelReply(id=state.model, created=_STARTED, max_model_len=state.scheduler.engine.model.window)
