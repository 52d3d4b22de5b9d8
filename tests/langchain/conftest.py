"""Fixtures of the LangChain tests: the embedded model's papers in LangChain's form, and one model that all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_core.documents import Document

from graphkv import GraphKV, SegmentGraph
from graphkv.cli.demo import read_demo
from graphkv.scheduler import Scheduler


@pytest.fixture(scope="session")
def embedded() -> GraphKV:
    """The embedded model; its store is in memory."""
    return GraphKV.from_pretrained(store="memory")


@pytest.fixture(scope="session")
def scheduler(embedded: GraphKV) -> Iterator[Scheduler]:
    with Scheduler(embedded) as running:
        yield running


@pytest.fixture(scope="session")
def graph() -> SegmentGraph:
    """Eight papers that cite each other."""
    return read_demo()[0]


@pytest.fixture(scope="session")
def questions() -> dict[str, str]:
    """Questions about them, and the answers."""
    return {row["question"]: row["answer"] for row in read_demo()[1]}


@pytest.fixture(scope="session")
def papers(graph: SegmentGraph) -> list[Document]:
    """The papers as LangChain documents; what a paper reads stands in its metadata under ``cites``."""
    return [
        Document(id=paper.id, page_content=str(paper.text), metadata={"title": paper.title, "cites": list(graph.sources(paper.id)), "source": f"https://papers.example/{paper.id}"})
        for paper in graph.segments
    ]


@pytest.fixture(scope="session")
def edge_question() -> tuple[str, str]:
    """A question that only the edge answers: no text says which paper the other one extends."""
    return "Who is the author of the paper extended by Violet Oak?", "Jane Sintil"
