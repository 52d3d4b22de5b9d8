"""Scores of answers."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

_END_MARKS = ("<|im_end|>", "<|eot_id|>")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation and articles, white space collapsed.

    Example:
        >>> normalise("The  Night-Maple, a paper.")
        'nightmaple paper'
    """
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split())


def best_subspan_em(prediction: str, answers: str | Iterable[str]) -> float:
    """1.0 if any gold answer stands somewhere in the prediction (both normalised), else 0.0.

    The prediction is cut at the first end mark of a chat model (``<|im_end|>``, ``<|eot_id|>``). This is the score of
    "Lost in the Middle" (arXiv 2307.03172) that Graph-KV (arXiv 2506.07334) reports. A gold answer of nothing but
    punctuation and articles never counts: it would stand in every prediction.

    Args:
        prediction: the answer given. answers: one gold answer, or several of which one is enough.

    Raises:
        ValueError: there is no gold answer.

    Example:
        >>> best_subspan_em("It was written by Ada Fumrel.", ["the ada fumrel", "A. Fumrel"])
        1.0
    """
    golds = [answers] if isinstance(answers, str) else list(answers)
    if not golds:
        raise ValueError("best_subspan_em needs at least one gold answer, got none")
    for mark in _END_MARKS:
        prediction = prediction.split(mark, 1)[0]
    given = normalise(prediction)
    return float(any(gold and gold in given for gold in map(normalise, golds)))
