"""create_graph_rag_chain: question in; answer, documents, citations and usage out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda, RunnablePassthrough
from langchain_core.runnables.utils import AddableDict

from graphkv.errors import InputError
from graphkv.importers.langchain import Pairs
from graphkv.langchain.documents import CITES
from graphkv.langchain.messages import citations_in, documents_message

_AT_ONCE = 64
"""Questions of a batch that are on their way at the same time, unless the config says how many: as many as are decoded together."""


def create_graph_rag_chain(retriever: Runnable[str, list[Document]], chat: BaseChatModel, *, edges: Pairs = CITES) -> Runnable[Any, Any]:
    """A chain that retrieves documents for a question and answers from them and the edges between them.

    Args:
        retriever: a question in, documents out: :class:`graphkv.langchain.GraphKVRetriever`, or any other, also one with a compressor behind it.
        chat: :class:`graphkv.langchain.ChatGraphKV`; another chat model reads the documents without the edges, if it takes ``text-plain`` blocks.
        edges: which metadata fields name other documents.

    Returns:
        A runnable. Its input is a question, or ``{"question": ...}``; its output ``{"answer": text, "documents": [...], "citations": [...], "usage": {...}}``.
        Streamed, ``documents`` come first, then pieces of ``answer``, then the rest; the chunks add up to the output. Where nothing is found, the chat
        model answers without documents.

    Example:
        >>> chain = create_graph_rag_chain(GraphKVRetriever.from_documents(papers), ChatGraphKV())  # doctest: +SKIP
        >>> chain.invoke("Who wrote Night Maple?")["answer"]  # doctest: +SKIP
        'Ada Fumrel.'
    """

    def messages(state: Mapping[str, Any]) -> list[BaseMessage]:
        return [documents_message(state["question"], state["documents"], edges=edges)]

    chain = (
        RunnableLambda(_question)
        | RunnablePassthrough.assign(documents=itemgetter("question") | retriever)
        | RunnablePassthrough.assign(message=RunnableLambda(messages) | chat)
        | RunnableGenerator(_results, _results_async)
    )
    return chain.with_config(run_name="graph_rag", max_concurrency=_AT_ONCE)


def _question(given: Any) -> dict[str, str]:
    question = given.get("question") if isinstance(given, Mapping) else given
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"expected a question, or {{'question': ...}}, got {given!r}")
    return {"question": question}


class _Results:
    """What has come of the answer so far."""

    def __init__(self) -> None:
        self.message: BaseMessage | None = None

    def take(self, state: Mapping[str, Any]) -> Iterator[AddableDict]:
        """What a piece of the state brings."""
        if "documents" in state:
            yield AddableDict(documents=state["documents"])
        if "message" in state:
            piece: Any = state["message"]
            self.message = piece if self.message is None else self.message + piece  # type: ignore[assignment]
            if text := str(piece.text):
                yield AddableDict(answer=text)

    def end(self) -> Iterator[AddableDict]:
        """What is known when all has come; an answer of no words is there too."""
        if self.message is not None:
            usage = getattr(self.message, "usage_metadata", None)
            yield AddableDict(answer="", citations=citations_in(self.message), usage=dict(usage) if usage else None)


def _results(states: Iterable[Mapping[str, Any]]) -> Iterator[AddableDict]:
    results = _Results()
    for state in states:
        yield from results.take(state)
    yield from results.end()


async def _results_async(states: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[AddableDict]:
    results = _Results()
    async for state in states:
        for found in results.take(state):
            yield found
    for found in results.end():
        yield found
