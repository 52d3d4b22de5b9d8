"""serve(): one process, one worker, one model; on SIGTERM or Ctrl-C no more requests, the answers that were begun end, the store is whole."""

from __future__ import annotations

import asyncio
import errno
import math
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from graphkv.errors import InputError
from graphkv.scheduler import Scheduler
from graphkv.serve.app import create_app
from graphkv.serve.library import Library
from graphkv.serve.settings import Settings
from graphkv.serve.state import State
from graphkv.serve.wire import watched

_IDLE = 20  # seconds that a connection is kept open between requests: longer than clients keep theirs, or they would ask on one that is just being closed
_AFTER = 5.0  # seconds for what was answered last to be sent


def serve(
    scheduler: Scheduler, settings: Settings, listener: socket.socket, *, library: Library | None = None, started: Callable[[], None] | None = None
) -> None:
    """Serve until SIGTERM or Ctrl-C; a second Ctrl-C ends it at once. The scheduler is closed then, and everything that it answered has been sent.

    Args:
        listener: where to listen, from :func:`bind`. library: stays its owner's. started: called when requests are taken.

    Raises:
        InputError: the address has been taken meanwhile.

    Example:
        >>> with closing(bind("127.0.0.1", 8000)) as listener:  # doctest: +SKIP
        ...     serve(Scheduler(GraphKV.from_pretrained()), Settings(), listener)
    """
    server = Server(create_app(scheduler, settings, library=library), settings, started)
    host, port = listener.getsockname()[:2]
    try:
        with _told(server):
            server.run(sockets=[listener])
    except OSError as error:
        raise _no_address(error, host, port) from error
    finally:
        scheduler.close(finish=False)


def bind(host: str, port: int) -> socket.socket:
    """A socket on an address, taken before the model is loaded: who must wait for that should not learn afterwards that the port is in use.

    Args:
        port: 0 for any that is free.

    Raises:
        InputError: the address is not this machine's, or in use, or not for this user.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(f"the host {host!r} is not known here: give an address of this machine, such as 127.0.0.1 or 0.0.0.0 ({error})") from None
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)  # of localhost the address that everything understands
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # at once again after a stop
        listener.bind(address)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _no_address(error, host, port) from None
    return listener


def _no_address(error: OSError, host: str, port: int) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(f"port {port} of {host} is in use: stop what listens there, or choose another with --port (0: any that is free)")
    if error.errno in (errno.EACCES, errno.EPERM):
        return InputError(f"port {port} of {host} is not for this user: choose one above 1023 with --port")
    if error.errno == errno.EADDRNOTAVAIL:
        return InputError(f"{host} is no address of this machine: give one with --host, such as 127.0.0.1 or 0.0.0.0")
    return InputError(f"cannot listen at {host}, port {port}: {error.strerror or error}")


class Server(uvicorn.Server):
    """uvicorn with one worker, our limits on connections, and an end that waits for the model.

    Args:
        app: from :func:`graphkv.serve.app.create_app`. started: called when requests are taken.
    """

    def __init__(self, app: FastAPI, settings: Settings, started: Callable[[], None] | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=watched(settings),
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_IDLE,
                timeout_graceful_shutdown=math.ceil(settings.stop_seconds + _AFTER),
            )
        )
        self.state: State = app.state.graphkv
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._tell is not None:
            self._tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """No more requests; what the scheduler has is answered, or cancelled when `stop_seconds` are over, and then the connections are waited for."""
        self.state.closing = True
        close = self.state.scheduler.close
        closing = asyncio.create_task(asyncio.to_thread(close, timeout=self.state.settings.stop_seconds))
        await super().shutdown(sockets)
        if self.force_exit:  # Ctrl-C again
            await asyncio.to_thread(close, finish=False)
        await closing


@contextmanager
def _told(server: uvicorn.Server) -> Iterator[None]:
    """Signals stop the server, and do nothing else: uvicorn sends itself again what it was stopped by, which would end the process as if it had failed."""

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    before: dict[signal.Signals, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
