"""Haystack: a chat generator that reads documents as a graph, and says in each reply what it cost and which documents it was read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.dataclasses import ChatMessage, ComponentInfo, StreamingChunk
from haystack.dataclasses.streaming_chunk import StreamingCallbackT, select_streaming_callback
from haystack.utils import deserialize_callable, serialize_callable

from graphkv.adapters.common import CITES, graph_of, question_of, report_of
from graphkv.engine import GraphKV
from graphkv.errors import InputError
from graphkv.scheduler import Scheduler
from graphkv.strategy import Answer


@component
class GraphKVChatGenerator:
    """Answers the last of some messages from documents, reading each document once.

    Args:
        model: a folder or a hub id; the embedded model if nothing is named. store: where encoded blocks are kept, as in :class:`graphkv.GraphKV`.
        layout: see :data:`graphkv.layouts.LAYOUTS`. edges: pairs of fields of ``meta`` that make edges, as in :func:`graphkv.importers.from_langchain`.
        generation_kwargs: fields of :class:`graphkv.Sampling`; those of a run stand above these. streaming_callback: called with every piece.
        scheduler: one that is there already, in place of `model` and `store`; a component with it cannot be saved.

    Example:
        >>> pipeline.add_component("llm", GraphKVChatGenerator())  # doctest: +SKIP
        >>> pipeline.connect("retriever.documents", "llm.documents")  # doctest: +SKIP
        >>> pipeline.run({"retriever": {"query": question}, "llm": {"messages": question}})["llm"]["replies"][0].text  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | None = None,
        store: str | None = None,
        layout: str = "graph",
        edges: Sequence[Sequence[str]] = CITES,
        generation_kwargs: dict[str, Any] | None = None,
        streaming_callback: StreamingCallbackT | None = None,
        scheduler: Scheduler | None = None,
    ) -> None:
        self.model, self.store, self.layout, self.edges = model, store, layout, [(source, target) for source, target in edges]
        self.generation_kwargs, self.streaming_callback = generation_kwargs or {}, streaming_callback
        self.scheduler, self._shared = scheduler, scheduler is not None

    def warm_up(self) -> Scheduler:
        """Load the model; a second call does nothing."""
        if self.scheduler is None:
            self.scheduler = Scheduler(GraphKV.from_pretrained(self.model, store=self.store))
        return self.scheduler

    def close(self) -> None:
        """Let go of the model, when the answers that are being written are done."""
        if self.scheduler is not None and not self._shared:
            self.scheduler.close()
            self.scheduler = None

    @component.output_types(replies=list[ChatMessage])  # type: ignore[untyped-decorator]
    def run(
        self,
        messages: list[ChatMessage] | str,
        documents: list[Document] | None = None,
        streaming_callback: StreamingCallbackT | None = None,
        generation_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, list[ChatMessage]]:
        """One reply, also without documents; its meta is what :func:`graphkv.adapters.common.report_of` says: usage, finish_reason, citations."""
        scheduler = self.warm_up()
        show = select_streaming_callback(self.streaming_callback, streaming_callback, requires_async=False)
        said = [("user", messages)] if isinstance(messages, str) else [(m.role.value, m.text or "") for m in messages]
        settings = {**self.generation_kwargs, **(generation_kwargs or {})}
        graph = graph_of(((d.id, d.content, d.meta, d.score) for d in documents), self.edges) if documents else None
        question = question_of(scheduler, said, graph, settings, self.layout)
        for piece in scheduler.stream(question):
            if isinstance(piece, Answer):
                reply = ChatMessage.from_assistant(piece.text, meta=report_of(piece))
            elif show is not None and piece.text:
                show(StreamingChunk(piece.text, meta={"used": dict(piece.used)}, component_info=ComponentInfo.from_component(self)))
        return {"replies": [reply]}

    def to_dict(self) -> dict[str, Any]:
        """The component as Haystack saves it."""
        if self._shared:
            raise InputError("a component over a scheduler cannot be saved: make it with model= and store=")
        callback = serialize_callable(self.streaming_callback) if self.streaming_callback else None
        settings = {name: getattr(self, name) for name in ("model", "store", "layout", "generation_kwargs")}
        saved: dict[str, Any] = default_to_dict(self, **settings, edges=[list(pair) for pair in self.edges], streaming_callback=callback)
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GraphKVChatGenerator:
        """The component from what was saved."""
        if callback := data["init_parameters"].get("streaming_callback"):
            data["init_parameters"]["streaming_callback"] = deserialize_callable(callback)
        loaded: GraphKVChatGenerator = default_from_dict(cls, data)
        return loaded
