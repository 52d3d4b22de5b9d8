"""Perplexity of held-out text under landmarks beside plain training: ``python -m graphkv_benchmarks.landmark.perplexity --plain runs/landmark/plain/model``.

Both arms begin with the same weights and get the same rows, seeds and steps (``python -m graphkv_benchmarks.landmark.train`` makes either); one reads
with landmarks, the other plainly. What is measured are the documents of held-out citation worlds, up to 512 tokens together: every token but a
document's first, given all text before it. The interval is a bootstrap over worlds.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from graphkv.engine import GraphKV
from graphkv.graph import SegmentGraph
from graphkv.landmark import landmark_of
from graphkv.progress import late_progress
from graphkv.tokens import TokenReader
from graphkv.train.reading import reading_episode

from ..machine import machine
from ..result_file import write_result
from .rows import make_rows

WANTED = 1.02
SAMPLES = 10_000
HOW = (
    "exp of the mean negative log-likelihood a token; every token of a document but its first, given all text before it; documents of held-out "
    f"citation worlds of at most 512 tokens together; ratio: landmark arm over plain arm, 95% interval by {SAMPLES:,} bootstrap samples of worlds"
)


@torch.no_grad()
def text_losses(reader: TokenReader, graphs: Sequence[SegmentGraph], reading: str, progress: Any = None) -> list[tuple[float, int]]:
    """For each graph the summed negative log-likelihood of its documents' tokens (natural log), and how many there are."""
    losses = []
    for number, graph in enumerate(graphs, start=1):
        episode = reading_episode(reader, graph, [("?", "?")], reading, {})
        logits = reader.model.packed_logits(episode.token_ids, episode.positions, episode.pattern, keep=episode.text_at)
        losses.append((float(F.cross_entropy(logits.float(), episode.text_ids.to(logits.device), reduction="sum")), len(episode.text_ids)))
        if progress is not None:
            progress(number, len(graphs))
    return losses


def perplexity(losses: Sequence[tuple[float, int]]) -> float:
    """exp of the mean over all tokens.

    Example:
        >>> perplexity([(2 * math.log(8), 2), (0.0, 1)])
        4.0
    """
    return round(math.exp(sum(loss for loss, _ in losses) / sum(count for _, count in losses)), 12)


def ratio_interval(ones: Sequence[tuple[float, int]], others: Sequence[tuple[float, int]], seed: int) -> tuple[float, float]:
    """95% bootstrap interval of the ratio of perplexities over the same texts.

    Example:
        >>> ratio_interval([(1.0, 4)] * 9, [(1.0, 4)] * 9, seed=1)
        (1.0, 1.0)
    """
    differences = [(one - other, count) for (one, count), (other, _) in zip(ones, others, strict=True)]
    rng, ratios = random.Random(f"landmark perplexity {seed}"), []
    for _ in range(SAMPLES):
        drawn = rng.choices(differences, k=len(differences))
        ratios.append(math.exp(sum(d for d, _ in drawn) / sum(count for _, count in drawn)))
    ratios.sort()
    return ratios[round(0.025 * SAMPLES)], ratios[round(0.975 * SAMPLES) - 1]


def compare(landmark: Mapping[str, GraphKV], plain: GraphKV, *, worlds: int, seed: int) -> dict[str, Any]:
    """Landmark arms, by name, beside a plain one over `worlds` held-out worlds.

    Raises:
        UnsupportedModelError: an arm has no landmarks.

    Example:
        >>> compare({"shipped": engine}, plain, worlds=200, seed=77)["arms"]["shipped"]["ratio"]  # doctest: +SKIP
        1.011
    """
    configs = {name: landmark_of(engine.model) for name, engine in landmark.items()}
    graphs = [SegmentGraph.from_documents(row["documents"]) for row in make_rows(seed, worlds, held_out=True, kinds=["world"])]
    arms: dict[str, Any] = {}
    with late_progress("reading worlds") as progress:
        theirs = text_losses(plain.reader, graphs, "sequential", progress)
        for name, engine in landmark.items():
            ours = text_losses(engine.reader, graphs, "landmark", progress)
            itself = text_losses(engine.reader, graphs, "sequential", progress)
            ratio = perplexity(ours) / perplexity(theirs)
            arms[name] = {
                "weights": engine.model.fingerprint,
                "block": configs[name].block,
                "perplexity": round(perplexity(ours), 4),
                "read_plainly": round(perplexity(itself), 4),
                "ratio": round(ratio, 4),
                "interval": [round(bound, 4) for bound in ratio_interval(ours, theirs, seed)],
                "met": ratio <= WANTED,
            }
    return {
        "how": HOW,
        "machine": machine(),
        "settings": {"worlds": worlds, "seed": seed, "plain": plain.model.fingerprint},
        "tokens": sum(count for _, count in theirs),
        "plain": round(perplexity(theirs), 4),
        "wanted": WANTED,
        "arms": arms,
    }


def table(result: dict[str, Any]) -> list[str]:
    """The result as lines of Markdown."""
    lines = ["| model | under landmarks | plainly | ratio to the plain arm |", "|---|---|---|---|", f"| plain arm | | {result['plain']:.3f} | |"]
    for name, arm in result["arms"].items():
        low, high = arm["interval"]
        lines.append(f"| {name} | {arm['perplexity']:.3f} | {arm['read_plainly']:.3f} | {arm['ratio']:.3f} [{low:.3f}, {high:.3f}] |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m graphkv_benchmarks.landmark.perplexity", description="Perplexity under landmarks beside plain training.")
    parser.add_argument("--landmark", nargs="+", default=["shipped=embedded-landmark"], metavar="NAME=MODEL", help="landmark arms")
    parser.add_argument("--plain", required=True, help="the plain arm's model, as graphkv_benchmarks.landmark.train --plain makes it")
    parser.add_argument("--worlds", type=int, default=400)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/landmark_perplexity.json"))
    args = parser.parse_args(argv)
    if args.worlds < 2:
        parser.error(f"--worlds must be at least 2 for an interval, got {args.worlds}")
    named = dict(arm.split("=", 1) for arm in args.landmark if "=" in arm)
    if len(named) < len(args.landmark):
        parser.error(f"--landmark takes NAME=MODEL with names of their own, got {' '.join(args.landmark)}")
    engines = {name: GraphKV.from_pretrained(model, store="memory") for name, model in named.items()}
    result = compare(engines, GraphKV.from_pretrained(args.plain, store="memory"), worlds=args.worlds, seed=args.seed)
    write_result(args.out, result)
    print(json.dumps({"plain": result["plain"], **{name: {key: arm[key] for key in ("perplexity", "ratio", "interval", "met")} for name, arm in result["arms"].items()}}))


if __name__ == "__main__":
    main()
