"""Answers as OpenAI's objects: one completion, or the chunks of a stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel

from graphkv.graph import SegmentGraph
from graphkv.serve.citations import by_document, cohere_citations
from graphkv.serve.documents import document_of
from graphkv.serve.replies import (
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    Delta,
    Message,
    PromptTokens,
    Reuse,
    Trace,
    Usage,
)
from graphkv.strategy import Answer


class Writer:
    """Writes the answers of one request.

    Args:
        model: the served name. graph: what is read, or None. cite: whether citations are sent. trace: whether it is told what was looked at.
    """

    def __init__(self, model: str, graph: SegmentGraph | None, *, cite: bool = True, trace: bool = False) -> None:
        self.model, self.graph, self.cite, self.trace = model, graph, cite, trace
        self.id, self.created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    def completion(self, answer: Answer) -> dict[str, Any]:
        """The whole answer."""
        message = Message(role="assistant", content=answer.text, refusal=None, **self._citations(answer))
        choice = Choice(index=0, message=message, logprobs=None, finish_reason=_reason(answer))
        traced = {"graphkv": self._report(answer)} if self.trace else {}
        return _dump(ChatCompletion(id=self.id, object="chat.completion", created=self.created, model=self.model, choices=[choice], usage=usage_of(answer), **traced))

    def opening(self) -> dict[str, Any]:
        """The first chunk: who speaks."""
        return self._chunk(Delta(role="assistant", content=""))

    def piece(self, text: str, used: Mapping[str, float]) -> dict[str, Any] | None:
        """The chunk of one token; None if there is nothing to tell."""
        if not self.trace or self.graph is None:
            return self._chunk(Delta(content=text)) if text else None
        shares = {id: round(share, 4) for id, share in by_document(used, self.graph).items()}
        return self._chunk(Delta(content=text), graphkv=Trace(used=shares))

    def closing(self, answer: Answer) -> dict[str, Any]:
        """The last chunk with a choice: why the answer ends, and its citations."""
        traced = {"graphkv": self._report(answer)} if self.trace else {}
        return self._chunk(Delta(**self._citations(answer)), _reason(answer), **traced)

    def usage(self, answer: Answer) -> dict[str, Any]:
        """The chunk behind all others, for those who asked for it."""
        chunk = ChatCompletionChunk(id=self.id, object="chat.completion.chunk", created=self.created, model=self.model, choices=[], usage=usage_of(answer))
        return _dump(chunk)

    def _chunk(self, delta: Delta, reason: Literal["stop", "length"] | None = None, **more: Any) -> dict[str, Any]:
        choice = ChunkChoice(index=0, delta=delta, logprobs=None, finish_reason=reason)
        return _dump(ChatCompletionChunk(id=self.id, object="chat.completion.chunk", created=self.created, model=self.model, choices=[choice], **more))

    def _citations(self, answer: Answer) -> dict[str, Any]:
        if not self.cite or self.graph is None:
            return {}
        return {"citations": cohere_citations(answer, self.graph)}

    def _report(self, answer: Answer) -> Trace:
        reused: dict[str, bool] = {}
        if self.graph is not None:
            for use in answer.segments:
                id = document_of(self.graph, use.id)
                reused[id] = use.reused and reused.get(id, True)
        return Trace(layout=answer.layout, time_to_first_token=answer.timings.first_token, seconds=answer.timings.total, reused=reused)


def usage_of(answer: Answer) -> Usage:
    """Tokens of an answer, as OpenAI counts them."""
    prompt = answer.tokens_reused + answer.tokens_computed
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=answer.tokens_generated,
        total_tokens=prompt + answer.tokens_generated,
        prompt_tokens_details=PromptTokens(cached_tokens=answer.tokens_reused),
        graphkv=Reuse(exact=answer.tokens_exact, composed=answer.tokens_reused - answer.tokens_exact, computed=answer.tokens_computed),
    )


def _reason(answer: Answer) -> Literal["stop", "length"]:
    return cast('Literal["stop", "length"]', answer.finish_reason)


def _dump(reply: BaseModel) -> dict[str, Any]:
    """What was set, and nothing else: a client tells by a missing field that it was not asked for."""
    return reply.model_dump(exclude_unset=True)
