"""What a codec costs: error in the logits, exact match, and bytes, each beside the exact store."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers

from graphkv.engine import GraphKV
from graphkv.errors import check_count
from graphkv.graph import SegmentGraph
from graphkv.kv import SegmentKV
from graphkv.store import CODECS, MemoryStore
from graphkv.store.tensors import to_bytes

from .citation_world import make_world
from .machine import machine
from .scoring import paired_difference, wilson

PER_WORLD = 10
"""Questions of one world."""

HOW = {
    "documents": "held-out citation worlds, the full mixture of citation styles and questions, layout graph; every codec answers the same questions, greedily",
    "exact_match": "the whole answer equals the gold answer; 95% Wilson interval",
    "difference": "exact match minus that of the exact store, paired, 95% interval of Agresti and Min",
    "same_answer": "share of answers that are those of the exact store, right or wrong",
    "logits": "relative distance |l - l_exact| / |l_exact| of the logits at all tokens of a question, one question a world: median and largest over the worlds",
    "top1": "share of those tokens at which the most likely next token is that of the exact store",
    "bytes": "file of a block with 512 tokens (and with 64) of 24 layers, 2 key heads of 64, bfloat16, over the same block's exact file",
}


def run_codecs(
    engine: GraphKV, *, documents: int = 8, questions: int = 500, seed: int = 1, codecs: Sequence[str] = tuple(CODECS), report: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Answer the same questions over each codec.

    Args:
        documents: papers a world. questions: in all, ten a world. report: called with (questions done, questions to do).

    Returns:
        ``{"machine", "how", "settings", "codecs": {name: {...}}}``; ``exact`` is always among them.

    Raises:
        InputError: a number below 1, or an unknown codec.
    """
    for name, value in (("documents", documents), ("questions", questions)):
        check_count(name, value)
    names = ["exact", *(name for name in codecs if name != "exact")]
    stores = {name: MemoryStore(codec=name) for name in names}
    engines = {name: GraphKV(engine.model, store=store, template=engine.template) for name, store in stores.items()}
    texts: dict[str, list[str]] = {name: [] for name in names}
    right: dict[str, list[bool]] = {name: [] for name in names}
    apart: dict[str, list[float]] = {name: [] for name in names}
    same_top: dict[str, list[float]] = {name: [] for name in names}
    number = 0
    while len(texts["exact"]) < questions:
        world = make_world(seed * 1_000_003 + number, documents, held_out=True)
        asked = world.questions[: min(PER_WORLD, questions - len(texts["exact"]))]
        graph = SegmentGraph.from_documents(world.to_row()["documents"])
        number += 1
        reference: torch.Tensor | None = None
        for name in names:
            answers = [a.text.strip() for a in engines[name].ask_many(graph, [q.question for q in asked])]
            texts[name] += answers
            right[name] += [a == q.answer for a, q in zip(answers, asked, strict=True)]
            logits = engines[name].logits(graph, asked[0].question).double()
            reference = logits if reference is None else reference
            apart[name].append(float((logits - reference).norm() / reference.norm()))
            same_top[name].append(float((logits.argmax(-1) == reference.argmax(-1)).double().mean()))
            stores[name].clear()  # what is measured is a fresh encoding of every world
        if report:
            report(len(texts["exact"]), questions)
    rows = {}
    for name in names:
        low, high = wilson(sum(right[name]), questions)
        difference = paired_difference(right[name], right["exact"])
        rows[name] = {
            "exact_match": round(sum(right[name]) / questions, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "difference": [round(x, 4) for x in difference],
            "same_answer": round(sum(a == b for a, b in zip(texts[name], texts["exact"], strict=True)) / questions, 4),
            "logits_median": float(f"{statistics.median(apart[name]):.3g}"),
            "logits_largest": float(f"{max(apart[name]):.3g}"),
            "top1": round(statistics.fmean(same_top[name]), 4),
            "bytes_512": bytes_over_exact(name, 512),
            "bytes_64": bytes_over_exact(name, 64),
        }
    return {
        "machine": machine() | {"transformers": transformers.__version__, "dtype": str(engine.model.dtype).removeprefix("torch.")},
        "how": HOW,
        "settings": {"weights": engine.model.fingerprint, "documents": documents, "questions": questions, "worlds": number, "seed": seed},
        "codecs": rows,
    }


def bytes_over_exact(codec: str, tokens: int) -> float:
    """Bytes of a block's file over those of its exact file: 24 layers, 2 key heads of 64, bfloat16, as Qwen2.5-0.5B has them.

    Example:
        >>> bytes_over_exact("int8", 512) < 0.515
        True
    """
    generator = torch.Generator().manual_seed(0)
    keys, values = (tuple(torch.randn(2, tokens, 64, generator=generator).bfloat16() for _ in range(24)) for _ in range(2))
    block = SegmentKV("0" * 64, tuple(range(tokens)), keys, values)
    sizes = {name: len(to_bytes(block, CODECS[name], CODECS[name].pack(block))) for name in ("exact", codec)}
    return round(sizes[codec] / sizes["exact"], 4)


def table(result: dict[str, Any]) -> list[str]:
    """The codecs in markdown, a line each."""
    lines = ["| codec | exact match | minus exact's | same answer | logits apart: median, largest | top-1 | bytes, 512 tokens | bytes, 64 tokens |", "|---|---|---|---|---|---|---|---|"]
    for name, row in result["codecs"].items():
        match = f"{100 * row['exact_match']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        difference, low, high = (100 * x for x in row["difference"])
        apart = f"{row['logits_median']:.2g}, {row['logits_largest']:.2g}"
        cells = [name, match, f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]", f"{100 * row['same_answer']:.1f}%", apart, f"{100 * row['top1']:.1f}%"]
        lines.append("| " + " | ".join([*cells, f"{row['bytes_512']:.3f}", f"{row['bytes_64']:.3f}"]) + " |")
    return lines
