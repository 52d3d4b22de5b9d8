"""The whole run: contexts and right answers first, then a server in a process of its own, and what was wanted beside what came."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import transformers

from graphkv.engine import GraphKV
from graphkv.errors import InputError, check_count

from ..machine import machine
from .contexts import Context, expected_answers, make_context
from .first_token import QUESTIONS, measure_first, rows_of
from .load import run_load, single_answers
from .peer import run_peer
from .process import Server
from .together import run_together
from .verdicts import verdicts

HOW = {
    "first_token": "seconds from the sent request to the first chunk with words, over HTTP, streamed, one client; medians over so many sets of documents that the server "
    "has not seen. second: another question over them; reordered: a third one, the documents in another order; restarted: a fourth, after the server was killed and "
    "started over its store on disk (the system's own file cache stays); moved: a fifth, after another restart, in another order. Every server first answers about "
    "other documents",
    "context_tokens": "tokens of all blocks under layout graph: a paper that cites is encoded once alone and once with what it cites",
    "load": "clients that ask one question after the other, at the same time, about a few contexts; half of the requests name documents that are with the server, the "
    "others bring them; half are streamed; one in twenty goes away as soon as its stream begins. Answers are compared with those that a single client got before",
    "memory": "of the server's process, every second; thirds of what comes behind the first quarter of the time",
    "together": "the same questions over one context, all at once and one after the other, by turns; medians",
    "peer": "transformers in the benchmark's process while the server idles",
}

Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        tokens: sizes of the contexts whose first words are timed. repeats: sets of documents of each size.
        clients, seconds: of the load. contexts, load_tokens, load_questions: how many contexts it is about, their size, and the questions about each.
        together, together_tokens, turns: questions at once, the sizes of their contexts, and how often both ways are timed.
    """

    tokens: tuple[int, ...] = (2048, 8192, 32768)
    repeats: int = 5
    clients: int = 64
    seconds: float = 60.0
    contexts: int = 12
    load_tokens: int = 2048
    load_questions: int = 8
    together: int = 16
    together_tokens: tuple[int, ...] = (1024, 4096)
    turns: int = 5
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("repeats", "clients", "contexts", "load_tokens", "load_questions", "together", "turns"):
            check_count(name, getattr(self, name))
        if not self.tokens or not self.together_tokens or self.seconds <= 0:
            raise InputError("expected at least one context size, and more than 0 seconds of load")
        for size in (*self.tokens, *self.together_tokens):
            check_count("tokens", size)


def run_serving(plan: Plan, *, model: str | None = None, report: Report = lambda line: None) -> dict[str, Any]:
    """Measure a server.

    Args:
        model: as ``graphkv serve --model`` takes it; none: the embedded model.

    Returns:
        ``{"machine", "how", "settings", "first_token", "load", "together", "peer", "problems", "checks", "met"}``; `met` is False if any check is not.

    Raises:
        InputError: a plan that cannot be. ModelError: the server does not start.

    Example:
        >>> run_serving(Plan(tokens=(2048,), seconds=5, clients=8))["met"]  # doctest: +SKIP
        True
    """
    engine = GraphKV.from_pretrained(model, store="memory")
    seed = plan.seed * 1_000_003
    report("making contexts, and answering in this process")
    sizes = {size: [make_context(engine, f"t{size}-{i}", seed + 1000 * i + size, size, QUESTIONS) for i in range(plan.repeats)] for size in plan.tokens}
    load = [make_context(engine, f"load{i}", seed + 500_000 + i, plan.load_tokens, plan.load_questions) for i in range(plan.contexts)]
    crowds = [make_context(engine, f"crowd{size}", seed + 600_000 + size, size, plan.together) for size in plan.together_tokens]
    warm = make_context(engine, "warm", seed + 700_000, min(plan.tokens), 2)
    answers = expected_answers(engine, [*(context for row in sizes.values() for context in row), *load, *crowds])
    with tempfile.TemporaryDirectory(prefix="graphkv-serving-", dir=os.environ.get("GRAPHKV_BENCH_DIR")) as folder, Server(Path(folder), model) as server:
        return _measure(plan, engine, server, _Asked(sizes, load, crowds, warm, answers), report)


@dataclass(frozen=True)
class _Asked:
    """What is asked, and the answers of ask()."""

    sizes: dict[int, list[Context]]
    load: list[Context]
    crowds: list[Context]
    warm: Context
    answers: dict[tuple[str, str], str]


def _measure(plan: Plan, engine: GraphKV, server: Server, asked: _Asked, report: Report) -> dict[str, Any]:
    starts: list[float] = []

    def restart() -> str:
        report("killing the server and starting it again")
        starts.append(round(server.restart(), 2))
        return server.url

    report("first questions and later ones")
    first = asyncio.run(measure_first(server.url, restart, asked.sizes, asked.warm, asked.answers))
    report(f"{plan.together} questions at once and one at a time")
    problems: dict[str, list[str]] = {"first_token": [found for one in first if (found := one.problem) is not None]}
    problems["single"] = asyncio.run(_compared(server.url, asked))
    together = [
        {"context_tokens": crowd.tokens, **asyncio.run(run_together(server.url, crowd, asked.answers, turns=plan.turns, stored=stored))}
        for crowd in asked.crowds
        for stored in (True, False)
    ]
    problems["together"] = [line for row in together for line in row.pop("problems")]
    report("the same by transformers")
    peer = {crowd.tokens: run_peer(engine, crowd, turns=min(2, plan.turns)) for crowd in asked.crowds}
    report(f"{plan.clients} clients for {plan.seconds:.0f} s")
    load = asyncio.run(run_load(server.url, asked.load, asked.answers, server.memory_mb, clients=plan.clients, seconds=plan.seconds, seed=plan.seed))
    problems["server"] = server.failures()
    result = {
        "machine": machine() | {"transformers": transformers.__version__, "dtype": str(engine.model.dtype).removeprefix("torch."), **_versions()},
        "how": HOW,
        "settings": {"model": "embedded" if server.model is None else server.model, "weights": engine.model.fingerprint, "commit": commit(), **asdict(plan)},
        "first_token": rows_of(first, asked.sizes),
        "restart_seconds": starts,
        "together": together,
        "peer": [{"context_tokens": tokens, **found} for tokens, found in peer.items() if found is not None],
        "load": load,
        "problems": problems,
    }
    checks = verdicts(result)
    return {**result, "checks": checks, "met": all(check["met"] for check in checks)}


async def _compared(url: str, asked: _Asked) -> list[str]:
    """Leave the documents of the load and of the crowds with the server, ask everything once as a single client, and compare with ask()."""
    contexts = [*asked.load, *asked.crowds]
    found, problems = await single_answers(url, contexts)
    return [*problems, *(f"{name}: {text!r} instead of {wanted!r}" for (name, question), text in found.items() if text != (wanted := asked.answers[name, question]))]


def commit() -> str | None:
    """The commit of this checkout, with a + behind it if files were changed; None outside of one."""
    folder = Path(__file__).parent
    try:
        name = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return name + "+" * bool(changed)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("graphkv", "fastapi", "starlette", "uvicorn", "sse-starlette", "httpx")}
