"""All batches of a run, by several processes, resumable: each batch that is done is a line of a file beside the result."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from graphkv.engine import GraphKV
from graphkv.errors import GraphKVError, InputError, check_count

from ..citation_world import STYLES, make_needles, make_world, one_style
from ..machine import machine
from .arms import ARMS
from .cells import PER_WORLD, Batch
from .measure import measure

Report = Callable[[int, int, Batch, list[dict[str, Any]]], None]
"""Called with (batches done, batches, the batch, its cells)."""

_ENGINE: GraphKV | None = None
"""A worker process's own."""


def run(
    engine: GraphKV, model: str | None, batches: Sequence[Batch], *, seed: int = 1, workers: int = 1, journal: Path | None = None, report: Report | None = None
) -> dict[str, Any]:
    """Measure all batches.

    Args:
        engine: answers in this process, and says what the model is. model: what other processes load the same one from.
        workers: processes, each of one thread; 1 measures in this one. The cells do not depend on it.
        journal: JSON Lines file to which every batch goes when it is done; what stands in it is not measured again.
        report: called after every batch, those of the journal included.

    Returns:
        ``{"settings": {...}, "machine": {...}, "arms": {name: what it is}, "cells": [...], "seconds": ...}``; cells in the order of
        the batches.

    Raises:
        InputError: the journal belongs to another run; whatever a batch refuses. GraphKVError: a worker process died.
    """
    check_count("workers", workers)
    settings = settings_of(engine, seed)
    done = read_journal(journal, settings) if journal is not None else {}
    started, count = time.monotonic(), 0
    todo = sorted((batch for batch in batches if batch not in done), key=_cost, reverse=True)
    for batch in batches:
        if batch in done and report:
            count += 1
            report(count, len(batches), batch, done[batch])
    count = len(batches) - len(todo)
    for batch, cells in _measured(engine, model, todo, seed, workers):
        done[batch] = cells
        if journal is not None:
            _append(journal, {"batch": asdict(batch), "cells": cells})
        count += 1
        if report:
            report(count, len(batches), batch, cells)
    arms = {batch.arm: ARMS[batch.arm].about for batch in batches}
    cells = [cell for batch in batches for cell in done[batch]]
    seconds = round(time.monotonic() - started, 1)
    return {"settings": {"model": model or "embedded", **settings}, "machine": machine(), "arms": arms, "cells": cells, "seconds": seconds}


def settings_of(engine: GraphKV, seed: int) -> dict[str, Any]:
    """What decides over every number of a run beside its batches: results of unequal settings are never mixed."""
    template = engine.template
    prompt = json.dumps([template.prefix, template.document, template.untitled, template.question])
    samples = [make_world(0, 4, True, one_style(style, words=words)).to_row() for style in STYLES for words in (0, 60)]
    samples.append(make_needles(0, 60, True).to_row())
    return {
        "weights": engine.model.fingerprint,
        "prompt": hashlib.sha256(prompt.encode()).hexdigest()[:16],
        "worlds": hashlib.sha256(json.dumps(samples).encode()).hexdigest()[:16],
        "held_out": True,
        "seed": seed,
        "questions_per_world": PER_WORLD,
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def read_journal(path: Path, settings: dict[str, Any]) -> dict[Batch, list[dict[str, Any]]]:
    """The batches that are done; a new file gets its head. A last line that was cut off by a kill is dropped.

    Raises:
        InputError: the file belongs to a run with other settings, or is no journal.
    """
    if not path.exists() or not path.read_text(encoding="utf-8").strip():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    try:
        head, *lines = [json.loads(line) for line in whole.splitlines()]
        theirs = head["settings"]
        done = {Batch(**line["batch"] | {"kinds": tuple(line["batch"]["kinds"])}): line["cells"] for line in lines}
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not the journal of a run ({error}): delete it, or choose another --out") from None
    if theirs != settings:
        apart = [key for key in settings if theirs.get(key) != settings[key]] or sorted(set(theirs) - set(settings))
        raise InputError(f"{path} belongs to a run with other settings ({', '.join(apart)}): delete it to begin anew, or choose another --out")
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return done


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _cost(batch: Batch) -> float:
    """Roughly the work of a batch: the largest go first, so that no process is left alone with one at the end."""
    forwards = batch.questions * (3 if batch.place is not None or ARMS[batch.arm].removed else 1)
    return float(forwards * batch.documents * max(batch.words, 40))


def _measured(engine: GraphKV, model: str | None, batches: Sequence[Batch], seed: int, workers: int) -> Iterator[tuple[Batch, list[dict[str, Any]]]]:
    """Batches as they are done, with their cells."""
    if workers == 1 or len(batches) < 2:
        with _one_thread():
            for batch in batches:
                yield batch, measure(engine, batch, seed)
        return
    # Fresh interpreters: a fork would copy this process's thread pools in whatever state they are.
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    dtype = str(engine.model.dtype).removeprefix("torch.")
    pool = ProcessPoolExecutor(min(workers, len(batches)), mp_context=context, initializer=_load, initargs=(model, dtype, engine.model.kernel))
    try:
        open_ = {pool.submit(_measure_there, batch, seed): batch for batch in batches}
        while open_:
            finished, _ = wait(open_, return_when=FIRST_COMPLETED)
            for future in finished:
                yield open_.pop(future), future.result()
    except BrokenProcessPool:
        raise GraphKVError("a worker process died, perhaps for lack of memory; what is done is kept: run the same command again with fewer --workers") from None
    except BaseException:  # Ctrl-C, or a batch that is refused: nobody waits for the others
        for child in set(multiprocessing.active_children()) - set(others):
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _load(model: str | None, dtype: str, kernel: str | None) -> None:
    global _ENGINE
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    _ENGINE = GraphKV.from_pretrained(model, dtype=dtype, kernel=kernel, store="memory")


def _leave_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _measure_there(batch: Batch, seed: int) -> list[dict[str, Any]]:
    if _ENGINE is None:
        raise GraphKVError("this worker has no model: _load runs first")
    return measure(_ENGINE, batch, seed)
