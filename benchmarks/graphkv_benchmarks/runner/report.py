"""report.md: what was run, its tables and pictures, and the numbers that others reported beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphkv.errors import InputError

from . import report_tables as tables
from .case import Line, Published, Task
from .folder import METRICS, PREDICTIONS, REPORT
from .published import BACKBONES, published_for

_SCORES = (
    "Sum of the scores of the questions that were answered, and percent with its 95% interval: bootstrap over questions (10,000 resamples), "
    "and † Wilson's where all scores are equal. With seeds, a question's score is its mean over them."
)
_GAPS = "The same questions, answered with the gold paper first and last; percent, and points with the 95% bootstrap interval for pairs († Agresti and Min's over questions where all differences are equal)."
_TIMES = "Median seconds to the first token (answers), by how much of the context had been encoded for an earlier question or arm; nearly all: nine tenths. Loading of the model is not in them."
_SEEN = (
    "Edges: which documents an arm lets read which. Ranking: whether it orders the documents, or chooses who reads whom, by their scores for the question (where they have none, by the order "
    "that they stand in). That order is the task's and the same for all arms; where the task ranks the documents, it tells of the ranking too."
)
_LENGTH = "Percent (answers), over all settings and seeds of an arm; lengths are the tokens of the documents. In the picture the line goes through the middle of gold first and gold last, which are the small marks."


def write_report(folder: Path, task: Task, result: Mapping[str, Any], lines: Sequence[Line], about: Mapping[str, Any]) -> None:
    """Write report.md, and gap.png and length.png where there is something to show; without matplotlib the report says so.

    Args:
        folder: of the run. result: metrics.json. lines: predictions.jsonl, for lengths and times. about: config.yaml.

    Example:
        >>> write_report(folder, task, result, lines, read_config(folder))  # doctest: +SKIP
    """
    from .pictures import draw_all

    try:
        pictures, missing = draw_all(result, folder), ""
    except InputError as error:
        pictures, missing = [], str(error)
    for name in ("gap.png", "length.png"):
        if folder / name not in pictures:
            (folder / name).unlink(missing_ok=True)  # of a run that was told before
    temporary = folder / f".{REPORT}.part"
    # A name may hold half a character, which UTF-8 has no place for.
    temporary.write_text(markdown(task, result, lines, about, [path.name for path in pictures], missing), encoding="utf-8", errors="backslashreplace")
    temporary.replace(folder / REPORT)


def markdown(task: Task, result: Mapping[str, Any], lines: Sequence[Line], about: Mapping[str, Any], pictures: Sequence[str] = (), missing: str = "") -> str:
    """The report's text; `missing` says why there are no pictures."""
    arms = [arm["name"] for arm in about.get("arms", ())]
    reported = published_for(result["task"])
    parts: list[tuple[str, str, list[str]]] = [
        ("Scores", _SCORES, tables.scores(result)),
        ("First and last", _GAPS, tables.gaps(result)),
        ("Seeds", "Percent under each seed, and the standard deviation of these means.", tables.by_seed(result)),
        ("Types of questions", "Percent [95% interval] (answered).", tables.by_type(result)),
        ("Other metrics", "", tables.further(result)),
        ("Length of the context", _LENGTH, tables.by_length(lines, arms)),
        ("Time to the first token", _TIMES, tables.times(lines, arms)),
        ("Not asked", "", tables.skipped(lines, arms)),
        ("Broken rows", "Left out of everything above.", tables.broken(result)),
        ("Reported by others", _beside(about, reported), tables.reported(result, reported)),
        ("Arms", _SEEN, tables.seen(about.get("arms", ()))),
    ]
    text = [f"# {tables.escape(result['task'])}: {tables.escape(result['metric'])}", "", *_run(result, lines, about)]
    if not result["cells"]:
        text += ["", "No question was asked."]
    for title, note, table in parts:
        if table:
            text += ["", f"## {title}", "", *([note, ""] if note else []), *table]
            if title == "First and last" and "gap.png" in pictures:
                text += ["", "![First against last](gap.png)"]
            if title == "Length of the context" and "length.png" in pictures:
                text += ["", "![Score against the length of the context](length.png)"]
    if "length.png" in pictures and not any("length.png" in line for line in text):
        text += ["", "## Length of the context", "", "![Score against the length of the context](length.png)"]
    if missing:
        text += ["", f"There are no pictures: {tables.escape(missing)}."]
    text += _prompt(about)
    return "\n".join(text) + "\n"


def summary_table(result: Mapping[str, Any]) -> str:
    """The scores of a run and its gaps between first and last, for a terminal; in markdown, as in the report.

    Example:
        >>> print(summary_table(json.load(open("runs/x/metrics.json"))))  # doctest: +SKIP
    """
    shown = [table for table in (tables.scores(result), tables.gaps(result)) if table]
    return "\n\n".join("\n".join(table) for table in shown) or "no question was asked"


def _run(result: Mapping[str, Any], lines: Sequence[Line], about: Mapping[str, Any]) -> list[str]:
    """What was run, as a list."""
    answered, left = sum("score" in line for line in lines), sum("skipped" in line for line in lines)
    questions = len({line["id"] for line in lines if "id" in line})
    settings = {key: value for key, value in about.get("task", {}).items() if key != "kind"}
    told = {
        "model": f"{about.get('model', 'unknown')}, {about.get('dtype', 'unknown')}" + (f", weights {about['weights']}" if about.get("weights") else ""),
        "landmark model": f"{about['landmark_model']}, weights {about.get('landmark_weights')}" if about.get("landmark_model") else "",
        "arms": ", ".join(arm["name"] for arm in about.get("arms", ())),
        "settings": "; ".join(f"{key} {_flat(value)}" for key, value in settings.items()),
        "seeds": _flat(seeds) if (seeds := sorted({line["setting"]["seed"] for line in lines if "seed" in line.get("setting", {})}, key=str)) else "none",
        "answers": f"{answered:,} to {questions:,} questions; {left:,} not asked, broken rows: {len(result['broken']):,}",
        "cut short": f"{cut:,} answers, because the model's window ended before the cap" if (cut := sum("cut" in line for line in lines)) else "",
        "part": "" if about.get("shard") in (None, "1/1") else f"shard {about['shard']}",
        "merged": _merged(about),
        "limit": "" if about.get("limit") is None else f"the first {about['limit']} units",
        "machine": _machine(about),
        "versions": ", ".join(f"{key} {value}" for key, value in about.get("versions", {}).items()),
        "command": about.get("command", ""),
        "time": _time(about),
    }
    listed = [f"- {name}: {tables.escape(text)}" for name, text in told.items() if text]
    return [*listed, f"- every answer: [{PREDICTIONS}]({PREDICTIONS}); every number: [{METRICS}]({METRICS})"]


def _merged(about: Mapping[str, Any]) -> str:
    """Which shards a merged run was made of, and which it lacks."""
    parts = about.get("merged", ())
    if not parts:
        return ""
    lacks = f"; {', '.join(about['missing_shards'])} not among them" if about.get("missing_shards") else ""
    return f"from shards {', '.join(part['shard'] for part in parts)}{lacks}"


def _machine(about: Mapping[str, Any]) -> str:
    """That of the run, or of all its shards."""
    machines = [about["machine"]] if about.get("machine") else [part.get("machine") for part in about.get("merged", ())]
    if any(machine != machines[0] for machine in machines):
        return "several, each with its shard under merged in config.yaml"
    return ", ".join(f"{key} {value}" for key, value in machines[0].items()) if machines and machines[0] else ""


def _time(about: Mapping[str, Any]) -> str:
    """Of a run, or of its shards together, as far as it is known."""
    parts = [part["seconds"] for part in about.get("merged", ()) if part.get("seconds")]
    told = []
    if parts:
        lacks = f" ({len(parts)} of {len(about['merged'])} are known)" if len(parts) < len(about["merged"]) else ""
        told.append(f"{sum(parts) / 60:.1f} minutes, all shards together{lacks}")
    if about.get("seconds"):
        processes = f", {about['workers']} processes" if about.get("workers") else ""
        told.append(f"{about['seconds'] / 60:.1f} minutes{' since they were merged' if about.get('merged') else ''}{processes}")
    return "; ".join(told)


def _flat(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _beside(about: Mapping[str, Any], reported: Sequence[Published]) -> str:
    if not reported:
        return ""
    unit = "Correct answers, then percent; ours after the bar." if reported[0].of else "Percent; ours after the bar."
    data = about.get("task", {}).get("data")
    ours = f"{tables.code(about.get('model', 'unknown'))} on {tables.code(data)}" if data else tables.code(about.get("model", "unknown"))
    return (
        f"{unit} These are not the same experiment: the paper's models are {BACKBONES}, on the released data; ours is {ours}. "
        "A set that was made offline has the released layout, not the released questions. The arm is the one that comes nearest to the method."
    )


def _prompt(about: Mapping[str, Any]) -> list[str]:
    """The wording, in a fence that none of it can close."""
    prompt = about.get("prompt")
    if not isinstance(prompt, Mapping):
        return []
    text = ["", "## Prompt"]
    for name, words in prompt.items():
        fence = "~" * max(3, 1 + max((len(run) for run in str(words).split() if set(run) == {"~"}), default=0))
        text += ["", f"{tables.escape(name)}:", "", fence, str(words), fence]
    return text
