"""`graphkv bench download`: the released data sets from the Hugging Face Hub, pinned to a commit and checked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.common import Json, print_json


def download(
    set: Annotated[str | None, typer.Argument(help="arxiv-qa, rag (all of Graph-KV's), one of its sets, or longbench-v2; without it the sets are listed.", show_default=False)] = None,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The repository's own paths are kept below it.")] = Path("data"),
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="SHA", help="A commit, tag or branch; without it the commit that DIR holds, else the newest.", show_default=False)
    ] = None,
    check: Annotated[bool, typer.Option("--verify", help="Only check what is there against its record; needs no network.")] = False,
    as_json: Json = False,
) -> None:
    """Only the files that a benchmark reads, of one commit; each is checked against what the Hub states before it lands.

    graphkv_download.json beside the files holds the commit and the SHA-256 of every file. Given again, the command takes the same
    commit, checks every file, names what was changed and fetches what is missing.

    [bold]A session[/bold]

    \b
    $ graphkv bench download | grep arxiv-qa
    arxiv-qa      Graph-COM/GraphKV   datahub/arxiv/*
    """
    from graphkv_benchmarks import download as downloads

    if set is None:
        if as_json:
            print_json({name: {"repo": source.repo, "patterns": source.patterns, "layout": source.layout} for name, source in downloads.SOURCES.items()})
            return
        for name, source in downloads.SOURCES.items():
            typer.echo(f"{name:12}  {source.repo:18}  {' '.join(source.patterns)}")
        return
    found = downloads.verify(set, to) if check else downloads.download(set, to, revision=revision)
    if as_json:
        print_json(asdict(found))
        return
    what = "checked" if check else f"{found.fetched:,} fetched, all checked"
    typer.echo(f"{found.set}: {found.files:,} files, {found.bytes / 1e6:,.1f} MB in {found.folder}, {what}; {found.repo} at {found.revision}")
