"""A small task of citation worlds, and runs of it, for the tests of the benchmark runner."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphkv import SegmentGraph
from graphkv.prompt import PromptTemplate
from graphkv_benchmarks.citation_world import make_world
from graphkv_benchmarks.runner.case import Broken, Case, Line, Question, Task
from graphkv_benchmarks.runner.plan import Plan


@dataclass(frozen=True)
class Worlds(Task):
    """One unit a world of four papers, asked two questions with the papers in order and in reverse order.

    ``broken`` is a unit that cannot be read; ``long`` one whose documents no window holds; ``words`` changes every text.
    """

    count: int = 3
    broken: int | None = None
    long: int | None = None
    words: int = 0

    @property
    def name(self) -> str:
        return "worlds"

    def settings(self) -> dict[str, Any]:
        return {"kind": "worlds", "data": "nowhere", "count": self.count}

    def units(self) -> Sequence[str]:
        return [str(number) for number in range(self.count)]

    def cases(self, unit: str) -> Iterator[Case | Broken]:
        if self.broken == int(unit):
            yield Broken(unit, "expected a world, got chaos")
            return
        world = make_world(int(unit), 4, True)
        documents = world.to_row()["documents"]
        if self.long == int(unit):
            documents[0]["text"] *= 300
        if self.words:
            documents[0]["text"] += " It rains." * self.words
        asked = [q for q in world.questions if q.type == "attribute"][:2]
        questions = tuple(Question(f"{unit}.{i}", q.question, (q.answer,), q.type) for i, q in enumerate(asked))
        for order in ("first", "last"):
            given = documents if order == "first" else documents[::-1]
            yield Case(unit, {"order": order, "seed": 1}, SegmentGraph.from_documents(given), questions)

    def template(self, own: PromptTemplate) -> PromptTemplate:
        return own

    def max_new_tokens(self, arm: str) -> int:
        return 12


def plan(task: Task | None = None, arms: Sequence[str] = ("sequential", "graph"), **options: Any) -> Plan:
    """A plan on the embedded model."""
    return Plan(task or Worlds(), tuple(arms), **options)


def lines_in(folder: Path) -> list[Line]:
    """Every line of a run's predictions, read by hand."""
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def untimed(lines: Sequence[Line]) -> list[Line]:
    """Lines without what differs from one run to the next: the times."""
    return [{key: value for key, value in line.items() if key not in ("ttft", "seconds")} for line in lines]
