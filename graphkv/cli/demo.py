"""`graphkv demo`: the main job on a small cited corpus, from documents to answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphkv.cli.common import Json, Model, load_engine, print_json, warm_up, working

if TYPE_CHECKING:
    from graphkv.engine import GraphKV
    from graphkv.graph import SegmentGraph

LAYOUTS = ("graph", "block", "sequential")


def demo(
    out: Annotated[Path, typer.Option("--out", help="The folder for the pictures.")] = Path("demo_out"),
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Read eight papers that cite each other, and answer five questions about them.

    The papers and every name in them are invented, in the style that the embedded model was trained on. One question
    needs one paper, one hops along a citation that is spelled out, one along a citation that only the edge shows, one
    along two citations, and one has no answer in the papers.

    [bold]A session[/bold]

    \b
    $ graphkv demo
    8 papers, 5 citations; model loaded in 0.4 s
    wrote demo_out/graph.png
    wrote demo_out/mask.png
    wrote demo_out/index.html
    ┏━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━┓
    ┃ question        ┃ graph           ┃ block            ┃ sequential      ┃
    ┡━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━┩
    ...
    │ Who is the      │ ✓ Jane Sintil   │ ✗ not in the     │ ✗ Mia Rasbuk    │
    │ author of the   │                 │ documents        │                 │
    │ paper extended  │                 │                  │                 │
    │ by Violet Oak?  │                 │                  │                 │
    │ two papers;     │                 │                  │                 │
    │ only the edge   │                 │                  │                 │
    │ tells which is  │                 │                  │                 │
    │ the second      │                 │                  │                 │
    ...
    """
    from graphkv.cli.show import write_pictures

    started = time.perf_counter()
    graph, questions = read_demo()
    engine = load_engine(model, None)
    loaded = time.perf_counter() - started
    plan = engine.plan(graph, questions[-1]["question"])
    pictures = write_pictures(graph, plan, out, title="papers.jsonl", question=questions[-1]["question"])
    with working("warming up"):
        warm_up(engine)
    results = {}
    for layout in LAYOUTS:
        with working(f"reading under {layout}"):
            results[layout] = _read(engine, graph, questions, layout)
    total = time.perf_counter() - started
    if as_json:
        print_json({"files": [str(p) for p in pictures], "layouts": results, "seconds": {"load": loaded, "total": total}})
        return
    typer.echo(f"{len(graph)} papers, {len(graph.edges)} citations; model loaded in {loaded:.1f} s")
    for picture in pictures:
        typer.echo(f"wrote {picture}")
    _print_answers(questions, results)
    typer.echo(f"done in {total:.1f} s")


def read_demo() -> tuple[SegmentGraph, list[dict[str, str]]]:
    """The demo's corpus, and its questions with their answers and what each needs."""
    from graphkv.graph import SegmentGraph

    folder = files("graphkv").joinpath("demo")
    questions: list[dict[str, str]] = json.loads(folder.joinpath("questions.json").read_text(encoding="utf-8"))
    with as_file(folder.joinpath("papers.jsonl")) as path:
        return SegmentGraph.from_jsonl(path), questions


def _read(engine: GraphKV, graph: SegmentGraph, questions: list[dict[str, str]], layout: str) -> dict[str, Any]:
    """Encode the papers, then ask; each layout begins with an empty store."""
    from graphkv.engine import GraphKV

    fresh = GraphKV(engine.model, store="memory", template=engine.template)
    begin = time.perf_counter()
    encoded = fresh.encode(graph, layout=layout)
    seconds = time.perf_counter() - begin
    answers = []
    for item in questions:
        answer = fresh.ask(graph, item["question"], layout=layout, max_new_tokens=24)
        text = answer.text.strip()
        answers.append(
            {
                "text": text,
                "right": text.rstrip(".") == item["answer"],
                "tokens_reused": answer.tokens_reused,
                "tokens_computed": answer.tokens_computed,
                "first_token": answer.timings.first_token,
                "total": answer.timings.total,
            }
        )
    return {"tokens_encoded": encoded.tokens_computed, "encode_seconds": seconds, "answers": answers}


def _print_answers(questions: list[dict[str, str]], results: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    table.add_column("question", ratio=5)
    for layout in results:
        table.add_column(layout, ratio=3)
    for i, item in enumerate(questions):
        cells = [Text.assemble(item["question"], "\n", (item["needs"], "dim"))]
        for result in results.values():
            answer = result["answers"][i]
            cells.append(Text.assemble(("✓ " if answer["right"] else "✗ ", "green" if answer["right"] else "red"), answer["text"] or "(nothing)"))
        table.add_row(*cells)
    rows: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
        ("papers encoded once", lambda r: f"{r['tokens_encoded']} tokens, {r['encode_seconds']:.2f} s"),
        ("then, for each question: reused", lambda r: f"{_mean(r, 'tokens_reused'):.0f} tokens"),
        ("computed", lambda r: f"{_mean(r, 'tokens_computed'):.0f} tokens"),
        ("first token, whole answer", lambda r: f"{_mean(r, 'first_token'):.2f} s, {_mean(r, 'total'):.2f} s"),
    )
    for label, cell in rows:
        table.add_row(Text(label, style="dim"), *(Text(cell(result)) for result in results.values()))
    Console().print(table)


def _mean(result: dict[str, Any], key: str) -> float:
    values = [answer[key] for answer in result["answers"]]
    return float(sum(values) / len(values))
