"""What a question costs under an arm, known before it runs: tokens, KV bytes, FLOPs, and whether it fits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphkv.engine import GraphKV
from graphkv.errors import InputError, LengthError, ModelError
from graphkv.graph import SegmentGraph
from graphkv.landmark import landmark_of
from graphkv.layouts import make_layout
from graphkv.stats import layout_cost
from graphkv.strategies import GRAPH
from graphkv.window import check_window

from .arms import Arm
from .case import Broken, Case
from .plan import Plan, memory_for


@dataclass(frozen=True)
class Need:
    """What a question needs.

    Attributes:
        tokens: of the documents, each once. kv_bytes: keys and values of the whole context in the model's dtype, None where the strategy
            alone knows. flops: of encoding everything once, as :class:`graphkv.stats.Cost` counts them; None likewise.
        reason: why it cannot be asked, ``"length: ..."`` or ``"memory: ..."``; empty if it fits.
    """

    tokens: int
    kv_bytes: int | None
    flops: int | None
    reason: str = ""


def need(engine: GraphKV, arm: Arm, graph: SegmentGraph, question: str, max_memory: int) -> Need:
    """What `question` about `graph` needs. Nothing is run; a model without weights will do.

    Strategies other than ``graph`` are planned where their need is that of a layout: the whole text before the model (`full_context`, `landmark`)
    is `sequential`'s KV. `infini_retri` needs a window's at most; whether a question fits it says itself when it is asked.

    Raises:
        ModelError: a model without landmarks, for arm `landmark`.
        InputError: the documents or the question are refused for another reason than their length.
    """
    tokens = engine.reader.read(graph, [question], None)
    lengths = {id: len(ids) for id, ids in tokens.segments.items()}
    total = sum(lengths.values())
    if arm.strategy not in (GRAPH, "full_context", "landmark"):
        return Need(total, None, None)
    if arm.strategy == "landmark":
        landmark_of(engine.model)
    options = {key: value for key, value in arm.options.items() if key != "layout"} if arm.strategy == GRAPH else {}
    plan = make_layout(arm.layout or "sequential", tokens.graph, lengths, prefix=len(tokens.prefix), question=len(tokens.questions[0]), **options)
    cost = layout_cost(plan, engine.model)
    reason = ""
    if arm.strategy != "landmark":  # which reads any length, a chunk at a time
        try:
            check_window(engine.model, plan, new_tokens=1)
        except LengthError as error:
            reason = f"length: {error}"
    if not reason and cost.kv_bytes > max_memory:
        reason = f"memory: keys and values of {cost.kv_bytes / 2**20:,.1f} MiB are more than the {max_memory / 2**20:,.1f} MiB that a question may take (--max-memory)"
    return Need(total, cost.kv_bytes, cost.flops, reason)


def graph_for(arm: Arm, case: Case) -> SegmentGraph:
    """The documents of a case as an arm reads them."""
    one_text = arm.layout == "sequential" or arm.strategy == "full_context"
    return case.sequential_graph if one_text and case.sequential_graph is not None else case.graph


def costs(
    plan: Plan, engine: GraphKV, progress: Callable[[int, int], None] | None = None, *, landmark: GraphKV | None = None, workers: int = 1
) -> list[dict[str, Any]]:
    """What a run would cost, by arm; nothing is run.

    Args:
        engine: may be without weights. progress: called with (units planned, units). landmark: the engine of arm `landmark`, if it is another.
        workers: as many processes will share the memory that is free.

    Returns:
        One dict an arm: `questions`, `fit`, `broken` (rows), `reasons` ({why not: count}; those that differ in numbers only are one, the first of them),
        over all questions `tokens_mean`, `tokens_max`, `kv_bytes_mean`, `kv_bytes_max`, and `flops` of all that fit, as if nothing were shared;
        None where a strategy alone knows.

    Raises:
        DocumentError: as :meth:`Task.units`. InputError: an arm that there is not.
    """
    memory = plan.max_memory if plan.max_memory is not None else memory_for(engine, workers, loaded=False)
    engines = {arm.name: _reading(plan, landmark if arm.strategy == "landmark" and landmark is not None else engine) for arm in plan.made_arms()}
    arms, units = plan.made_arms(), plan.units()
    needs: dict[str, list[Need]] = {arm.name: [] for arm in arms}
    broken = 0
    for done, unit in enumerate(units, start=1):
        for case in plan.task.cases(unit):
            if isinstance(case, Broken):
                broken += 1
                continue
            for arm in arms:
                needs[arm.name] += [_need(engines[arm.name], arm, case, question.text, memory) for question in case.questions]
        if progress:
            progress(done, len(units))
    return [_summary(arm, needs[arm.name]) | {"broken": broken} for arm in arms]


def _reading(plan: Plan, engine: GraphKV) -> GraphKV:
    return GraphKV(engine.model, store="memory", template=plan.task.template(engine.template), max_segment_tokens=plan.max_segment_tokens)


def _need(engine: GraphKV, arm: Arm, case: Case, question: str, memory: int) -> Need:
    try:
        return need(engine, arm, graph_for(arm, case), question, memory)
    except ModelError as error:
        return Need(0, None, None, f"model: {error}")
    except InputError as error:
        return Need(0, None, None, f"error: {error}")


def _summary(arm: Arm, needs: list[Need]) -> dict[str, Any]:
    planned = [n for n in needs if n.tokens]
    kv = [n.kv_bytes for n in planned if n.kv_bytes is not None]
    flops = [n.flops for n in needs if n.flops is not None and not n.reason]
    alike: dict[str, list[str]] = {}
    for n in needs:
        if n.reason:
            alike.setdefault(re.sub(r"[0-9][0-9,.]*", "#", n.reason), []).append(n.reason)
    return {
        "arm": arm.name,
        "questions": len(needs),
        "fit": sum(not n.reason for n in needs),
        "reasons": {some[0]: len(some) for some in alike.values()},
        "tokens_mean": sum(n.tokens for n in planned) / len(planned) if planned else 0.0,
        "tokens_max": max((n.tokens for n in planned), default=0),
        "kv_bytes_mean": sum(kv) / len(kv) if kv else None,
        "kv_bytes_max": max(kv, default=None),
        "flops": sum(flops) if flops else None,
    }
