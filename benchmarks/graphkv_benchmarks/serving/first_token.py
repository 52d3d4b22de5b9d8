"""The time to the first words over HTTP: of the first question over documents, and of later ones that find them read.

    first      the documents are new to the server: they are encoded
    second     another question over them
    reordered  a third one, the documents in another order
    restarted  the server was killed and started again: the blocks come from the disk
    moved      the same, and the documents in another order
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .client import Reply, ask, client_of
from .contexts import Context

WAYS = ("first", "second", "reordered", "restarted", "moved")
QUESTIONS = len(WAYS)
"""Questions that a context must have: each way asks another."""

Answers = Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Asked:
    """One measured question: over which context, in which way, and what came."""

    context: Context
    way: str
    reply: Reply
    expected: str

    @property
    def problem(self) -> str | None:
        """What is wrong with the reply; None if it is what was expected."""
        where = f"{self.context.name}, {self.way}"
        if self.reply.error is not None or self.reply.status != 200:
            return f"{where}: status {self.reply.status}: {self.reply.error}"
        if self.reply.text != self.expected:
            return f"{where}: {self.reply.text!r} came, {self.expected!r} is the answer of ask()"
        return None if self.reply.first is not None else f"{where}: the answer came without words"


async def measure_first(url: str, restart: Callable[[], str], sizes: Mapping[int, Sequence[Context]], warm: Context, answers: Answers) -> list[Asked]:
    """Ask everything: every context in the first three ways, then, after restarts, in the fourth and the fifth.

    Args:
        restart: kills the server, starts it and returns its new address. sizes: wanted tokens → contexts.
        warm: another context that is asked about first, whenever a server is new. answers: what ask() says.
    """
    contexts = [context for row in sizes.values() for context in row]
    asked = await _in_ways(url, contexts, WAYS[:3], warm, answers)
    for way in WAYS[3:]:
        url = restart()
        asked += await _in_ways(url, contexts, (way,), warm, answers)
    return asked


async def _in_ways(url: str, contexts: Sequence[Context], ways: Sequence[str], warm: Context, answers: Answers) -> list[Asked]:
    asked = []
    async with client_of(url) as client:
        for question in warm.questions[:2]:
            await ask(client, warm.body(question, stream=True), stream=True)
        for context in contexts:
            for way in ways:
                number = WAYS.index(way)
                question = context.questions[number]
                sent = context.shuffled(number) if way in ("reordered", "moved") else context
                reply = await ask(client, sent.body(question, stream=True), stream=True)
                asked.append(Asked(context, way, reply, answers[context.name, question]))
    return asked


def rows_of(asked: Sequence[Asked], sizes: Mapping[int, Sequence[Context]]) -> list[dict[str, Any]]:
    """A row a size: the median of each way, how many times less than the first question's it is, and whether all tokens of the context were reused."""
    rows = []
    for size, contexts in sizes.items():
        names = {context.name for context in contexts}
        ways: dict[str, dict[str, Any]] = {}
        for way in WAYS:
            these = [one for one in asked if one.way == way and one.context.name in names]
            replies = [one.reply for one in these]
            seconds = [reply.first for reply in replies if reply.first is not None]
            if not seconds:
                continue
            median = statistics.median(seconds)
            ways[way] = {"ttft": round(median, 4), "ttft_all": [round(s, 4) for s in seconds], "times_faster": round(ways["first"]["ttft"] / median, 2) if ways else 1.0}
            ways[way] |= {"prompt_tokens": _median(replies, "prompt_tokens"), "cached_tokens": int(statistics.median(reply.cached for reply in replies))}
            ways[way] |= {"all_cached": all(one.reply.cached >= one.context.tokens for one in these)}
        rows.append({"tokens": size, "context_tokens": [c.tokens for c in contexts], "documents": [len(c.documents) for c in contexts], "ways": ways})
    return rows


def _median(replies: Sequence[Reply], name: str) -> int:
    return int(statistics.median(int(reply.usage.get(name, 0)) for reply in replies))
