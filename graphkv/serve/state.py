"""State: what every route of the server works with, reached by state_of(request)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request

if TYPE_CHECKING:
    from graphkv.scheduler import Scheduler
    from graphkv.serve.library import Library
    from graphkv.serve.metrics import Metrics
    from graphkv.serve.settings import Settings


@dataclass
class State:
    """One server's parts.

    Attributes:
        scheduler: the thread that owns the model. settings: limits. library: documents that clients left here, by scope.
        metrics: counters. model: the name under which the model is served. closing: True once the server stops taking requests.
    """

    scheduler: Scheduler
    settings: Settings
    library: Library
    metrics: Metrics
    model: str
    closing: bool = False


def state_of(request: Request) -> State:
    """The state of the application that a request came to."""
    state: State = request.app.state.graphkv
    return state


def request_id(request: Request) -> str:
    """The id under which a request is logged and answered."""
    return str(getattr(request.state, "request_id", "-"))


def seconds_left(request: Request) -> float:
    """Seconds until the request must be done, from the moment it came in; 0.0 if that is over."""
    deadline: float | None = getattr(request.state, "deadline", None)
    if deadline is None:
        return state_of(request).settings.request_seconds
    return max(0.0, deadline - asyncio.get_running_loop().time())
