"""GraphKVRetriever: what an index finds for a question, and what stands near it along the edges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor
from pydantic import ConfigDict, Field, model_validator

from graphkv.errors import DocumentError, InputError, check_count, one_of
from graphkv.graph import SegmentGraph
from graphkv.importers.langchain import Pairs
from graphkv.langchain.documents import CITES, graph_of, langchain_documents
from graphkv_retrieval.base import Retriever
from graphkv_retrieval.bm25 import BM25Retriever
from graphkv_retrieval.dense import DenseRetriever
from graphkv_retrieval.embedders import Embedder, load_embedder
from graphkv_retrieval.expand import WAYS, expand
from graphkv_retrieval.folder import METHODS, build_index
from graphkv_retrieval.hybrid import HybridRetriever
from graphkv_retrieval.links import Links


class GraphKVRetriever(BaseRetriever):
    """At most `k` documents: the best hits of an index, and their neighbours along the edges, the nearest first; further hits fill up.

    The documents carry ``metadata["score"]``, ``metadata["hop"]`` (0 for a hit, else edges to the nearest one), and under ``metadata["cites"]`` the ids of
    those that they read, as far as these came back too: so :class:`graphkv.langchain.ChatGraphKV` finds the edges. Without any hit the list is empty.

    Args:
        graph: what is searched. index: of this graph; BM25 by default. :meth:`from_documents` makes both.
        k: how many documents come back, also as an argument of ``invoke``. hits: how many of them are to be hits; all without expansion, else half, rounded up.
        expand: "hops" (neighbours at most `hops` edges away), "ppr" (personalised PageRank), "none". Edges are followed both ways.

    Raises:
        InputError: an index of another graph, an unknown way to expand, or numbers below 1.

    Example:
        >>> retriever = GraphKVRetriever.from_documents([
        ...     {"id": "a", "text": "A river.", "cites": ["b"]}, {"id": "b", "text": "Maples."}, {"id": "c", "text": "Night."},
        ... ], k=2)
        >>> [(document.id, document.metadata["hop"]) for document in retriever.invoke("Which river?")]
        [('a', 0), ('b', 1)]
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    graph: SegmentGraph = Field(repr=False)
    index: Retriever = Field(repr=False)
    k: int = 4
    hits: int | None = None
    expand: str = "hops"
    hops: int = 1

    @model_validator(mode="before")
    @classmethod
    def _with_index(cls, fields: Any) -> Any:
        """BM25 where no index is given."""
        if isinstance(fields, dict) and fields.get("index") is None and isinstance(fields.get("graph"), SegmentGraph):
            return {**fields, "index": BM25Retriever.build(fields["graph"])}
        return fields

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.expand not in WAYS:
            raise InputError(one_of("way to expand", self.expand, WAYS))
        check_count("hops", self.hops)
        self._counts(self.k)
        self.index.check(self.graph)
        return self

    @classmethod
    def from_documents(
        cls,
        documents: Any,
        *,
        edges: Pairs = CITES,
        graph_edges: Iterable[tuple[str, str]] = (),
        method: str = "bm25",
        embedder: str | Embedder = "minilm",
        folder: str | Path | None = None,
        **fields: Any,
    ) -> Self:
        """Index documents.

        Args:
            documents, edges, graph_edges: as :func:`graphkv.langchain.documents.graph_of` takes them.
            method: "bm25", "dense", or "hybrid" (both, by reciprocal rank). embedder: for the latter two, as :func:`graphkv_retrieval.load_embedder` takes it.
            folder: where the index is kept; one that is there and fits is opened. In memory without it.
            fields: the retriever's own, `k` and so on.

        Raises:
            InputError: no documents, or anything that the steps refuse.
        """
        if method not in METHODS:
            raise InputError(one_of("method", method, METHODS))
        graph = graph_of(documents, edges, graph_edges)
        if graph is None:
            raise DocumentError("there are no documents to search: expected at least one")
        if folder is not None:
            return cls(graph=graph, index=build_index(graph, folder, method, embedder=embedder), **fields)
        parts: list[Retriever] = [] if method == "dense" else [BM25Retriever.build(graph)]
        if method != "bm25":
            parts.append(DenseRetriever.build(graph, load_embedder(embedder)))
        return cls(graph=graph, index=parts[0] if len(parts) == 1 else HybridRetriever(parts), **fields)

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None) -> list[Document]:
        return self._found(query, self.k if k is None else k)

    async def _aget_relevant_documents(self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None) -> list[Document]:
        # Searching is arithmetic: it is done in a thread, so that the event loop goes on.
        return await run_in_executor(None, self._found, query, self.k if k is None else k)

    def _found(self, query: str, k: int) -> list[Document]:
        """Hits, their neighbours, and the hits that had to wait for them."""
        wanted = self._counts(k)
        found = {hit.id: hit.score for hit in self.index.search([query], k)[0]}
        if not found:
            return []
        seeds = dict(list(found.items())[:wanted])
        scores = expand(self.graph, seeds, how=self.expand, hops=self.hops, max_segments=k)
        more = [id for id in found if id not in scores][: k - len(scores)]
        scores |= {id: found[id] for id in more}
        away = {**Links.of(self.graph).distances(seeds, to=scores), **dict.fromkeys(found, 0)}
        part = self.graph.subgraph(scores)
        part = part.with_segments(replace(s, score=scores[s.id], metadata={**s.metadata, "hop": away[s.id]}) for s in part)
        return langchain_documents(part, list(scores))

    def _counts(self, k: int) -> int:
        """How many hits there are to be among `k`."""
        check_count("k", k)
        if self.hits is not None:
            check_count("hits", self.hits)
            return min(self.hits, k)
        return k if self.expand == "none" else (k + 1) // 2
