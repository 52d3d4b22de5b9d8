"""Processes that answer units: each asks for the next one over a pipe of its own, and sends back line by line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from graphkv.errors import GraphKVError

from .case import Line
from .plan import Plan


def answer_units(plan: Plan, units: Sequence[str], done: Mapping[str, str], workers: int) -> Iterator[tuple[str, Line | None]]:
    """(unit, line) as they come, and (unit, None) when a unit is done.

    Args:
        done: as :func:`graphkv_benchmarks.runner.answering.unit_lines` takes it.

    Raises:
        GraphKVError: a worker died, or an error of ours that it met.
    """
    # Fresh interpreters: a fork would copy this process's thread pools in whatever state they are.
    context = multiprocessing.get_context("spawn")
    open_: dict[Connection[Any, Any], Any] = {}
    waiting = list(units)[::-1]
    threads = max(1, (os.cpu_count() or 1) // workers)
    try:
        for _ in range(workers):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, plan, dict(done), workers, threads), daemon=True)
            process.start()
            there.close()
            open_[here] = process
        while open_:
            for ready in wait(list(open_)):
                connection = cast("Connection[Any, Any]", ready)
                try:
                    kind, *told = connection.recv()
                except (EOFError, ConnectionResetError):
                    process = open_.pop(connection)
                    process.join()
                    raise GraphKVError(
                        f"a worker process died (exit code {process.exitcode}), perhaps for lack of memory; what is answered is kept: give the same command again with fewer --workers"
                    ) from None
                if kind == "error":
                    raise told[0]
                if kind == "end":
                    open_.pop(connection).join()
                elif kind == "line":
                    yield told[0], told[1]
                else:
                    if kind == "done":
                        yield told[0], None
                    connection.send(waiting.pop() if waiting else None)
    finally:  # Ctrl-C, an error, or the end
        for process in open_.values():
            process.terminate()
        for connection in open_:
            connection.close()


def _work(connection: Connection[Any, Any], plan: Plan, done: dict[str, str], workers: int, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    import torch
    import transformers

    from .answering import unit_lines
    from .plan import Engines

    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        engines = Engines(plan, workers)
        connection.send(("ready",))
        while (unit := connection.recv()) is not None:
            for line in unit_lines(plan, engines, unit, done):
                connection.send(("line", unit, line))
            connection.send(("done", unit))
        connection.send(("end",))
    except GraphKVError as error:
        connection.send(("error", error))


def _leave_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
