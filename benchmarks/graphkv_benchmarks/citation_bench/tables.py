"""The tables, in markdown. Every number is a percentage of exact answers with its 95% Wilson interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..scoring import paired_difference, wilson
from .arms import ARMS
from .presets import HOPS

Cell = Mapping[str, Any]
Cells = Sequence[Cell]

_PAIRED = ("graph", "block", "pcw", "sequential", "ape", "graph-wrong")
_COLUMNS = (*_PAIRED, "graph-removed")
_CONTROLS = {"graph-wrong": "wrong edges", "graph-removed": "gold removed"}
_REMOVED = "; `graph-removed` asks about one document a world, which is taken out"
_ABLATION = {
    "graph": "edges and shared positions",
    "graph-sequential-positions": "edges, running positions",
    "shared-no-edges": "shared positions, no edges",
    "block": "neither",
} | _CONTROLS
_ROUNDS = {"graph": "1 round", "rounds-1": "1 round", "rounds-2": "2 rounds", "rounds-3": "3 rounds"} | _CONTROLS


def markdown(result: Mapping[str, Any]) -> str:
    """All tables that the cells of a result allow, with a heading and a note each."""
    cells = result["cells"]
    free = [cell for cell in cells if cell["place"] is None]
    answerable = [cell for cell in free if cell["kind"] in (*HOPS, "comparison")]
    ablated = [c for c in answerable if any(o["arm"] in (*_ABLATION, *_ROUNDS) and o["arm"] not in _COLUMNS and _point(o) == _point(c) for o in answerable)]
    removed = any(cell["arm"] == "graph-removed" for cell in answerable)
    parts = [
        ("Exact match", f"The same questions for every layout{_REMOVED if removed else ''}.", _by_arm(answerable, {name: name for name in _COLUMNS})),
        ("`graph` minus the other, in points", "On the same questions, with the 95% interval for pairs (Agresti and Min).", _differences(answerable)),
        ("Questions without an answer", 'Answered "not in the documents"; in brackets how many answerable questions are.', _refusals(free)),
        ("The document with the answer taken out", 'Exact match of the answer that is gone / answered "not in the documents".', _removed(free)),
        ("The place of the gold document", "The same questions, their gold document moved; places count from 1. Gold removed: `graph` in such worlds without the gold document.", _places(cells)),
        ("What edges and shared positions bring", "Edges is the graph's mask; neither is `block`.", _by_arm(ablated, _ABLATION, least=2)),
        ("Rounds", "", _by_arm(ablated, _ROUNDS, least=2)),
        ("Needles", "", _by_arm([cell for cell in free if cell["kind"] == "needle"], {name: name for name in _COLUMNS})),
        ("Left out", "", sorted({f"- {_name(cell)}, {cell['arm']}: {cell['skipped']}" for cell in cells if "skipped" in cell})),
    ]
    notes = [f"- `{arm}`: {about}" for arm, about in result["arms"].items()]
    counts = sorted({cell["questions"] for cell in cells if "questions" in cell})
    head = f"Held-out worlds, greedy, {' or '.join(map(str, counts))} questions a cell, percent [95% Wilson interval]."
    lines = [head, "", *notes]
    for title, note, table in parts:
        if table:
            lines += ["", f"### {title}", *([note] if note else []), "", *table]
    return "\n".join(lines) + "\n"


def share(cell: Cell) -> str:
    """``98.4 [96.9, 99.2]``; a dash where the layout did not fit."""
    if "skipped" in cell:
        return "–"
    return _percent(cell["right"], cell["questions"])


def _percent(right: int, count: int) -> str:
    low, high = wilson(right, count)
    return f"{100 * right / count:.1f} [{100 * low:.1f}, {100 * high:.1f}]" if count else "–"


def _point(cell: Cell) -> tuple[Any, ...]:
    """Where in the grid a cell stands, whatever its arm and place."""
    return (cell["documents"], cell["words"], cell["style"], cell["kind"])


def _worlds(cell: Cell) -> str:
    """``8 documents of 300 words, named``; needles have no citation style."""
    words = f" of {cell['words']} words" if cell["words"] else ""
    style = "" if cell["kind"] == "needle" else f", {cell['style']}"
    return f"{cell['documents']} document{'s' * (cell['documents'] > 1)}{words}{style}"


def _name(cell: Cell) -> str:
    return f"{_worlds(cell)}, {cell['kind']}"


def _order(cell: Cell) -> tuple[Any, ...]:
    return (cell["words"], cell["documents"], ("named", "numbered", "bare").index(cell["style"]), cell["kind"])


def _table(first: str, columns: Sequence[str], rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Markdown lines; columns without any entry are left out. Empty without entries."""
    shown = [column for column in columns if any(column in row for row in rows.values())]
    if not shown:
        return []
    lines = [f"| {first} | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
    return lines + [f"| {name} | " + " | ".join(row.get(column, "") for column in shown) + " |" for name, row in rows.items()]


def _rows(cells: Cells, arms: Mapping[str, str], text: Callable[[Cell], str]) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for cell in sorted(cells, key=_order):
        if cell["arm"] in arms:
            rows.setdefault(_name(cell), {})[arms[cell["arm"]]] = text(cell)
    return rows


def _by_arm(cells: Cells, arms: Mapping[str, str], least: int = 1) -> list[str]:
    """A row a grid point, a column an arm; rows with fewer than `least` entries beside the controls are left out."""
    rows = {name: row for name, row in _rows(cells, arms, share).items() if len(row.keys() - set(_CONTROLS.values())) >= least}
    return _table("questions", list(dict.fromkeys(arms.values())), rows)


def _differences(cells: Cells) -> list[str]:
    graph = {_point(cell): cell for cell in cells if cell["arm"] == "graph" and "skipped" not in cell}

    def text(cell: Cell) -> str:
        theirs = graph.get(_point(cell))
        if theirs is None or "skipped" in cell:
            return "–"
        difference, low, high = paired_difference([mark == "1" for mark in theirs["outcomes"]], [mark == "1" for mark in cell["outcomes"]])
        return f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"

    if not graph:
        return []
    others = {name: name for name in _PAIRED if name != "graph"}
    return _table("questions", list(others), _rows(cells, others, text))


def _refusals(cells: Cells) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        if cell["kind"] != "unanswerable" or "skipped" in cell:
            continue
        beside = [c for c in cells if (*_point(c)[:3], c["arm"]) == (*_point(cell)[:3], cell["arm"]) and c["kind"] in (*HOPS, "comparison") and "skipped" not in c]
        text = share(cell)
        if beside:
            text += f" ({_percent(sum(c['refused'] for c in beside), sum(c['questions'] for c in beside))})"
        rows.setdefault(_worlds(cell), {})[cell["arm"]] = text
    return _table("worlds", list(ARMS), rows)


def _removed(cells: Cells) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for cell in sorted(cells, key=_order):
        if ARMS[cell["arm"]].removed and "skipped" not in cell:
            row = rows.setdefault(_worlds(cell), {})
            row[cell["kind"]] = f"{share(cell)} / {_percent(cell['refused'], cell['questions'])}"
    return _table("worlds", HOPS, rows)


def _places(cells: Cells) -> list[str]:
    """A table for each number of documents, because each has places of its own."""
    placed = [cell for cell in cells if cell["place"] is not None and "skipped" not in cell]
    tables: list[str] = []
    for documents in sorted({cell["documents"] for cell in placed}):
        rows: dict[str, dict[str, str]] = {}
        groups: dict[str, list[Cell]] = {}
        for cell in placed:
            if cell["documents"] == documents:
                groups.setdefault(f"{_name(cell)}, {cell['arm']}", []).append(cell)
        for name, some in sorted(groups.items()):
            some = sorted(some, key=lambda cell: int(cell["place"]))
            first, last = (100 * cell["right"] / cell["questions"] for cell in (some[0], some[-1]))
            rows[name] = {f"place {cell['place'] + 1}": share(cell) for cell in some} | {"last minus first": f"{last - first:+.1f}"}
            removed = [cell for cell in cells if cell["arm"] == "graph-removed" and _point(cell) == _point(some[0]) and "skipped" not in cell]
            if removed:
                rows[name]["gold removed"] = share(removed[0])
        columns = [f"place {place}" for place in range(1, documents + 1)]
        tables += [*([""] if tables else []), *_table("questions", [*columns, "last minus first", "gold removed"], rows)]
    return tables
