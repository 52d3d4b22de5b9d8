"""`graphkv bench offline`: data sets of invented papers in the released layouts, for machines without a network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from graphkv.errors import InputError, one_of

KINDS = ("arxiv-qa", "rag", "topic-cora", "topic-pubmed")


def offline(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="Which benchmark's layout: arxiv-qa, rag (all seven sets), topic-cora, topic-pubmed.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder; --data of the benchmark takes it.")],
    graphs: Annotated[int | None, typer.Option(help="Ego graphs, with one question each.", min=1, show_default="60, for arxiv-qa")] = None,
    references: Annotated[str | None, typer.Option(metavar="LOW,HIGH", help="Fewest and most papers that a paper cites.", show_default="6,10, for arxiv-qa")] = None,
    rows: Annotated[int | None, typer.Option(help="Questions of each set.", min=1, show_default="100, for rag")] = None,
    words: Annotated[int, typer.Option(help="Least words of a document; 0: facts only, some 40.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Which invented papers.", min=0)] = 1,
) -> None:
    """Make a data set of invented papers, of any length. Given again with the same options, it is left as it is.

    Questions can be answered from the documents and from nothing else. For the released Arxiv-QA's 88k tokens a question: --references 22,22
    --words 3350 (with the embedded model's tokenizer).

    [bold]A session[/bold]

    \b
    $ graphkv bench offline arxiv-qa --graphs 3 --references 2,2 --out invented
    {"kind": "arxiv-qa", "graphs": 3, "references": [2, 2], "words": 0, "seed": 1, "documents": 9, "longest_words": 123, "out": "invented"}
    """
    if kind not in KINDS:
        raise InputError(one_of("data set", kind, KINDS))
    if kind == "rag":
        if graphs is not None or references is not None:
            raise InputError("--graphs and --references are for arxiv-qa; a set of rag has --rows")
        from graphkv_benchmarks.tasks.offline_rag import write_offline_rag

        count = 100 if rows is None else rows
        write_offline_rag(out, rows=count, seed=seed, words=words)
        typer.echo(json.dumps({"kind": kind, "rows": count, "words": words, "seed": seed, "out": str(out)}))
        return
    if rows is not None:
        raise InputError("--rows is for rag; a set of arxiv-qa has --graphs")
    if kind.startswith("topic-"):
        if graphs is not None or references is not None or words:
            raise InputError("a set of papers with classes has --seed only, not --graphs, --references or --words")
        from graphkv_benchmarks.tasks.offline_topic import write_offline_topic

        write_offline_topic(out, kind.removeprefix("topic-"), seed=seed)
        typer.echo(json.dumps({"kind": kind, "seed": seed, "out": str(out)}))
        return
    from graphkv_benchmarks.tasks.offline_arxiv import write_offline_arxiv

    made = write_offline_arxiv(out, graphs=60 if graphs is None else graphs, references=_range(references or "6,10"), words=words, seed=seed)
    shown = {key: made[key] for key in ("graphs", "references", "words", "seed", "documents", "longest_words")}
    typer.echo(json.dumps({"kind": kind, **shown, "out": str(out)}))


def _range(text: str) -> tuple[int, int]:
    """``"6,10"`` as ``(6, 10)``. Raises InputError for anything else."""
    match = re.fullmatch(r"\s*([0-9]+)\s*(?:,\s*([0-9]+)\s*)?", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2] or match[1]):
        raise InputError(f"--references is LOW,HIGH such as 6,10, from 1 up, got {text!r}")
    return int(match[1]), int(match[2] or match[1])
