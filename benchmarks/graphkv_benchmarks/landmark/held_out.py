"""Held-out answers of the landmark model at the length it was trained for: ``python -m graphkv_benchmarks.landmark.held_out``.

Rows of each kind (see `rows.py`) with names and seeds that training did not have, read under landmarks with every block open, and plainly. An answer
is right if each of its tokens and its end are the most likely ones where the tokens before are given, which is what greedy decoding would write.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from graphkv.engine import GraphKV
from graphkv.graph import SegmentGraph
from graphkv.landmark import has_landmarks, landmark_of
from graphkv.progress import late_progress
from graphkv.train.reading import reading_episode

from ..citation_world import NOT_FOUND
from ..citation_world.needles import PASSKEY
from ..machine import machine
from ..result_file import write_result
from ..scoring import wilson
from .rows import make_rows

READINGS = ("landmark", "sequential")
HOW = "held-out rows of at most 512 tokens; every token of the answer and its end most likely given those before; all blocks read; 95% Wilson intervals"


def kind_of(kind: str, question: str, answer: str) -> str:
    """Under which name an answer is counted: the kind of its row; pass keys, and what is not in the documents, by themselves.

    Example:
        >>> kind_of("needle", "What is the pass key?", "12345"), kind_of("world", "Who wrote X?", "not in the documents")
        ('passkey', 'world, not there')
    """
    kind = "passkey" if question == PASSKEY[1] else kind
    return f"{kind}, not there" if answer == NOT_FOUND else kind


@torch.no_grad()
def measure(engine: GraphKV, *, rows: int, seed: int) -> dict[str, Any]:
    """Right answers by reading and kind; of a model without landmarks, its parent say, under the plain reading only.

    Example:
        >>> measure(engine, rows=400, seed=901)["landmark"]["passkey"]["accuracy"]  # doctest: +SKIP
        1.0
    """
    readings = READINGS if has_landmarks(engine.model) else READINGS[1:]
    counts: dict[str, dict[str, list[bool]]] = {reading: defaultdict(list) for reading in readings}
    with late_progress("reading rows") as progress:
        for number, row in enumerate(make_rows(seed, rows, held_out=True), start=1):
            graph = SegmentGraph.from_documents(row["documents"])
            questions = [(q["question"], q["answer"]) for q in row["questions"]]
            for reading in readings:
                episode = reading_episode(engine.reader, graph, questions, reading, {})
                logits = engine.model.packed_logits(episode.token_ids, episode.positions, episode.pattern, keep=episode.answer_at)
                wrong = logits.argmax(-1).cpu() != episode.answer_ids
                for index, (question, answer) in enumerate(questions):
                    counts[reading][kind_of(row["kind"], question, answer)].append(not bool(wrong[episode.answer_question == index].any()))
            progress(number, rows)
    return {
        "how": HOW,
        "machine": machine(),
        "settings": {"rows": rows, "seed": seed, "block": landmark_of(engine.model).block if READINGS[0] in readings else None, "weights": engine.model.fingerprint},
        **{reading: {kind: _cell(found) for kind, found in sorted(kinds.items())} for reading, kinds in counts.items()},
    }


def _cell(found: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson(sum(found), len(found))
    return {"right": sum(found), "questions": len(found), "accuracy": round(sum(found) / len(found), 4), "low": round(low, 4), "high": round(high, 4)}


def table(result: dict[str, Any], parent: dict[str, Any] | None = None) -> list[str]:
    """The result as lines of Markdown, in percent; with the parent's plain reading as a last column."""
    columns = {reading: result[reading] for reading in READINGS if reading in result} | ({"parent, sequential": parent["sequential"]} if parent else {})
    lines = ["| questions | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for kind, cell in next(iter(columns.values())).items():
        cells = [column[kind] for column in columns.values()]
        shown = (f"{100 * c['accuracy']:.1f} [{100 * c['low']:.1f}, {100 * c['high']:.1f}]" for c in cells)
        lines.append(f"| {kind} ({cell['questions']}) | " + " | ".join(shown) + " |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m graphkv_benchmarks.landmark.held_out", description="Held-out answers of the landmark model.")
    parser.add_argument("--model", default="embedded-landmark")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--seed", type=int, default=901)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/landmark_held_out.json"))
    args = parser.parse_args(argv)
    if args.rows < 1:
        parser.error(f"--rows must be at least 1, got {args.rows}")
    result = measure(GraphKV.from_pretrained(args.model, store="memory"), rows=args.rows, seed=args.seed)
    write_result(args.out, result)
    print("\n".join(table(result)))
    print(json.dumps({reading: {kind: cell["accuracy"] for kind, cell in result[reading].items()} for reading in READINGS if reading in result}))


if __name__ == "__main__":
    main()
