"""GraphKVRetriever: hits, neighbours, what the documents say of their edges, and the chain that reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from pydantic import ValidationError
from retrieval_helpers import WordHashes

from graphkv import InputError, SegmentGraph
from graphkv.langchain import GraphKVRetriever
from graphkv.langchain.documents import graph_of
from graphkv_retrieval import BM25Retriever, DenseRetriever, HybridRetriever

QUESTION = "Who is the author of the paper extended by Violet Oak?"
CHAIN = [
    {"id": "a", "text": "The red maple stands at night.", "cites": ["b"]},
    {"id": "b", "text": "Something of another kind.", "cites": ["c"]},
    {"id": "c", "text": "Nothing alike.", "cites": ["d"]},
    {"id": "d", "text": "The maple again."},
    {"id": "e", "text": "A maple, a maple of the night, red."},
]


def ids(documents: list[Document]) -> list[str]:
    return [str(document.id) for document in documents]


def test_hits_then_neighbours_then_further_hits() -> None:
    """What is near the hits follows them; what else was found fills up."""
    found = GraphKVRetriever.from_documents(CHAIN, k=4, hits=1).invoke("red maple night")
    assert [(d.id, d.metadata["hop"]) for d in found] == [("e", 0), ("a", 0), ("d", 0)], "e has no neighbours, the other two are hits"
    found = GraphKVRetriever.from_documents(CHAIN, k=3, hits=2, hops=2).invoke("stands red maple")
    assert [(d.id, d.metadata["hop"]) for d in found] == [("a", 0), ("e", 0), ("b", 1)]
    assert found[0].metadata["score"] > found[1].metadata["score"] > found[2].metadata["score"]


@pytest.mark.parametrize("expand", ["hops", "ppr", "none"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_exactly_k_where_there_are_so_many(graph: SegmentGraph, expand: str, k: int) -> None:
    retriever = GraphKVRetriever(graph=graph, expand=expand)
    assert len(retriever.invoke(QUESTION, k=k)) == k
    assert len(GraphKVRetriever(graph=graph, expand=expand, k=k).invoke(QUESTION)) == k


async def test_the_edges_between_the_documents_are_found_again(graph: SegmentGraph) -> None:
    """As far as both ends came back; whatever told of them before."""
    retriever = GraphKVRetriever(graph=graph, k=6)
    found = await retriever.ainvoke(QUESTION)
    assert found == retriever.invoke(QUESTION) and {"score", "hop", "title"} <= set(found[0].metadata)
    part = graph_of(found)
    assert part is not None and set(part.edges) == {edge for edge in graph.edges if set(edge) <= set(ids(found))} != set()
    fewer = await retriever.ainvoke(QUESTION, k=2)
    assert all(set(document.metadata.get("cites", [])) <= set(ids(fewer)) for document in fewer)


def test_edges_of_other_metadata_fields(papers: list[Document]) -> None:
    renamed = [Document(id=p.id, page_content=p.page_content, metadata={"title": p.metadata["title"], "refs": p.metadata["cites"]}) for p in papers]
    found = GraphKVRetriever.from_documents(renamed, edges=[("refs", "$id")], k=2, hits=1).invoke(QUESTION)
    assert ids(found) == ["paper2", "paper3"] and found[0].metadata["cites"] == ["paper3"] == found[0].metadata["refs"]


def test_nothing_found_is_an_empty_list() -> None:
    assert GraphKVRetriever.from_documents(CHAIN).invoke("xylophone") == []


@pytest.mark.parametrize(("method", "kind"), [("bm25", BM25Retriever), ("dense", DenseRetriever), ("hybrid", HybridRetriever)])
def test_methods_in_memory_and_in_a_folder(graph: SegmentGraph, tmp_path: Path, method: str, kind: type) -> None:
    embedder = WordHashes()
    memory = GraphKVRetriever.from_documents(graph, method=method, embedder=embedder, k=3)
    folder = GraphKVRetriever.from_documents(graph, method=method, embedder=embedder, folder=tmp_path / "index", k=3)
    assert isinstance(memory.index, kind) and isinstance(folder.index, kind)
    assert ids(memory.invoke(QUESTION)) == ids(folder.invoke(QUESTION))
    embedder.asked.clear()
    GraphKVRetriever.from_documents(graph, method=method, embedder=embedder, folder=tmp_path / "index")
    assert not embedder.asked, "an index that is there is opened"


@pytest.mark.parametrize(
    ("given", "error"),
    [({"expand": "far"}, "unknown way to expand"), ({"k": 0}, "k must be"), ({"hits": 0}, "hits must be"), ({"hops": 0}, "hops must be"), ({"kk": 1}, "Extra inputs")],
)
def test_settings_that_cannot_be_meant_are_refused(graph: SegmentGraph, given: dict[str, Any], error: str) -> None:
    with pytest.raises(ValidationError, match=error):
        GraphKVRetriever(graph=graph, **given)


def test_what_else_is_refused(graph: SegmentGraph) -> None:
    with pytest.raises(ValidationError, match="built from other segments"):
        GraphKVRetriever(graph=graph, index=BM25Retriever.build(graph.subgraph(["paper1"])))
    with pytest.raises(InputError, match="no documents to search"):
        GraphKVRetriever.from_documents([])
    with pytest.raises(InputError, match="unknown method"):
        GraphKVRetriever.from_documents(graph, method="sparse")
    with pytest.raises(InputError, match="k must be"):
        GraphKVRetriever(graph=graph).invoke(QUESTION, k=0)
    with pytest.raises(InputError, match="some text"):
        GraphKVRetriever(graph=graph).invoke(" ")
