"""What all arms over one ego graph cost together, against the costliest of them alone: ``python -m graphkv_benchmarks.runner.sharing``.

Every arm alone begins with an empty store; together they share one, as in a run. Work is a unit of Arxiv-QA: one ego graph with none, one and two
distractors, each first and last, in an invented set and in the prompt of the embedded model, which answers. The paper's wording is other text in front of the same
documents: it changes neither what is shared nor how much is computed but for those tokens.
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
from .arms import ARMS
from .case import Broken, Line
from .fit import graph_for, need
from .plan import Engines, Plan, memory_for

SETS = {
    "paper": ("sequential", "block", "graph"),
    "family": ("sequential", "block", "pcw", "ape", "graph"),
    "all": tuple(arm.name for arm in ARMS.values() if arm.layout is not None),
}
"""The arms of the paper's table; those that need no choice of edges; every arm that is a layout. Strategies that are none share nothing, or only with
`sequential`. Of `all` those are left out, and named in the row, that do not fit the model's window: `official-full` and `official-top3` give each document two places in one running range,
for which the longer sets have no room."""


def measure(plan: Plan, engines: Engines, units: Sequence[str], repeats: int) -> dict[str, Any]:
    """Seconds of CPU time of every arm alone and of each of :data:`SETS` together: medians over rounds, in each of which everything is measured once.

    Returns:
        ``{"alone": {arm: seconds}, "together": {set: {"arms", "seconds", "costliest", "sum_alone", "ratio", "tokens"}}, "left_out": {arm: why}, "tokens"}``:
        `ratio` is the median of the rounds' own ratios, `tokens` of a set the ratio in tokens that were encoded, without what is beside encoding; the last
        `tokens` is the mean of a question's documents.

    Raises:
        GraphKVError: an arm answers otherwise together than alone, or one of the smaller sets does not fit.
    """
    left_out = _left_out(plan, engines, units)
    arms = tuple(arm for arm in SETS["all"] if arm not in left_out)
    sets = {name: arms if name == "all" else members for name, members in SETS.items()}
    alone: dict[str, list[float]] = {arm: [] for arm in arms}
    together: dict[str, list[float]] = {name: [] for name in sets}
    lines: dict[str, list[Line]] = {}
    for _ in range(repeats):
        for arm in arms:
            seconds, lines[arm] = _timed(replace(plan, arms=(arm,)), engines, units)
            alone[arm].append(seconds)
        for name, members in sets.items():
            seconds, lines[name] = _timed(replace(plan, arms=members), engines, units)
            together[name].append(seconds)
    middle = {arm: statistics.median(seconds) for arm, seconds in alone.items()}
    found: dict[str, Any] = {"alone": {arm: round(seconds, 3) for arm, seconds in middle.items()}, "together": {}}
    for name, members in sets.items():
        for arm in members:
            if [line["answer"] for line in lines[name] if line["arm"] == arm] != [line["answer"] for line in lines[arm]]:
                raise GraphKVError(f"arm {arm!r} answers otherwise beside the other arms than alone: the times compare different work")
        found["together"][name] = {
            "arms": len(members),
            "seconds": round(statistics.median(together[name]), 3),
            "costliest": max(members, key=lambda arm: middle[arm]),
            "sum_alone": round(sum(middle[arm] for arm in members), 3),
            "ratio": round(statistics.median(seconds / max(alone[arm][i] for arm in members) for i, seconds in enumerate(together[name])), 3),
            "tokens": round(_encoded(lines[name]) / max(_encoded(lines[arm]) for arm in members), 3),
        }
    found["left_out"] = left_out
    found["tokens"] = round(statistics.fmean(line["tokens"]["context"] for line in lines["graph"]))
    return found


def _encoded(lines: Sequence[Line]) -> int:
    return sum(line["tokens"]["computed"] for line in lines)


def _left_out(plan: Plan, engines: Engines, units: Sequence[str]) -> dict[str, str]:
    """The arms that cannot answer every question, and why."""
    found: dict[str, str] = {}
    for case in (case for unit in units for case in plan.task.cases(unit) if not isinstance(case, Broken)):
        for arm in replace(plan, arms=SETS["all"]).made_arms():
            for question in case.questions:
                if arm.name not in found and (reason := need(engines.of(arm), arm, graph_for(arm, case), question.text, engines.max_memory).reason):
                    found[arm.name] = reason
    if small := [arm for arm in found if arm in SETS["paper"] + SETS["family"]]:
        raise GraphKVError(f"arm {small[0]!r} does not fit ({found[small[0]]}): choose fewer --words")
    return found


def _timed(plan: Plan, engines: Engines, units: Sequence[str]) -> tuple[float, list[Line]]:
    started = time.process_time()
    lines = [line for unit in units for line in unit_lines(plan, engines, unit, {})]
    seconds = time.process_time() - started
    if skipped := [line for line in lines if "answer" not in line]:
        raise GraphKVError(f"{len(skipped)} questions do not fit, the first: {skipped[0].get('skipped', skipped[0])}; choose fewer --words")
    return seconds, lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m graphkv_benchmarks.runner.sharing", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--words", type=int, nargs="+", default=[0, 100, 180], help="least words a document, one set each")
    parser.add_argument("--units", type=int, default=1, help="ego graphs")
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
            engines.max_memory = memory_for(engines.main)
            units = plan.units()[: args.units]
            _timed(replace(plan, arms=SETS["paper"]), engines, units[:1])  # what only the first call pays for
            rows.append({"words": words, **measure(plan, engines, units, args.repeats)})
        print(rows[-1], flush=True)
    settings = {"units": args.units, "repeats": args.repeats, "seeds": [42], "prompt": "model", "sets": SETS, "weights": engines.main.model.fingerprint, "dtype": str(engines.main.model.dtype)}
    write_result(args.output, {"settings": settings, "machine": machine() | {"transformers": transformers.__version__}, "rows": rows})


if __name__ == "__main__":
    main()
