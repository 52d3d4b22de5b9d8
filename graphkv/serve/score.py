"""``POST /v1/score``: how likely continuations are after a question about documents."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from fastapi import APIRouter, Request

from graphkv.sampling import Sampling
from graphkv.serve.asking import make_question
from graphkv.serve.documents import check_characters
from graphkv.serve.errors import ApiError, responses
from graphkv.serve.keys import Scope
from graphkv.serve.replies import ScoreList, ScoreReply
from graphkv.serve.schema import ChatMessage, ScoreRequest
from graphkv.serve.state import state_of
from graphkv.serve.waiting import Held, result_of, while_connected
from graphkv.strategy import Score

router = APIRouter(tags=["score"])


@router.post("/v1/score", response_model=ScoreList, responses=responses(400, 401, 404, 429, 503, 504))
async def score(body: ScoreRequest, request: Request, scope: Scope) -> ScoreList:
    """Log-likelihoods of continuations.

    Each continuation is tokenised by itself and stands right behind the prompt: write the space in front of a word where the model would.
    It waits in the same queue as questions do.
    """
    state = state_of(request)
    if (body.question is None) == (body.messages is None):
        raise ApiError(400, "give either question or messages", param="question")
    check_characters(sum(map(len, body.continuations)), state.settings, "continuations")
    messages = body.messages or [ChatMessage(role="user", content=body.question)]

    with Held() as held:

        def hand_in() -> Future[list[Score]]:
            return held.hold(state.scheduler.score(make_question(body, messages, Sampling(), state, scope), body.continuations))

        future = await while_connected(request, asyncio.to_thread(hand_in))
        scores = await while_connected(request, result_of(future))
    data = [ScoreReply(index=i, log_likelihood=float(s), tokens=s.tokens, is_greedy=s.is_greedy) for i, s in enumerate(scores)]
    return ScoreList(model=state.model, data=data)
