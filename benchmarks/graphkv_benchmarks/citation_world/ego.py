"""Ego graphs: fictional papers, each with the papers in its reference list, and one question about each graph."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations

from graphkv.errors import InputError

from .names import TITLE_WORDS, Names, is_held_out
from .phrases import ATTRIBUTES, RELATIONS
from .questions import about_paper
from .world import Paper, Question, Recipe, write_paper

TYPES = ("2 hops", "1 hop", "title")
"""What is asked for: a fact of a paper that the centre cites, a fact of the centre, the title of a paper that it cites."""

_STYLES = ("named", "numbered")
_STYLE_WEIGHTS = (0.75, 0.25)
_SCARCE = ("score", "year")
"""Attributes with so few values that only the papers of one graph can all have different ones."""


@dataclass(frozen=True)
class Ego:
    """A paper, what it cites, and a question that only these documents answer.

    Attributes:
        centre: the paper in the middle. references: title → paper in the order of the reading list; None where the text is not to be had.
        question: about the centre by its title. type: one of :data:`TYPES`.
    """

    centre: Paper
    references: Mapping[str, Paper | None]
    question: Question
    type: str


@cache
def titles_there_are(held_out: bool) -> int:
    """How many titles of two words there are on one side of the split."""
    return sum(is_held_out(f"{one} {two}") == held_out for one, two in permutations(TITLE_WORDS, 2))


def make_egos(seed: int, graphs: int = 60, references: tuple[int, int] = (6, 10), words: int = 0, missing: int = 1, held_out: bool = True) -> list[Ego]:
    """Ego graphs in the citation world's style, the same for the same arguments.

    The centre builds on one of its references and compares against another (with one reference it only builds on it). It says so by their titles,
    or by numbers with a reference list at its end; the rest it mentions or lists. Every sentence names the paper that it is about, so that the texts can be told apart
    without titles. No title and no invented word occurs in two graphs. Half of the questions take two hops, over the centre to a paper that it cites;
    the others are answered by the centre alone.

    Args:
        seed: any integer. graphs: how many.
        references: fewest and most references with a text. missing: so many more are in each list without a text.
        words: a document has at least so many words, its facts among sentences about nothing. 0: facts only, some 40 words.
        held_out: draw names from the reserved eighth (evaluation) instead of the rest (training).

    Raises:
        InputError: counts that make no sense, or more papers than there are titles.

    Example:
        >>> ego = make_egos(seed=7, graphs=1, references=(2, 2))[0]
        >>> len(ego.references), sum(paper is None for paper in ego.references.values()), ego.type in TYPES
        (3, 1, True)
    """
    fewest, most = references
    if graphs < 1 or not 1 <= fewest <= most or words < 0 or missing < 0:
        raise InputError(f"expected at least 1 graph, references from 1 up, words and missing from 0 up, got graphs={graphs}, references={references}, words={words}, missing={missing}")
    rng = random.Random(f"citation-world egos 1 {seed} {graphs} {fewest} {most} {missing} {held_out}")
    counts = [rng.randint(fewest, most) for _ in range(graphs)]
    papers, titles = sum(counts) + graphs * (1 + missing), titles_there_are(held_out)
    if papers > titles:
        raise InputError(f"{graphs} graphs have {papers:,} papers, but there are {titles:,} titles: ask for fewer graphs or references")
    types = [TYPES[0] if place % 2 == 0 else TYPES[1 + place // 2 % 2] for place in range(graphs)]
    rng.shuffle(types)
    names = Names(rng, held_out, Recipe().collide)
    return [_ego(rng, names, count, missing, words, type) for count, type in zip(counts, types, strict=True)]


def _ego(rng: random.Random, names: Names, count: int, missing: int, words: int, type: str) -> Ego:
    scarce = Names(rng, names.held_out, names.collide)  # of this graph alone

    def paper(id: str) -> Paper:
        kinds = rng.sample(ATTRIBUTES, rng.randint(*Recipe().facts))
        return Paper(id, names.title(), {kind: (scarce if kind in _SCARCE else names).value(kind) for kind in kinds})

    centre = paper("centre")
    cited = [paper(f"reference {number}") for number in range(1, count + 1)]
    absent = [names.title() for _ in range(missing)]
    relations = rng.sample(RELATIONS, 2) if count > 1 else ["builds"]
    centre.style = rng.choices(_STYLES, _STYLE_WEIGHTS)[0]
    centre.cites = {relation: other.id for relation, other in zip(relations, cited, strict=False)}
    centre.others = [other.title for other in cited[len(relations) :]] + absent
    by_id = {one.id: one for one in (centre, *cited)}
    shown = {one.id: one.title for one in by_id.values()}
    for one in by_id.values():
        write_paper(one, shown, rng, Recipe(words=words, pronoun=0.0))
    question = rng.choice([q for q in about_paper(centre, by_id, rng) if _type(q) == type])
    listed: list[tuple[str, Paper | None]] = [*((other.title, other) for other in cited), *((title, None) for title in absent)]
    return Ego(centre, dict(rng.sample(listed, len(listed))), question, type)


def _type(question: Question) -> str:
    return "title" if question.type == "title" else TYPES[0] if question.hops == 2 else TYPES[1]
