"""A run: every unit of a task, its lines as they come into predictions.jsonl, then metrics and report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphkv.errors import InputError, StoreError, check_count

from ..result_file import write_result
from .answering import done_of, unit_lines
from .case import Line, Task
from .folder import CONFIG, METRICS, PREDICTIONS, open_folder, read_config, write_config
from .metrics import metrics
from .plan import Engines, Plan, config_of, memory_for
from .predictions import Predictions, read_lines
from .report import write_report
from .workers import answer_units, threads_each

Report = Callable[[int, int, str], None]
"""Called with (units done, units, what the last one came to)."""


def run(plan: Plan, out: Path, *, workers: int = 1, report: Report | None = None) -> dict[str, Any]:
    """Ask everything that is not answered yet, and write metrics.json and report.md.

    config.yaml gets the `seconds` that it took, those of a part that was killed not among them.
    A run that was killed goes on when the same plan is given again: what stands in predictions.jsonl is not asked again, and the metrics are
    those of a run that was never stopped.

    Args:
        out: folder of the run. workers: processes; each has a model of its own and its share of the cores.

    Returns:
        The metrics, as in metrics.json: see :func:`graphkv_benchmarks.runner.metrics.metrics`.

    Raises:
        InputError: the folder belongs to another run; data that is not there, or not what it was. ModelError: the model cannot be loaded.
        StoreError: some answers could not be written (the disk is full); their ids are named, the rest is kept. GraphKVError: a worker died.
    """
    check_count("workers", workers)
    units = plan.units()
    if not units:
        raise InputError(f"there is nothing to ask: {plan.task.name} has no units in shard {plan.shard[0]}/{plan.shard[1]}")
    workers, started = min(workers, len(units)), time.monotonic()
    engines = Engines(plan)
    with _writing(out):
        engines.max_memory = _memory(plan, engines, out, workers)
        open_folder(out, config_of(plan, engines, workers, threads_each(workers)))
        predictions = Predictions(out / PREDICTIONS)
    with predictions:
        for count, (unit, lines) in enumerate(_answered(plan, engines, units, predictions, workers), start=1):
            if report:
                report(count, len(units), f"{unit}: {said(lines)}")
        if not predictions.flush():
            ids = ", ".join(dict.fromkeys(str(line.get("id", line.get("broken"))) for line in predictions.waiting[:20]))
            raise StoreError(
                f"{len(predictions.waiting)} answers could not be written to {predictions.path} ({predictions.trouble}): questions {ids}; "
                f"the {len(predictions.lines) - len(predictions.waiting)} others are kept: make room and give the same command again"
            )
        with _writing(out):
            config = read_config(out)
            write_config(out, config | {"seconds": round(config.get("seconds", 0) + time.monotonic() - started, 1)})
            return finish(out, plan.task)


def finish(folder: Path, task: Task) -> dict[str, Any]:
    """Metrics and report of the predictions of a folder, as they are. Returns the metrics.

    Raises:
        InputError: the folder is not a run's.
    """
    config = read_config(folder)
    lines = read_lines(folder / PREDICTIONS)
    result = metrics(task.name, task.metric, lines, task.further, arms=[arm["name"] for arm in config["arms"]])
    write_result(folder / METRICS, result)
    write_report(folder, task, result, lines, config)
    return result


def said(lines: Sequence[Line]) -> str:
    """What a unit came to, in a few words.

    Example:
        >>> said([{"arm": "graph", "score": 1.0}, {"arm": "graph", "score": 0.0}, {"arm": "full", "skipped": "length: ..."}])
        'graph 1 of 2, full 0 of 0, 1 skipped'
    """
    if not lines:
        return "was done"
    right: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for line in lines:
        if "arm" in line:
            right[line["arm"]] += line.get("score", 0.0)
            count[line["arm"]] += "score" in line
    parts = [f"{arm} {right[arm]:.3g} of {count[arm]}" for arm in count]
    for what, number in (("skipped", sum("skipped" in line for line in lines)), ("broken", sum("broken" in line for line in lines))):
        if number:
            parts.append(f"{number} {what}")
    return ", ".join(parts)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """What cannot be written is an error of ours that names the file."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or out} could not be written ({error.strerror or error}): what is answered is kept; give the same command again") from error


def _memory(plan: Plan, engines: Engines, out: Path, workers: int) -> int:
    """What a question may take: as said, as it was when this run began, or what is free now: so a run that goes on skips what it would have skipped."""
    if plan.max_memory is not None:
        return plan.max_memory
    before = read_config(out).get("memory") if (out / CONFIG).exists() else None
    return before if isinstance(before, int) else memory_for(engines.main, workers)


def _answered(plan: Plan, engines: Engines, units: Sequence[str], predictions: Predictions, workers: int) -> Iterator[tuple[str, list[Line]]]:
    """Units as they are done, with the lines that were made now; each line is in the file before the next is asked."""
    done = done_of(predictions.lines)
    if workers == 1:
        for unit in units:
            lines = []
            for line in unit_lines(plan, engines, unit, done.get(unit, {})):
                predictions.add(line)
                lines.append(line)
            yield unit, lines
        return
    memory = engines.max_memory
    engines.unload()  # each worker has its own
    fresh: dict[str, list[Line]] = {}
    for unit, came in answer_units(plan, memory, units, done, workers):
        if came is None:
            yield unit, fresh.pop(unit, [])
            continue
        predictions.add(came)
        fresh.setdefault(unit, []).append(came)
