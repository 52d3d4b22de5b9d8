"""A request → the question that the scheduler takes: model, documents, layout, conversation, sampling."""

from __future__ import annotations

from collections.abc import Sequence

from graphkv.chat import chat_prompt
from graphkv.graph import SegmentGraph
from graphkv.sampling import Sampling
from graphkv.scheduler import Question
from graphkv.serve.documents import Shelf, check_characters, read_graph
from graphkv.serve.errors import ApiError
from graphkv.serve.layout_choice import Choice, check_reads, read_choice
from graphkv.serve.messages import read_messages
from graphkv.serve.refusals import refuse_unsupported
from graphkv.serve.schema import ChatMessage, ChatRequest, Reading
from graphkv.serve.settings import Settings
from graphkv.serve.state import State


def check_model(name: str | None, state: State) -> None:
    """Raises ApiError (404) for a model that is not the one that is served; none is it."""
    if name is not None and name != state.model:
        raise ApiError(404, f"there is no model {name!r}; the one that is served is {state.model!r}", code="model_not_found", param="model")


def read_sampling(body: ChatRequest, settings: Settings) -> Sampling:
    """How tokens are chosen; greedy if the request says nothing.

    Raises:
        ApiError: 400, more tokens than the server allows.
    """
    name = "max_completion_tokens" if body.max_completion_tokens is not None else "max_tokens"
    tokens = getattr(body, name)
    if tokens is not None and tokens > settings.max_new_tokens:
        raise ApiError(400, f"{name}: at most {settings.max_new_tokens:,} tokens are written, got {tokens:,}", param=name)
    return Sampling(
        max_new_tokens=tokens,
        temperature=body.temperature or 0.0,
        top_p=1.0 if body.top_p is None else body.top_p,
        top_k=max(0, body.top_k or 0),  # vLLM's -1 is all of them, too
        seed=body.seed,
        stop=tuple(body.stop or ()),
    )


def make_question(body: Reading, messages: Sequence[ChatMessage], sampling: Sampling, state: State, scope: str) -> Question:
    """The question of a request; tokenises the conversation, so that it belongs into a worker thread.

    Raises:
        ApiError, InputError: whatever of it cannot be used.
    """
    check_model(body.model, state)
    refuse_unsupported(body.model_extra)
    said, blocks = read_messages(messages, state.settings.max_messages)
    check_characters(sum(len(text) for _, text in said), state.settings, "messages")
    choice = read_choice(body.graph.layout if body.graph else None, state.settings.layout)
    graph = read_graph(body.documents, blocks, body.graph, Shelf(state.library, scope, state.settings))
    if graph is not None:
        check_reads(choice, graph, state.settings.max_edges)
    prompt = chat_prompt(state.scheduler.engine, said, documents=graph is not None)
    return Question(prompt, graph, choice.layout, choice.options, sampling, scope)


def read_drawing(body: Reading, state: State, scope: str) -> tuple[SegmentGraph, Choice]:
    """The documents of a request that asks nothing, and the layout that they would be read under.

    Raises:
        ApiError, InputError: whatever of it cannot be used.
    """
    check_model(body.model, state)
    choice = read_choice(body.graph.layout if body.graph else None, state.settings.layout)
    graph = read_graph(body.documents, (), body.graph, Shelf(state.library, scope, state.settings))
    if graph is None:
        raise ApiError(400, "documents: expected at least one document", param="documents")
    check_reads(choice, graph, state.settings.max_edges)
    return graph, choice
