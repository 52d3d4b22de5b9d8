"""Words for keys and lists, in place of the word lists that RULER downloads."""

from __future__ import annotations

import itertools
import random
from functools import cache

from ...citation_world.names import TITLE_WORDS

_WORDS = tuple(word.lower() for word in TITLE_WORDS)


def key_word(rng: random.Random, words: int = 2) -> str:
    """Two words (or more) and a hyphen between them, where RULER has an adjective and a noun.

    Example:
        >>> key_word(random.Random(1)).count("-")
        1
    """
    return "-".join(rng.sample(_WORDS, words))


def sample_words(count: int, rng: random.Random) -> list[str]:
    """So many different words: single ones and pairs written together, and triples if these are too few.

    Example:
        >>> len(set(sample_words(20_000, random.Random(1))))
        20000
    """
    words = _pool(2)
    return rng.sample(words if count <= len(words) else _pool(3), count)


@cache
def _pool(longest: int) -> tuple[str, ...]:
    return tuple(sorted({"".join(parts) for size in range(1, longest + 1) for parts in itertools.permutations(_WORDS, size)}))
