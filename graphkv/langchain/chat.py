"""ChatGraphKV: a LangChain chat model that reads a graph of documents."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence, Sized
from hashlib import blake2b
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

from graphkv.chat import chat_prompt
from graphkv.engine import GraphKV
from graphkv.errors import InputError, check_count, one_of
from graphkv.graph import SegmentGraph
from graphkv.importers.langchain import Pairs
from graphkv.langchain.documents import CITES, check_pairs, graph_of, read_documents
from graphkv.langchain.following import follow, follow_async
from graphkv.langchain.messages import PROVIDER, citations_of, metadata_of, read_messages, usage_of
from graphkv.layouts import LAYOUTS
from graphkv.question import Question
from graphkv.sampling import Sampling
from graphkv.scheduler import Scheduler
from graphkv.strategy import Answer
from graphkv.ticket import Piece

_SAMPLING = {"max_tokens": "max_new_tokens", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "seed": "seed"}
"""Fields of ours, and what :class:`Sampling` calls them."""

_PER_CALL = frozenset({*_SAMPLING, "documents", "edges", "graph_edges", "layout", "layout_options", "citations", "timeout", "max_retries"})
_QUEUE = 256
"""Questions that may wait in a scheduler of our own, and questions of a batch that are on their way at once."""
_REMEMBERED = 16
"""So many graphs are known again when the same documents come in another call: they are tokenised once."""


class ChatGraphKV(BaseChatModel):
    """A chat model whose documents are a graph: each is encoded once, and reads those that it cites.

    Documents come with a call, ``model.bind(documents=docs)`` or ``model.invoke(question, documents=docs)``, or inside the messages (see
    :func:`graphkv.langchain.messages.read_messages`). They may be LangChain documents, documents of ours, dicts, texts, or a
    :class:`graphkv.SegmentGraph`, which is best where many questions are asked about many documents: it is made once. Without any, the model just talks.

    Args:
        model: a path, a hub id, or None for the embedded model; loaded at the first call. `model_kwargs`: further arguments of
            :meth:`graphkv.GraphKV.from_pretrained` (``dtype``, ``device_map``, ``max_segment_tokens`` ...). `store`: where encoded documents are kept.
        engine, scheduler: a ready one, in place of `model`. Objects that share a scheduler are decoded together.
        layout, layout_options: as in :meth:`graphkv.GraphKV.ask`. edges: which metadata fields name other documents, as
            :func:`graphkv.importers.langchain.from_langchain` takes them.
        max_tokens, temperature, top_p, top_k, seed, stop: of the answer; greedy and at most 64 tokens by default.
        citations: whether answers from documents carry LangChain's citations; their content is then a list of blocks (``message.text`` is the text).
        timeout: seconds for one answer. max_retries: how often a full queue is tried again. streaming: write in pieces even when they are not asked for.
        api_key: one of LangChain's standard parameters; a model on this machine needs none.

    The fields from `layout` to `max_retries` may be given with a call too, and `graph_edges`, pairs (source id, target id). What cannot be meant is refused, an
    unknown name as well. Tools and structured output are not supported. An object holds a model and a thread; it cannot be serialised by
    LangChain, nor pickled. :meth:`close` ends the thread; so does the end of the object.

    Example:
        >>> chat = ChatGraphKV()  # doctest: +SKIP
        >>> chat.bind(documents=retriever.invoke(question)).invoke(question).text  # doctest: +SKIP
        'Mia Rasbuk.'
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    model: str | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    store: Any = Field(default=None, exclude=True, repr=False)
    engine: GraphKV | None = Field(default=None, exclude=True, repr=False)
    scheduler: Scheduler | None = Field(default=None, exclude=True, repr=False)
    layout: str = "graph"
    layout_options: dict[str, Any] = Field(default_factory=dict)
    edges: Any = CITES
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: str | list[str] | None = None
    citations: bool = True
    timeout: float | None = None
    max_retries: int = 2
    streaming: bool = False
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)

    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _own: Scheduler | None = PrivateAttr(default=None)
    _graphs: OrderedDict[Any, SegmentGraph] = PrivateAttr(default_factory=OrderedDict)

    @field_validator("model", mode="before")
    @classmethod
    def _path_as_text(cls, value: Any) -> Any:
        return str(value) if hasattr(value, "__fspath__") else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        """What would fail at every call is refused now."""
        ready = [name for name in ("engine", "scheduler") if getattr(self, name) is not None]
        given = [name for name in ("model", "store", "model_kwargs") if getattr(self, name) not in (None, {})]
        if len(ready) > 1 or (ready and given):
            raise InputError(f"give one of engine, scheduler, or model with its store and model_kwargs; got {', '.join(ready + given)}")
        self._sampling(None, {})
        self._reading({})
        self._patience({})
        return self

    @property
    def model_name(self) -> str:
        """What the model is called."""
        engine = self.scheduler.engine if self.scheduler is not None else self.engine
        return (engine.model.name or "custom") if engine is not None else self.model or "embedded"

    @property
    def _llm_type(self) -> str:
        return "graphkv"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        named = ("model_kwargs", "layout", "layout_options", "edges", *_SAMPLING, "stop", "citations")
        return {"model": self.model_name, **{name: getattr(self, name) for name in named}}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        """What traces call the model."""
        params = super()._get_ls_params(stop=stop or self._stops(None) or None, **kwargs)
        params["ls_provider"] = PROVIDER
        params.setdefault("ls_model_name", self.model_name)
        return params

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        """For traces, which need not hold the documents; and for LangChain's cache of answers, which goes by what is printed of the arguments."""
        params = super()._get_invocation_params(stop=stop, **kwargs)
        documents = kwargs.get("documents")
        if documents is not None:
            params["documents"] = f"{len(documents)} documents" if isinstance(documents, Sized) else type(documents).__name__
        if isinstance(documents, SegmentGraph):
            params["documents_digest"] = _digest(documents)  # a graph does not print its texts
        return params

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids by the model's own tokenizer."""
        return list(self.running.engine.reader.ids(text))

    @property
    def running(self) -> Scheduler:
        """The scheduler that answers; the model is loaded and its thread started if they are not yet.

        Raises:
            ModelError: the model cannot be loaded.
        """
        if self.scheduler is not None:
            return self.scheduler
        with self._lock:
            if self._own is None:
                engine = self.engine or GraphKV.from_pretrained(self.model, store=self.store, **self.model_kwargs)
                self._own = Scheduler(engine, max_waiting=_QUEUE)
                weakref.finalize(self, _close_aside, self._own).atexit = False
            return self._own

    def close(self) -> None:
        """Answer what is waiting, and end the thread. A scheduler that was given is left to whoever gave it."""
        with self._lock:
            own, self._own = self._own, None
        if own is not None:
            own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # One question, in four ways.

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> ChatResult:
        asked = _Asked(self, messages, stop, kwargs)
        events = follow(asked.submit, pieces=False, timeout=asked.timeout, max_retries=asked.max_retries)
        (answer,) = (event for event in events if isinstance(event, Answer))
        return asked.result(answer)

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> ChatResult:
        asked = _Asked(self, messages, stop, kwargs)
        events = follow_async(asked.submit, pieces=False, timeout=asked.timeout, max_retries=asked.max_retries)
        (answer,) = [event async for event in events if isinstance(event, Answer)]
        return asked.result(answer)

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        asked = _Asked(self, messages, stop, kwargs)
        for event in follow(asked.submit, pieces=True, timeout=asked.timeout, max_retries=asked.max_retries):
            if (chunk := asked.chunk(event)) is not None:
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.message.content, chunk=chunk)
                yield chunk

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        asked = _Asked(self, messages, stop, kwargs)
        async for event in follow_async(asked.submit, pieces=True, timeout=asked.timeout, max_retries=asked.max_retries):
            if (chunk := asked.chunk(event)) is not None:
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.message.content, chunk=chunk)
                yield chunk

    # Several questions: all are in the queue before the first is answered, so that those over the same documents are decoded together.

    def batch(self, inputs: list[Any], config: RunnableConfig | list[RunnableConfig] | None = None, **kwargs: Any) -> list[Any]:
        return super().batch(inputs, self._at_once(config, len(inputs)), **kwargs)

    async def abatch(self, inputs: list[Any], config: RunnableConfig | list[RunnableConfig] | None = None, **kwargs: Any) -> list[Any]:
        return await super().abatch(inputs, self._at_once(config, len(inputs)), **kwargs)

    def batch_as_completed(self, inputs: Sequence[Any], config: Any = None, **kwargs: Any) -> Iterator[tuple[int, Any]]:
        return super().batch_as_completed(inputs, self._at_once(config, len(inputs)), **kwargs)

    def abatch_as_completed(self, inputs: Sequence[Any], config: Any = None, **kwargs: Any) -> AsyncIterator[tuple[int, Any]]:
        return super().abatch_as_completed(inputs, self._at_once(config, len(inputs)), **kwargs)

    def _at_once(self, config: Any, count: int) -> Any:
        """The config with as much concurrency as the queue takes, unless it says how much it wants. LangChain's own default is a few threads."""
        most = max(1, min(count, _QUEUE if self.scheduler is None else self.scheduler.max_waiting))
        if isinstance(config, list | tuple):
            return [self._at_once(one, count) for one in config]
        return {**(config or {}), "max_concurrency": (config or {}).get("max_concurrency") or most}

    # Settings: the call's, else the object's.

    def _sampling(self, stop: list[str] | None, given: Mapping[str, Any]) -> Sampling:
        return Sampling(**{name: given.get(ours, getattr(self, ours)) for ours, name in _SAMPLING.items()}, stop=self._stops(stop))

    def _stops(self, stop: str | Sequence[str] | None) -> Any:
        chosen = self.stop if stop is None else stop
        return (chosen,) if isinstance(chosen, str) else tuple(chosen or ())

    def _reading(self, given: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], Pairs]:
        """Layout, its options, and the metadata fields of edges."""
        layout = given.get("layout", self.layout)
        if layout not in LAYOUTS:
            raise InputError(one_of("layout", layout, LAYOUTS))
        # Options belong to the layout they were given with.
        options = given.get("layout_options", {} if "layout" in given and layout != self.layout else self.layout_options)
        if not isinstance(options, Mapping) or any(not isinstance(name, str) for name in options):
            raise InputError(f"layout_options must be a mapping from names to values, got {options!r}")
        return layout, options, check_pairs(given.get("edges", self.edges))

    def _patience(self, given: Mapping[str, Any]) -> tuple[float | None, int]:
        timeout, retries = given.get("timeout", self.timeout), given.get("max_retries", self.max_retries)
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0):
            raise InputError(f"timeout must be a number of seconds above 0, or None, got {timeout!r}")
        check_count("max_retries + 1", retries + 1 if isinstance(retries, int) and not isinstance(retries, bool) else retries)
        return timeout, retries

    def _known(self, graph: SegmentGraph) -> SegmentGraph:
        """The graph of an earlier call, if it was the same one: its token ids are known."""
        key = (graph.segments, tuple((edge, edge.kind, edge.weight) for edge in graph.edges), graph.max_segment_tokens)
        with self._lock:
            known = self._graphs.setdefault(key, graph)
            self._graphs.move_to_end(key)
            if len(self._graphs) > _REMEMBERED:
                self._graphs.popitem(last=False)
        return known


class _Asked:
    """One call: its settings, checked at once, and what its answer becomes."""

    def __init__(self, chat: ChatGraphKV, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any]) -> None:
        given = {name: value for name, value in kwargs.items() if name != "stream"}
        if given.get("tools"):
            raise InputError("this model calls no tools: leave tools out")
        if unknown := sorted(set(given) - _PER_CALL - {"tools"}):
            raise InputError(one_of("argument", unknown[0], _PER_CALL))
        self.chat, self.messages, self.given = chat, messages, given
        self.sampling, self.reading = chat._sampling(stop, given), chat._reading(given)
        self.timeout, self.max_retries = chat._patience(given)
        self.graph: SegmentGraph | None = None
        self.parts: SegmentGraph | None = None  # the same, as long documents were cut

    def submit(self, listener: Any) -> Any:
        """Into the queue. Everything that takes time, reading documents and tokenising, is done here, so that it may be done in a thread."""
        layout, options, edges = self.reading
        scheduler = self.chat.running
        conversation = read_messages(self.messages)
        own, inside = self.given.get("documents"), conversation.documents
        further = self.given.get("graph_edges") or ()
        if isinstance(own, SegmentGraph) and inside:
            raise InputError("documents are given as a graph, and others stand in the messages: give all of them in one of the two ways")
        documents = own if isinstance(own, SegmentGraph) else [*(read_documents(own) if own is not None else ()), *inside]
        graph = graph_of(documents, edges, further)
        prompt = chat_prompt(scheduler.engine, conversation.said, documents=graph is not None)
        if graph is not None:
            self.graph, graph = graph, self.chat._known(graph)
            self.parts = scheduler.engine.reader.split(graph)
        return scheduler.submit(Question(prompt, graph, layout, options, self.sampling), listener)

    @property
    def blocks(self) -> bool:
        """Whether the content is a list of blocks, so that citations have a place."""
        return self.graph is not None and bool(self.given.get("citations", self.chat.citations))

    def result(self, answer: Answer) -> ChatResult:
        """A whole answer."""
        content: Any = [{"type": "text", "text": answer.text, **self._notes(answer)}] if self.blocks else answer.text
        message = AIMessage(content=content, usage_metadata=usage_of(answer), response_metadata=self._metadata(answer))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def chunk(self, event: Piece | Answer) -> ChatGenerationChunk | None:
        """A piece, or the end with everything but text; None for a piece that shows nothing."""
        if isinstance(event, Piece):
            content: Any = [{"type": "text", "text": event.text, "index": 0}] if self.blocks else event.text
            return ChatGenerationChunk(message=AIMessageChunk(content=content)) if event.text else None
        content = [{"type": "text", "text": "", "index": 0, **self._notes(event)}] if self.blocks else ""
        message = AIMessageChunk(content=content, usage_metadata=usage_of(event), response_metadata=self._metadata(event), chunk_position="last")
        return ChatGenerationChunk(message=message)

    def _notes(self, answer: Answer) -> dict[str, Any]:
        found = citations_of(answer, self.graph, self.parts) if self.graph is not None and self.parts is not None else []
        return {"annotations": found} if found else {}

    def _metadata(self, answer: Answer) -> dict[str, Any]:
        return metadata_of(answer, self.chat.model_name)


def _digest(graph: SegmentGraph) -> str:
    parts = [[(s.id, s.title, s.text, s.tokens, s.score) for s in graph.segments], graph.edges, graph.max_segment_tokens]
    return blake2b(repr(parts).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def _close_aside(scheduler: Scheduler) -> None:
    """The object is gone: its thread ends, and whoever collects garbage does not wait for it."""
    threading.Thread(target=scheduler.close, name="graphkv-close", daemon=True).start()
