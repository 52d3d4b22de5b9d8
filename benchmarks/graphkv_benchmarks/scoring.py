"""Scores of answers, and their intervals."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterable

_END_MARKS = ("<|im_end|>", "<|eot_id|>")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation and articles, white space collapsed: SQuAD's normalisation, as Graph-KV's rag_eval.py has it.

    One known difference: that code uses the package ``regex``, whose words hold combining marks and end before ², ³ or ½, where `re` has it the
    other way round. So an article that touches such a sign is told from a longer word differently: of a decomposed "á" (an a with a mark) we
    drop the a, of "a²" the official code does. Composed letters, as texts mostly have them, are the same for both.

    Example:
        >>> normalise("The  Night-Maple, a paper.")
        'nightmaple paper'
    """
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split())


def before_end_marks(prediction: str) -> str:
    """A prediction up to the first end mark of a chat model (``<|im_end|>``, ``<|eot_id|>``).

    Example:
        >>> before_end_marks("Ada Fumrel.<|eot_id|><|im_end|>")
        'Ada Fumrel.'
    """
    for mark in _END_MARKS:
        prediction = prediction.split(mark, 1)[0]
    return prediction


def best_subspan_em(prediction: str, answers: str | Iterable[str], *, blank_counts: bool = False) -> float:
    """1.0 if any gold answer stands somewhere in the prediction (both normalised), else 0.0.

    The prediction is cut at the first end mark of a chat model (``<|im_end|>``, ``<|eot_id|>``). This is the score of
    "Lost in the Middle" (arXiv 2307.03172) that Graph-KV (arXiv 2506.07334) reports. A gold answer of nothing but
    punctuation and articles never counts: it would stand in every prediction.

    Args:
        prediction: the answer given. answers: one gold answer, or several of which one is enough.
        blank_counts: a gold answer of nothing but punctuation and articles always counts, as in Graph-KV's own code.

    Raises:
        ValueError: there is no gold answer.

    Example:
        >>> best_subspan_em("It was written by Ada Fumrel.", ["the ada fumrel", "A. Fumrel"])
        1.0
    """
    golds = [answers] if isinstance(answers, str) else list(answers)
    if not golds:
        raise ValueError("best_subspan_em needs at least one gold answer, got none")
    given = normalise(before_end_marks(prediction))
    return float(any((gold or blank_counts) and gold in given for gold in map(normalise, golds)))


def wilson(right: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a share, 95% by default; (0, 1) where nothing was counted.

    Wilson, Journal of the American Statistical Association 22 (1927); it stays inside [0, 1] and is sound at 0 and at 1.

    Args:
        right: successes, or a sum of scores between 0 and 1. count: trials. z: quantile of the normal distribution.

    Raises:
        ValueError: `right` is not between 0 and `count`.

    Example:
        >>> [round(bound, 3) for bound in wilson(490, 500)]
        [0.964, 0.989]
    """
    if not 0 <= right <= count:
        raise ValueError(f"expected from 0 to {count} successes in {count} trials, got {right}")
    if count == 0:
        return 0.0, 1.0
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(ones: Iterable[bool], others: Iterable[bool], z: float = 1.959964) -> tuple[float, float, float]:
    """How much larger the first share of successes is than the second, on the same trials, with an interval (95% by default).

    The interval of Agresti and Min (Statistics in Medicine 24, 2005): half an observation is added to each cell of the 2 × 2 table.

    Returns:
        Difference, lower and upper bound, all from -1 to 1.

    Raises:
        ValueError: there are no trials, or not equally many.

    Example:
        >>> [round(x, 2) for x in paired_difference([True] * 90 + [False] * 10, [True] * 80 + [False] * 20)]
        [0.1, 0.04, 0.16]
    """
    pairs = list(zip(ones, others, strict=True))
    if not pairs:
        raise ValueError("a difference needs at least one pair of trials, got none")
    gained, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    count, up, down = len(pairs) + 2, gained + 0.5, lost + 0.5
    middle = (up - down) / count
    half = z * math.sqrt(max(0.0, up + down - (up - down) ** 2 / count)) / count
    return (gained - lost) / len(pairs), max(-1.0, middle - half), min(1.0, middle + half)
