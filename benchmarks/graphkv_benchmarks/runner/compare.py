"""Two runs, or two arms of one, question by question: paired differences with intervals, McNemar's test, and what only one of them has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphkv.errors import InputError, one_of

from .case import Line
from .folder import CONFIG, PREDICTIONS, decisive, read_config
from .intervals import holm, is_binary, mcnemar, mean, paired_bootstrap, paired_score_interval, sign_flip
from .metrics import SEED, name_of, unique, without
from .predictions import read_lines
from .report_tables import DASH, code, escape, percent, setting_name, signed, table

_ANOTHER_TEST = ("kind", "set", "as_published", "answers", "digest")
"""Of a task's settings those that make another benchmark of it; other differences are named, not refused."""


@dataclass(frozen=True)
class Side:
    """A run, or one arm of it, as it takes part in a comparison.

    Attributes:
        folder: of the run. arm: the only one that counts; None for all. config: of the run. lines: one a question, without broken rows.
    """

    folder: Path
    arm: str | None
    config: Mapping[str, Any]
    lines: Sequence[Line]

    @property
    def arms(self) -> list[str]:
        """The arms that were run, in the run's order."""
        return [arm["name"] for arm in self.config["arms"]]


def read_side(spec: str) -> Side:
    """A side from ``DIR`` or ``DIR:arm``; colons of a folder's own name are told apart by what is there.

    Raises:
        InputError: no such folder, no run in it, or no such arm.

    Example:
        >>> read_side("runs/x:graph:rounds=2").arm  # doctest: +SKIP
        'graph:rounds=2'
    """
    folder, arm = _split(spec)
    config = read_config(folder)
    if arm is not None and arm not in (names := [each["name"] for each in config["arms"]]):
        raise InputError(f"{folder}: {one_of('arm', arm, names)}")
    return Side(folder, arm, config, unique(read_lines(folder / PREDICTIONS)))


def _split(spec: str) -> tuple[Path, str | None]:
    if spec and Path(spec).is_dir():
        return Path(spec), None
    places = [place for place, letter in enumerate(spec) if letter == ":"]
    for place in reversed(places):  # the longest name that is a folder's
        if (Path(spec[:place]) / CONFIG).exists() and spec[place + 1 :]:
            return Path(spec[:place]), spec[place + 1 :]
    raise InputError(f"{spec!r} is neither the folder of a run nor such a folder, a colon and an arm: expected for example runs/x or runs/x:graph")


def compare(a: Side, b: Side) -> dict[str, Any]:
    """B minus A on the questions that both answered, by arm and setting.

    Pairs are made by setting (with its seed) and id. A question's difference is its mean over seeds, and the interval (95%, paired bootstrap)
    is over questions. The test is McNemar's exact one where scores are 0 and 1 and each question has one answer; where seeds are pooled, or scores lie
    between, its generalisation: random signs of the questions' differences.

    Returns:
        A dictionary that can be written as JSON::

            task, metric, a, b (folder, arm, model, dtype), differing (settings that are not equal)
            cells: arm_a, arm_b, setting, questions, pairs, mean_a, mean_b, difference, low, high, score_interval (Agresti and Min, over questions),
                only_a, only_b (answered by one only: skipped by the other or not in its file), neither, b, c (questions on which A is better, B is better: McNemar's b and c), test ("mcnemar", "sign-flip"), p, p_holm
            left_out: arm, setting, run: cells that one of the two does not have

    Raises:
        InputError: not the same benchmark (task, data, metric), or nothing that both have.
    """
    from ..tasks import task_from

    tasks = [task_from(side.config["task"]) for side in (a, b)]
    for what, theirs in (("task", [task.name for task in tasks]), ("metric", [task.metric for task in tasks]), *_settings(a, b)):
        if theirs[0] != theirs[1]:
            raise InputError(f"these are not runs of one benchmark: {what} is {theirs[0]!r} in {a.folder} and {theirs[1]!r} in {b.folder}")
    cells, left_out = _cells(a, b)
    if not cells:
        raise InputError(f"nothing to compare: {_told(a)} and {_told(b)} have no arm and setting in common; two arms are compared as {a.folder}:ARM {b.folder}:ARM")
    tested = [cell for cell in cells if cell["p"] is not None]
    for cell, adjusted in zip(tested, holm([cell["p"] for cell in tested]), strict=True):
        cell["p_holm"] = adjusted
    return {
        "task": tasks[0].name,
        "metric": tasks[0].metric,
        "a": _about(a),
        "b": _about(b),
        "differing": _apart(a, b),
        "cells": [{key: value if key.startswith("p") else _rounded(value) for key, value in cell.items()} for cell in cells],
        "left_out": left_out,
    }


def _rounded(value: Any) -> Any:
    """Six digits, as in metrics.json."""
    return [_rounded(each) for each in value] if isinstance(value, list) else round(value, 6) + 0.0 if isinstance(value, float) else value


def _settings(a: Side, b: Side) -> list[tuple[str, list[Any]]]:
    return [(key, [side.config["task"].get(key) for side in (a, b)]) for key in _ANOTHER_TEST]


def _told(side: Side) -> str:
    return f"{side.folder} (arms {side.arm or ', '.join(side.arms)})"


def _about(side: Side) -> dict[str, Any]:
    return {"folder": str(side.folder), "arm": side.arm, "model": side.config.get("model"), "dtype": side.config.get("dtype"), "weights": side.config.get("weights")}


def _apart(a: Side, b: Side) -> list[str]:
    """Everything that decides over the numbers and is not equal, the arms aside, in words."""
    ours, theirs = decisive(a.config), decisive(b.config)
    pairs = {key: (ours[key], theirs[key]) for key in ours if key not in ("arms", "task")}
    keys = dict.fromkeys([*ours["task"], *theirs["task"]])
    pairs |= {f"task's {key}": (ours["task"].get(key), theirs["task"].get(key)) for key in keys}
    pairs = {"model": (a.config.get("model"), b.config.get("model")), **pairs}
    return [f"{key}: {_short(one)} and {_short(other)}" for key, (one, other) in pairs.items() if one != other]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _cells(a: Side, b: Side) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    groups = {"a": _groups(a), "b": _groups(b)}
    pairs = _arm_pairs(a, b)
    cells: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for arm_a, arm_b in pairs:
        ours, theirs = groups["a"].get(arm_a, {}), groups["b"].get(arm_b, {})
        for setting in sorted({*ours, *theirs}):
            if setting in ours and setting in theirs:
                cells.append(_cell(arm_a, arm_b, ours[setting], theirs[setting]))
            else:
                run, arm = ("a", arm_a) if setting in ours else ("b", arm_b)
                left_out.append({"arm": arm, "setting": {key: value for key, _, value in setting}, "run": run})
    paired = {"a": {arm for arm, _ in pairs}, "b": {arm for _, arm in pairs}}
    for name, side in (("a", a), ("b", b)):
        if side.arm is None:
            left_out += [{"arm": arm, "setting": None, "run": name} for arm in side.arms if arm not in paired[name] and arm in groups[name]]
    return cells, left_out


Groups = dict[str, dict[tuple[Any, ...], dict[tuple[str, str], Line]]]


def _groups(side: Side) -> Groups:
    """arm → setting without seed → (id, seed) → line."""
    found: Groups = {}
    for line in side.lines:
        setting = tuple((key, isinstance(value, str), value) for key, value in without(line["setting"], SEED).items())
        place = str(line["id"]), str(line["setting"].get(SEED, ""))
        found.setdefault(line["arm"], {}).setdefault(setting, {})[place] = line
    return found


def _arm_pairs(a: Side, b: Side) -> list[tuple[str, str]]:
    """Which arm of the one meets which of the other; one that is named on one side only meets its like."""
    if a.arm is not None or b.arm is not None:
        return [(a.arm or str(b.arm), b.arm or str(a.arm))]
    return [(arm, arm) for arm in a.arms if arm in b.arms]


def _cell(arm_a: str, arm_b: str, ours: Mapping[tuple[str, str], Line], theirs: Mapping[tuple[str, str], Line]) -> dict[str, Any]:
    ones, others = ({place: line for place, line in lines.items() if "skipped" not in line} for lines in (ours, theirs))
    both = [place for place in ones if place in others]
    for place in both:
        if (ones[place]["gold"], ones[place]["type"]) != (others[place]["gold"], others[place]["type"]):
            raise InputError(
                f"these are not runs of the same data: {name_of(ones[place])} has the gold answers {_short(ones[place]['gold'])} in the one and {_short(others[place]['gold'])} in the other"
            )
    scores: dict[str, list[tuple[float, float]]] = {}
    for place in both:
        scores.setdefault(place[0], []).append((float(ones[place]["score"]), float(others[place]["score"])))
    values = [(mean([one for one, _ in pairs]), mean([other for _, other in pairs])) for pairs in scores.values()]
    differences = [other - one for one, other in values]
    low, high = paired_bootstrap(differences) if differences else (None, None)
    exact = len(both) == len(scores) and is_binary([score for value in values for score in value])
    p = None
    if values:
        p = mcnemar([one for one, _ in values], [other for _, other in values]).p if exact else sign_flip(differences)
    line = next(iter(ours.values()))
    return {
        "arm_a": arm_a,
        "arm_b": arm_b,
        "setting": without(line["setting"], SEED),
        "questions": len(scores),
        "pairs": len(both),
        "mean_a": mean([one for one, _ in values]) if values else None,
        "mean_b": mean([other for _, other in values]) if values else None,
        "difference": mean(differences) if differences else None,
        "low": low,
        "high": high,
        "score_interval": list(paired_score_interval([[other - one for one, other in pairs] for pairs in scores.values()])) if scores else None,
        "only_a": len(ones.keys() - others.keys()),
        "only_b": len(others.keys() - ones.keys()),
        "neither": len((ours.keys() | theirs.keys()) - ones.keys() - others.keys()),
        "b": sum(difference < 0 for difference in differences),
        "c": sum(difference > 0 for difference in differences),
        "test": None if p is None else "mcnemar" if exact else "sign-flip",
        "p": p,
        "p_holm": None,
    }


def markdown(result: Mapping[str, Any]) -> str:
    """The comparison as text with one table.

    Args:
        result: of :func:`compare`.
    """
    cells = result["cells"]
    lines = [f"{result['task']}, {result['metric']}: B minus A", ""]
    lines += [f"- {side.upper()}: {_side(result[side])}" for side in ("a", "b")]
    if result["differing"]:
        lines.append(f"- not equal: {escape('; '.join(result['differing']))}")
    body = []
    for cell in cells:
        arm = code(cell["arm_a"]) if cell["arm_a"] == cell["arm_b"] else f"{code(cell['arm_a'])} → {code(cell['arm_b'])}"
        interval = DASH if cell["difference"] is None else f"{100 * cell['difference']:+.1f} {signed(cell)}"
        better = DASH if cell["p"] is None else f"{cell['b']} / {cell['c']}"
        body.append([
            arm, escape(setting_name(cell["setting"])), str(cell["questions"]), percent(cell["mean_a"]), percent(cell["mean_b"]), interval, better, _p(cell["p"]),
            _p(cell["p_holm"]), f"{cell['only_a']} / {cell['only_b']} / {cell['neither']}",
        ])  # fmt: skip
    head = ["arm", "setting", "questions", "A", "B", "B − A", "better in A / B", "p", "p (Holm)", "answered in A only / B only / neither"]
    lines += ["", *table(head, body), "", "Percent; 95% interval: paired bootstrap over questions; p: McNemar's exact test."]
    if any("†" in row[5] for row in body):
        lines.append("† All differences are equal, which leaves the bootstrap nothing to draw from: the interval of Agresti and Min, over questions.")
    if any(cell["test"] == "sign-flip" for cell in cells):
        lines.append("Where seeds are pooled, or scores lie between 0 and 1, p is that of random signs of the questions' differences, of which McNemar's test is the case of 0 and 1.")
    if len(cells) > 1:
        lines.append(f"{len(cells)} comparisons are shown: by chance alone one of twenty has p below 0.05; p (Holm) allows for that, the intervals do not.")
    if result["left_out"]:
        lines.append("In one run only: " + "; ".join(_left(item) for item in result["left_out"]) + ".")
    return "\n".join(lines) + "\n"


def _side(about: Mapping[str, Any]) -> str:
    arm = f", arm {code(about['arm'])}" if about["arm"] else ""
    return f"{code(about['folder'])}{arm}, model {code(about['model'])}, {escape(about['dtype'])}"


def _left(item: Mapping[str, Any]) -> str:
    where = "" if item["setting"] is None else f" under {escape(setting_name(item['setting']))}"
    return f"{code(item['arm'])}{where} ({item['run'].upper()})"


def _p(p: float | None) -> str:
    return DASH if p is None else "< 0.0001" if p < 0.0001 else f"{p:.4f}"
