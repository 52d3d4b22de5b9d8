"""The tables of a report, as lines of markdown; a table with nothing to show is no lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .arms import EVERY
from .case import Line, Published, Setting
from .folder import PREDICTIONS
from .metrics import ORDER, SEED, cells_by, without

Cell = Mapping[str, Any]
Result = Mapping[str, Any]

DASH = "–"
_MOST = 50  # broken rows that are named


def escape(text: object) -> str:
    """Text as it stands in a cell: on one line, with what markdown would take for its own marked.

    Example:
        >>> escape("a|b\\n*c*")
        'a\\\\|b \\\\*c\\\\*'
    """
    return re.sub(r"([\\`*_\[\]<>|~$#&])", r"\\\1", " ".join(str(text).split()))


def code(text: object) -> str:
    """A name in back quotes, or as plain text where it has some of its own."""
    shown = " ".join(str(text).split())
    return escape(shown) if not shown or set(shown) & set("`|\\") else f"`{shown}`"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Markdown lines; none without a body. The cells are taken as they are."""
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(row) + " |" for row in body)] if body else []


def setting_name(setting: Setting) -> str:
    """A condition in words.

    Example:
        >>> setting_name({"distractors": 1, "order": "first"}), setting_name({})
        ('1 distractor, first', 'all')
    """
    words = []
    for key, value in sorted(setting.items()):
        if key == "distractors":
            words.append(f"{value} distractor{'s' * (value != 1)}")
        else:
            words.append(str(value) if key == ORDER else f"{key} {value}")
    return ", ".join(words) or "all"


def percent(value: float | None) -> str:
    """``28.3``; a dash for None."""
    return DASH if value is None else f"{100 * value:.1f}"


def interval(cell: Cell, other: str = "wilson") -> str:
    """``[17.5, 40.0]``; where the bootstrap has nothing to draw from, the interval of `other` with a dagger."""
    low, high = cell["low"], cell["high"]
    if low is None:
        return ""
    bounds = cell.get(other) if low == high else None
    low, high = bounds or (low, high)
    return f"[{percent(low)}, {percent(high)}]" + ("†" if bounds else "")


def count(value: float) -> str:
    """A whole number as such, another with one decimal."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def share(cell: Cell) -> str:
    """``17 of 60: 28.3 [17.5, 40.0]``, with what it is of all where some were not answered."""
    if not cell["answered"]:
        return f"none of {cell['questions']} answered"
    text = f"{count(cell['right'])} of {cell['answered']}: {percent(cell['mean'])} {interval(cell)}"
    if cell["skipped"]:
        text += f"; answered {cell['answered']} of {cell['questions']}, of all {percent(cell['mean_all'])}"
    return text


def settings_of(result: Result) -> list[dict[str, str | int]]:
    """The conditions in order."""
    found: list[dict[str, str | int]] = []
    for cell in result["cells"]:
        if cell["setting"] not in found:
            found.append(cell["setting"])
    return sorted(found, key=lambda setting: [(key, isinstance(value, str), value) for key, value in setting.items()])


def scores(result: Result) -> list[str]:
    """Arms × settings."""
    columns = settings_of(result)
    body = []
    for arm, cells in cells_by(result).items():
        by_setting = {setting_name(cell["setting"]): share(cell) for cell in cells}
        body.append([code(arm), *(by_setting.get(setting_name(setting), DASH) for setting in columns)])
    return table(["arm", *(escape(setting_name(setting)) for setting in columns)], body)


def gaps(result: Result) -> list[str]:
    """First, last, and the difference."""
    body = []
    for gap in result["gaps"]:
        difference = DASH if gap["gap"] is None else f"{100 * gap['gap']:+.1f} {signed(gap)}"
        same = f"{gap['same_answers']} of {gap['pairs']}"
        body.append([code(gap["arm"]), escape(setting_name(gap["setting"])), str(gap["questions"]), percent(gap["first"]), percent(gap["last"]), difference, same])
    return table(["arm", "setting", "questions", "first", "last", "last − first", "same answer"], body)


def signed(gap: Cell) -> str:
    """``[-3.3, +10.0]``, of a difference; where the bootstrap has nothing to draw from, its `score_interval` with a dagger."""
    bounds = gap["score_interval"] if gap["low"] == gap["high"] else None
    low, high = bounds or (gap["low"], gap["high"])
    return f"[{100 * low:+.1f}, {100 * high:+.1f}]" + ("†" if bounds else "")


def by_seed(result: Result) -> list[str]:
    """Seeds apart, where there are several."""
    seeds = list(dict.fromkeys(seed for cell in result["cells"] if len(cell["by_seed"]) > 1 for seed in cell["by_seed"]))
    body = [
        [*_where(cell), *(percent(cell["by_seed"].get(seed)) for seed in seeds), percent(cell["sd"])]
        for cell in result["cells"]
        if len(cell["by_seed"]) > 1
    ]
    return table(["arm", "setting", *(f"seed {escape(seed)}" for seed in seeds), "standard deviation"], body)


def by_type(result: Result) -> list[str]:
    """Types of questions as columns."""
    types = list(dict.fromkeys(type for cell in result["cells"] for type in cell["by_type"]))
    body = []
    for cell in result["cells"]:
        if cell["by_type"]:
            found = {type: f"{percent(some['mean'])} {interval(some)} ({some['answered']})" if some["answered"] else DASH for type, some in cell["by_type"].items()}
            body.append([*_where(cell), *(found.get(type, DASH) for type in types)])
    return table(["arm", "setting", *(escape(type) or "(none)" for type in types)], body)


def further(result: Result) -> list[str]:
    """Other metrics of the task."""
    names = sorted({name for cell in result["cells"] for name in cell["further"]})
    body = [[*_where(cell), *(_decimal(cell["further"].get(name)) for name in names)] for cell in result["cells"] if cell["further"]]
    return table(["arm", "setting", *map(escape, names)], body)


def _decimal(value: float | None) -> str:
    return DASH if value is None else f"{value:.4f}"


def _where(cell: Cell) -> list[str]:
    return [code(cell["arm"]), escape(setting_name(cell["setting"]))]


def by_length(lines: Sequence[Line], arms: Sequence[str]) -> list[str]:
    """Score by the length of what was read, in powers of two."""
    groups: dict[tuple[str, int], list[float]] = {}
    for line in lines:
        if "score" in line and line.get("tokens", {}).get("context"):
            groups.setdefault((line["arm"], int(line["tokens"]["context"]).bit_length() - 1), []).append(line["score"])
    powers = sorted({power for _, power in groups})
    if len(powers) < 2:
        return []
    body = []
    for arm in arms:
        found = [groups.get((arm, power), []) for power in powers]
        if any(found):
            body.append([code(arm), *(f"{100 * sum(some) / len(some):.1f} ({len(some)})" if some else DASH for some in found)])
    return table(["arm", *(f"{2**power:,}–{2 ** (power + 1) - 1:,}" for power in powers)], body)


def times(lines: Sequence[Line], arms: Sequence[str]) -> list[str]:
    """Median seconds to the first token, by how much of the context had been encoded before."""
    groups: dict[tuple[str, tuple[tuple[str, str | int], ...]], dict[str, list[float]]] = {}
    for line in lines:
        if "score" in line and line.get("ttft") is not None and line.get("tokens"):
            place = (line["arm"], tuple(without(line["setting"], SEED, ORDER).items()))
            groups.setdefault(place, {}).setdefault(_reuse(line["tokens"]), []).append(line["ttft"])
    body = []
    for arm, setting in sorted(groups, key=lambda place: (arms.index(place[0]) if place[0] in arms else len(arms), str(place))):
        found = groups[arm, setting]
        body.append([code(arm), escape(setting_name(dict(setting))), *(_seconds(found.get(name, [])) for name in _REUSE)])
    return table(["arm", "setting", *_REUSE], body)


_REUSE = ("nothing reused", "some reused", "nearly all reused")


def _reuse(tokens: Mapping[str, int]) -> str:
    reused, read = tokens.get("reused", 0), max(1, tokens.get("context", 0))
    return _REUSE[0] if not reused else _REUSE[2] if reused >= 0.9 * read else _REUSE[1]


def _seconds(values: Sequence[float]) -> str:
    return f"{median(values):.3g} s ({len(values)})" if values else DASH


def skipped(lines: Sequence[Line], arms: Sequence[str]) -> list[str]:
    """What was not asked, and why: reasons that differ in their numbers only are one, shown as the first of them."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for line in lines:
        if "skipped" in line:
            name = setting_name(without(line["setting"], SEED))
            groups.setdefault((line["arm"], re.sub(r"\d[\d,.]*", "#", line["skipped"]), name), []).append(line["skipped"])
    body = []
    for (arm, _, name), reasons in sorted(groups.items(), key=lambda item: (arms.index(item[0][0]) if item[0][0] in arms else len(arms), item[0])):
        body.append([code(arm), escape(name), str(len(reasons)), escape(min(reasons)) + (" (and others like it)" if len(set(reasons)) > 1 else "")])
    if len(body) > _MOST:
        body = [*body[:_MOST], [DASH, DASH, str(sum(int(row[2]) for row in body[_MOST:])), f"{len(body) - _MOST} more reasons, in {PREDICTIONS}"]]
    return table(["arm", "setting", "questions", "why"], body)


def broken(result: Result) -> list[str]:
    """Rows that could not be read."""
    rows: Sequence[Mapping[str, str]] = result["broken"]
    lines = table(["row", "what is wrong"], [[escape(row["id"]), escape(row["reason"])] for row in rows[:_MOST]])
    return [*lines, "", f"And {len(rows) - _MOST} more, in metrics.json."] if len(rows) > _MOST else lines


def reported(result: Result, rows: Sequence[Published]) -> list[str]:
    """What was published, and after the bar what came out here; methods × settings, the sources below."""
    columns = list(dict.fromkeys(setting_name(row.setting) for row in rows))
    sources = list(dict.fromkeys(row.source for row in rows))
    methods: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        cells = [cell for cell in result["cells"] if cell["arm"] == row.arm and cell["answered"] and row.setting.items() <= cell["setting"].items()]
        ours = "; ".join(f"{percent(cell['mean'])} {interval(cell)}" for cell in cells) or DASH
        value = f"{row.value:g} of {row.of}, {100 * row.value / row.of:.1f}" if row.of else f"{row.value:g}"
        methods.setdefault((row.method, row.arm, row.source), {})[setting_name(row.setting)] = f"{value} / {ours}"
    body = [
        [escape(method), code(arm), *(found.get(name, DASH) for name in columns), str(1 + sources.index(source))] for (method, arm, source), found in methods.items()
    ]
    head = ["method", "our arm", *(f"reported / ours{'' if name == 'all' else ', ' + escape(name)}" for name in columns), "source"]
    return [*table(head, body), *(["", *(f"{number}. {escape(source)}" for number, source in enumerate(sources, start=1))] if body else [])]


def seen(arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each arm may see while it reads the documents."""
    body = []
    for arm in arms:
        layout = arm.get("options", {}).get("layout")
        options = ", ".join(f"{key}={value}" for key, value in arm.get("options", {}).items() if key != "layout")
        body.append([
            code(arm["name"]), escape(arm.get("about", "")), code(layout or arm.get("strategy", "")), escape(options), "yes" if arm.get("query_aware") else "no", *_reading(arm),
        ])  # fmt: skip
    return table(["arm", "what it is", "layout or strategy", "options", "sees the question before it reads", "edges", "uses the ranking by the question"], body)


_ALL_BEFORE = "none: each reads all before it"
_EDGES = {
    "sequential": (_ALL_BEFORE, "no"),
    "block": ("none", "no"),
    "pcw": ("none", "no"),
    "ape": ("none", "no"),
    "graph": ("the data's", "no"),
    "graph_full": ("all pairs", "no"),
    "graph_topk": ("from the ranking", "yes"),
    "graph_hops": ("from the ranking", "yes"),
    "graph_sequential": ("from the ranking", "yes"),
    "full_context": (_ALL_BEFORE, "no"),
    "landmark": ("none: each reads what was fetched of all before it", "no"),
}
"""By layout, or by a strategy that has none: edges, and whether the ranking is used."""


def _reading(arm: Mapping[str, Any]) -> tuple[str, str]:
    """The last two columns of an arm; dashes where nothing is known of it."""
    options, strategy = arm.get("options", {}), arm.get("strategy", "")
    if strategy == "infini_retri":
        return _retrieved(options.get("neighbours", "none"), options.get("read"))
    layout = options.get("layout", strategy)
    edges, ranking = _EDGES.get(layout, (DASH, DASH))
    if layout == "graph_sequential" and options.get("m", 0) >= EVERY:
        edges = "all pairs, and each itself"
    return "none" if options.get("rounds") == 0 else edges, ranking


def _retrieved(neighbours: str, read: str | None) -> tuple[str, str]:
    """Of InfiniRetri: it keeps what its own attention finds, follows edges from there, and reads all that as one text or under a layout, ranked by its attention."""
    read = read or ("plain" if neighbours == "none" else "graph")
    edges, ranking = _EDGES.get("sequential" if read == "plain" else read, (DASH, DASH))
    if ranking == "yes":
        edges, ranking = "from its own ranking", "no: its own, by attention"
    if neighbours != "none":
        more = "sources and targets" if neighbours == "both" else neighbours
        edges = f"the data's: it keeps {more} too" + (", and reads along them" if read == "graph" else f"; then {edges}")
    return edges, ranking
