"""`graphkv ask`: answer a question from a file of documents, by one layout or strategy, or by several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphkv.cli.common import (
    CodecName,
    Dtype,
    Edges,
    Json,
    LayoutOptions,
    MaxSegmentTokens,
    Model,
    StorePlace,
    choose_rows,
    load_engine,
    parse_options,
    print_json,
    read_graph,
    read_rows,
    warm_up,
)
from graphkv.cli.retrieval import ContextTokens, Expand, ExpandHops, Index, Retrieve, retrieval_of
from graphkv.errors import GraphKVError, InputError, LayoutError, one_of

if TYPE_CHECKING:
    from graphkv.engine import GraphKV
    from graphkv.graph import SegmentGraph
    from graphkv.store import Store
    from graphkv.strategy import Answer

COMPARED = ("graph", "graph_full", "block", "pcw", "ape", "sequential")
"""Layouts that ``--compare`` shows when none is named."""


@dataclass(frozen=True)
class Task:
    """One question over one graph; gold answers if the file has them."""

    id: str | None
    graph: SegmentGraph
    question: str
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What one way (a layout, or a strategy) made of one task; `again` is the same question asked a second time, with everything in the store."""

    task: Task
    answer: Answer | None
    again: Answer | None = None
    error: str | None = None

    @property
    def score(self) -> float | None:
        """best_subspan_em, where the gold answers are known; an error counts as wrong."""
        if not self.task.answers:
            return None
        from graphkv_benchmarks.scoring import best_subspan_em

        return best_subspan_em(self.answer.text, self.task.answers) if self.answer else 0.0


def ask(
    docs: Annotated[Path, typer.Argument(help="Documents as JSON Lines, anything that `graphkv build` reads, or a MoreHopQA file.", show_default=False)],
    question: Annotated[str | None, typer.Argument(help="What to ask; rows of a data set bring their own.", show_default=False)] = None,
    layout: Annotated[list[str] | None, typer.Option("--layout", "-l", help="The layout; with --compare it may be given several times.", show_default="graph")] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option("--strategy", "-s", help="graph, full_context, infini_retri, landmark (with --model embedded-landmark); with --compare it may be given several times.", show_default="graph"),
    ] = None,
    option: LayoutOptions = None,
    compare: Annotated[bool, typer.Option("--compare", help="Layouts and strategies side by side, each with a store of its own.")] = False,
    rank: Annotated[str | None, typer.Option(help="Score the documents first: bm25. graph_topk and graph_hops rank by it.", show_default=False)] = None,
    retrieve: Retrieve = None,
    index: Index = None,
    expand: Expand = "none",
    expand_hops: ExpandHops = 1,
    context_tokens: ContextTokens = None,
    model: Model = None,
    dtype: Dtype = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="The longest answer.", min=1, show_default="64")] = None,
    max_segment_tokens: MaxSegmentTokens = None,
    stop: Annotated[list[str] | None, typer.Option(help="End the answer at this string; may be given several times.", show_default=False)] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer while it is made.")] = False,
    limit: Annotated[int | None, typer.Option(help="Of a data set, only the first N rows.", min=1, show_default=False)] = None,
    row: Annotated[int | None, typer.Option(help="Of a data set, only row N (the first is 0).", min=0, show_default=False)] = None,
    edges: Edges = "none",
    store: StorePlace = None,
    codec: CodecName = "exact",
    as_json: Json = False,
) -> None:
    """Answer a question from documents that read one another.

    DOCS holds one document a line: an object with id, text, and if you like title, score and sources, the ids it reads.
    --strategy reads them another way: as one prompt (full_context), window by window with the question in sight (infini_retri), or by
    landmarks (landmark).
    Of a corpus that does not fit, --retrieve reads the best part: the segments that fit the question, and their neighbours in the graph.

    [bold]A session[/bold]

    \b
    $ graphkv ask papers.jsonl "Who is the author of the paper extended by Violet Oak?"
    Jane Sintil
    graph: 0 tokens reused, 466 computed, 3 generated; first token 0.09 s, total 0.10 s
    $ graphkv ask papers.jsonl "Who wrote Ruby Geyser?" --layout grpah
    error: unknown layout 'grpah'; valid: ape, block, graph, graph_full, graph_hops, graph_sequential, graph_topk, pcw, sequential
    """
    ways = ways_of(layout, strategy, parse_options(option), compare)
    if len(ways) > 1 and not compare:
        raise InputError("several layouts or strategies need --compare")
    if stream and (compare or as_json):
        raise InputError("--stream prints plain text: it goes with neither --compare nor --json")
    if stream and not all("layout" in way for way in ways.values()):
        raise InputError("--stream prints an answer of strategy graph; the others answer all at once")
    retrieval = retrieval_of(retrieve, index, expand, expand_hops, context_tokens)
    tasks = _tasks(docs, question, rank, edges, row, limit)
    if stream and len(tasks) > 1:
        raise InputError("--stream answers one question: choose one with --row")
    engine = load_engine(model, dtype, max_segment_tokens, _store(store, codec, compare))
    if retrieval is not None:
        tasks = [replace(t, graph=retrieval.apply(engine, t.graph, t.question)) for t in tasks]
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "stop": stop or None}
    if stream:
        for piece in engine.stream(tasks[0].graph, tasks[0].question, **settings, **next(iter(ways.values()))):
            typer.echo(piece, nl=False)
        typer.echo()
        return
    if compare:
        warm_up(engine)
    results = {name: _run(engine, name, tasks, {**settings, **way}, compare) for name, way in ways.items()}
    if as_json:
        print_json(_as_json(results, ways))
    elif compare:
        _print_comparison(results)
    else:
        _print_answers(next(iter(results.values())))
    if any(outcome.error is not None for outcomes in results.values() for outcome in outcomes):
        raise typer.Exit(1)  # the rest has been answered, but not everything


def _store(place: str | None, codec: str, compare: bool) -> Store:
    """Where encoded documents are kept: the default store, unless layouts are compared, each of which begins with nothing."""
    from graphkv.store import open_store

    if compare and place is not None:
        raise InputError("--compare shows what each layout computes, with an empty store: it takes no --store")
    return open_store("memory" if compare else place, codec=codec)


def ways_of(layouts: Sequence[str] | None, strategies: Sequence[str] | None, options: Mapping[str, Any], compare: bool) -> dict[str, dict[str, Any]]:
    """What is asked of `engine.ask`, by the name that the output shows: a layout of strategy graph, or another strategy.

    Each gets the options that it has; an option that none of them has is an error.
    """
    from graphkv.layouts import layout_options
    from graphkv.strategies import GRAPH, find_strategy

    others = [name for name in strategies or () if name != GRAPH]
    named = list(layouts or ())
    if not named and (not strategies or GRAPH in strategies):
        named = list(COMPARED) if compare and not strategies else [GRAPH]
    elif named and others and GRAPH not in (strategies or ()) and not compare:
        raise InputError(f"--layout is for strategy graph, not for {others[0]}: leave one of them out, or set them side by side with --compare")
    ways: dict[str, dict[str, Any]] = {name: {"layout": name} for name in named}
    valid: dict[str, Any] = {name: layout_options(name) for name in named}
    for name in others:
        ways[name], valid[name] = {"strategy": name}, find_strategy(name).options()
    for key, value in options.items():
        having = [name for name, known in valid.items() if key in known]
        if not having:
            names = sorted({key for known in valid.values() for key in known})
            raise LayoutError(one_of(f"option of {', '.join(ways)}:", key, names or ["none"]))
        for name in having:
            ways[name][key] = value
    return ways


def _tasks(docs: Path, question: str | None, rank: str | None, edges: str, row: int | None, limit: int | None) -> list[Task]:
    if rank not in (None, "bm25"):
        raise InputError(one_of("ranking", rank, ["bm25"]))
    rows = read_rows(docs, edges)
    if rows is None:
        if question is None:
            raise InputError(f'a question is needed: graphkv ask {docs} "..."')
        if row is not None or limit is not None:
            raise InputError(f"--row and --limit are for data sets; {docs} holds documents")
        tasks = [Task(None, read_graph(docs), question)]
    else:
        if question is not None and row is None:
            raise InputError(f"{docs} is a data set whose rows bring their own questions: leave the question out, or choose a row with --row")
        chosen = choose_rows(rows, row, limit)
        tasks = [Task(r.id, r.graph, question or r.question, () if question else r.answers) for r in chosen]
    if rank == "bm25":
        from graphkv_retrieval import score_documents

        tasks = [Task(t.id, score_documents(t.graph, t.question), t.question, t.answers) for t in tasks]
    return tasks


def _run(engine: GraphKV, name: str, tasks: Sequence[Task], settings: dict[str, Any], compare: bool) -> list[Outcome]:
    """Answer every task. When ways are compared, each begins with an empty store, and one that cannot do a task says so and goes on."""
    from graphkv.engine import GraphKV

    if compare:
        engine = GraphKV(engine.model, store="memory", template=engine.template, max_segment_tokens=engine.max_segment_tokens)
    outcomes = []
    for task in _watched(tasks, name):
        try:
            answer = engine.ask(task.graph, task.question, **settings)
            again = engine.ask(task.graph, task.question, **settings) if compare else None
            outcomes.append(Outcome(task, answer, again))
        except GraphKVError as error:
            if not compare and len(tasks) == 1:
                raise
            outcomes.append(Outcome(task, None, error=str(error)))
    return outcomes


def _watched(tasks: Sequence[Task], name: str) -> Any:
    """The tasks, with a progress bar on stderr if there are several."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(tasks, description=name, console=console, transient=True, disable=len(tasks) == 1 or not console.is_terminal)


def _as_json(results: Mapping[str, Sequence[Outcome]], ways: Mapping[str, Mapping[str, Any]]) -> Any:
    """One answer as an object; otherwise a list of them."""

    def entry(name: str, outcome: Outcome) -> dict[str, Any]:
        task = outcome.task
        found: dict[str, Any] = {"strategy": ways[name].get("strategy", "graph"), "layout": ways[name].get("layout"), "question": task.question}
        if task.id is not None:
            found["id"] = task.id
        if outcome.error is not None:
            found["error"] = outcome.error
        if outcome.answer is not None:
            found |= asdict(outcome.answer)
        if outcome.again is not None:
            found["again"] = {"tokens_reused": outcome.again.tokens_reused, "tokens_computed": outcome.again.tokens_computed, "timings": asdict(outcome.again.timings)}
        if outcome.score is not None:
            found |= {"gold": list(task.answers), "best_subspan_em": outcome.score}
        return found

    entries = [entry(name, outcome) for name, outcomes in results.items() for outcome in outcomes]
    return entries[0] if len(entries) == 1 else entries


def _print_answers(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        answer, task = outcome.answer, outcome.task
        if len(outcomes) > 1 or task.answers:
            typer.secho(task.question, bold=True)
        if answer is None:
            typer.secho(f"error: {outcome.error}", fg=typer.colors.RED, err=True)
            continue
        typer.echo(answer.text.strip())
        if task.answers:
            typer.secho(f"gold: {' | '.join(task.answers)}  best_subspan_em {outcome.score:.0f}", fg=typer.colors.GREEN if outcome.score else typer.colors.YELLOW)
        t = answer.timings
        counts = f"{answer.tokens_reused} tokens reused, {answer.tokens_computed} computed, {answer.tokens_generated} generated"
        name = answer.layout if answer.strategy == "graph" else answer.strategy
        read = f"{answer.tokens_read} tokens of documents read{' with the question in sight' if answer.query_aware else ''}, {answer.tokens_kept} kept"
        typer.secho(f"{name}: {read + '; ' if answer.strategy != 'graph' else ''}{counts}; first token {t.first_token:.2f} s, total {t.total:.2f} s", dim=True)
        for note in answer.notes:
            typer.secho(note, dim=True)
        if len(outcomes) > 1:
            typer.echo()
    if len(outcomes) > 1 and all(o.score is not None for o in outcomes):
        mean = sum(o.score or 0.0 for o in outcomes) / len(outcomes)
        typer.secho(f"best_subspan_em {mean:.3f} over {len(outcomes)} rows", bold=True)


def _print_comparison(results: Mapping[str, Sequence[Outcome]]) -> None:
    """One line a layout; over several rows the means."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    several = any(len(outcomes) > 1 for outcomes in results.values())
    scored = all(o.score is not None for outcomes in results.values() for o in outcomes)
    table = Table(title=f"means over {len(next(iter(results.values())))} rows" if several else None)
    table.add_column("layout or\nstrategy")
    table.add_column("answered" if several else "answer", overflow="fold")
    if scored:
        table.add_column("best_subspan_em", justify="right")
    for column in ("tokens\nkept", "tokens\ncomputed", "first\ntoken s", "total s", "again:\nreused", "first\ntoken s"):
        table.add_column(column, justify="right")
    for name, outcomes in results.items():
        done = [(o.answer, o.again) for o in outcomes if o.answer is not None and o.again is not None]
        if several:
            text = Text(f"{len(done)} of {len(outcomes)}")
        else:
            text = Text(done[0][0].text.strip()) if done else Text(f"error: {outcomes[0].error}", style="red")
        cells = [Text(name), text, *([Text(f"{_mean([o.score or 0.0 for o in outcomes]):.3f}")] if scored else [])]
        cells += [
            Text(f"{_mean(values):{form}}" if done else "–")
            for values, form in (
                ([a.tokens_kept for a, _ in done], ".0f"),
                ([a.tokens_computed for a, _ in done], ".0f"),
                ([a.timings.first_token for a, _ in done], ".2f"),
                ([a.timings.total for a, _ in done], ".2f"),
                ([b.tokens_reused for _, b in done], ".0f"),
                ([b.timings.first_token for _, b in done], ".2f"),
            )
        ]
        table.add_row(*cells)
    Console().print(table)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
