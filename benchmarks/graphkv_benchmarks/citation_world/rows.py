"""Worlds as JSON rows, with the dials that concern a row: number of questions, kinds of questions, place of the gold document."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from .world import Question, Recipe, World, make_world


def entities(row: dict[str, Any]) -> set[str]:
    """The invented names of a row (titles and answers that are not numbers; of an author the surname), lower case."""
    titles = {d["title"].lower() for d in row["documents"] if d["title"]}
    answers = {q["answer"].lower() for q in row["questions"] if q["gold"] is not None and not re.fullmatch(r"[\d.]+", q["answer"])} - titles
    return titles | {answer.split()[-1] for answer in answers}


def place_gold(world: World, question: Question, position: int) -> World:
    """The same world with the question's gold document at ``position`` (0 is first, -1 last), the others in their old order.

    Raises:
        ValueError: the question has no gold document, or there is no such position.
    """
    if question.gold is None:
        raise ValueError(f"{question.question!r} has no gold document to place")
    count = len(world.papers)
    if not -count <= position < count:
        raise ValueError(f"position must be from {-count} to {count - 1}, got {position}")
    papers = [p for p in world.papers if p.id != question.gold]
    papers.insert(position % count, world.paper(question.gold))
    return World(papers, [question])


def rows(
    seed: int,
    worlds: int,
    documents: int,
    held_out: bool,
    questions: int | None = None,
    recipe: Recipe | None = None,
    *,
    types: Collection[str] = (),
    hops: Collection[int] = (),
    gold_position: int | None = None,
) -> Iterator[dict[str, Any]]:
    """``worlds`` rows; a world that has none of the questions asked for is passed over.

    Args:
        questions: at most that many questions a row. types, hops: only such questions; empty for all.
        gold_position: one question a row, its gold document at this place.

    Raises:
        ValueError: as :func:`make_world` and :func:`place_gold`.
    """
    index = found = 0
    while found < worlds:
        world = make_world(seed * 1_000_003 + index, documents, held_out, recipe)
        index += 1
        chosen = [q for q in world.questions if (not types or q.type in types) and (not hops or q.hops in hops)]
        if gold_position is not None:
            chosen = [q for q in chosen if q.gold is not None][:1]
        if not chosen and index < 1000 * (found + 1):
            continue
        if not chosen:
            raise ValueError(f"none of {index} worlds had a question of types {sorted(types)} and hops {sorted(hops)}; allow more documents or citations")
        found += 1
        world = replace(world, questions=chosen[:questions])
        yield (world if gold_position is None else place_gold(world, chosen[0], gold_position)).to_row()
