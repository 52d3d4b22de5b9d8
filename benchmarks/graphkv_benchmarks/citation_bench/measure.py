"""One batch: its worlds, one forward each, counted up into cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphkv.engine import GraphKV
from graphkv.errors import LengthError

from ..citation_world import Question
from ..scoring import wilson
from .answers import Outcome, outcomes
from .arms import arm_named, documents_for
from .cells import Asked, Batch, worlds_of

QUARTERS = 4


@dataclass(frozen=True)
class _Result:
    question: Question
    place: float | None  # of the gold document, 0 first, 1 behind the last; None without one
    outcome: Outcome


def measure(engine: GraphKV, batch: Batch, seed: int, progress: Callable[[int], None] | None = None) -> list[dict[str, Any]]:
    """The cells of a batch. They depend on model, batch and seed, and on nothing else that is or was measured.

    Args:
        progress: called with the number of questions answered by each forward.

    Returns:
        One dict a kind: the batch's settings, `questions`, `right`, `accuracy` with `low` and `high` (95% Wilson), `refused`
        (how many are answered "not in the documents"), `by` (what is asked: right, count), `quarters` (of the context in which the gold
        document stands: right, count), `outcomes` (a 1 for each right answer, in an order that all arms share). Where the
        layout does not fit into the model's window: `skipped` (the reason) in place of the numbers.

    Raises:
        InputError: as :func:`graphkv_benchmarks.citation_bench.cells.worlds_of` and :func:`..answers.outcomes`.
    """
    arm = arm_named(batch.arm)
    found: dict[str, list[_Result]] = {kind: [] for kind in batch.kinds}
    head = {"arm": batch.arm, "style": batch.style, "documents": batch.documents, "words": batch.words, "place": batch.place}
    try:
        for asked in worlds_of(batch, seed, one_gold=arm.removed):
            documents = documents_for(arm, asked.world, f"{seed} {asked.number}", asked.gold)
            questions = [(kind, q) for kind, some in asked.questions.items() for q in some]
            scored = outcomes(engine, documents, [q.question for _, q in questions], [q.answer for _, q in questions], layout=arm.layout, **arm.options)
            for (kind, question), outcome in zip(questions, scored, strict=True):
                found[kind].append(_Result(question, _place(asked, question), outcome))
            if progress:
                progress(len(questions))
    except LengthError as error:
        return [head | {"kind": kind, "skipped": str(error)} for kind in batch.kinds]
    return [head | {"kind": kind} | _count(results) for kind, results in found.items()]


def _place(asked: Asked, question: Question) -> float | None:
    ids = [paper.id for paper in asked.world.papers]
    return None if question.gold is None else ids.index(question.gold) / len(ids)


def _count(results: list[_Result]) -> dict[str, Any]:
    right, count = sum(r.outcome.right for r in results), len(results)
    low, high = wilson(right, count)
    by: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    quarters = [[0, 0] for _ in range(QUARTERS)]
    for result in results:
        tallies = [by[_about(result.question)]]
        if result.place is not None:
            tallies.append(quarters[int(result.place * QUARTERS)])
        for tally in tallies:
            tally[0] += result.outcome.right
            tally[1] += 1
    return {
        "questions": count,
        "right": right,
        "accuracy": round(right / count, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "refused": sum(r.outcome.refused for r in results),
        "by": dict(sorted(by.items())),
        "quarters": quarters,
        "outcomes": "".join("01"[r.outcome.right] for r in results),
    }


def _about(question: Question) -> str:
    """What is asked for; of a question without an answer, what is missing."""
    if question.type != "unanswerable":
        return question.kind
    return "absent paper" if question.subject is None else f"{question.hops} hop" + "s" * (question.hops > 1)
