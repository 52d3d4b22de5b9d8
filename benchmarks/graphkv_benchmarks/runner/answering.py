"""One unit: its cases, arms and questions, one after the other, each a line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from graphkv.engine import GraphKV
from graphkv.errors import GraphKVError, InputError, LengthError, ModelError, StoreError
from graphkv.graph import SegmentGraph
from graphkv.strategies import GRAPH

from .arms import Arm
from .case import Broken, Case, Line, Question
from .fit import graph_for, need
from .plan import Engines, Plan
from .predictions import key_of, question_key

Done = Mapping[str, tuple[str, bool]]
"""Of what needs not be asked again: key → (hash of the prompt, whether it was answered)."""


def unit_lines(plan: Plan, engines: Engines, unit: str, done: Done) -> Iterator[Line]:
    """The lines of a unit that are not done, in their order.

    What was encoded for lines that are done is encoded again where others of the unit follow, so that their numbers are those of a run that
    was never stopped, to the last bit.

    Args:
        done: of this unit at least, see :func:`done_of`.

    Raises:
        InputError: what is done was asked of other documents than are there now. ModelError: a model cannot be loaded.
    """
    engines.empty_stores()
    arms = plan.made_arms()
    behind: list[tuple[Arm, SegmentGraph]] = []
    for case in plan.task.cases(unit):
        if isinstance(case, Broken):
            yield {"broken": case.id, "unit": unit, "reason": case.reason}
            continue
        hashes: dict[tuple[int, int, str], str] = {}
        for arm in arms:
            graph, engine = graph_for(arm, case), engines.of(arm)
            for question in case.questions:
                told = (id(engine), id(graph), question.id)
                if told not in hashes:
                    hashes[told] = prompt_hash(engine, graph, question)
                key = question_key(arm.name, case.setting, question.id)
                if key in done:
                    known, answered = done[key]
                    if known != hashes[told]:
                        raise InputError(f"question {question.id!r} was answered of other documents or another prompt than are there now: choose another --out, or delete the folder to begin anew")
                    if answered and arm.strategy in (GRAPH, "full_context"):
                        behind.append((arm, graph))
                    continue
                for earlier, read in behind:
                    _encode(engines.of(earlier), earlier, read)
                behind = []
                yield _line(plan, engines, engine, arm, case, graph, question, hashes[told])


def done_of(lines: Iterable[Line]) -> dict[str, dict[str, tuple[str, bool]]]:
    """Of each unit what :func:`unit_lines` need not ask again."""
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    for line in lines:
        if "arm" in line:
            found.setdefault(line["unit"], {})[key_of(line)] = (line["prompt"], "score" in line)
    return found


def prompt_hash(engine: GraphKV, graph: SegmentGraph, question: Question) -> str:
    """16 hex digits over everything that the model is shown: prefix, documents as they are rendered, edges, question."""
    template = engine.template
    shown = [template.prefix, [[s.id, template.render(s), s.score] for s in graph.segments], sorted(map(list, graph.edges)), template.ask(question.text)]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]


def _encode(engine: GraphKV, arm: Arm, graph: SegmentGraph) -> None:
    options = arm.options if arm.strategy == GRAPH else {"layout": "sequential"}
    try:
        engine.encode(graph, **options)
    except StoreError:
        return  # a store without room keeps what it can, as it did before


def _line(plan: Plan, engines: Engines, engine: GraphKV, arm: Arm, case: Case, graph: SegmentGraph, question: Question, prompt: str) -> Line:
    head: Line = {"arm": arm.name, "setting": dict(case.setting), "id": question.id, "unit": case.unit, "type": question.type, "prompt": prompt, "gold": list(question.answers)}
    cap = plan.max_new_tokens or plan.task.max_new_tokens(arm.name)
    try:
        needed = need(engine, arm, graph, question.text, engines.max_memory)
        if needed.reason:
            return head | {"skipped": needed.reason}
        answer = engine.ask(graph, question.text, strategy=arm.strategy, max_new_tokens=cap, stop=plan.task.stop() or None, **arm.options)
        score = float(plan.task.score(answer.text, question))
    except StoreError as error:
        return head | _trouble("error", error)
    except GraphKVError as error:
        return head | {"skipped": f"{_kind(error)}: {' '.join(str(error).split())}"}
    except Exception as error:  # one question's trouble is no reason to stop the others; it is counted, named, and asked again
        engines.empty_stores()
        return head | _trouble("memory" if _out_of_memory(error) else "error", error)
    tokens: dict[str, Any] = {
        "context": needed.tokens,
        "kept": answer.tokens_kept,
        "reused": answer.tokens_reused,
        "computed": answer.tokens_computed,
        "generated": answer.tokens_generated,
    }
    if needed.kv_bytes is not None:
        tokens["kv_bytes"] = needed.kv_bytes
    told: Line = {"answer": answer.text, "score": score, "finish": answer.finish_reason, "tokens": tokens}
    if answer.finish_reason == "length" and answer.tokens_generated < cap:
        told["cut"] = cap  # the window ended before the cap
    return head | told | {"ttft": round(answer.timings.first_token, 6), "seconds": round(answer.timings.total, 6)}


def _trouble(kind: str, error: Exception) -> Line:
    """What may be otherwise the next time."""
    return {"skipped": f"{kind}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", "again": True}


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "not enough memory" in str(error))  # torch's own words on a CPU


def _kind(error: GraphKVError) -> str:
    if isinstance(error, LengthError):
        return "length"
    return "model" if isinstance(error, ModelError) else "error"
