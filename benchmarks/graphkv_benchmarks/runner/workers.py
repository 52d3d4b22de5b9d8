"""Processes that answer units: each asks for the next one over a pipe of its own, and sends back line by line."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import torch
import transformers

from graphkv.errors import GraphKVError

from .answering import Done, unit_lines
from .case import Line
from .plan import Engines, Plan


def answer_units(plan: Plan, memory: int, units: Sequence[str], done: Mapping[str, Done], workers: int) -> Iterator[tuple[str, Line | None]]:
    """(unit, line) as they come, and (unit, None) when a unit is done.

    Args:
        memory: as :class:`graphkv_benchmarks.runner.plan.Engines` takes it. done: of each unit, as ``done_of`` in answering.py has it.

    Raises:
        GraphKVError: a worker died or failed, or an error of ours that it met.
    """
    # Fresh interpreters: a fork would copy this process's thread pools in whatever state they are.
    context = multiprocessing.get_context("spawn")
    open_: dict[Connection[Any, Any], Any] = {}
    waiting = list(units)[::-1]
    try:
        for _ in range(workers):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, plan, memory, threads_each(workers)), daemon=True)
            process.start()
            there.close()
            open_[here] = process
        while open_:
            for ready in wait(list(open_)):
                connection = cast("Connection[Any, Any]", ready)
                try:
                    kind, *told = connection.recv()
                    if kind in ("ready", "done"):
                        unit = waiting.pop() if waiting else None
                        connection.send(None if unit is None else (unit, dict(done.get(unit, {}))))
                except (EOFError, OSError):
                    raise _died(open_.pop(connection)) from None
                if kind == "error":
                    raise told[0]
                if kind == "failed":
                    raise GraphKVError(f"a worker process failed; what is answered is kept. {told[0]}")
                if kind == "end":
                    open_.pop(connection).join()
                elif kind == "line":
                    yield told[0], told[1]
                elif kind == "done":
                    yield told[0], None
    finally:  # Ctrl-C, an error, or the end
        for process in open_.values():
            process.terminate()
        for connection in open_:
            connection.close()


def threads_each(workers: int) -> int:
    """Torch's threads in each of so many processes: those of this one where there is only one, else its share of the cores."""
    if workers == 1:
        return torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)


def _died(process: Any) -> GraphKVError:
    process.join()
    why = "; it was killed, perhaps for lack of memory: try fewer --workers" if process.exitcode == -signal.SIGKILL else ""
    return GraphKVError(f"a worker process died (exit code {process.exitcode}){why}. What is answered is kept: give the same command again")


def _work(connection: Connection[Any, Any], plan: Plan, memory: int, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        engines = Engines(plan, memory)
        connection.send(("ready",))
        while (given := connection.recv()) is not None:
            unit, done = given
            for line in unit_lines(plan, engines, unit, done):
                connection.send(("line", unit, line))
            connection.send(("done", unit))
        connection.send(("end",))
    except GraphKVError as error:
        connection.send(("error", error))
    except Exception as error:
        connection.send(("failed", f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


def _leave_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
