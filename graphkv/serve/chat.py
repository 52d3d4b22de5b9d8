"""``POST /v1/chat/completions``: OpenAI's chat over documents."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from graphkv.serve.asking import make_question, read_sampling
from graphkv.serve.completion import Writer
from graphkv.serve.errors import responses
from graphkv.serve.keys import Scope
from graphkv.serve.replies import ChatCompletion
from graphkv.serve.schema import ChatRequest
from graphkv.serve.state import state_of
from graphkv.serve.streaming import stream_response
from graphkv.serve.waiting import Running, while_connected
from graphkv.strategy import Answer

router = APIRouter(tags=["chat"])


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "A completion, or with `stream` its chunks as server-sent events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses={**responses(400, 401, 404, 429, 503, 504), **_STREAM})
async def chat_completions(body: ChatRequest, request: Request, scope: Scope) -> Response:
    """Answer a conversation from documents.

    OpenAI's fields, `documents` as vLLM, Cohere or Anthropic send them, and `graph` with the edges between them. The answer tells in
    `usage.prompt_tokens_details.cached_tokens` how many tokens were read before, and in `citations` which documents were looked at. The
    temperature is 0 unless the request says otherwise.
    """
    state, begun = state_of(request), time.perf_counter()
    stream = bool(body.stream)
    trace = bool(body.graph and body.graph.trace)
    running = Running(listening=stream)

    def hand_in() -> Writer:
        question = make_question(body, body.messages, read_sampling(body, state.settings), state, scope)
        running.submit(state.scheduler, question)
        cite = body.citation_options is None or body.citation_options.wanted
        return Writer(state.model, question.documents, cite=cite, trace=trace)

    def answered(answer: Answer) -> None:
        state.metrics.answered(answer, time.perf_counter() - begun, stream=stream)

    with running:
        writer = await while_connected(request, asyncio.to_thread(hand_in))
        if stream:
            usage = body.stream_options is not None and bool(body.stream_options.include_usage)
            return stream_response(request, running, writer, usage=usage, answered=answered)
        answer = await while_connected(request, running.answer())
    answered(answer)
    return JSONResponse(writer.completion(answer))
