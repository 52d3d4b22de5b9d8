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


def unit_lines(plan: Plan, engines: Engines, unit: str, done: Mapping[str, str]) -> Iterator[Line]:
    """The lines of a unit that are not done, in their order.

    What was encoded for lines that are done is encoded again where others of the unit follow: so each line's numbers are those of a run that was never
    stopped, to the last bit.

    Args:
        done: key → prompt hash of what is answered already.

    Raises:
        InputError: what is done was asked of other documents than are there now. GraphKVError: a model cannot be loaded.
    """
    engines.empty_stores()
    arms = plan.made_arms()
    behind: list[tuple[Arm, SegmentGraph]] = []
    for case in plan.task.cases(unit):
        if isinstance(case, Broken):
            line: Line = {"broken": case.id, "unit": unit, "reason": case.reason}
            if key_of(line) not in done:
                yield line
            continue
        hashes: dict[tuple[int, int, str], str] = {}
        for arm in arms:
            graph, engine = graph_for(arm, case), engines.of(arm)
            for question in case.questions:
                told = (id(engine), id(graph), question.id)
                if told not in hashes:
                    hashes[told] = prompt_hash(engine, graph, question)
                prompt = hashes[told]
                key = question_key(arm.name, case.setting, question.id)
                if key in done:
                    if done[key] != prompt:
                        raise InputError(f"question {question.id!r} was answered of other documents or another prompt than are there now: choose another --out, or delete the folder to begin anew")
                    if arm.strategy == GRAPH:
                        behind.append((arm, graph))
                    continue
                for earlier, read in behind:
                    _encode(engines.of(earlier), earlier, read)
                behind = []
                yield _line(plan, engines, engine, arm, case, graph, question, prompt)


def prompt_hash(engine: GraphKV, graph: SegmentGraph, question: Question) -> str:
    """16 hex digits over everything that the model is shown: prefix, documents as they are rendered, edges, question."""
    template = engine.template
    shown = [template.prefix, [[s.id, template.render(s), s.score] for s in graph.segments], sorted(map(list, graph.edges)), template.ask(question.text)]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]


def _encode(engine: GraphKV, arm: Arm, graph: SegmentGraph) -> None:
    try:
        engine.encode(graph, **arm.options)
    except (InputError, StoreError):
        return  # it did not fit before either


def _line(plan: Plan, engines: Engines, engine: GraphKV, arm: Arm, case: Case, graph: SegmentGraph, question: Question, prompt: str) -> Line:
    head: Line = {"arm": arm.name, "setting": dict(case.setting), "id": question.id, "unit": case.unit, "type": question.type, "prompt": prompt, "gold": list(question.answers)}
    try:
        needed = need(engine, arm, graph, question.text, engines.max_memory)
        if needed.reason:
            return head | {"skipped": needed.reason}
        answer = engine.ask(
            graph, question.text, strategy=arm.strategy, max_new_tokens=plan.max_new_tokens or plan.task.max_new_tokens(arm.name), stop=plan.task.stop() or None, **arm.options
        )
    except GraphKVError as error:
        return head | {"skipped": f"{_kind(error)}: {' '.join(str(error).split())}"}
    except (MemoryError, torch.OutOfMemoryError) as error:
        engines.empty_stores()
        return head | {"skipped": f"memory: the machine had no more while it was asked ({type(error).__name__})"}
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # torch's own words on a CPU
            raise
        engines.empty_stores()
        return head | {"skipped": "memory: the machine had no more while it was asked"}
    tokens: dict[str, Any] = {
        "context": needed.tokens,
        "kept": answer.tokens_kept,
        "reused": answer.tokens_reused,
        "computed": answer.tokens_computed,
        "generated": answer.tokens_generated,
    }
    if needed.kv_bytes is not None:
        tokens["kv_bytes"] = needed.kv_bytes
    told = {"answer": answer.text, "score": float(plan.task.score(answer.text, question)), "finish": answer.finish_reason, "tokens": tokens}
    return head | told | {"ttft": round(answer.timings.first_token, 6), "seconds": round(answer.timings.total, 6)}


def _kind(error: GraphKVError) -> str:
    if isinstance(error, LengthError):
        return "length"
    return "model" if isinstance(error, ModelError) else "error"


def hashes_of(lines: Iterable[Line]) -> dict[str, str]:
    """Key → prompt hash (empty for a broken row) of lines, as :func:`unit_lines` takes them."""
    return {key_of(line): str(line.get("prompt", "")) for line in lines}
