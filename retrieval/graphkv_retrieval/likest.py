"""The segments that share a segment's rarest words, by BM25: exactly, without scoring those that cannot be among the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float32]]
Rows = np.ndarray[Any, np.dtype[np.int64]]

_SURELY = 1 - 1e-5
"""Below so much of a score is more than rounding: of some float32 that are added, and of their sums' division."""
_LONG = 8
"""A list is long if it has more than one of so many segments; looking who is still in question is cheaper than walking it."""


class Likest:
    """Looks for neighbours in the lists of a BM25 index.

    A word's list has the segments with that word, in order, and what the word adds to their scores. The lists of a segment's words are
    walked from the rarest word on. As soon as the words that are left cannot add enough for a segment that was not met so far, their
    lists, which are the long ones, are not walked but only asked for the segments that are still in question (MaxScore, Turtle and
    Flood 1995).

    Args:
        indptr: where each word's list begins in `indices` (segments) and `data` (scores, all above zero).
    """

    def __init__(self, indptr: Rows, indices: Rows, data: Floats, segments: int) -> None:
        self._indptr, self._indices, self._data = indptr, indices, data
        self._most = np.maximum.reduceat(data, indptr[:-1])
        self._segments = segments

    def best(self, row: int, words: Sequence[int], k: int) -> tuple[Rows, Floats]:
        """Rows and scores of the `k` others that are most like `row`, best first, equal ones in order.

        Args:
            words: some of the row's words, the rarest first. A score is relative to what the row itself gets for them, and at most 1.
        """
        sums = np.zeros(self._segments, np.float32)
        found, walked = None, 0
        for word, left in zip(words, self._left(words), strict=True):
            part = self._list(word)
            if part.stop - part.start > self._segments // _LONG:
                found = _in_question(sums, row, left, k)
                if found is not None:
                    break
            np.add.at(sums, self._indices[part], self._data[part])
            walked += 1
        rows = np.flatnonzero(sums > 0) if found is None else found
        scores = self._asked(rows, sums[rows], words[walked:])
        others = rows != row
        rows, scores = rows[others], np.minimum(scores[others] / scores[~others], np.float32(1))
        order = highest(scores, k)
        return rows[order], scores[order]

    def _left(self, words: Sequence[int]) -> list[float]:
        """For each word what it and those after it add at most."""
        left: list[float] = np.cumsum(self._most[list(words)][::-1], dtype=np.float64)[::-1].tolist()
        return left

    def _asked(self, rows: Rows, scores: Floats, words: Sequence[int]) -> Floats:
        """The scores of some segments with these words added, in the order in which walking would add them."""
        for word in words:
            part = self._list(word)
            having = self._indices[part]
            place = np.minimum(np.searchsorted(having, rows.astype(having.dtype)), len(having) - 1)
            scores = scores + np.where(having[place] == rows, self._data[part][place], np.float32(0))
        return scores

    def _list(self, word: int) -> slice:
        return slice(int(self._indptr[word]), int(self._indptr[word + 1]))


def _in_question(sums: Floats, row: int, left: float, k: int) -> Rows | None:
    """Who may be among the best, and `row`, if what is left to add cannot bring in anyone else."""
    # `row` is one of those ahead. Who has more than it has in the end is as like it as can be, so it is a bound as well.
    least = min(_kth(sums[sums > left], k + 1), float(sums[row])) * _SURELY
    return np.flatnonzero(sums >= least - left) if least > left else None


def highest(scores: Floats, k: int) -> Rows:
    """Positions of the `k` highest scores above zero, best first, equal ones in order."""
    rows = np.flatnonzero(scores > 0)
    if len(rows) > k:
        rows = rows[scores[rows] >= _kth(scores[rows], k)]
    return rows[np.argsort(-scores[rows], kind="stable")][:k]


def _kth(scores: Floats, k: int) -> float:
    """The `k`-th highest score; 0 if there are fewer."""
    return float(np.partition(scores, len(scores) - k)[len(scores) - k]) if len(scores) >= k else 0.0
