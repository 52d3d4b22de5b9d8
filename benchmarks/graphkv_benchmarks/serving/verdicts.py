"""What was wanted of a run, and whether it came: one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FASTER = 5.0
"""How many times sooner the first words of a later question must come."""

TOGETHER = 4.0
"""How many times the throughput of single questions that of questions at once must be."""

GROWTH = 0.03
"""The share by which memory may be larger in the last third than in the first."""


def verdicts(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``{"name", "wanted", "got", "met"}`` for everything that was measured."""
    return [*_answers(result["problems"]), *_first(result["first_token"]), *_load(result["load"]), *_together(result["together"])]


def _line(name: str, wanted: str, got: str, met: bool) -> dict[str, Any]:
    return {"name": name, "wanted": wanted, "got": got, "met": met}


def _answers(problems: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    names = {"first_token": "answers of single clients", "single": "answers before the load", "together": "answers at once", "server": "failures in the server's log"}
    return [_line(names[part], "none is wrong" if part != "server" else "none", _some(found), not found) for part, found in problems.items()]


def _some(problems: Sequence[str]) -> str:
    return f"{len(problems)}: {problems[0]}" if problems else "none"


def _first(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    lines = []
    for row in rows:
        for way in ("second", "reordered", "restarted", "moved"):
            name, wanted = f"{row['tokens']:,} tokens, {way}", f"{FASTER:g} times sooner than the first, all of the context cached"
            found = row["ways"].get(way)
            if found is None or "first" not in row["ways"]:
                lines.append(_line(name, wanted, "nothing came", False))
                continue
            got = f"{found['times_faster']:.1f} times, {found['ttft']:.3f} s, {found['cached_tokens']:,} of {found['prompt_tokens']:,} tokens cached"
            lines.append(_line(name, wanted, got, found["times_faster"] >= FASTER and found["all_cached"]))
    return lines


def _load(load: Mapping[str, Any]) -> list[dict[str, Any]]:
    statuses = ", ".join(f"{status}: {count:,}" for status, count in load["statuses"].items())
    failed = f"{load['failed']}: {load['failures'][0]}" if load["failed"] else f"none ({statuses})"
    different = f"{load['different']}: {load['differences'][0]}" if load["different"] else f"none of {load['answered']:,}"
    lines = [
        _line(f"{load['clients']} clients, errors", "none but 429", failed, not load["failed"] and load["answered"] > 0),
        _line(f"{load['clients']} clients, answers", "none differs from a single client's", different, not load["different"]),
    ]
    memory, wanted = load["memory"], f"at most {GROWTH:.0%} more in the last third than in the first"
    if memory is None:
        return [*lines, _line("memory under load", wanted, "not measured", False)]
    got = f"{memory['first_third_mb']:,.0f} → {memory['last_third_mb']:,.0f} MiB, {memory['slope_mb_a_minute']:+.1f} MiB a minute"
    return [*lines, _line("memory under load", wanted, got, memory["last_third_mb"] <= (1 + GROWTH) * memory["first_third_mb"])]


def _together(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        _line(
            f"{row['questions']} questions at once over {row['context_tokens']:,} tokens, {row['documents']}",
            f"{TOGETHER:g} times the throughput of one at a time",
            f"{row['times_faster']:.2f} times, {row['ways']['at_once']['questions_s']:.1f} questions a second",
            row["times_faster"] >= TOGETHER,
        )
        for row in rows
    ]
