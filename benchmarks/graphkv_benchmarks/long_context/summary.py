"""From lines of a journal to cells: how much is right, with an interval, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..scoring import wilson
from .journal import Line

Row = dict[str, Any]


def summarise(lines: Iterable[Line]) -> dict[str, list[Row]]:
    """Two lists of rows.

    ``totals``: one for each strategy, task and length. ``cells``: one for each strategy, task, length and depth, where there are depths.
    Each row holds `questions`, `skipped` (cases beyond the strategy's window, and in `reason` why), `score` (the mean), `interval` (95%
    Wilson), `exact` and `contains`; a total also `tokens_read`, `tokens_kept`, `seconds` (means, a question) and `peak_mb` (the most).
    """
    rows = list(lines)
    depths = [line for line in rows if line["depth"] is not None]
    return {
        "totals": [_row(key, group, costs=True) for key, group in _groups(rows, ("strategy", "task", "length"))],
        "cells": [_row(key, group, costs=False) for key, group in _groups(depths, ("strategy", "task", "length", "depth"))],
    }


def _groups(lines: Sequence[Line], keys: Sequence[str]) -> list[tuple[Row, list[Line]]]:
    """Lines by the values of these keys, in an order that does not depend on when they were answered."""
    found: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        found.setdefault(tuple(line[key] for key in keys), []).append(line)
    ordered = sorted(found.items(), key=lambda item: (item[0][1], item[0][2:], item[0][0]))
    return [(dict(zip(keys, values, strict=True)), sorted(group, key=lambda line: str(line["id"]))) for values, group in ordered]


def _row(key: Row, lines: Sequence[Line], *, costs: bool) -> Row:
    answered = [line for line in lines if "skipped" not in line]
    row: Row = {**key, "questions": len(answered), "skipped": len(lines) - len(answered)}
    if row["skipped"]:
        row["reason"] = next(line["skipped"] for line in lines if "skipped" in line)
    if not answered:
        return row
    right = sum(line["score"] for line in answered)
    # A score between 0 and 1 varies less than one of 0 or 1 with the same mean, so that for shares the interval is on the safe side.
    row |= {"score": round(right / len(answered), 4), "interval": [round(bound, 4) for bound in wilson(right, len(answered))]}
    row |= {name: round(sum(line[name] for line in answered) / len(answered), 4) for name in ("exact", "contains")}
    if costs:
        row |= {name: round(sum(line[name] for line in answered) / len(answered)) for name in ("tokens_read", "tokens_kept")}
        row["seconds"] = round(sum(line["seconds"] for line in answered) / len(answered), 3)
        peaks = [line["peak_mb"] for line in answered if line["peak_mb"] is not None]
        row["peak_mb"] = max(peaks) if peaks else None
    return row
