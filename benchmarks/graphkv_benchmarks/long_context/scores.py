"""When an answer is right: a score from 0 to 1 by name, and the two plain ones beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ..scoring import best_subspan_em


def exact(answer: str, golds: Sequence[str]) -> float:
    """1.0 if the answer is a gold answer, white space around it aside.

    Example:
        >>> exact(" 48213", ["48213"]), exact("It is 48213.", ["48213"])
        (1.0, 0.0)
    """
    return float(answer.strip() in golds)


def contains(answer: str, golds: Sequence[str]) -> float:
    """1.0 if a gold answer stands somewhere in the answer: :func:`graphkv_benchmarks.scoring.best_subspan_em`."""
    return best_subspan_em(answer, golds)


def integer(answer: str, golds: Sequence[str]) -> float:
    """1.0 if the first whole number of the answer is the gold one: the score of the passkey task (arXiv 2305.16300).

    Example:
        >>> integer("The pass key is 48213.", ["48213"]), integer("148213", ["48213"])
        (1.0, 0.0)
    """
    found = re.search(r"\d+", answer)
    return float(found is not None and found[0] in golds)


def string_match_all(answer: str, golds: Sequence[str]) -> float:
    """The share of gold strings that stand in the answer, in any case of letters: RULER's score (arXiv 2404.06654) for all tasks but QA.

    Example:
        >>> string_match_all("They are ABC and def", ["abc", "DEF", "GHI", "JKL"])
        0.5
    """
    given = _printable(answer).lower()
    return sum(gold.lower() in given for gold in golds) / len(golds)


def string_match_part(answer: str, golds: Sequence[str]) -> float:
    """1.0 if one of the gold strings stands in the answer, in any case of letters: RULER's score for QA.

    Example:
        >>> string_match_part("in Paris", ["paris", "the city of Paris"])
        1.0
    """
    given = _printable(answer).lower()
    return float(any(gold.lower() in given for gold in golds))


def _printable(answer: str) -> str:
    """Control characters become line ends, as RULER has it before it scores."""
    return re.sub(r"[\x00-\x1f]", "\n", answer.strip()).strip()


SCORES: Mapping[str, Callable[[str, Sequence[str]], float]] = {
    "exact": exact,
    "contains": contains,
    "integer": integer,
    "string_match_all": string_match_all,
    "string_match_part": string_match_part,
}
"""Every score by its name."""
