"""From the lines of a run to its numbers: cells, gaps between first and last, what was skipped. The same bytes whatever the order of the lines."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import stdev
from typing import Any

from graphkv.errors import InputError

from ..scoring import wilson
from .case import Line, Setting
from .intervals import bootstrap, is_binary, mean, paired_bootstrap, paired_score_interval

Further = Callable[[Sequence[Line]], dict[str, float]]

SEED = "seed"
"""The key of a setting that is a repetition, not a condition."""
ORDER = "order"
FIRST, LAST = "first", "last"

_REASONS = 20  # told apart in a cell
_OTHERS = "(other reasons)"


def metrics(task_name: str, metric: str, lines: Sequence[Line], further: Further | None = None, *, arms: Sequence[str] = ()) -> dict[str, Any]:
    """The numbers of a run.

    A cell is an arm under a setting; seeds are pooled: a question's value is its mean over the seeds it was answered under, and the
    interval is over questions. A line that stands there twice counts once.

    Args:
        task_name, metric: as the task has them. lines: of predictions.jsonl, in any order.
        further: other metrics of a cell, from its answered lines (sorted). arms: the order of the arms; the others follow by name.

    Returns:
        A dictionary that can be written as JSON; shares from 0 to 1, null where there is nothing to tell::

            task, metric
            cells: arm, setting (without seed), lines,
                questions, answered (questions with an answer under at least one seed), right (sum of the questions' scores),
                mean, low, high (95% bootstrap over answered questions), wilson (where every score is 0 or 1),
                mean_all (what was not answered counts as wrong), sd (over the seeds' means), by_seed, by_type,
                tokens (of the context, mean over answers), further, skipped (lines by kind), reasons (lines by reason, those of memory without their numbers)
            gaps: arm, setting (without seed and order), questions, pairs (question and seed, answered both times), first, last,
                gap (last - first), low, high (paired bootstrap), score_interval (Agresti and Min, over questions), same_answers
            broken: id, reason, of rows that no line is about: one that was mended and asked since counts as any other

    Raises:
        InputError: the same question was answered twice, differently.

    Example:
        >>> line = {"arm": "graph", "setting": {}, "id": "1", "unit": "1", "type": "", "gold": ["a"], "prompt": "", "answer": "a", "score": 1.0}
        >>> metrics("rag-nq", "best_subspan_em", [line, {**line, "id": "2", "score": 0.0}])["cells"][0]["mean"]
        0.5
    """
    kept = unique(lines)
    cells: dict[tuple[Any, ...], list[Line]] = {}
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in kept:
        cells.setdefault(_place(line, arms, SEED), []).append(line)
        if line["setting"].get(ORDER) in (FIRST, LAST):
            groups.setdefault(_place(line, arms, SEED, ORDER), []).append(line)
    asked = {(str(line["unit"]), str(line["id"])) for line in kept}
    broken = sorted({(str(line["broken"]), str(line["reason"])) for line in lines if "broken" in line and (str(line["unit"]), str(line["broken"])) not in asked})
    return {
        "task": task_name,
        "metric": metric,
        "cells": [_cell(cells[place], further) for place in sorted(cells)],
        "gaps": [gap for place in sorted(groups) if (gap := _gap(groups[place]))],
        "broken": [{"id": id, "reason": reason} for id, reason in broken],
    }


def unique(lines: Iterable[Line], arms: Sequence[str] = ()) -> list[Line]:
    """The lines about questions, each key once, by arm (in the order of `arms`), setting and id; broken rows are left out.

    Raises:
        InputError: a key twice with another answer or score.
    """
    found: dict[tuple[Any, ...], Line] = {}
    for line in lines:
        if "broken" in line:
            continue
        place = (*_place(line, arms), _natural(str(line["id"])))
        other = found.setdefault(place, line)
        if other is not line:
            if outcome(other) != outcome(line):
                raise InputError(f"{name_of(line)} stands there twice, once as {_told(other)} and once as {_told(line)}: expected one answer a question")
            found[place] = min(line, other, key=lambda line: json.dumps(line, sort_keys=True))
    return [found[place] for place in sorted(found)]


def outcome(line: Line) -> tuple[Any, ...]:
    """What two lines about the same question must agree in: answer and score, or that it was skipped."""
    return ("skipped",) if "skipped" in line else (line["answer"], line["score"])


def name_of(line: Line) -> str:
    """A line in a message: ``question '17' of arm 'graph' under distractors=1, order=first``."""
    under = told(line["setting"])
    return f"question {line['id']!r} of arm {line['arm']!r}" + (f" under {under}" if under else "")


def told(setting: Setting) -> str:
    """``distractors=1, order=first``; empty without a setting."""
    return ", ".join(f"{key}={value}" for key, value in sorted(setting.items()))


def without(setting: Setting, *keys: str) -> dict[str, str | int]:
    """A setting without some of its keys, sorted."""
    return {key: setting[key] for key in sorted(setting) if key not in keys}


def _told(line: Line) -> str:
    return f"skipped ({line['skipped']})" if "skipped" in line else f"{line['answer']!r} (score {line['score']})"


def _place(line: Line, arms: Sequence[str], *leave_out: str) -> tuple[Any, ...]:
    """What lines are sorted and grouped by: the arm's rank and name, and the setting."""
    arm = line["arm"]
    rank = arms.index(arm) if arm in arms else len(arms)
    return rank, arm, tuple((key, isinstance(value, str), value) for key, value in without(line["setting"], *leave_out).items())


def _cell(lines: list[Line], further: Further | None) -> dict[str, Any]:
    answered = [line for line in lines if "skipped" not in line]
    scores = _by_question(answered)
    asked = Counter(str(line["id"]) for line in lines)
    values = list(scores.values())
    sums = _summed(answered)
    tokens = [float(line["tokens"]["context"]) for line in answered if line.get("tokens")]
    right = math.fsum(values)
    binary = bool(answered) and is_binary([line["score"] for line in answered])
    skipped = Counter(line["skipped"].partition(":")[0] for line in lines if "skipped" in line)
    seeds = {seed: mean(some) for seed, some in _by(answered, lambda line: str(line["setting"][SEED]) if SEED in line["setting"] else None).items()}
    return {
        "arm": lines[0]["arm"],
        "setting": without(lines[0]["setting"], SEED),
        "lines": len(lines),
        "questions": len(asked),
        "answered": len(scores),
        "right": _number(right),
        **_interval(values),
        "wilson": [_number(bound) for bound in wilson(min(right, len(values)), len(values))] if binary else None,
        "mean_all": _number(mean([sums.get(id, 0.0) / count for id, count in asked.items()])),
        "sd": _number(stdev(seeds.values())) if len(seeds) > 1 else None,
        "by_seed": {seed: _number(value) for seed, value in seeds.items()},
        "by_type": _by_type(lines),
        "tokens": _number(mean(tokens)) if tokens else None,
        "further": {name: _number(value) for name, value in sorted(further(answered).items())} if further is not None and answered else {},
        "skipped": dict(sorted(skipped.items())),
        "reasons": _reasons(lines),
    }


def _interval(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"mean": None, "low": None, "high": None}
    low, high = bootstrap(values)
    return {"mean": _number(mean(values)), "low": _number(low), "high": _number(high)}


def _summed(answered: Iterable[Line]) -> dict[str, float]:
    return {id: math.fsum(some) for id, some in _by(answered, lambda line: str(line["id"])).items()}


def _by_question(answered: Iterable[Line]) -> dict[str, float]:
    """Each answered question's mean over its seeds."""
    return {id: mean(some) for id, some in _by(answered, lambda line: str(line["id"])).items()}


def _by(lines: Iterable[Line], key: Callable[[Line], str | None]) -> dict[str, list[float]]:
    """Scores by a key, whose None is left out; whole numbers are sorted as such."""
    found: dict[str, list[float]] = {}
    for line in lines:
        name = key(line)
        if name is not None:
            found.setdefault(name, []).append(float(line["score"]))
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def _natural(text: str) -> tuple[bool, int, str]:
    whole = text.isascii() and text.isdigit() and len(text) < 19
    return not whole, int(text) if whole else 0, text


def _by_type(lines: Sequence[Line]) -> dict[str, Any]:
    """Empty where there are no types."""
    types = sorted({str(line["type"]) for line in lines}, key=_natural)
    if types == [""]:
        return {}
    found = {}
    for type in types:
        some = [line for line in lines if str(line["type"]) == type]
        values = list(_by_question(line for line in some if "skipped" not in line).values())
        found[type] = {"questions": len({str(line["id"]) for line in some}), "answered": len(values), **_interval(values)}
    return found


def _reasons(lines: Iterable[Line]) -> dict[str, int]:
    """Why lines were skipped, the commonest first; what is beyond the first few is counted together."""
    told = Counter(_reason(line["skipped"]) for line in lines if "skipped" in line)
    counts = sorted(told.items(), key=lambda item: (-item[1], item[0]))
    others = sum(count for _, count in counts[_REASONS:])
    return dict(counts[:_REASONS]) | ({_OTHERS: others} if others else {})


def _reason(skipped: str) -> str:
    """How much memory was free is another number whenever a run goes on: it would be other bytes."""
    return re.sub(r"\d[\d,.]*", "…", skipped) if skipped.startswith("memory:") else skipped


def _gap(lines: Sequence[Line]) -> dict[str, Any] | None:
    """Last minus first, on the questions answered both times under one seed; None where the order was never changed."""
    if {line["setting"][ORDER] for line in lines} != {FIRST, LAST}:
        return None
    sides: dict[str, dict[tuple[str, Any], Line]] = {FIRST: {}, LAST: {}}
    for line in lines:
        if "skipped" not in line:
            sides[line["setting"][ORDER]][str(line["id"]), line["setting"].get(SEED)] = line
    pairs = [(first, sides[LAST][key]) for key, first in sides[FIRST].items() if key in sides[LAST]]
    firsts, lasts = (_by_question(pair[side] for pair in pairs) for side in (0, 1))
    head = {"arm": lines[0]["arm"], "setting": without(lines[0]["setting"], SEED, ORDER), "questions": len(firsts), "pairs": len(pairs)}
    same = sum(first["answer"] == last["answer"] for first, last in pairs)
    if not pairs:
        return {**head, "first": None, "last": None, "gap": None, "low": None, "high": None, "score_interval": None, "same_answers": 0}
    differences = [lasts[id] - firsts[id] for id in firsts]
    low, high = paired_bootstrap(differences)
    by_seed: dict[str, list[float]] = {}
    for first, last in pairs:
        by_seed.setdefault(str(first["id"]), []).append(float(last["score"]) - float(first["score"]))
    return {
        **head,
        "first": _number(mean(list(firsts.values()))),
        "last": _number(mean(list(lasts.values()))),
        "gap": _number(mean(differences)),
        "low": _number(low),
        "high": _number(high),
        "score_interval": [_number(bound) for bound in paired_score_interval(list(by_seed.values()))],
        "same_answers": same,
    }


def _number(value: float) -> float | None:
    """Six digits, which hide what the order of additions does; None for what JSON cannot hold."""
    return round(float(value), 6) + 0.0 if math.isfinite(value) else None


def cells_by(result: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The cells of a result by arm, both in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in result["cells"]:
        found.setdefault(cell["arm"], []).append(cell)
    return found
