"""What the verbs of the question-answering benchmarks share: their options, and how a run is made, shown or only planned."""

from __future__ import annotations

import inspect
import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from graphkv.cli.common import load_engine, print_json, quiet
from graphkv.errors import InputError

if TYPE_CHECKING:
    from graphkv_benchmarks.runner.case import Task
    from graphkv_benchmarks.runner.plan import Plan
    from graphkv_benchmarks.runner.run import Report

Data = Annotated[Path | None, typer.Option("--data", help="The data set's folder as it is released, or one above it.", show_default=False)]
Arms = Annotated[str | None, typer.Option("--arms", metavar="A,B", help="Layouts and strategies, each with options behind colons: sequential,graph:rounds=2.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="config.yaml, predictions.jsonl, metrics.json and report.md go here. Given again, the run goes on.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Only the first N rows or ego graphs.", min=1, show_default=False)]
Shard = Annotated[str | None, typer.Option("--shard", metavar="I/N", help="Only the Ith of N parts, 1/N to N/N; `graphkv bench merge` puts them together.", show_default=False)]
Workers = Annotated[int, typer.Option("--workers", help="Processes that share the cores.", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print tokens, KV bytes and FLOPs by arm, and what does not fit; nothing is run, no weights are read.")]
MaxNewTokens = Annotated[int | None, typer.Option("--max-new-tokens", help="In place of the task's own cap.", min=1, show_default=False)]
MaxMemory = Annotated[float | None, typer.Option("--max-memory", metavar="GIB", help="Keys and values of one question at most; a question that needs more is skipped and counted (infini_retri never holds more than a window).", show_default="40% of what is free")]
Prompt = Annotated[
    str | None, typer.Option("--prompt", metavar="paper|model", help="The paper's prompt, or the model's own chat template.", show_default="paper; model for the embedded model")
]
AsPublished = Annotated[bool, typer.Option("--as-published", help="With the oddities of the official code, each named in config.yaml.")]
StorePlace = Annotated[
    str | None,
    typer.Option("--store", metavar="PLACE", help="Where encoded segments are kept: a folder or an fsspec address; memory, for one ego graph or row at a time, without it.", show_default=False),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, or auto to spread the model; cuda if there is one.", show_default=False)]
LandmarkModel = Annotated[
    str | None, typer.Option("--landmark-model", metavar="MODEL", help="The model of arm landmark.", show_default="the one of --model; embedded-landmark for the embedded model")
]


def prompt_of(prompt: str | None, model: str | None) -> Literal["paper", "model"]:
    """Whose prompt is used: as said; else the paper's, but the embedded model's own for that one: it knows no other.

    Raises:
        InputError: another name.
    """
    if prompt is None:
        return "model" if model in (None, "embedded", "embedded-landmark") else "paper"
    if prompt not in ("paper", "model"):
        raise InputError(f"--prompt is paper or model, got {prompt!r}")
    return prompt  # type: ignore[return-value]


def numbers_of(option: str, text: str) -> tuple[int, ...]:
    """``"0,1,2"`` as ``(0, 1, 2)``. Raises InputError for anything else, or a number twice."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(f"--{option} needs whole numbers such as 0,1,2, got {text!r}")
    found = tuple(int(part) for part in parts)
    if len(set(found)) != len(found):
        raise InputError(f"--{option} names a number twice: {text}")
    return found


def shard_of(text: str | None) -> tuple[int, int]:
    """``"2/4"`` as ``(2, 4)``; everything is ``(1, 1)``. Raises InputError for anything else."""
    if text is None:
        return 1, 1
    match = re.fullmatch(r"\s*([0-9]+)\s*/\s*([0-9]+)\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"--shard is I/N with I from 1 to N, such as 1/4, got {text!r}")
    return int(match[1]), int(match[2])


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of a verb's arguments those that :func:`run_task` takes; a verb that lacks one fails at once, so that none is forgotten on the way.

    Args:
        given: the verb's ``locals()`` before it has made any of its own.
    """
    wanted = [name for name, parameter in inspect.signature(run_task).parameters.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "prepare"]
    return {name: given[name] for name in wanted}


def run_task(
    task: Task,
    default_arms: Sequence[str],
    *,
    model: str | None = None,
    dtype: str | None = None,
    arms: str | None = None,
    out: Path,
    limit: int | None = None,
    shard: str | None = None,
    workers: int = 1,
    dry_run: bool = False,
    max_new_tokens: int | None = None,
    max_memory: float | None = None,
    store: str | None = None,
    device: str | None = None,
    max_segment_tokens: int | None = None,
    landmark_model: str | None = None,
    as_json: bool = False,
    prepare: Callable[[], object] | None = None,
) -> None:
    """Plan or run a task with what stands on the command line; tables go to stdout, and a line of JSON ends them.

    Args:
        prepare: makes the task's data, where it is made here: called when everything else is known to be in order.

    Raises:
        InputError: an option that cannot be meant, a folder of another run, data that is not there.
    """
    from graphkv_benchmarks.runner.arms import make_arms
    from graphkv_benchmarks.runner.plan import Plan

    names = [part.strip() for part in arms.split(",") if part.strip()] if arms is not None else list(default_arms)
    names = _whole_specs(names)
    make_arms(names)  # a wrong name is said before a model is loaded
    if landmark_model is not None and not any(name.split(":")[0] == "landmark" for name in names):
        raise InputError("--landmark-model is for arm landmark, which is not asked for: add landmark to --arms")
    if max_memory is not None and not 0 < max_memory < math.inf:
        raise InputError(f"--max-memory is a number of GiB above 0, got {max_memory}")
    plan = Plan(
        task=task,
        arms=tuple(names),
        model=model,
        dtype=dtype,
        landmark_model=landmark_model,
        max_segment_tokens=max_segment_tokens,
        max_new_tokens=max_new_tokens,
        max_memory=None if max_memory is None else int(max_memory * 2**30),
        store=store,
        device=device,
        limit=limit,
        shard=shard_of(shard),
        command=shlex.join(["graphkv", *sys.argv[1:]]),
    )
    _check_folder(out, task)
    if prepare is not None:
        prepare()
    if dry_run:
        _dry_run(plan, workers, as_json)
        return
    with quiet("loading"):
        from graphkv_benchmarks.runner.report import summary_table
        from graphkv_benchmarks.runner.run import run
    with _display() as report:
        result = run(plan, out, workers=workers, report=report)
    skipped = sum(sum(cell["skipped"].values()) for cell in result["cells"])
    answered = sum(cell["lines"] for cell in result["cells"]) - skipped
    if skipped or result["broken"]:
        reasons = [reason for cell in result["cells"] for reason in cell["reasons"]] + [f"{row['id']}: {row['reason']}" for row in result["broken"]]
        typer.secho(f"{skipped:,} skipped, {len(result['broken']):,} broken ({reasons[0]}); {out / 'report.md'} has all reasons", fg=typer.colors.YELLOW, err=True)
    if as_json:
        print_json(result)
    else:
        typer.echo(summary_table(result))
        typer.echo(json.dumps({"answered": answered, "skipped": skipped, "broken": len(result["broken"]), "out": str(out)}))
    if not answered:
        raise typer.Exit(1)


def _check_folder(out: Path, task: Task) -> None:
    """Before anything is written: a folder of another benchmark stays as it is. Raises InputError."""
    from graphkv_benchmarks.runner.folder import CONFIG, read_config

    if out.exists() and not out.is_dir():
        raise InputError(f"--out is a folder, and {out} is a file")
    if not (out / CONFIG).exists():
        return
    theirs = read_config(out)["task"]
    named = "-".join(str(theirs[key]) for key in ("kind", "set") if key in theirs)
    if named != task.name:
        raise InputError(f"{out} holds a run of {named}, and this is {task.name}: choose another --out")


def _whole_specs(parts: Sequence[str]) -> list[str]:
    """Arms cut at commas, with the commas of their own options put back: ``hops2:tiers=1,2,2`` is one."""
    found: list[str] = []
    for part in parts:
        if found and ":" in found[-1] and re.fullmatch(r"[0-9.]+", part):
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def _dry_run(plan: Plan, workers: int, as_json: bool) -> None:
    from graphkv.progress import late_progress
    from graphkv_benchmarks.runner.fit import costs

    engine = load_engine(plan.model, plan.dtype, plan.max_segment_tokens, weights=False)
    landmark = None
    if any(arm.strategy == "landmark" for arm in plan.made_arms()) and plan.landmark_name != plan.model:
        landmark = load_engine(plan.landmark_name, plan.dtype, plan.max_segment_tokens, weights=False)
    with late_progress("planning") as progress:
        rows = costs(plan, engine, progress, landmark=landmark, workers=workers)
    if as_json:
        print_json({"task": plan.task.name, "model_window": engine.model.window, "arms": rows})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("arm", "questions", "fit", "mean tokens", "most", "mean KV MiB", "most", "GFLOP of all"):
        table.add_column(column, justify="left" if column == "arm" else "right", overflow="fold", no_wrap=column == "arm")
    for row in rows:
        kv = ("–", "–") if row["kv_bytes_mean"] is None else (f"{row['kv_bytes_mean'] / 2**20:,.1f}", f"{row['kv_bytes_max'] / 2**20:,.1f}")
        flops = "–" if row["flops"] is None else f"{row['flops'] / 1e9:,.1f}"
        table.add_row(row["arm"], f"{row['questions']:,}", f"{row['fit']:,}", f"{row['tokens_mean']:,.0f}", f"{row['tokens_max']:,}", *kv, flops)
    Console().print(table)
    if rows and rows[0]["broken"]:
        typer.echo(f"{rows[0]['broken']:,} rows cannot be read; a run names them in its report")
    for row in rows:
        for reason, count in row["reasons"].items():
            typer.echo(f"{row['arm']}: {count:,} would be skipped" + (f", for example {reason}" if count > 1 else f": {reason}"))


@contextmanager
def _display() -> Iterator[Report]:
    """A bar on stderr if that is a terminal, else a line a unit."""
    if not sys.stderr.isatty():
        yield lambda done, total, said, /: typer.echo(f"[{done}/{total}] {said}", err=True)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total, said, /: bar.update(task, completed=done, total=total, description=escape(said))
