"""What is trained when: from copying random chunks to the full mixture, each stage entered when the one before is good enough."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerFast

from ..citation_world import STYLES, Question, Recipe, World, make_needles, make_world
from .episodes import Episode, Reading, build, induction_episode, shortened

READINGS: tuple[tuple[float, str, Reading], ...] = (
    (0.42, "graph", Reading("graph")),
    (0.02, "rounds", Reading("graph", {"rounds": 2})),
    (0.02, "rounds", Reading("graph", {"rounds": 3})),
    (0.06, "graph-sequential-positions", Reading("graph", {"positions": "sequential"})),
    (0.06, "shared-no-edges", Reading("graph", edges=False)),
    (0.18, "sequential", Reading("sequential")),
    (0.14, "block", Reading("block")),
    (0.10, "pcw", Reading("pcw")),
)
"""Share, name in the metrics, reading."""

MIXED = (0.5, 0.15, 0.35)
NO_BARE, ONLY_NUMBERED, ONLY_BARE = (0.8, 0.2, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
WIDEST_RUNNING = 16
"""Running positions are trained up to so many papers; shared ones, which do not grow with the papers, up to twice as many."""

LEAST_NEAR = 0.3
"""Least share of room for questions about a single paper, also where the other shares leave less."""
MISSING = 0.25
"""Share of worlds that lack a paper or two that others cite."""
MOST_MISSES = 200
FEWEST_QUESTIONS = 4


@dataclass(frozen=True)
class Stage:
    """One step of the curriculum; it ends when first-token accuracy passes ``leave_at`` or its share of the steps is over.

    ``kinds`` are the shares of rows with short worlds, wide ones (many papers), long documents and needles. ``share`` are the shares
    of questions over two hops, three hops, about cited titles, comparing, and without an answer; the rest asks for a fact.
    """

    name: str
    recipe: Recipe | None
    documents: tuple[int, int]
    questions: int
    share: tuple[float, float, float, float, float]
    kinds: tuple[float, float, float, float]
    leave_at: float
    latest: float


_ONE = Recipe((1, 1), same_attributes=True, cite=0.0, pronoun=0.0, lead=0.0, collide=0.0)
_TWO = Recipe((1, 2), same_attributes=True, cite=0.6, second_cite=0.0, styles=(0.5, 0.1, 0.4), pronoun=0.2, lead=0.0, collide=0.0)
_THREE = Recipe((2, 3), cite=0.8, second_cite=0.15, styles=MIXED, pronoun=0.4, lead=0.1, collide=0.0)

STAGES = (
    Stage("induction", None, (0, 0), 0, (0, 0, 0, 0, 0), (1, 0, 0, 0), 0.90, 0.03),
    Stage("one fact", _ONE, (3, 6), 8, (0, 0, 0, 0, 0), (0.95, 0, 0, 0.05), 0.88, 0.09),
    Stage("two facts", _TWO, (3, 6), 14, (0.3, 0.05, 0.15, 0, 0.05), (0.92, 0, 0, 0.08), 0.82, 0.16),
    Stage("three facts", _THREE, (3, 7), 28, (0.24, 0.2, 0.18, 0.05, 0.1), (0.86, 0, 0.04, 0.1), 0.85, 0.27),
    Stage("full", Recipe(styles=MIXED, collide=0.15), (2, 9), 36, (0.22, 0.2, 0.2, 0.06, 0.12), (0.72, 0.08, 0.1, 0.1), 0.95, 0.5),
    Stage("wide", Recipe(styles=MIXED, collide=0.25), (2, 10), 36, (0.22, 0.2, 0.18, 0.06, 0.13), (0.5, 0.25, 0.15, 0.1), 2.0, 9.0),
)  # fmt: skip


def choose(world: World, rng: random.Random, count: int, share: Sequence[float]) -> list[Question]:
    """Up to ``count`` questions in about the wanted shares; for nearly half of the kinds of questions the harder citation styles come first."""
    far, farther, titles, compared, nothing = share
    wanted = {("attribute", 2): far, ("attribute", 3): farther, ("title", 1): titles, ("comparison", 1): compared}
    groups: dict[tuple[str, int], list[Question]] = {}
    for q in world.questions:
        groups.setdefault((q.type, 0 if q.type == "unanswerable" else q.hops), []).append(q)
    picked: list[Question] = []
    for group, part in [*wanted.items(), (("unanswerable", 0), nothing)]:
        found = groups.get(group, [])
        if rng.random() < 0.45:
            found = sorted(found, key=lambda q: -STYLES.index(q.style))
        # A share is met on average, not rounded away in small worlds.
        exact = part * count
        picked += found[: int(exact) + (rng.random() < exact - int(exact))]
    near = groups.get(("attribute", 1), [])
    return (picked + near[: max(0, min(count - len(picked), round(max(LEAST_NEAR, 1 - sum(share)) * count)))])[:count]


def _world(kind: str, stage: Stage, recipe: Recipe, rng: random.Random, reading: Reading) -> tuple[World, int]:
    """A training world of one kind, and how many questions to ask about it."""
    seed = rng.randrange(2**40)
    if kind == "needle":
        if rng.random() < 0.3:
            return make_needles(seed, rng.randint(20, 120), documents=rng.randint(2, 5), needles=rng.randint(2, 8)), 12
        return make_needles(seed, rng.choice((60, 150, 300, 500, 800)), needles=rng.randint(1, 8)), 12
    if kind == "long":
        words = rng.choice((80, 120, 200, 300, 300))
        documents = rng.randint(2, max(3, min(9, 1200 // words)))
        return make_world(seed, documents, recipe=replace(recipe, words=words)), stage.questions
    if kind == "wide":
        running = reading.options.get("positions") == "sequential" or reading.layout in ("sequential", "block")
        documents = rng.choice((*range(11, WIDEST_RUNNING + 1), WIDEST_RUNNING)) if running else rng.choice((12, 14, 16, 16, 18, 20, 24, 28, 32))
        return make_world(seed, documents, recipe=recipe), stage.questions + documents
    return make_world(seed, rng.randint(*stage.documents), recipe=recipe), stage.questions


def draw_row(stage: Stage, seed: int, room: int, tokenizer: PreTrainedTokenizerFast, probes: bool) -> list[tuple[str, Episode]]:
    """Episodes of one kind that fill a row of ``room`` tokens, each with a label; a pure function of its arguments.

    Raises:
        ValueError: the row is too short for any.
    """
    rng = random.Random(f"row {seed}")
    kind = rng.choices(("short", "wide", "long", "needle"), weights=stage.kinds)[0]
    found: list[tuple[str, Episode]] = []
    left, misses = room, 0
    while True:
        label, episode = _draw(stage, kind, rng, tokenizer, probes)
        if len(episode.ids) > left:
            misses += 1
            episode = shortened(episode, left)
            if len(episode.questions) >= FEWEST_QUESTIONS:
                return [*found, (label, episode)]
            if found and misses >= 2:
                return found
            if misses == MOST_MISSES:
                raise ValueError(f"no episode of kind {kind!r} fits a row of {room} tokens: give rows more room")
            continue
        found.append((label, episode))
        left -= len(episode.ids)


def _draw(stage: Stage, kind: str, rng: random.Random, tokenizer: PreTrainedTokenizerFast, probes: bool) -> tuple[str, Episode]:
    if stage.recipe is None:
        return "induction", induction_episode(rng, len(tokenizer))
    _, name, reading = rng.choices(READINGS, weights=[r[0] for r in READINGS])[0]
    recipe = stage.recipe
    if recipe.cite:
        # Without the edge a bare citation cannot be resolved. Many worlds are of one style, so that the rare ones are seen often.
        choices = (recipe.styles, ONLY_NUMBERED, ONLY_BARE) if reading.resolves_bare else (NO_BARE, ONLY_NUMBERED)
        recipe = replace(recipe, styles=rng.choices(choices, weights=(0.6, 0.1, 0.3)[: len(choices)])[0])
    if recipe.cite and rng.random() < MISSING:
        recipe = replace(recipe, missing=rng.randint(1, 2))
    world, count = _world(kind, stage, recipe, rng, reading)
    if kind == "needle":
        return name, build(world, world.questions, reading, tokenizer, probes)
    return name, build(world, choose(world, rng, count, stage.share), reading, tokenizer, probes)


def kinds(questions: Sequence[Question], layout: str) -> list[str]:
    """The label under which each question's accuracy is followed."""
    group = "graph" if layout in ("graph", "rounds") else layout
    return [f"{group}.{q.type}.{q.style}{q.hops}" for q in questions]
