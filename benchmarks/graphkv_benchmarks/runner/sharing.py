"""What all arms over one ego graph cost together, against the costliest of them alone: ``python -m graphkv_benchmarks.runner.sharing``.

Every arm alone begins with an empty store; together they share one, as in a run. Work is a unit of Arxiv-QA: one ego graph with none, one and two
distractors, each first and last.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers

from graphkv.errors import GraphKVError

from ..machine import machine
from ..result_file import write_result
from ..tasks.arxiv_qa import ArxivQA
from ..tasks.offline_arxiv import write_offline_arxiv
from .answering import unit_lines
from .case import Line
from .plan import Engines, Plan

SETS = {
    "paper": ("sequential", "block", "graph"),
    "family": ("sequential", "block", "pcw", "ape", "graph"),
    "all": ("sequential", "block", "pcw", "ape", "graph", "full", "hops2", "hops3"),
}
"""The arms of the paper's table; those whose segments are encoded without others in sight, beside sequential; all layouts on one's own choice of edges too."""


def measure(plan: Plan, engines: Engines, units: Sequence[str], repeats: int) -> dict[str, Any]:
    """Seconds of CPU time, medians over `repeats`, of every arm alone and of each of :data:`SETS` together.

    Returns:
        ``{"alone": {arm: seconds}, "together": {set: {"seconds", "costliest", "ratio"}}, "tokens": mean tokens of a question's documents}``.

    Raises:
        GraphKVError: an arm answers otherwise together than alone.
    """
    arms = SETS["all"]
    alone: dict[str, float] = {}
    answers: dict[str, list[Line]] = {}
    for arm in arms:
        alone[arm], answers[arm] = _timed(replace(plan, arms=(arm,)), engines, units, repeats)
    found: dict[str, Any] = {"alone": {arm: round(seconds, 3) for arm, seconds in alone.items()}, "together": {}}
    for name, members in SETS.items():
        seconds, lines = _timed(replace(plan, arms=members), engines, units, repeats)
        for arm in members:
            if [line["answer"] for line in lines if line["arm"] == arm] != [line["answer"] for line in answers[arm]]:
                raise GraphKVError(f"arm {arm!r} answers otherwise beside the other arms than alone: the times compare different work")
        costliest = max(members, key=lambda arm: alone[arm])
        found["together"][name] = {"seconds": round(seconds, 3), "costliest": costliest, "sum_alone": round(sum(alone[arm] for arm in members), 3), "ratio": round(seconds / alone[costliest], 3)}
    found["tokens"] = round(statistics.fmean(line["tokens"]["context"] for line in answers["graph"]))
    return found


def _timed(plan: Plan, engines: Engines, units: Sequence[str], repeats: int) -> tuple[float, list[Line]]:
    times, lines = [], list[Line]()
    for _ in range(repeats):
        started = time.process_time()
        lines = [line for unit in units for line in unit_lines(plan, engines, unit, {})]
        times.append(time.process_time() - started)
    if skipped := [line for line in lines if "answer" not in line]:
        raise GraphKVError(f"{len(skipped)} questions do not fit, the first: {skipped[0].get('skipped', skipped[0])}; choose fewer --words")
    return statistics.median(times), lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m graphkv_benchmarks.runner.sharing", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--words", type=int, nargs="+", default=[0, 100, 200], help="least words a document, one set each")
    parser.add_argument("--units", type=int, default=2, help="ego graphs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = []
    for words in args.words:
        with tempfile.TemporaryDirectory() as folder:
            write_offline_arxiv(Path(folder) / "data", words=words)
            plan = Plan(ArxivQA(str(Path(folder) / "data"), seeds=(42,), prompt="model"), SETS["all"])
            engines = Engines(plan)
            units = plan.units()[: args.units]
            measure(plan, engines, units[:1], 1)  # what only the first call pays for
            rows.append({"words": words, **measure(plan, engines, units, args.repeats)})
        print(rows[-1], flush=True)
    settings = {"units": args.units, "repeats": args.repeats, "seeds": [42], "sets": SETS, "weights": engines.main.model.fingerprint, "dtype": str(engines.main.model.dtype)}
    write_result(args.output, {"settings": settings, "machine": machine() | {"transformers": transformers.__version__}, "rows": rows})


if __name__ == "__main__":
    main()
