"""Held-out exact match of a trained checkpoint: ``python -m graphkv_benchmarks.embedded.evaluate MODEL --out results.json``.

One cell per layout, number of documents, hops and citation style. An answer is right when greedy decoding would give exactly the gold
tokens and then stop. That is read off one packed forward: with the gold answer as input, every row's arg-max is the gold token if and
only if greedy decoding from the question produces it. Controls: ``graph-wrong`` gives each citing paper other edges than its own,
``graph-removed`` drops the gold document.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from ..citation_world import Question, Recipe, World, make_world
from .episodes import build, wrong_sources
from .net import Net, Shape

ARMS = ("graph", "block", "pcw", "sequential", "graph-wrong", "graph-removed")


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% Wilson score interval of a share."""
    if count == 0:
        return 0.0, 1.0
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def load_net(folder: Path) -> tuple[Net, PreTrainedTokenizerFast]:
    """An exported checkpoint, read through transformers and run in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = model.config
    shape = Shape(
        config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads,
        config.head_dim, config.intermediate_size, eps=config.rms_norm_eps,
    )  # fmt: skip
    net = Net(shape)
    net.load_state_dict({k: v for k, v in model.state_dict().items() if k != "lm_head.weight"})
    return net.eval(), PreTrainedTokenizerFast.from_pretrained(folder)


def pick(world: World, style: str, hops: int, limit: int) -> list[Question]:
    """Up to ``limit`` questions of a cell; named one-hop ones ask for an attribute or a cited title alike."""
    return [q for q in world.questions if q.style == style and q.hops == hops][:limit]


def without(world: World, gold: str) -> World:
    """The world less one paper; edges to it go too."""
    kept = [p for p in world.papers if p.id != gold]
    for paper in kept:
        paper.cites = {r: c for r, c in paper.cites.items() if c[0] != gold}
    return World(kept, world.questions)


@torch.no_grad()
def score(
    net: Net, tokenizer: PreTrainedTokenizerFast, arm: str, world: World, asked: Sequence[Question], rng: random.Random
) -> list[bool]:
    """Whether each question is answered exactly."""
    layout = arm.split("-")[0]
    sources = wrong_sources(world, rng) if arm == "graph-wrong" else None
    episode = build(world, asked, layout, tokenizer, sources, with_probes=False)
    hidden, _ = net(episode.ids, episode.positions, episode.mask)
    right = net.logits(hidden[episode.answer_at]).argmax(-1) == episode.answer_ids
    return [bool(right[episode.answer_question == i].all()) for i in range(len(asked))]


def cell(
    net: Net, tokenizer: PreTrainedTokenizerFast, arm: str, documents: int, hops: int, style: str, count: int, seed: int
) -> dict[str, Any]:
    """Accuracy over ``count`` held-out questions, at most eight from one world, also by what is asked."""
    rng, right, done, index = random.Random(seed), 0, 0, 0
    kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    while done < count:
        recipe = Recipe(bare=1.0 if style == "bare" else 0.0)
        world = make_world(seed * 1_000_003 + index, documents, True, recipe)
        index += 1
        asked = pick(world, style, hops, min(8, count - done))
        if not asked:
            continue
        if arm == "graph-removed":
            # One question a world, because its gold document is taken out.
            asked = asked[:1]
            world = without(world, asked[0].gold)
        for question, ok in zip(asked, score(net, tokenizer, arm, world, asked, rng), strict=True):
            right, done = right + ok, done + 1
            kinds[question.kind][0] += ok
            kinds[question.kind][1] += 1
    low, high = wilson(right, done)
    result = {"layout": arm, "documents": documents, "hops": hops, "style": style, "right": right, "questions": done}
    result |= {"accuracy": round(right / done, 4), "low": round(low, 4), "high": round(high, 4)}
    return result | {"by_kind": dict(sorted(kinds.items()))}


def evaluate(folder: Path, arms: Sequence[str], documents: Sequence[int], count: int, seed: int) -> list[dict[str, Any]]:
    """All cells; each is printed as it is done."""
    net, tokenizer = load_net(folder)
    cells = []
    for size in documents:
        for style in ("named", "bare"):
            for hops in (1, 2):
                for arm in arms:
                    if arm == "graph-removed" and (style == "bare" or size != 8):
                        continue
                    result = cell(net, tokenizer, arm, size, hops, style, 150 if arm == "graph-removed" else count, seed)
                    cells.append(result)
                    share = f"{100 * result['accuracy']:5.1f}%  [{100 * result['low']:.1f}, {100 * result['high']:.1f}]"
                    print(
                        f"{size:3d} documents  {style:5s} {hops}-hop  {arm:13s} {result['right']:4d}/{result['questions']:<4d} {share}",
                        flush=True,
                    )
    return cells


def markdown(cells: Sequence[dict[str, Any]]) -> str:
    """The cells as a table: one row per documents, style and hops, one column per arm, "percent [interval] of n"."""
    arms = [arm for arm in ARMS if any(c["layout"] == arm for c in cells)]
    lines = ["| documents | questions | " + " | ".join(arms) + " |", "|---|---|" + "---|" * len(arms)]
    rows: dict[tuple[int, str, int], dict[str, str]] = {}
    for c in cells:
        text = f"{100 * c['accuracy']:.1f} [{100 * c['low']:.1f}, {100 * c['high']:.1f}] n={c['questions']}"
        rows.setdefault((c["documents"], c["style"], c["hops"]), {})[c["layout"]] = text
    for (documents, style, hops), found in rows.items():
        lines.append(f"| {documents} | {style}, {hops} hop{'s' * (hops > 1)} | " + " | ".join(found.get(arm, "") for arm in arms) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="graphkv_benchmarks.embedded.evaluate", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("model", type=Path, help="folder of an exported checkpoint")
    parser.add_argument("--layouts", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--documents", nargs="+", type=int, default=[4, 8, 12])
    parser.add_argument("--questions", type=int, default=240, help="questions a cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="write the cells as JSON")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    started = time.monotonic()
    cells = evaluate(args.model, args.layouts, args.documents, args.questions, args.seed)
    if args.out:
        head = {"model": str(args.model), "held_out": True, "seed": args.seed, "dtype": "float32", "torch": torch.__version__}
        args.out.write_text(json.dumps(head | {"cells": cells}, indent=1) + "\n")
    print(markdown(cells))
    print(json.dumps({"cells": len(cells), "seconds": round(time.monotonic() - started, 1)}))


if __name__ == "__main__":
    main()
