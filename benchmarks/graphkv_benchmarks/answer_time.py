"""How long a whole answer takes: over documents that are encoded, over documents that are not, and by transformers alone.

Every question is asked all three ways in turn, so a busy machine slows all of them. Before anything is timed, the engine's
``sequential`` answer must be transformers' own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers

from graphkv.engine import GraphKV
from graphkv.errors import InputError, check_count
from graphkv.store import MemoryStore

from .citation_world import make_world
from .machine import machine

HOW = {
    "encoded": "ask() with layout graph after encode(): plan, assembly, the question, and all tokens of the answer",
    "not_encoded": "the same with an empty store: the documents are encoded first",
    "transformers": "the same documents and question as one prompt, model.generate() of transformers, greedy",
    "seconds": "of the whole answer; the median of the repeats of each question, then median and largest over questions",
    "over_encoded": "transformers' median over the median with encoded documents",
}


def run_answer_time(engine: GraphKV, *, documents: int = 8, questions: int = 24, repeats: int = 5, seed: int = 1) -> dict[str, Any]:
    """Time `questions` answers, each about another held-out citation world.

    Args:
        documents: papers a world. repeats: timed answers of each question and way.

    Returns:
        ``{"machine", "how", "settings", "ways": {name: {"median", "largest"}}, "over_encoded"}``, in seconds.

    Raises:
        InputError: a number below 1, or a model whose chat template takes no documents.
        ArithmeticError: the engine's sequential answer is not transformers' own; a wrong answer has no time.

    Example:
        >>> run_answer_time(GraphKV.from_pretrained(), questions=2)["ways"]["encoded"]["median"] < 1  # doctest: +SKIP
        True
    """
    if engine.template.origin != "documents":
        raise InputError(
            f"transformers alone needs a chat template that takes documents; this prompt comes from {engine.template.origin!r}: choose such a model, or none for the embedded one"
        )
    for name, value in (("documents", documents), ("questions", questions), ("repeats", repeats)):
        check_count(name, value)
    times: dict[str, list[float]] = {"encoded": [], "not_encoded": [], "transformers": []}
    for number in range(questions):
        world = make_world(seed * 1_000_003 + number, documents, held_out=True)
        question = world.questions[0].question
        rows = world.to_row()["documents"]
        ours, theirs = engine.ask(rows, question, layout="sequential").text, _plain(engine, rows, question)
        if ours != theirs:
            raise ArithmeticError(f"{question!r}: the engine's sequential answer is {ours!r}, that of transformers {theirs!r}")
        for way, seconds in _in_turn(engine, rows, question, repeats).items():
            times[way].append(statistics.median(seconds))
    ways = {way: {"median": round(statistics.median(all_), 4), "largest": round(max(all_), 4)} for way, all_ in times.items()}
    return {
        "machine": machine() | {"transformers": transformers.__version__, "dtype": str(engine.model.dtype).removeprefix("torch.")},
        "how": HOW,
        "settings": {"weights": engine.model.fingerprint, "documents": documents, "questions": questions, "repeats": repeats, "seed": seed},
        "ways": ways,
        "over_encoded": round(ways["transformers"]["median"] / ways["encoded"]["median"], 2),
    }


def _in_turn(engine: GraphKV, documents: Sequence[dict[str, Any]], question: str, repeats: int) -> dict[str, list[float]]:
    def afresh() -> None:
        empty = GraphKV(engine.model, store=MemoryStore(), template=engine.template, max_segment_tokens=engine.max_segment_tokens)
        empty.ask(documents, question)

    ways: dict[str, Callable[[], object]] = {
        "encoded": lambda: engine.ask(documents, question),
        "not_encoded": afresh,
        "transformers": lambda: _plain(engine, documents, question),
    }
    engine.encode(documents)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, call in ways.items():
            start = time.perf_counter()
            call()
            times[way].append(time.perf_counter() - start)
    return times


@torch.no_grad()
def _plain(engine: GraphKV, documents: Sequence[dict[str, Any]], question: str) -> str:
    """What transformers answers to the chat template's own prompt, without graphkv."""
    tokenizer, model = engine.model.tokenizer, engine.model.model
    chat = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(chat, documents=list(documents), add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**prompt.to(model.device), do_sample=False, max_new_tokens=64)
    text: str = tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip()
