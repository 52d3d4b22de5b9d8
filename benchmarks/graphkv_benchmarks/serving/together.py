"""Questions over one context: all at once, and each when the one before is answered."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from .client import Reply, ask, client_of
from .contexts import Context


async def run_together(url: str, context: Context, answers: Mapping[tuple[str, str], str], *, turns: int, stored: bool) -> dict[str, Any]:
    """The questions of a context, both ways in turn; the first turn of each is not counted.

    Args:
        answers: what ask() says. stored: the documents are with the server already and the requests name them.
    """
    bodies = [context.body(question, stored=stored) for question in context.questions]
    times: dict[str, list[float]] = {"at_once": [], "one_at_a_time": []}
    problems: list[str] = []
    async with client_of(url, connections=len(bodies)) as client:
        for turn in range(turns + 1):
            for way, seconds in times.items():
                begin = time.perf_counter()
                replies = await _at_once(client, bodies) if way == "at_once" else await _in_turn(client, bodies)
                if turn:
                    seconds.append(time.perf_counter() - begin)
                problems += _problems(context, way, replies, answers)
    medians = {way: statistics.median(seconds) for way, seconds in times.items()}
    ways = {way: {"seconds": round(medians[way], 4), "all": [round(s, 4) for s in times[way]], "questions_s": round(len(bodies) / medians[way], 2)} for way in times}
    how = "the documents with the server" if stored else "the documents in each request"
    return {"documents": how, "questions": len(bodies), "ways": ways, "times_faster": round(medians["one_at_a_time"] / medians["at_once"], 2), "problems": problems}


async def _at_once(client: httpx.AsyncClient, bodies: Sequence[bytes]) -> list[Reply]:
    return list(await asyncio.gather(*(ask(client, body) for body in bodies)))


async def _in_turn(client: httpx.AsyncClient, bodies: Sequence[bytes]) -> list[Reply]:
    return [await ask(client, body) for body in bodies]


def _problems(context: Context, way: str, replies: Sequence[Reply], answers: Mapping[tuple[str, str], str]) -> list[str]:
    found = []
    for question, reply in zip(context.questions, replies, strict=True):
        wanted = answers[context.name, question]
        if reply.text != wanted:
            found.append(f"{way}: {reply.text!r} instead of {wanted!r}" if reply.error is None else f"{way}: status {reply.status}: {reply.error}")
    return found
