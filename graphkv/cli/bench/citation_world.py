"""`graphkv bench citation-world`: exact match on held-out citation worlds, by layout, citation style, hops, documents and gold position."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from graphkv.cli.common import Dtype, Model, load_engine
from graphkv.errors import InputError

if TYPE_CHECKING:
    from graphkv_benchmarks.citation_bench.cells import Batch


def citation_world(
    model: Model = None,
    preset: Annotated[str, typer.Option(help="table, position, ablation, length, all, or quick (seconds, for trying).")] = "table",
    arms: Annotated[str | None, typer.Option(metavar="A,B", help="Only these columns: graph,block,pcw,sequential,graph-wrong ...", show_default=False)] = None,
    documents: Annotated[str | None, typer.Option(metavar="N,M", help="Documents a world.", show_default=False)] = None,
    styles: Annotated[str | None, typer.Option(metavar="A,B", help="How citations are written: named,numbered,bare.", show_default=False)] = None,
    hops: Annotated[str | None, typer.Option(metavar="N,M", help="1,2,3.", show_default=False)] = None,
    words: Annotated[str | None, typer.Option(metavar="N,M", help="Least words a document; 0: facts only, some 40.", show_default=False)] = None,
    questions: Annotated[int | None, typer.Option(help="Questions a cell: 500, or 24 for quick.", min=1, show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Which held-out worlds.", min=0)] = 1,
    workers: Annotated[int | None, typer.Option(help="Processes, one thread each; one a core without it. The numbers do not depend on it.", min=1, show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="The JSON; .jsonl beside it is the journal, .md the tables.")] = Path("citation_world.json"),
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw citation_place.png and citation_documents.png here.", show_default=False)] = None,
    dtype: Dtype = None,
) -> None:
    """Exact match on invented papers that cite each other; no name of them was in the embedded model's training.

    Every option from --arms to --words replaces that side of the preset's grids. A batch of cells that is done stands in the
    journal: a run that was stopped goes on when the same command is given again. The tables go to stdout, a line of JSON ends them.

    [bold]A session[/bold]

    \b
    $ graphkv bench citation-world --preset quick --arms graph --out quick.json | grep -A 4 "Exact match"
    ### Exact match
    The same questions for every layout.

    | questions | graph |
    |---|---|
    """
    if out.is_dir():
        raise InputError(f"--out is the JSON's name, and {out} is a folder: expected a name such as {out / 'results.json'}")
    if out.suffix in (".jsonl", ".md"):
        raise InputError(f"--out is the JSON's name, its journal and tables go beside it as .jsonl and .md: expected a name such as results.json, got {out}")
    lists = {"arms": _names(arms), "styles": _names(styles), "documents": _numbers("documents", documents), "hops": _numbers("hops", hops), "words": _numbers("words", words)}
    from graphkv_benchmarks.citation_bench.presets import batches_of

    batches = batches_of(preset, questions=questions, **lists)  # type: ignore[arg-type]
    engine = load_engine(model, dtype)
    from graphkv_benchmarks.citation_bench.plots import draw_all
    from graphkv_benchmarks.citation_bench.run import run
    from graphkv_benchmarks.citation_bench.tables import markdown

    with _display(len(batches)) as report:
        result = run(engine, model, batches, seed=seed, workers=workers or os.cpu_count() or 1, journal=out.with_suffix(".jsonl"), report=report)
    tables = markdown(result)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(tables, encoding="utf-8")
    pictures = draw_all(result["cells"], plots) if plots is not None else []
    typer.echo(tables)
    skipped = sum("skipped" in cell for cell in result["cells"])
    summary = {"cells": len(result["cells"]), "skipped": skipped, "seconds": result["seconds"], "out": str(out), "plots": [str(path) for path in pictures]}
    typer.echo(json.dumps(summary))


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _numbers(option: str, text: str | None) -> list[int] | None:
    """``"8,16"`` as ``[8, 16]``. Raises InputError for anything else."""
    names = _names(text)
    if names is not None and not all(name.isascii() and name.isdigit() for name in names):
        raise InputError(f"--{option} needs whole numbers such as 8,16, got {text!r}")
    return None if names is None else [int(name) for name in names]


class _Report(Protocol):
    def __call__(self, done: int, total: int, batch: Batch, cells: list[dict[str, Any]], /) -> None: ...


def _line(batch: Batch, cells: list[dict[str, Any]]) -> str:
    place = "" if batch.place is None else f", gold at {batch.place + 1}"
    words = f" of {batch.words} words" if batch.words else ""
    numbers = ", ".join(f"{cell['kind']} {100 * cell['accuracy']:.1f}" if "accuracy" in cell else f"{cell['kind']} does not fit" for cell in cells)
    return f"{batch.arm}, {batch.documents} {batch.style} documents{words}{place}: {numbers}"


@contextmanager
def _display(total: int) -> Iterator[_Report]:
    """A bar on stderr if that is a terminal, else a line a batch."""
    if not sys.stderr.isatty():
        yield lambda done, total, batch, cells, /: typer.echo(f"[{done}/{total}] {_line(batch, cells)}", err=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, total, batch, cells, /: bar.update(task, completed=done, description=_line(batch, cells))
