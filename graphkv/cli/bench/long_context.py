"""What the verbs of the long-context benchmarks share: their options, where results go, how they are shown."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphkv.cli.common import load_engine, parse_options, print_json
from graphkv.errors import InputError

if TYPE_CHECKING:
    from graphkv_benchmarks.long_context.cases import Context
    from graphkv_benchmarks.long_context.run import Report
    from graphkv_benchmarks.long_context.ways import Way

Strategies = Annotated[
    list[str] | None,
    typer.Option(
        "--strategy", "-s", help="graph, full_context, infini_retri, landmark ...; with options of its own behind a colon (graph:layout=block). May be given several times.",
        show_default="graph full_context",
    ),
]  # fmt: skip
LandmarkModel = Annotated[str | None, typer.Option(metavar="MODEL", help="The model of strategy landmark, which must be trained for it: embedded-landmark, a folder or a hub id.", show_default="the one of --model")]
Lengths = Annotated[str, typer.Option(metavar="N,M", help="Tokens of the whole prompt: 4096, 32k, 1M.")]
Depths = Annotated[int, typer.Option(help="How many depths, from the first sentence to the last.", min=1)]
Seed = Annotated[int, typer.Option(help="Of needles and haystacks.", min=0)]
DocumentTokens = Annotated[int, typer.Option(help="The text as untitled documents of about so many tokens; 0: as a single one.", min=0)]
StrategyOptions = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option for every strategy that has it: window=1024, layout=block ...", show_default=False),
]
Output = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER|FILE.json", help="summary.json and predictions.jsonl in a folder, or FILE.json and FILE.jsonl. Given again, the run goes on.", show_default=False),
]
Plot = Annotated[bool, typer.Option("--plot", help="Draw the heat maps beside the summary, or here as graphkv_bench_....png without --output.")]


def lengths_of(text: str) -> list[int]:
    """``"4k,32k,1M"`` as ``[4096, 32768, 1048576]``.

    Raises:
        InputError: anything else, or the same length twice.
    """
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]+)([kKmM]?)\s*", part)
        if match is None or not int(match[1]):
            raise InputError(f"--lengths needs numbers of tokens such as 4096,32k,1M, got {text!r}")
        found.append(int(match[1]) * {"": 1, "k": 1024, "m": 1024**2}[match[2].lower()])
    if len(set(found)) != len(found):
        raise InputError(f"--lengths names a length twice: {text}")
    return sorted(found)


def places_of(output: Path | None) -> tuple[Path | None, Path | None, Path]:
    """Summary, journal, and the stem of the pictures' names. Raises InputError for a file that is no JSON."""
    if output is None:
        return None, None, Path("graphkv_bench")
    if output.suffix == ".json":
        return output, output.with_suffix(".jsonl"), output.with_suffix("")
    if output.is_file() or output.suffix in (".jsonl", ".md", ".png"):
        raise InputError(f"--output is a folder or the name of a JSON file, got {output}")
    return output / "summary.json", output / "predictions.jsonl", output / "heatmap"


def ways_of(
    strategies: Sequence[str] | None, options: Sequence[str] | None, model: str | None, dtype: str | None, max_segment_tokens: int | None, landmark_model: str | None = None
) -> list[Way]:
    """The strategies with their models. Raises InputError for what there is not, ModelError for a model that cannot be loaded."""
    from graphkv_benchmarks.long_context.ways import make_ways, read_specs

    specs, shared = list(strategies or ("graph", "full_context")), parse_options(options)
    named = {strategy for strategy, _ in read_specs(specs, shared).values()}
    if landmark_model is not None and "landmark" not in named:
        raise InputError("--landmark-model is for strategy landmark, which is not asked for: add --strategy landmark")
    engine = load_engine(model, dtype, max_segment_tokens)
    others = {}
    if landmark_model is not None:
        others["landmark"] = (landmark_model, load_engine(landmark_model, dtype, max_segment_tokens))
    return make_ways(specs, shared, others, (model or "embedded", engine))


def run_and_show(ways: Sequence[Way], contexts: Sequence[Context], plan: Mapping[str, Any], output: Path | None, plot: bool, as_json: bool) -> dict[str, Any]:
    """Run it, write what is to be written, print the tables (or the JSON), and a line of JSON at the end."""
    from graphkv.plot import figure_of
    from graphkv_benchmarks.long_context.pictures import draw_all
    from graphkv_benchmarks.long_context.run import run_contexts
    from graphkv_benchmarks.long_context.tables import markdown

    if plot:
        figure_of(1, 1)  # without matplotlib the run must not begin
    summary, journal, stem = places_of(output)
    with _display() as report:
        result = run_contexts(ways, contexts, plan, journal=journal, output=summary, report=report)
    pictures = draw_all(result, stem) if plot else []
    if as_json:
        print_json(result)
        return result
    typer.echo(markdown(result))
    counts = {key: sum(row[key] for row in result["totals"]) for key in ("questions", "skipped")}
    typer.echo(json.dumps({**counts, "out": None if summary is None else str(summary), "plots": [str(path) for path in pictures]}))
    return result


@contextmanager
def _display() -> Iterator[Report]:
    """A bar on stderr if that is a terminal, else a line a context."""
    if not sys.stderr.isatty():
        yield lambda done, total, lines, /: typer.echo(f"[{done}/{total}] {_said(lines)}", err=True)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total, lines, /: bar.update(task, completed=done, total=total, description=escape(_said(lines)))


def _said(lines: Sequence[Mapping[str, Any]]) -> str:
    from graphkv_benchmarks.long_context.cases import short

    first = lines[0]
    where = f"{first['strategy']}, {first['context'].split('-')[0]}, {short(first['length'])}"
    if "skipped" in first:
        return f"{where}: beyond the window"
    return f"{where}: {sum(line['score'] for line in lines):.3g} of {len(lines)}, {sum(line['seconds'] for line in lines):.2f} s"
