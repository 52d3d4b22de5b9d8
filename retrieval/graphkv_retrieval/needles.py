"""Needles with invented names and values, and hay to hide them in: enough to find a model's retrieval heads without any data."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_PHRASINGS = (
    ("The special magic number for {K} is {V}.", "What is the special magic number for {K}?", True),
    ("The pass key for {K} is {V}.", "What is the pass key for {K}?", True),
    ("The special magic word for {K} is {V}.", "What is the special magic word for {K}?", False),
    ("The meeting point of {K} is {V}.", "Where is the meeting point of {K}?", False),
)
"""Sentence, question, whether the value is a number."""

_FIRST = ["Amber", "Arctic", "Copper", "Crystal", "Golden", "Hollow", "Ivory", "Lunar", "Quiet", "Scarlet", "Silver", "Swift", "Velvet", "Winter"]
_SECOND = ["Anchor", "Bridge", "Canyon", "Falcon", "Forest", "Garden", "Harvest", "Island", "Lantern", "Meadow", "Mountain", "Orchid", "River", "Tower", "Valley"]
_ONSETS, _VOWELS, _CODAS = "bdfgklmnprstvz", "aeiou", "klmnrs"
_WHO = ("The committee", "A visitor", "The second chapter", "Most of the town", "An old custom", "The weather report", "Nobody in the office", "The long road")
_DOES = ("says little about", "comes back to", "depends on", "is older than", "had no part in", "was built before", "explains", "stands beside")
_WHAT = ("the bridge", "the price of bread", "a quiet afternoon", "the harbour", "the first letter", "two empty rooms", "the end of the season", "the new timetable")


@dataclass(frozen=True)
class Needle:
    """A sentence with a value that stands nowhere else, and the question for it."""

    sentence: str
    question: str
    value: str


def hay(rng: random.Random, own: Sequence[str] | None = None) -> Iterator[str]:
    """Sentences to hide a needle in, without an end: `own` ones again and again from some place on, or invented ones.

    Example:
        >>> list(itertools.islice(hay(random.Random(0), ["One.", "Two."]), 3))
        ['Two.', 'One.', 'Two.']
    """
    if own is not None:
        start = rng.randrange(len(own))
        yield from itertools.cycle([*own[start:], *own[:start]])
    while True:
        yield f"{rng.choice(_WHO)} {rng.choice(_DOES)} {rng.choice(_WHAT)}."


def make_needles(n: int, seed: int = 0) -> Iterator[Needle]:
    """`n` needles, the phrasings in turn.

    Example:
        >>> next(make_needles(1)).sentence.startswith("The special magic number for ")
        True
    """
    rng = random.Random(f"needles {seed}")
    for number in range(n):
        sentence, question, digits = _PHRASINGS[number % len(_PHRASINGS)]
        key = f"{rng.choice(_FIRST)} {rng.choice(_SECOND)}"
        value = str(rng.randrange(10**4, 10**6)) if digits else _word(rng)
        yield Needle(sentence.replace("{K}", key).replace("{V}", value), question.replace("{K}", key), value)


def _word(rng: random.Random, syllables: int = 2) -> str:
    """An invented word that can be spoken."""
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables)).capitalize()
