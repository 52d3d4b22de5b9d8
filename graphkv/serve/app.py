"""create_app(): the routes, the guard and the errors put together into one ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from graphkv.engine import GraphKV
from graphkv.layouts import layout_options
from graphkv.scheduler import Scheduler
from graphkv.serve import chat, graph_view, health, library_routes, models, page, score
from graphkv.serve.errors import install, responses
from graphkv.serve.guard import Guard
from graphkv.serve.keys import takes_body, wants_key
from graphkv.serve.library import Library
from graphkv.serve.metrics import Metrics
from graphkv.serve.settings import Settings
from graphkv.serve.state import State

ROUTERS = (chat.router, score.router, models.router, library_routes.router, graph_view.router, health.router, page.router)

_ABOUT = "A language model that reads a graph of documents: each is encoded once and attends along the edges. OpenAI's API, with `documents` and `graph` beside the messages."


def create_app(engine: GraphKV | Scheduler, settings: Settings | None = None, *, library: Library | None = None) -> FastAPI:
    """The server as an ASGI application.

    Args:
        engine: the model. A :class:`Scheduler` stays its owner's: it must be closed by them; one that is made here, around an engine, ends with the application.
        settings: limits, keys and names.
        library: where documents are kept that clients leave here; in memory without one. It stays its owner's, too.

    Raises:
        LayoutError: the layout of the settings is unknown.

    Example:
        >>> app = create_app(GraphKV.from_pretrained(), Settings(model_name="embedded"))  # doctest: +SKIP
    """
    settings = settings or Settings()
    layout_options(settings.layout)
    own = not isinstance(engine, Scheduler)
    scheduler = engine if isinstance(engine, Scheduler) else Scheduler(engine, max_waiting=settings.queue, max_rows=settings.max_rows, context_bytes=settings.context_bytes)
    state = State(scheduler, settings, library or Library(None), Metrics(scheduler), settings.model_name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        state.closing = True
        if own:
            await asyncio.to_thread(scheduler.close, timeout=settings.stop_seconds)
        if library is None:
            state.library.close()

    # The pages that FastAPI has for the document load scripts from elsewhere, and a redirect would tell the client a name that it sent itself.
    app = _Service(title="graphkv", version=version("graphkv"), description=_ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.graphkv = state
    app.add_middleware(Guard, state=state)
    install(app, [*app.routes, *(route for router in ROUTERS for route in router.routes)])
    for router in ROUTERS:
        app.include_router(router)
    return app


class _Service(FastAPI):
    """FastAPI, with an OpenAPI document that tells what the guard does as well."""

    def openapi(self) -> dict[str, Any]:
        if not self.openapi_schema:
            settings: Settings = self.state.graphkv.settings
            self.openapi_schema = _completed(super().openapi(), settings)
        return self.openapi_schema


def _completed(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The document with the guard's answers in every operation, without FastAPI's 422, and without keys where none are asked for."""
    schemas = document["components"]["schemas"]  # routes put ErrorBody there
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    if not settings.keys:
        document["components"].pop("securitySchemes", None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            possible = {400, 408, 413, 431, 500}  # a body may be sent with any method
            possible |= {415} if takes_body(path) else set()
            possible |= {503} if path != "/health" else set()
            possible |= {401} if settings.keys and wants_key(path) else set()
            possible |= {403} if settings.hosts else set()
            known = operation.setdefault("responses", {})
            known.pop("422", None)
            if not settings.keys:
                operation.pop("security", None)
                known.pop("401", None)
            for status, about in responses(*possible).items():
                known.setdefault(str(status), _error_response(about["description"]))
    return document


def _error_response(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}}
