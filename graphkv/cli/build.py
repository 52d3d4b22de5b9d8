"""`graphkv build`: from papers, pages and graphs to one file of documents that read one another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphkv.cli.common import Json, Model, print_json, token_counter
from graphkv.cli.part import Direction, Ego, Hops, PathEnds, part_of
from graphkv.errors import InputError
from graphkv.progress import late_progress

if TYPE_CHECKING:
    from graphkv.graph import SegmentGraph
    from graphkv.importers.report import BuildReport

SHOWN = 10
"""Unresolved citations, skips and notes that are printed; ``--report`` has them all."""


def build(
    sources: Annotated[list[Path], typer.Argument(help="Files and folders: LaTeX, BibTeX, S2ORC, unarXive, TEI, GraphML, Markdown, HTML, CSV ...", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write: .jsonl, .graphml, .gexf, .json (node-link) or .csv.")] = Path("graph.jsonl"),
    format: Annotated[str | None, typer.Option(help="What the sources are, where their endings do not say.", show_default=False)] = None,
    edges: Annotated[
        str | None,
        typer.Option(help="Edge policies, by commas: cites, cited_by, co_citation, section_of, next.", show_default="what was found, and sections read the head of their paper"),
    ] = None,
    nearest: Annotated[int | None, typer.Option(help="Also let each segment read its K nearest by BM25.", metavar="K", min=1, show_default=False)] = None,
    mentions: Annotated[bool, typer.Option("--mentions", help="Also let each segment read those whose title it mentions.")] = False,
    references: Annotated[str, typer.Option(help="all: works outside the sources become segments of their printed entry; matched: they do not.")] = "all",
    whole: Annotated[bool, typer.Option("--whole", help="One segment a document, not one a section.")] = False,
    reverse: Annotated[bool, typer.Option("--reverse", help="Edges of graph files run from the reader to what it reads (citing → cited).")] = False,
    edge_pair: Annotated[list[str] | None, typer.Option("--edge", metavar="FIELD=FIELD", help="LangChain documents: metadata that names others, as cites=$id.", show_default=False)] = None,
    ego: Ego = None,
    hops: Hops = None,
    direction: Direction = None,
    path: PathEnds = None,
    max_sources: Annotated[int | None, typer.Option(help="The most sources of one segment; the strongest stay.", min=1, show_default=False)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens that one segment's sources have together, by the model's tokenizer.", min=1, show_default=False)] = None,
    model: Model = None,
    max_file_size: Annotated[str, typer.Option(help="Larger files, and longer lines, are refused.")] = "256MiB",
    report: Annotated[Path | None, typer.Option(help="Write everything that was found, unresolved or skipped to this JSON file.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Build a graph of documents from papers, pages or graphs.

    A cited work's title and abstract are read by each section that cites it. Works are matched by DOI, arXiv id, then title.

    [bold]A session[/bold]

    \b
    $ graphkv build graphkv/demo/latex -o graph.jsonl
    8 records: 8 segments (8 paper); 5 edges (5 cites)
    5 references and links: 5 to records of the sources (5 by title)
    5 in-text citations: 5 resolved
    wrote graph.jsonl
    """
    from graphkv.edges import limit_sources
    from graphkv.export import files_of, write_files, write_graph
    from graphkv.importers import build_graph
    from graphkv.store.place import parse_size

    written = files_of(out)  # refuses an unknown ending before anything is read
    _check_files([*written, *([report] if report else [])], sources)
    pairs = [_pair(text) for text in edge_pair or ()]
    with late_progress("reading files") as progress:
        built = build_graph(
            sources,
            format=format,
            sections=not whole,
            references=references,  # type: ignore[arg-type]  # checked there
            edges=None if edges is None else [name.strip().replace("-", "_") for name in edges.split(",") if name.strip()],
            reverse=reverse,
            edge_pairs=pairs,
            max_bytes=parse_size(max_file_size),
            progress=progress,
        )
    graph = _linked(built.graph, nearest, mentions)
    graph = part_of(graph, ego, hops, direction, path)
    if max_sources is not None or max_tokens is not None:
        graph = limit_sources(graph, max_sources=max_sources, max_tokens=max_tokens, count=token_counter(model) if max_tokens is not None else None)
    built.report.count(graph)
    write_graph(graph, out)
    if report is not None:
        text = json.dumps(built.report.as_json(), ensure_ascii=False, indent=1) + "\n"
        write_files({report: text.encode("utf-8", "backslashreplace")})  # of half a character JSON's own escape is left
    if as_json:
        print_json(built.report.as_json() | {"files": [str(file) for file in written]})
        return
    typer.echo(str(built.report))
    _print_left_out(built.report, report)
    typer.echo(f"wrote {', '.join(map(str, written))}")


def _check_files(files: Sequence[Path], sources: Sequence[Path]) -> None:
    """Raises InputError for a file to write that is a folder, or one of the sources."""
    named = {source.resolve() for source in sources}
    for file in files:
        if file.is_dir():
            raise InputError(f"{file} is a folder: expected the name of a file to write")
        if file.resolve() in named:
            raise InputError(f"{file} is one of the sources and would be overwritten: name another file with --out")
        for folder in named:
            if file.resolve().is_relative_to(folder):
                raise InputError(f"{file} would lie in the source folder {folder} and be read as one of its documents the next time: name a file outside of it")


def _pair(text: str) -> tuple[str, str]:
    field, equals, other = text.partition("=")
    if not equals or not field.strip() or not other.strip():
        raise InputError(f"--edge needs FIELD=FIELD, got {text!r}; for example --edge cites='$id'")
    return field.strip(), other.strip()


def _linked(graph: SegmentGraph, nearest: int | None, mentions: bool) -> SegmentGraph:
    """The graph with the edges that retrieval finds."""
    from graphkv.edges import merge_edges

    if mentions:
        from graphkv_retrieval import mention_edges

        graph = merge_edges(graph, mention_edges(graph))
    if nearest is not None:
        from graphkv_retrieval import nearest_edges

        with late_progress("finding neighbours") as progress:
            graph = merge_edges(graph, nearest_edges(graph, nearest, progress=progress))
    return graph


def _print_left_out(report: BuildReport, file: Path | None) -> None:
    """What a user should know of, a few lines each."""
    groups: dict[str, Sequence[str]] = {
        "unresolved": [f"{u.where}: {u.name} ({u.reason})" for u in report.unresolved],
        "skipped": [f"{s.where}: {s.reason}" for s in report.skipped],
        "note": [f"{s.where}: {s.reason}" for s in report.notes],
    }
    for name, lines in groups.items():
        for line in lines[:SHOWN]:
            typer.secho(f"{name}: {line}", fg=typer.colors.YELLOW, err=True)
        if len(lines) > SHOWN:
            where = f"in {file}" if file is not None else "listed by --report FILE"
            typer.secho(f"{name}: {len(lines) - SHOWN:,} more, {where}", fg=typer.colors.YELLOW, err=True)
