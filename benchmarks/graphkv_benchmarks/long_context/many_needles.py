"""Several needles of one wording in a haystack: each asked for by its key, or all values of one key at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from ..citation_world.names import Names
from .cases import Case, Context
from .haystack import Haystack, Meter, room_for
from .needle import MAX_NEW_TOKENS, Needle, bury, make_needle
from .ruler.niah import NEEDLE

ASK_ALL = "What are all the special magic numbers for {key} mentioned in the provided text?"


def many_needle_contexts(
    meter: Meter, haystack: Haystack, length: int, *, contexts: int, needles: int = 8, asked: int = 8, seed: int = 1, document_tokens: int = 512, task: str = "multi_needle"
) -> list[Context]:
    """Contexts with needles that differ in nothing but key and value, of names that no training saw; so many are asked for, one by one.

    Raises:
        LengthError: no room for the needles.
    """
    found = []
    for number in range(contexts):
        name = f"{task}-{length}-{number}"
        rng = random.Random(f"{name} {seed}")
        names = Names(rng, True, 0.2)
        made = [make_needle(number % 3, names, rng) for _ in range(needles)]
        depths = [round(rng.random(), 4) for _ in made]
        cases = [Case(f"{name}-{i}", task, made[i].question, (made[i].answer,)) for i in range(min(asked, needles))]
        found.append(_context(name, length, cases, made, depths, meter, haystack, document_tokens, rng, "exact", MAX_NEW_TOKENS))
    return found


def many_value_contexts(
    meter: Meter, haystack: Haystack, length: int, *, contexts: int, keys: int = 4, values: int = 4, seed: int = 1, document_tokens: int = 512, task: str = "multi_value"
) -> list[Context]:
    """Contexts with several values for each key; all values of a key are asked for at once, the score is the share of them that is named.

    Raises:
        LengthError: no room for the needles.
    """
    found = []
    for number in range(contexts):
        name = f"{task}-{length}-{number}"
        rng = random.Random(f"{name} {seed}")
        names = Names(rng, True, 0.2)
        drawn = {names.title() if rng.random() < 0.5 else names.word(): [names.number(7) for _ in range(values)] for _ in range(keys)}
        made = [Needle(NEEDLE.format(kind="numbers", key=key, value=value), ASK_ALL.format(key=key), value) for key, every in drawn.items() for value in every]
        rng.shuffle(made)
        depths = [round(rng.random(), 4) for _ in made]
        cases = [Case(f"{name}-{i}", task, ASK_ALL.format(key=key), tuple(every)) for i, (key, every) in enumerate(drawn.items())]
        found.append(_context(name, length, cases, made, depths, meter, haystack, document_tokens, rng, "string_match_all", 48))
    return found


def _context(
    name: str, length: int, cases: Sequence[Case], needles: Sequence[Needle], depths: Sequence[float], meter: Meter, haystack: Haystack, document_tokens: int,
    rng: random.Random, score: str, max_new_tokens: int,
) -> Context:  # fmt: skip
    around = meter.around([case.question for case in cases], max_new_tokens)
    hidden = sum(meter.counts([needle.sentence for needle in needles]))
    room = room_for(length, around, meter.per_document(), document_tokens, hidden)
    placed = [(depth, needle.sentence) for depth, needle in zip(depths, needles, strict=True)]
    build = partial(bury, meter, haystack, room, rng.randrange(len(haystack.units)), placed, document_tokens)
    return Context(name, length, tuple(cases), build, score, max_new_tokens)
