"""What the embedded model is asked to reach, beside what it reached: ``python -m graphkv_benchmarks.embedded.bars``.

Reads the results of ``graphkv bench citation-world --preset all`` and ``graphkv bench answer-time`` and prints a markdown table. A bar
that is missed stands in it like any other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..citation_bench.tables import share
from ..scoring import paired_difference, wilson

Cell = Mapping[str, Any]

NAMED = {(8, "1 hop"): 99, (8, "2 hops"): 98, (8, "3 hops"): 90, (16, "1 hop"): 97, (16, "2 hops"): 97, (32, "1 hop"): 94, (32, "2 hops"): 94}
BARE = {(8, "1 hop"): 95, (8, "2 hops"): 97, (16, "1 hop"): 90, (16, "2 hops"): 93}
LONG, LONG_COST = 300, 3.0
GAP = 1.0
NOT_FOUND, REFUSED = 95, 1.0
SECONDS = 1.0
HAVE_FACT = 2 / 3
"""A paper has four of six facts on average: whoever does not know the cited paper guesses among so many of the others."""


@dataclass(frozen=True)
class Bar:
    """One line: what was asked for, and what was measured. All as text but `met`."""

    name: str
    wanted: str
    measured: str
    met: bool


class _Cells:
    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells

    def __call__(self, kind: str, documents: int, style: str = "named", arm: str = "graph", words: int = 0) -> Cell:
        """The cell without a set place. Raises KeyError if it was not measured."""
        wanted = {"kind": kind, "documents": documents, "style": style, "arm": arm, "words": words, "place": None}
        found = next((c for c in self.cells if all(c[k] == v for k, v in wanted.items()) and "skipped" not in c), None)
        if found is None:
            raise KeyError(f"not measured: {wanted}; run the whole of --preset all")
        return found


def bars(result: Mapping[str, Any], times: Mapping[str, Any]) -> list[Bar]:
    """Every bar in the order of the card.

    Args:
        result: of ``graphkv bench citation-world --preset all``. times: of ``graphkv bench answer-time`` over 8 documents.

    Raises:
        KeyError: a cell that a bar speaks of was not measured.
    """
    cell = _Cells(result["cells"])
    found = [_least(f"named, {kind}, {documents} documents", cell(kind, documents), least) for (documents, kind), least in NAMED.items()]
    for kind in ("1 hop", "2 hops", "3 hops"):
        short, long = cell(kind, 8), cell(kind, 8, words=LONG)
        cost = 100 * (short["accuracy"] - long["accuracy"])
        found.append(Bar(f"documents of {LONG} words, {kind}", f"costs ≤ {LONG_COST:g} points", f"{cost:.1f} ({share(short)} to {share(long)})", cost <= LONG_COST))
    found += [_least(f"bare, {kind}, {documents} documents", cell(kind, documents, "bare"), least) for (documents, kind), least in BARE.items()]
    found += [_guesses(cell, kind, documents) for documents in (8, 16) for kind in ("1 hop", "2 hops")]
    found += [_not_below(cell, other) for other in ("sequential", "block")]
    found += list(_gaps(result["cells"]))
    found += [bar for style in ("named", "bare", "numbered") for bar in _not_found(cell, style)]
    seconds = times["ways"]["encoded"]["largest"]
    found.append(Bar(f"an answer over {times['settings']['documents']} encoded documents", f"< {SECONDS:g} s", f"{seconds:.2f} s at most", seconds < SECONDS))
    return found


def _least(name: str, cell: Cell, least: float) -> Bar:
    return Bar(name, f"≥ {least:g}", share(cell), 100 * cell["right"] >= least * cell["questions"])


def _guesses(cell: _Cells, kind: str, documents: int) -> Bar:
    """Without the right edges a bare citation leaves a guess: the best of those arms, and what a guess gives."""
    best = max((cell(kind, documents, "bare", arm) for arm in ("block", "pcw", "sequential", "graph-wrong")), key=lambda c: int(c["right"]))
    chance = 100 / (documents - 1) / (1 if kind == "1 hop" else HAVE_FACT)
    name = f"bare, {kind}, {documents} documents, best without the edges ({best['arm']})"
    return Bar(name, f"no more than a guess, {chance:.0f}", share(best), 100 * best["accuracy"] <= chance)


def _not_below(cell: _Cells, other: str) -> Bar:
    """Of hops and 8 to 32 documents, the paired difference whose interval reaches least high; missed if that lies below zero."""
    found: list[tuple[float, float, float, str]] = []
    for documents in (8, 16, 32):
        for kind in ("1 hop", "2 hops", "3 hops"):
            ours, theirs = ([mark == "1" for mark in cell(kind, documents, arm=arm)["outcomes"]] for arm in ("graph", other))
            difference, low, high = (100 * x for x in paired_difference(ours, theirs))
            found.append((difference, low, high, f"{kind}, {documents} documents"))
    difference, low, high, where = min(found, key=lambda cell: cell[2])
    return Bar(f"named, graph minus {other}, worst of 9 cells", "not below 0", f"{difference:+.1f} [{low:+.1f}, {high:+.1f}] ({where})", high >= 0)


def _gaps(cells: Sequence[Cell]) -> Iterator[Bar]:
    for kind in ("1 hop", "2 hops"):
        placed = {c["place"]: c for c in cells if (c["arm"], c["documents"], c["kind"], c["style"], c["words"]) == ("graph", 16, kind, "named", 0)}
        if not {0, 15} <= set(placed):
            raise KeyError(f"not measured: graph, 16 documents, {kind}, first and last place; run the whole of --preset all")
        gap = 100 * (placed[15]["accuracy"] - placed[0]["accuracy"])
        yield Bar(f"gold document last minus first, {kind}, 16 documents", f"≤ {GAP:g} point either way", f"{gap:+.1f}", abs(gap) <= GAP)


def _not_found(cell: _Cells, style: str) -> Iterator[Bar]:
    for documents in (8, 16):
        yield _least(f"no answer in {documents} documents, {style}: says so", cell("unanswerable", documents, style), NOT_FOUND)
        kinds = [cell(kind, documents, style) for kind in ("1 hop", "2 hops", "3 hops")]
        refused, count = sum(c["refused"] for c in kinds), sum(c["questions"] for c in kinds)
        low, high = (100 * x for x in wilson(refused, count))
        name = f"answerable in {documents} documents, {style}: refused"
        yield Bar(name, f"≤ {REFUSED:g}", f"{100 * refused / count:.1f} [{low:.1f}, {high:.1f}]", 100 * refused <= REFUSED * count)


def markdown(found: Sequence[Bar]) -> list[str]:
    """A table, a line a bar."""
    return ["| | wanted | measured | |", "|---|---|---|---|"] + [f"| {b.name} | {b.wanted} | {b.measured} | {'met' if b.met else '**missed**'} |" for b in found]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m graphkv_benchmarks.embedded.bars", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/citation_world.json"))
    parser.add_argument("--times", type=Path, default=Path("benchmarks/results/answer_time.json"))
    args = parser.parse_args(argv)
    try:
        found = bars(*(json.loads(path.read_text(encoding="utf-8")) for path in (args.results, args.times)))
    except (OSError, json.JSONDecodeError, KeyError) as error:
        parser.error(str(error))
    print("\n".join(markdown(found)))


if __name__ == "__main__":
    main()
