"""All contexts by all strategies, one after the other, resumable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from graphkv.errors import InputError, LengthError
from graphkv.strategy import Answer

from ..machine import machine
from ..result_file import write_result
from .cases import Case, Context
from .journal import Journal, Line
from .scores import SCORES
from .summary import summarise
from .ways import Way

Report = Callable[[int, int, Sequence[Line]], None]
"""Told after every context and way: cases done, cases in all, the lines that are new."""


def run_contexts(
    ways: Sequence[Way],
    contexts: Sequence[Context],
    plan: Mapping[str, Any],
    *,
    journal: Path | None = None,
    output: Path | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Answer every case of every context by every way.

    A context that is too long for a way is no failure: its cases, and those of the longer contexts of its task that follow, are put
    down as skipped, with the reason.

    Args:
        plan: what the contexts were made from; it goes into the settings. journal: JSON Lines, one a case; what stands in it is not
            asked again. output: the summary, written after every context. report: called after every context and way.

    Returns:
        ``{"settings": {...}, "strategies": {...}, "machine": {...}, "totals": [...], "cells": [...]}``, as
        :func:`graphkv_benchmarks.long_context.summary.summarise` makes them.

    Raises:
        InputError: the journal belongs to another run, no way or no context, or whatever a strategy refuses.
    """
    if not ways or not contexts:
        raise InputError("expected at least one strategy and one context")
    settings = settings_of(ways, contexts, plan)
    kept = Journal(journal, settings)
    too_long = _skipped(kept.lines)
    total = len(ways) * sum(len(context.cases) for context in contexts)

    def result() -> dict[str, Any]:
        return {"settings": settings, "strategies": settings["strategies"], "machine": machine(), **summarise(kept.lines)}

    for context in contexts:
        documents = None
        for way in ways:
            left = [case for case in context.cases if (way.name, case.id) not in kept.done]
            if not left:
                continue
            shortest, reason = too_long.get((way.name, _kind(context.id)), (context.length + 1, ""))
            if shortest <= context.length:
                lines = [_line(way, context, case) | {"skipped": reason} for case in left]
            else:
                documents = context.build() if documents is None else documents
                lines = _asked(way, context, left, documents)
            kept.add(lines)
            if "skipped" in lines[0]:
                too_long.setdefault((way.name, _kind(context.id)), (context.length, lines[0]["skipped"]))
            if report:
                report(len(kept.done), total, lines)
        if output is not None and documents is not None:
            write_result(output, result())
    found = result()
    if output is not None:
        write_result(output, found)
    return found


def settings_of(ways: Sequence[Way], contexts: Sequence[Context], plan: Mapping[str, Any]) -> dict[str, Any]:
    """What decides over every number of a run: results of unequal settings are never mixed."""
    template = ways[0].engine.template
    prompt = json.dumps([template.prefix, template.document, template.untitled, template.question])
    asked = json.dumps([[context.id, *((case.id, case.question, case.golds) for case in context.cases)] for context in contexts])
    smallest = json.dumps(min(contexts, key=lambda context: context.length).build())
    return {
        **plan,
        "strategies": {way.name: way.about() for way in ways},
        "prompt": _digest(prompt),
        "questions": _digest(asked),
        "haystack": _digest(smallest),
        "dtype": str(ways[0].engine.model.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _kind(context_id: str) -> str:
    """Contexts of one kind differ in length only, as far as a window is concerned."""
    return context_id.split("-")[0]


def _skipped(lines: Sequence[Line]) -> dict[tuple[str, str], tuple[int, str]]:
    """For (strategy, kind of context): the shortest length that did not fit, and why."""
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for line in lines:
        key = (line["strategy"], _kind(line["context"]))
        if "skipped" in line and (key not in found or line["length"] < found[key][0]):
            found[key] = (line["length"], line["skipped"])
    return found


def _line(way: Way, context: Context, case: Case) -> Line:
    return {
        "id": case.id,
        "strategy": way.name,
        "task": case.task,
        "length": context.length,
        "context": context.id,
        "depth": case.depth,
        "question": case.question,
        "gold": list(case.golds),
    }


def _asked(way: Way, context: Context, cases: Sequence[Case], documents: Sequence[Mapping[str, Any]]) -> list[Line]:
    try:
        answers, seconds, peak = way.ask(context, documents, [case.question for case in cases])
    except LengthError as error:
        return [_line(way, context, case) | {"skipped": str(error)} for case in cases]
    return [
        _line(way, context, case) | _scored(case, context, answer) | {"seconds": round(seconds / len(cases), 4), "asked_together": len(cases), "peak_mb": peak}
        for case, answer in zip(cases, answers, strict=True)
    ]


def _scored(case: Case, context: Context, answer: Answer) -> Line:
    return {
        "answer": answer.text,
        "score": SCORES[context.score](answer.text, case.golds),
        "exact": SCORES["exact"](answer.text, case.golds),
        "contains": SCORES["contains"](answer.text, case.golds),
        "finish_reason": answer.finish_reason,
        "tokens_read": answer.tokens_read,
        "tokens_kept": answer.tokens_kept,
        "tokens_generated": answer.tokens_generated,
        **({"notes": list(answer.notes)} if answer.notes else {}),
    }
