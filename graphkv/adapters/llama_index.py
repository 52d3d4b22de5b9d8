"""LlamaIndex: the language model; what is done with nodes is in llama_index_nodes.py, and can be imported from here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms import generic_utils
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback

from graphkv.adapters.common import CITES, question_of, report_of
from graphkv.adapters.llama_index_nodes import GraphKVPostprocessor, GraphKVSynthesizer, node_graph
from graphkv.graph import SegmentGraph
from graphkv.scheduler import Scheduler
from graphkv.strategy import Answer

__all__ = ["GraphKVLLM", "GraphKVPostprocessor", "GraphKVSynthesizer", "node_graph"]


class GraphKVLLM(CustomLLM):  # type: ignore[misc]
    """The model behind a scheduler; every call takes `documents`, a graph that is read before the question, and fields of :class:`graphkv.Sampling`.

    The response's `raw` (a stream's last one's) is what :func:`graphkv.adapters.common.report_of` says: usage, finish_reason, citations.

    Args:
        scheduler: a :class:`graphkv.Scheduler`. layout: how documents are read. settings: fields of Sampling for every call.
        edges: pairs of metadata fields that make edges when a :class:`GraphKVSynthesizer` hands nodes over.

    Example:
        >>> llm = GraphKVLLM(scheduler=Scheduler(GraphKV.from_pretrained()))  # doctest: +SKIP
        >>> llm.complete("Who wrote Night Maple?", documents=graph).text  # doctest: +SKIP
        'Ada Fumrel'
        >>> RetrieverQueryEngine(retriever, GraphKVSynthesizer(llm), [GraphKVPostprocessor(nodes=nodes)]).query(question)  # doctest: +SKIP
    """

    scheduler: Scheduler = Field(exclude=True)
    layout: str = "graph"
    settings: dict[str, Any] = Field(default_factory=dict)
    edges: Sequence[tuple[str, str]] = CITES

    @property
    def metadata(self) -> LLMMetadata:
        model = self.scheduler.engine.model
        return LLMMetadata(context_window=model.window, num_output=self.settings.get("max_new_tokens") or 64, is_chat_model=True, model_name=model.name)

    def _answers(self, messages: Sequence[ChatMessage], documents: SegmentGraph | None = None, **settings: Any) -> CompletionResponseGen:
        said = [(message.role.value, message.content or "") for message in messages]
        question = question_of(self.scheduler, said, documents, {**self.settings, **settings}, self.layout)

        def responses(text: str = "") -> CompletionResponseGen:
            for piece in self.scheduler.stream(question):
                about = report_of(piece) if isinstance(piece, Answer) else None
                before, text = text, piece.text if about else text + piece.text
                yield CompletionResponse(text=text, delta=text[len(before) :], raw=about)

        return responses()

    @llm_completion_callback()  # type: ignore[untyped-decorator]
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return list(self._answers([ChatMessage(prompt)], **kwargs))[-1]

    @llm_completion_callback()  # type: ignore[untyped-decorator]
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        return self._answers([ChatMessage(prompt)], **kwargs)

    @llm_chat_callback()  # type: ignore[untyped-decorator]
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return generic_utils.completion_response_to_chat_response(list(self._answers(messages, **kwargs))[-1])

    @llm_chat_callback()  # type: ignore[untyped-decorator]
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        return generic_utils.stream_completion_response_to_chat_response(self._answers(messages, **kwargs))

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return await asyncio.to_thread(self.complete, prompt, formatted, **kwargs)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return await asyncio.to_thread(self.chat, messages, **kwargs)
