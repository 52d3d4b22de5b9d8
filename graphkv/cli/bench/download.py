"""`graphkv bench download`: the released data sets from the Hugging Face Hub, pinned to a commit and checked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from graphkv.cli.common import Json, print_json
from graphkv.errors import InputError

_SET = "arxiv-qa, rag (all of Graph-KV's), one of its sets, or longbench-v2; without it the sets are listed."
_REVISION = "A commit, tag or branch; without it the commit that DIR holds, else the newest. With --verify: the commit that it must be."


def download(
    set: Annotated[str | None, typer.Argument(help=_SET, show_default=False)] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="The repository's own paths are kept below it.", show_default="data")] = None,
    revision: Annotated[str | None, typer.Option("--revision", metavar="SHA", help=_REVISION, show_default=False)] = None,
    check: Annotated[bool, typer.Option("--verify", help="Only check what is there against its record; needs no network.")] = False,
    as_json: Json = False,
) -> None:
    """The folders that a benchmark reads, of one commit; each file is checked against what the Hub states before it lands.

    Folders come whole, as the Hub has them, with whatever else lies in them. graphkv_download.json beside the files holds the commit and
    the SHA-256 of every file. Given again, the command takes the same commit, checks every file, names what was changed and fetches what is
    missing.

    [bold]A session[/bold]

    \b
    $ graphkv bench download | grep arxiv-qa
    arxiv-qa      Graph-COM/GraphKV   datahub/arxiv/*
    """
    from graphkv_benchmarks import download as downloads

    if set is None:
        given = [name for name, is_given in (("--to", to is not None), ("--revision", revision is not None), ("--verify", check)) if is_given]
        if given:
            raise InputError(f"{', '.join(given)}: of which set? expected SET, one of {', '.join(downloads.SOURCES)}")
        if as_json:
            print_json({name: asdict(source) for name, source in downloads.SOURCES.items()})
            return
        for name, source in downloads.SOURCES.items():
            typer.echo(f"{name:12}  {source.repo:18}  {' '.join(source.patterns)}")
        return
    place = Path("data") if to is None else to
    found = downloads.verify(set, place, revision=revision) if check else downloads.download(set, place, revision=revision)
    if as_json:
        print_json(asdict(found))
        return
    what = "checked" if check else f"{found.fetched:,} fetched, all checked"
    typer.echo(f"{found.set}: {found.files:,} files, {found.bytes / 1e6:,.1f} MB in {found.folder}, {what}; {found.repo} at {found.revision}")
