"""Many clients for a while: whether every answer is the one that a single client gets, which statuses come, how long it takes, and the server's memory."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from .client import Reply, ask, client_of
from .contexts import Context

Answers = Mapping[tuple[str, str], str]
Memory = Callable[[], tuple[float, float] | None]

LEAVING = 0.05
"""The share of questions whose client goes away as soon as the stream begins."""

WARM = 0.25
"""The share of the time that is warm-up for the memory."""

_SHOWN = 5


async def put_documents(client: httpx.AsyncClient, contexts: Sequence[Context]) -> list[str]:
    """Leave the documents of contexts with the server, encoded. Returns what went wrong."""
    problems = []
    for context in contexts:
        response = await client.post("/v1/documents", json={"documents": list(context.documents), "encode": True})
        if response.status_code != 200:
            problems.append(f"{context.name} was not put: status {response.status_code}: {response.text[:300]}")
    return problems


async def single_answers(url: str, contexts: Sequence[Context]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """What one client gets that asks one question after the other, and what went wrong."""
    answers, problems = {}, []
    async with client_of(url) as client:
        problems += await put_documents(client, contexts)
        for context in contexts:
            for question in context.questions:
                reply = await ask(client, context.body(question))
                if reply.text is None:
                    problems.append(f"{context.name}: status {reply.status}: {reply.error}")
                answers[context.name, question] = reply.text or ""
    return answers, problems


async def run_load(url: str, contexts: Sequence[Context], answers: Answers, memory: Memory, *, clients: int, seconds: float, seed: int) -> dict[str, Any]:
    """`clients` ask at the same time, each one question after the other, until `seconds` are over; then what is under way is waited for.

    A question is about any of the contexts, with the documents in its body or left with the server before; its answer comes as a stream or whole; a few clients
    go away in mid-stream.

    Args:
        answers: what a single client was answered. memory: tells the server's (resident, anonymous) MiB.
    """
    replies: list[tuple[Reply, str | None]] = []  # and the answer that should have come, None for one that was left
    samples: list[tuple[float, float, float]] = []
    begin = time.perf_counter()
    end = begin + seconds
    bodies: dict[tuple[str, str, bool, bool], bytes] = {}

    async def one(client: httpx.AsyncClient, number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        while time.perf_counter() < end:
            context = chance.choice(contexts)
            question, stored, stream = chance.choice(context.questions), chance.random() < 0.5, chance.random() < 0.5
            leave = chance.random() < LEAVING
            key = (context.name, question, stream or leave, stored)
            body = bodies[key] = bodies.get(key) or context.body(question, stream=stream or leave, stored=stored)
            reply = await ask(client, body, stream=stream or leave, leave=leave)
            replies.append((reply, None if reply.left else answers[context.name, question]))
            if reply.status == 0:
                await asyncio.sleep(0.1)  # nobody is there: no hurry

    async def sample() -> None:
        while True:
            if (found := memory()) is not None:
                samples.append((time.perf_counter() - begin, *found))
            await asyncio.sleep(min(1.0, seconds / 12))

    sampler = asyncio.create_task(sample())
    try:
        async with client_of(url, connections=clients) as client:
            await asyncio.gather(*(one(client, number) for number in range(clients)))
    finally:
        sampler.cancel()
    took = time.perf_counter() - begin
    return {"clients": clients, "seconds": round(took, 2), **_counts(replies), **_times(replies, took), "memory": memory_of([s for s in samples if s[0] <= seconds], seconds)}


def _counts(replies: Sequence[tuple[Reply, str | None]]) -> dict[str, Any]:
    statuses = Counter(str(reply.status) for reply, _ in replies)
    busy = sum(reply.busy for reply, _ in replies)
    if busy:
        statuses["429"] += busy
    # A 429 that is left after all tries is no failure of the server's, but the question was not answered.
    failed = [f"status {reply.status}: {reply.error}" for reply, _ in replies if reply.error is not None and reply.status != 429]
    different = [f"{reply.text!r} instead of {wanted!r}" for reply, wanted in replies if reply.text is not None and wanted is not None and reply.text != wanted]
    return {
        "questions": len(replies),
        "answered": sum(reply.text is not None for reply, _ in replies),
        "left": sum(reply.left for reply, _ in replies),
        "statuses": dict(sorted(statuses.items())),
        "failed": len(failed),
        "failures": failed[:_SHOWN],
        "different": len(different),
        "differences": different[:_SHOWN],
    }


def _times(replies: Sequence[tuple[Reply, str | None]], took: float) -> dict[str, Any]:
    answered = [reply for reply, _ in replies if reply.text is not None]
    first, whole = sorted(r.first for r in answered if r.first is not None), sorted(r.seconds for r in answered)
    written = sum(int(r.usage.get("completion_tokens", 0)) for r in answered)
    read = sum(int(r.usage.get("prompt_tokens", 0)) for r in answered)
    return {
        "ttft": {"streams": len(first), "p50": percentile(first, 50), "p99": percentile(first, 99)},
        "answer_seconds": {"p50": percentile(whole, 50), "p99": percentile(whole, 99)},
        "throughput": {"questions_s": round(len(answered) / took, 2), "written_tokens_s": round(written / took, 1), "prompt_tokens_s": round(read / took)},
    }


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least `percent` of 100 do not exceed; None of nothing.

    Example:
        >>> percentile([0.1, 0.2, 0.3, 0.4], 50)
        0.2
    """
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)], 4)


def memory_of(samples: Sequence[tuple[float, float, float]], seconds: float) -> dict[str, Any] | None:
    """The course of the memory behind the warm-up: medians of the first and the last third, and the slope of the line through all of it.

    Args:
        samples: (seconds, resident MiB, anonymous MiB).

    Returns:
        None where fewer than three were taken behind the warm-up.
    """
    kept = [s for s in samples if s[0] >= WARM * seconds]
    if len(kept) < 3:
        return None
    third = len(kept) // 3
    first, last = (statistics.median(s[1] for s in part) for part in (kept[:third], kept[-third:]))
    middle_t, middle_m = statistics.fmean(s[0] for s in kept), statistics.fmean(s[1] for s in kept)
    spread = sum((s[0] - middle_t) ** 2 for s in kept)
    slope = sum((s[0] - middle_t) * (s[1] - middle_m) for s in kept) / spread if spread else 0.0
    return {
        "resident_mb": [round(s[1], 1) for s in samples],
        "anonymous_mb": [round(s[2], 1) for s in samples],
        "warm_up_seconds": round(WARM * seconds, 1),
        "first_third_mb": round(first, 1),
        "last_third_mb": round(last, 1),
        "slope_mb_a_minute": round(60 * slope, 2),
    }
