"""create_graph_rag_chain: whole, in pieces, asynchronously, in batches, and with other components in it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableLambda

from graphkv import InputError, SegmentGraph
from graphkv.langchain import ChatGraphKV, GraphKVRetriever, InfiniRetriCompressor, create_graph_rag_chain
from graphkv.scheduler import Scheduler


@pytest.fixture
def chain(scheduler: Scheduler, graph: SegmentGraph) -> Runnable[Any, Any]:
    return create_graph_rag_chain(GraphKVRetriever(graph=graph), ChatGraphKV(scheduler=scheduler))


def test_question_in_and_four_things_out(chain: Runnable[Any, Any], edge_question: tuple[str, str]) -> None:
    question, answer = edge_question
    out = chain.invoke(question)
    assert set(out) == {"answer", "documents", "citations", "usage"}
    assert out["answer"] == answer and len(out["documents"]) == 4
    cited = out["citations"][0]
    assert cited["extras"]["document_id"] == "paper3" and answer[cited["start_index"] : cited["end_index"]] == answer
    assert out["usage"]["total_tokens"] == out["usage"]["input_tokens"] + out["usage"]["output_tokens"]
    again = chain.invoke({"question": question})
    assert again["usage"]["input_token_details"]["cache_read"] > 0


async def test_the_answer_streams(chain: Runnable[Any, Any], edge_question: tuple[str, str]) -> None:
    question, answer = edge_question
    chunks = list(chain.stream(question))
    assert list(chunks[0]) == ["documents"] and list(chunks[-1]) == ["answer", "citations", "usage"]
    pieces = [chunk["answer"] for chunk in chunks[1:-1]]
    assert len(pieces) > 1 and "".join(pieces) == answer
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert whole == chain.invoke(question)
    assert [chunk async for chunk in chain.astream(question)] == chunks
    assert await chain.ainvoke(question) == whole


async def test_batches_go_together(chain: Runnable[Any, Any], scheduler: Scheduler, questions: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's question enters the queue before everybody's is there."""
    asked, answers = [*questions] * 8, [*questions.values()] * 8
    assert [out["answer"] for out in await chain.abatch(asked)] == answers
    submit, here = scheduler.submit, threading.Barrier(len(asked))
    monkeypatch.setattr(scheduler, "submit", lambda *given: here.wait(timeout=30) < 0 or submit(*given))
    assert [out["answer"] for out in chain.batch(asked)] == answers


def test_where_nothing_is_found_the_model_just_answers(chain: Runnable[Any, Any]) -> None:
    out = chain.invoke("xylophone")
    assert (out["documents"], out["citations"]) == ([], []) and out["answer"] and out["usage"]["input_tokens"] > 0


def test_other_retrievers_and_compressors(scheduler: Scheduler, papers: list[Document], graph: SegmentGraph) -> None:
    """A retriever of somebody else's, whose documents cite what did not come back; a compressor behind ours."""
    question = "Which lab does Delta Thunder come from?"
    chat = ChatGraphKV(scheduler=scheduler)
    theirs = RunnableLambda(lambda question: [papers[5], papers[0]])
    assert create_graph_rag_chain(theirs, chat).invoke(question)["answer"] == "Zerrentik"
    compressor = InfiniRetriCompressor(engine=scheduler.engine, budget=60)
    found = GraphKVRetriever(graph=graph, k=8)
    out = create_graph_rag_chain(RunnableLambda(lambda q: compressor.compress_documents(found.invoke(q), q)), chat).invoke(question)
    assert out["answer"] == "Zerrentik" and 0 < len(out["documents"]) < 8


def test_another_chat_model(graph: SegmentGraph) -> None:
    """One that tells of no usage and cites nothing."""
    out = create_graph_rag_chain(GraphKVRetriever(graph=graph, k=1), GenericFakeChatModel(messages=iter([AIMessage("Sure.")]))).invoke("Delta Thunder?")
    assert (out["answer"], out["citations"], out["usage"], len(out["documents"])) == ("Sure.", [], None, 1)


@pytest.mark.parametrize("given", ["", 3, {"query": "What?"}, {"question": ["What?"]}])
def test_what_is_no_question_is_refused(chain: Runnable[Any, Any], given: Any) -> None:
    with pytest.raises(InputError, match="expected a question"):
        chain.invoke(given)
