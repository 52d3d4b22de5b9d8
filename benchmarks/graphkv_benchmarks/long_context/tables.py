"""The tables, in markdown: scores in percent with their 95% Wilson intervals, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .cases import short

Row = Mapping[str, Any]


def share(row: Row) -> str:
    """``98.4 [96.9, 99.2]``; "beyond the window" where no case could be asked, a star where some could not."""
    if not row["questions"]:
        return "beyond the window"
    low, high = row["interval"]
    return f"{100 * row['score']:.1f} [{100 * low:.1f}, {100 * high:.1f}]" + ("*" if row["skipped"] else "")


def markdown(result: Mapping[str, Any]) -> str:
    """A table a task, lengths as columns; then the costs; then what was left out and why."""
    totals: Sequence[Row] = result["totals"]
    lines: list[str] = []
    for task in dict.fromkeys(row["task"] for row in totals):
        rows = [row for row in totals if row["task"] == task]
        lines += ["", f"### {task}", "", *_by_length(result, rows)]
    lines += ["", "### Cost", "", *costs(result)]
    if any(row["skipped"] for row in totals):
        lines += ["", "### Left out", "", *left_out(totals)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _by_length(result: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    lengths = sorted({row["length"] for row in rows})
    counts = {length: max(row["questions"] for row in rows if row["length"] == length) for length in lengths}
    head = ["strategy", *(f"{short(length)} (n = {counts[length]})" for length in lengths)]
    body = []
    for name in result["strategies"]:
        by_length = {row["length"]: share(row) for row in rows if row["strategy"] == name}
        body.append([f"`{name}`", *(by_length.get(length, "") for length in lengths)])
    return table(head, body)


def costs(result: Mapping[str, Any]) -> list[str]:
    """A row for each strategy and length: what one question cost, over all tasks."""
    body = []
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in result["totals"]:
        if row["questions"]:
            groups.setdefault((row["strategy"], row["length"]), []).append(row)
    for name, about in result["strategies"].items():
        for length in sorted(length for strategy, length in groups if strategy == name):
            rows = groups[name, length]
            peaks = [row["peak_mb"] for row in rows if row["peak_mb"] is not None]
            body.append([
                f"`{name}`", short(length), "yes" if about["query_aware"] else "no", f"{_mean(rows, 'tokens_read'):,.0f}", f"{_mean(rows, 'tokens_kept'):,.0f}",
                f"{_mean(rows, 'seconds'):.2f}", f"{max(peaks):,.0f}" if peaks else "–",
            ])  # fmt: skip
    return table(["strategy", "tokens", "query-aware", "tokens read", "tokens kept", "seconds a question", "peak MiB"], body)


def _mean(rows: Sequence[Row], key: str) -> float:
    return float(sum(row[key] * row["questions"] for row in rows) / sum(row["questions"] for row in rows))


def left_out(totals: Sequence[Row]) -> list[str]:
    """What was not asked because it does not fit, a line for each strategy and task."""
    lines = []
    for strategy, task in dict.fromkeys((row["strategy"], row["task"]) for row in totals if row["skipped"]):
        rows = [row for row in totals if (row["strategy"], row["task"]) == (strategy, task) and row["skipped"]]
        where = ", ".join(f"{short(row['length'])} ({row['skipped']} cases)" for row in rows)
        lines.append(f"- `{strategy}`, {task}, {where}: {rows[0]['reason']}")
    return lines


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Markdown lines."""
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(row) + " |" for row in body)]
