"""Cells: which questions about which worlds. The same worlds and questions for every arm, so that arms are compared pair by pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphkv.errors import InputError, one_of

from ..citation_world import STYLES, Question, World, make_needles, make_world, one_style, place_gold

KINDS = ("1 hop", "2 hops", "3 hops", "comparison", "unanswerable", "needle")
"""What is asked. Hops count questions whose citations on the way are all of the cell's style: "1 hop" asks named worlds for an
attribute of a paper or for the title of a cited one, and numbered and bare worlds, where an attribute needs no citation, for titles."""

PER_WORLD = 12
"""Most questions of one kind about one world."""

_PER_GOLD = 6  # most questions of one kind about one gold document, where one document is moved or taken out
_NEEDLES = 6
_PATIENCE = 400  # worlds without a single question that is wanted, one after the other, before giving up


@dataclass(frozen=True)
class Batch:
    """Cells that share worlds and forwards: one arm, one grid point, several kinds of questions.

    Attributes:
        documents: papers a world. words: a document has at least so many; 0 for facts only, some 40.
        kinds: of :data:`KINDS`. questions: in each of these cells.
        place: the gold document stands at this place, 0 first; None: where the generator put it.
    """

    arm: str
    style: str
    documents: int
    words: int
    kinds: tuple[str, ...]
    questions: int
    place: int | None = None


@dataclass(frozen=True)
class Asked:
    """A world, its number, and what is asked about it, by kind. `gold` is named where all questions have this one gold document."""

    number: int
    world: World
    questions: Mapping[str, tuple[Question, ...]]
    gold: str | None = None


def kind_of(question: Question, style: str) -> str | None:
    """The kind of cell that a question belongs to in a world of one style; None where it belongs to none.

    Example:
        >>> world = make_world(1, 8, True, one_style("bare"))  # doctest: +SKIP
        >>> {kind_of(q, "bare") for q in world.questions if q.hops == 1 and q.type == "attribute"}  # doctest: +SKIP
        {None}
    """
    if question.type in ("attribute", "title"):
        return KINDS[question.hops - 1] if question.style == style else None
    return question.type


def worlds_of(batch: Batch, seed: int, one_gold: bool = False) -> Iterator[Asked]:
    """Held-out worlds until every kind has its number of questions; they depend on everything but the arm and the place.

    Args:
        one_gold: ask about one gold document of each world only (the one with the most questions): it will be moved or taken out.
            A batch with a place always does.

    Raises:
        InputError: an unknown style or kind, a kind without a gold document where one is needed, or worlds that never have such questions.
    """
    check_batch(batch)
    one_gold = one_gold or batch.place is not None
    if one_gold and (odd := [kind for kind in batch.kinds if kind not in KINDS[:3]]):
        raise InputError(f"the gold document of {odd[0]!r} questions cannot be moved or taken out; of {', '.join(KINDS[:3])} it can")
    missing = dict.fromkeys(batch.kinds, batch.questions)
    number, found = -1, -1
    while any(missing.values()):
        number += 1
        if number - found > _PATIENCE:
            wanted = " or ".join(kind for kind, count in missing.items() if count)
            raise InputError(f"{_PATIENCE} {batch.style} worlds of {batch.documents} documents had no question of kind {wanted}: allow more documents or other kinds")
        world = _world(batch, seed, number)
        chosen = {kind: [q for q in world.questions if kind_of(q, batch.style) == kind] for kind, count in missing.items() if count}
        gold = None
        if one_gold:
            gold, chosen = _about_one(world, chosen)
        most = _PER_GOLD if one_gold else PER_WORLD
        taken = {kind: tuple(questions[: min(most, missing[kind])]) for kind, questions in chosen.items() if questions}
        if not taken:
            continue
        found = number
        for kind, questions in taken.items():
            missing[kind] -= len(questions)
        if batch.place is not None:
            asked = [q for questions in taken.values() for q in questions]
            world = replace(place_gold(world, asked[0], batch.place), questions=world.questions)
        yield Asked(number, world, taken, gold)


def check_batch(batch: Batch) -> None:
    """Raises InputError for an unknown style or kind, and for a place beyond the documents."""
    if batch.style not in STYLES:
        raise InputError(one_of("citation style", batch.style, STYLES))
    for kind in batch.kinds:
        if kind not in KINDS:
            raise InputError(one_of("kind of question", kind, KINDS))
    if batch.place is not None and not 0 <= batch.place < batch.documents:
        raise InputError(f"place must be from 0 to {batch.documents - 1}, got {batch.place}")


def _world(batch: Batch, seed: int, number: int) -> World:
    number += seed * 1_000_003
    if "needle" in batch.kinds:
        return make_needles(number, batch.words, True, batch.documents, _NEEDLES)
    return make_world(number, batch.documents, True, one_style(batch.style, words=batch.words))


def _about_one(world: World, chosen: Mapping[str, Sequence[Question]]) -> tuple[str | None, dict[str, list[Question]]]:
    """The document that is the gold one of most questions (the first of equals), and only the questions about it."""
    counts = {paper.id: sum(min(_PER_GOLD, sum(q.gold == paper.id for q in questions)) for questions in chosen.values()) for paper in world.papers}
    best = max(counts, key=lambda paper: counts[paper])
    return best, {kind: [q for q in questions if q.gold == best] for kind, questions in chosen.items()}
