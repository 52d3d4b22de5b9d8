"""What the tests of scores share: texts drawn from a seed, and the definitions read once more, character by character."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
MARKS = ("<|im_end|>", "<|eot_id|>")
SEEDS = st.integers(0, 2**32)
thousand = settings(max_examples=1000, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
"""The same thousand each time."""


def drawn(words: Sequence[str], most: int) -> Callable[[int], str]:
    """Texts of such words, from a seed; also of none, and without spaces between."""

    def text(seed: int) -> str:
        rng = random.Random(seed)
        return rng.choice((" ", " ", " ", "")).join(rng.choices(words, k=rng.randrange(most + 1)))

    return text


# The definitions once more: loops over characters and lists of words, no regular expressions


def is_word_character(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def runs(text: str, inside: Callable[[str], bool]) -> list[tuple[bool, str]]:
    """Maximal stretches of letters that are inside, and of those that are not."""
    found: list[tuple[bool, str]] = []
    for letter in text:
        if found and found[-1][0] == inside(letter):
            found[-1] = (found[-1][0], found[-1][1] + letter)
        else:
            found.append((inside(letter), letter))
    return found


def words_of(text: str) -> list[str]:
    """Words of the normalised text: lower case, no ASCII punctuation, articles made white space, split at white space."""
    plain = "".join(letter for letter in text.lower() if letter not in PUNCTUATION)
    return "".join(" " if word and run in ("a", "an", "the") else run for word, run in runs(plain, is_word_character)).split()


def cut(text: str) -> str:
    places = [place for mark in MARKS if (place := text.find(mark)) >= 0]
    return text[: min(places)] if places else text
