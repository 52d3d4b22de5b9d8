"""What chance does to a mean: bootstrap intervals over questions, exact McNemar and its like for other scores, Holm's correction; the same whatever the order of the values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphkv.errors import InputError, check_count

_FEW = 64  # distinct values up to which resampling counts them; the same distribution, without an index a question
_CHUNK = 4_000_000  # indices held at once where there are more


def mean(values: Sequence[float]) -> float:
    """The mean, exactly rounded, so that it does not depend on the order of the values.

    Raises:
        InputError: there are none.
    """
    if not values:
        raise InputError("a mean needs at least one value, got none")
    return math.fsum(values) / len(values)


def bootstrap(values: Sequence[float], resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of a mean.

    Efron, Annals of Statistics 7 (1979). What is drawn again are the values, so each must be one independent unit: a question, with
    its mean where it was asked under several seeds. Where all values are equal the interval is that point; for scores of 0 and 1
    :func:`graphkv_benchmarks.scoring.wilson` is then the sound one.

    Args:
        values: one a question, finite. resamples: samples drawn. seed: of the draws.

    Returns:
        Lower and upper bound.

    Raises:
        InputError: no values, one that is not finite, or fewer than one resample.

    Example:
        >>> low, high = bootstrap([1.0] * 30 + [0.0] * 30)
        >>> 0.35 < low < 0.40 and 0.60 < high < 0.65
        True
    """
    check_count("resamples", resamples)
    if not values:
        raise InputError("an interval needs at least one value, got none")
    if not all(map(math.isfinite, values)):
        raise InputError(f"an interval needs finite values, got {next(value for value in values if not math.isfinite(value))!r}")
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)  # sorted: the order of the values is gone here
    if len(distinct) == 1:
        return float(distinct[0]), float(distinct[0])
    means = _resampled(distinct, counts, resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _resampled(distinct: Any, counts: Any, resamples: int, generator: Any) -> Any:
    """Means of samples drawn with replacement."""
    size = int(counts.sum())
    if len(distinct) <= _FEW:
        drawn = generator.multinomial(size, counts / size, size=resamples)
        # Added column by column, not as a matrix product: how that adds depends on the machine's threads.
        total = np.zeros(resamples)
        for column, value in enumerate(distinct):
            total += drawn[:, column] * value
        return total / size
    values, rows = np.repeat(distinct, counts), max(1, _CHUNK // size)
    parts = [values[generator.integers(size, size=(min(rows, resamples - start), size))].mean(axis=1) for start in range(0, resamples, rows)]
    return np.concatenate(parts)


def paired_bootstrap(differences: Sequence[float], resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of a mean difference between two ways of answering the same questions.

    Args:
        differences: one a question: the score of the one minus that of the other.

    Raises:
        InputError: see :func:`bootstrap`.

    Example:
        >>> paired_bootstrap([0.0, 0.0, 0.0])
        (0.0, 0.0)
    """
    return bootstrap(differences, resamples, seed)


def paired_score_interval(differences: Sequence[Sequence[float]], z: float = 1.959964) -> tuple[float, float]:
    """An interval (95% by default) of a mean paired difference that is sound where all differences are equal and :func:`bootstrap` is a point.

    That of Agresti and Min (Statistics in Medicine 24, 2005), see :func:`graphkv_benchmarks.scoring.paired_difference`: half an observation is added to
    each cell of the 2 × 2 table of who is right. The table comes into its formula by the sum of the differences and of their squares alone, so that holds
    for scores between 0 and 1 too. Of a question with several seeds the difference and its square are means over them: there are as many observations as
    questions, and the interval is as wide as one seed a question makes it, since seeds say nothing about other questions.

    Args:
        differences: for each question its differences, each from -1 to 1, one a seed.

    Returns:
        Lower and upper bound, within -1 to 1.

    Raises:
        InputError: no question, or one without a difference.

    Example:
        >>> [round(x, 3) for x in paired_score_interval([[0.0, 0.0, 0.0]] * 60)]
        [-0.032, 0.032]
    """
    if not differences:
        raise InputError("an interval needs at least one difference, got none")
    total = math.fsum(mean(some) for some in differences)
    squares = 1.0 + math.fsum(mean([difference**2 for difference in some]) for some in differences)
    count = len(differences) + 2
    half = z * math.sqrt(max(0.0, squares - total**2 / count)) / count
    return max(-1.0, total / count - half), min(1.0, total / count + half)


@dataclass(frozen=True)
class McNemar:
    """The exact McNemar test.

    Attributes:
        b: pairs that the first alone has right. c: pairs that the second alone has right.
        p: two-sided; 1 where no pair differs.
    """

    b: int
    c: int
    p: float


def mcnemar(first: Sequence[float], second: Sequence[float]) -> McNemar:
    """Whether two ways of answering the same questions are right equally often: the exact test of McNemar (Psychometrika 12, 1947).

    Of the pairs that differ, as many should fall to the one as to the other: a two-sided binomial test, counted in whole numbers.

    Args:
        first, second: 0 or 1 for each question, in the same order.

    Raises:
        InputError: not equally many, or something other than 0 and 1.

    Example:
        >>> mcnemar([1, 1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 1, 1])
        McNemar(b=6, c=1, p=0.125)
    """
    if len(first) != len(second):
        raise InputError(f"McNemar's test needs pairs, got {len(first)} and {len(second)} scores")
    if not is_binary([*first, *second]):
        raise InputError("McNemar's test needs scores of 0 and 1")
    b = sum(one > other for one, other in zip(first, second, strict=True))
    c = sum(other > one for one, other in zip(first, second, strict=True))
    return McNemar(b, c, _two_sided(b, c))


def _two_sided(b: int, c: int) -> float:
    """Twice the smaller tail of a fair coin, at most 1; the coin is fair, so this is every outcome that is no likelier."""
    count, fewer = b + c, min(b, c)
    if 2 * fewer >= count - 1:
        return 1.0  # the two tails meet
    term = tail = 1
    for k in range(1, fewer + 1):
        term = term * (count - k + 1) // k
        tail += term
    return 2 * tail / 2**count if count < 1000 else math.exp(min(0.0, math.log(2 * tail) - count * math.log(2)))


def sign_flip(differences: Sequence[float], resamples: int = 99_999, seed: int = 0) -> float:
    """Whether a mean difference could be chance, for scores of any kind: the paired randomisation test (Fisher 1935), two-sided.

    Were the two ways alike, each question's difference could as well have the other sign. For differences of -1, 0 and 1 this is McNemar's test;
    it is drawn at random, so p is never below 1 / (resamples + 1).

    Args:
        differences: one a question, finite.

    Raises:
        InputError: none, or fewer than one resample.

    Example:
        >>> sign_flip([0.5, -0.5, 0.0])
        1.0
    """
    check_count("resamples", resamples)
    if not differences:
        raise InputError("a test needs at least one difference, got none")
    sizes, counts = np.unique(np.abs(np.asarray(differences, dtype=np.float64).round(9)), return_counts=True)
    generator, total = np.random.default_rng(seed), np.zeros(resamples)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        if size:
            total += size * (2 * generator.binomial(count, 0.5, size=resamples) - count)
    beyond = int((np.abs(total) >= abs(math.fsum(differences)) - 1e-6).sum())
    return (1 + beyond) / (1 + resamples)


def is_binary(scores: Sequence[float]) -> bool:
    """Whether every score is 0 or 1.

    Example:
        >>> is_binary([0, 1.0, True]), is_binary([0.5])
        (True, False)
    """
    return all(score in (0, 1) for score in scores)


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for being several, after Holm (Scandinavian Journal of Statistics 6, 1979), in the order given.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = worst
    return adjusted
