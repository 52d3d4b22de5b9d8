"""The options that retrieve: which segments of a graph a question needs, and how far around them to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphkv.cli.common import quiet
from graphkv.errors import InputError

if TYPE_CHECKING:
    from graphkv.engine import GraphKV
    from graphkv.graph import SegmentGraph
    from graphkv_retrieval import Retriever

Retrieve = Annotated[int | None, typer.Option("--retrieve", metavar="K", help="Read only the K segments that fit the question best, and what --expand adds.", min=1, show_default=False)]
Index = Annotated[Path | None, typer.Option("--index", help="With --retrieve: a folder that `graphkv index` wrote; BM25 made on the spot without it.", show_default=False)]
Expand = Annotated[str, typer.Option("--expand", help="With --retrieve: none, hops (what the found segments read and are read by), ppr (personalised PageRank).")]
ExpandHops = Annotated[int, typer.Option("--expand-hops", help="With --expand hops: how many edges away.", min=1)]
ContextTokens = Annotated[int | None, typer.Option("--context-tokens", help="With --retrieve: the most tokens of all segments together; with --expand ppr the model's window without it.", min=1, show_default=False)]


@dataclass(frozen=True)
class Retrieval:
    """How to choose the part of a graph that a question reads."""

    k: int
    index: Path | None
    expand: str
    hops: int
    max_tokens: int | None

    def apply(self, engine: GraphKV, graph: SegmentGraph, question: str) -> SegmentGraph:
        """The part of `graph` for one question, scored, so that graph_topk and graph_hops can rank it."""
        from graphkv_retrieval import retrieve

        # PageRank reaches everything that hangs together: it needs an end.
        most = self.max_tokens or (engine.model.window if self.expand == "ppr" else None)
        settings = {"expand": self.expand, "hops": self.hops, "max_tokens": most}
        return retrieve(graph, question, self.k, retriever=self._retriever(engine, graph), count=engine.reader.count, **settings)  # type: ignore[arg-type]

    def _retriever(self, engine: GraphKV, graph: SegmentGraph) -> Retriever | None:
        from graphkv_retrieval import open_index

        if self.index is None:
            return None
        with quiet(f"opening {self.index}"):
            return open_index(self.index, graph, model=engine.model)


def retrieval_of(k: int | None, index: Path | None, expand: str, hops: int, max_tokens: int | None) -> Retrieval | None:
    """The options as one value; None where everything is read.

    Raises:
        InputError: an option that only means something with --retrieve.
    """
    if k is None:
        given = [name for name, on in (("--index", index), ("--expand", expand != "none"), ("--context-tokens", max_tokens)) if on]
        if given:
            raise InputError(f"{given[0]} says how to retrieve: it needs --retrieve K")
        return None
    return Retrieval(k, index, expand, hops, max_tokens)
