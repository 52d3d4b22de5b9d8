"""What is trained when: from copying random chunks to the full mixture, each stage entered when the one before is good enough."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from ..citation_world import Question, Recipe, World, make_world
from .episodes import Episode, build

FULL_MIX = {"graph": 0.5, "sequential": 0.2, "block": 0.15, "pcw": 0.15}


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum; it ends when first-token accuracy passes ``leave_at`` or its share of the time is over."""

    name: str
    recipe: Recipe | None
    documents: tuple[int, int]
    two_hops: float
    questions: int
    leave_at: float
    latest: float


STAGES = (
    Stage("induction", None, (0, 0), 0.0, 0, 0.90, 0.05),
    Stage("one fact", Recipe((1, 1), same_attributes=True, cite=0.0, pronoun=0.0, collide=0.0), (3, 6), 0.0, 6, 0.85, 0.20),
    Stage("two facts", Recipe((1, 2), same_attributes=True, cite=0.5, second_cite=0.0, bare=0.3, pronoun=0.2, collide=0.0), (3, 6), 0.35, 12, 0.80, 0.30),
    Stage("three facts", Recipe((2, 3), cite=0.7, second_cite=0.15, pronoun=0.4, collide=0.0), (3, 7), 0.45, 16, 0.80, 0.45),
    Stage("full", Recipe(collide=0.1), (2, 10), 0.5, 20, 0.93, 0.70),
    Stage("collisions", Recipe(collide=0.25), (2, 12), 0.5, 20, 2.0, 9.0),
)  # fmt: skip


def induction_episode(rng: random.Random, vocab: int, chunk: int = 32, chunks: int = 4) -> Episode:
    """Random chunks, then the same chunks in another order; only the second copies are predicted."""
    parts = [[rng.randrange(3, vocab) for _ in range(chunk)] for _ in range(chunks)]
    again = rng.sample(range(chunks), chunks)
    ids = torch.tensor([t for p in parts for t in p] + [t for i in again for t in parts[i]])
    size = len(ids)
    # The first token of each copy cannot be known.
    at = torch.tensor([i for i in range(chunk * chunks, size - 1) if (i + 1) % chunk])
    none = torch.zeros(0, dtype=torch.long)
    mask = torch.ones(size, size, dtype=torch.bool).tril()
    positions = torch.arange(size) + rng.randrange(200)
    return Episode(ids, positions, mask, size, at, ids[at + 1], torch.zeros_like(at), none, none, {}, [])


def choose(world: World, rng: random.Random, count: int, two_hops: float) -> list[Question]:
    """Up to ``count`` questions: the wanted share of two hops, and up to half of the rest about a citation."""
    far = [q for q in world.questions if q.hops == 2]
    links = [q for q in world.questions if q.hops == 1 and q.kind in ("builds", "compares")]
    near = [q for q in world.questions if q.hops == 1 and q.kind not in ("builds", "compares")]
    # Bare ones are rare and hard: put them first most of the time.
    if rng.random() < 0.7:
        far.sort(key=lambda q: q.style == "named")
        links.sort(key=lambda q: q.style == "named")
    picked = far[: round(count * two_hops)]
    picked += links[: max(1, (count - len(picked)) // 2)]
    return (picked + near[: count - len(picked)])[:count]


def draw(
    stage: Stage, seed: int, tokenizer: PreTrainedTokenizerFast, probes: bool, mix: dict[str, float] | None = None
) -> tuple[str, Episode]:
    """One training episode and the name of its layout."""
    rng = random.Random(seed)
    if stage.recipe is None:
        return "induction", induction_episode(rng, len(tokenizer))
    mix = mix or FULL_MIX
    layout = rng.choices(list(mix), weights=list(mix.values()))[0]
    recipe = stage.recipe
    if layout != "graph":
        # Without the edge a bare citation cannot be resolved.
        recipe = Recipe(**{**vars(recipe), "bare": 0.0})
    low, high = stage.documents
    documents = rng.randint(low, min(high, 8)) if rng.random() < 0.85 else rng.randint(low, high)
    world = make_world(rng.randrange(2**40), documents, False, recipe)
    return layout, build(world, choose(world, rng, stage.questions, stage.two_hops), layout, tokenizer, with_probes=probes)


def kinds(questions: Sequence[Question], layout: str) -> list[str]:
    """The label under which each question's accuracy is followed."""
    return [f"{'graph' if layout == 'graph' else 'other'}.{q.style}{q.hops}.{q.kind}" for q in questions]
