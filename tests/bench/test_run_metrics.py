"""From lines to numbers: intervals against scipy, closed forms and simulation; cells counted by hand, in any order of the lines."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv.errors import InputError
from graphkv_benchmarks.runner.intervals import McNemar, bootstrap, holm, is_binary, mcnemar, mean, paired_bootstrap, sign_flip
from graphkv_benchmarks.runner.intervals import paired_score_interval as score_interval
from graphkv_benchmarks.runner.metrics import metrics, unique
from graphkv_benchmarks.runner.published import PUBLISHED, published_for
from graphkv_benchmarks.scoring import paired_difference, wilson

Line = dict[str, Any]


def line(id: str, score: float | None = 1.0, arm: str = "graph", *, answer: str | None = None, type: str = "", skipped: str = "length: too long", tokens: int = 100, **setting: Any) -> Line:
    head: Line = {"arm": arm, "setting": setting, "id": id, "unit": id, "type": type, "prompt": "0" * 16, "gold": ["x"]}
    if score is None:
        return head | {"skipped": skipped}
    said = answer if answer is not None else f"says {score}"
    counted = {"context": tokens, "kept": tokens, "reused": 0, "computed": tokens, "generated": 3}
    return head | {"answer": said, "score": score, "finish": "stop", "tokens": counted, "ttft": 0.1, "seconds": 0.2}


def numbers(lines: list[Line], **more: Any) -> dict[str, Any]:
    return metrics("arxiv-qa", "best_subspan_em", lines, **more)


def only(lines: list[Line], **more: Any) -> dict[str, Any]:
    (cell,) = numbers(lines, **more)["cells"]
    return cell


# Intervals


def test_bootstrap_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap as theirs

    rng = np.random.default_rng(3)
    for values in (rng.normal(2, 1, 80), rng.random(300), (rng.random(60) < 0.3).astype(float), rng.integers(0, 4, 90) / 3):
        expected = theirs((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)).confidence_interval
        low, high = bootstrap(values.tolist(), resamples=20_000)
        width = expected.high - expected.low
        assert abs(low - expected.low) < 0.05 * width and abs(high - expected.high) < 0.05 * width


def test_bootstrap_of_shares_has_the_binomial_quantiles() -> None:
    """The resampled number of successes is binomial: its quantiles are known."""
    from scipy.stats import binom

    for right, count in ((17, 60), (30, 60), (3, 40), (700, 1000)):
        low, high = bootstrap([1.0] * right + [0.0] * (count - right), resamples=40_000)
        expected = binom.ppf([0.025, 0.975], count, right / count)
        assert abs(low * count - expected[0]) <= 1 + 1e-9 and abs(high * count - expected[1]) <= 1 + 1e-9


def test_both_ways_of_resampling_are_one_distribution() -> None:
    """Counting distinct values, and drawing indices: the same values, told apart by less than any rounding."""
    rng = random.Random(2)
    few = [rng.randrange(5) / 4 for _ in range(200)]
    many = [value + i * 1e-9 for i, value in enumerate(few)]
    for one, other in zip(bootstrap(few, 20_000), bootstrap(many, 20_000), strict=True):
        assert abs(one - other) < 0.01


@pytest.mark.parametrize("kind", ["normal", "shares"])
def test_the_interval_covers_the_mean_as_often_as_it_says(kind: str) -> None:
    rng, covered, trials = np.random.default_rng(1), 0, 400
    for _ in range(trials):
        values, truth = (rng.normal(0.3, 1.0, 40), 0.3) if kind == "normal" else ((rng.random(60) < 0.4).astype(float), 0.4)
        low, high = bootstrap(values.tolist(), resamples=1000, seed=int(rng.integers(2**31)))
        covered += low <= truth <= high
    assert 0.90 <= covered / trials <= 0.98


def test_the_paired_interval_is_narrower_than_two_single_ones_say() -> None:
    rng = np.random.default_rng(7)
    hardness = rng.normal(0, 1, 200)
    one, other = hardness + rng.normal(0, 0.1, 200), hardness + 0.1 + rng.normal(0, 0.1, 200)
    low, high = paired_bootstrap((other - one).tolist())
    assert 0 < low < 0.1 < high and high - low < 0.06
    assert bootstrap(one.tolist())[1] > bootstrap(other.tolist())[0]  # single ones overlap


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=100), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_intervals_do_not_depend_on_the_order(values: list[float], rng: random.Random) -> None:
    shuffled = rng.sample(values, len(values))
    assert bootstrap(values, 200) == bootstrap(shuffled, 200) and mean(values) == mean(shuffled)
    low, high = bootstrap(values, 200)
    assert min(values) - 1e-12 <= low <= high <= max(values) + 1e-12


def test_constant_values_are_their_own_interval() -> None:
    assert bootstrap([1.0] * 60) == (1.0, 1.0) and paired_bootstrap([0.0]) == (0.0, 0.0) and bootstrap([0.7]) == (0.7, 0.7)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_the_score_interval_is_that_of_agresti_and_min(pairs: list[tuple[bool, bool]], seeds: int) -> None:
    """One seed, or several that all say the same: as many questions, and not one pair more."""
    _, low, high = paired_difference([one for one, _ in pairs], [other for _, other in pairs])
    found = score_interval([[float(one) - float(other)] * seeds for one, other in pairs])
    assert math.isclose(found[0], low, abs_tol=1e-12) and math.isclose(found[1], high, abs_tol=1e-12)


@given(st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=4), min_size=1, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_score_interval_holds_the_difference_and_does_not_depend_on_the_order(questions: list[list[float]], rng: random.Random) -> None:
    low, high = score_interval(questions)
    assert -1 <= low <= mean([mean(seeds) for seeds in questions]) <= high <= 1 and low < high
    shuffled = [rng.sample(seeds, len(seeds)) for seeds in rng.sample(questions, len(questions))]
    assert score_interval(shuffled) == (low, high)


def test_seeds_that_cancel_out_are_not_sure_of_themselves() -> None:
    """Every question gained under one seed and lost under another: the mean over seeds is 0 everywhere, and less is known than where nothing changed."""
    calm, wild = score_interval([[0.0, 0.0]] * 60), score_interval([[1.0, -1.0]] * 60)
    assert wild[1] > 4 * calm[1] and wild[0] == -wild[1]


def test_intervals_refuse_what_is_none() -> None:
    for values in ([], [1.0, math.nan], [math.inf]):
        with pytest.raises(InputError, match=r"needs at least one value|needs finite values"):
            bootstrap(values)
    with pytest.raises(InputError, match="resamples must be a whole number of at least 1, got 0"):
        bootstrap([1.0], resamples=0)
    for none in (lambda: mean([]), lambda: score_interval([]), lambda: score_interval([[0.0], []])):
        with pytest.raises(InputError, match="got none"):
            none()


def test_mcnemar_is_the_textbook_formula() -> None:
    """b against c is a fair coin: p = 2 · Σ_{k ≤ min(b, c)} C(b + c, k) / 2^(b + c), at most 1."""
    from scipy.stats import binomtest

    for b in (*range(12), 40, 900):
        for c in (*range(12), 43, 1000):
            found = mcnemar([1.0] * b + [0.0] * c + [1, 0], [0.0] * b + [1.0] * c + [1, 0])
            assert (found.b, found.c) == (b, c)
            count = b + c
            formula = min(1.0, float(2 * sum(math.comb(count, k) for k in range(min(b, c) + 1)) / 2**count)) if count < 900 else None
            if formula is not None:
                assert math.isclose(found.p, formula, rel_tol=1e-12)
            assert math.isclose(found.p, binomtest(b, count).pvalue if count else 1.0, rel_tol=1e-8, abs_tol=1e-300)
    assert mcnemar([], []) == McNemar(0, 0, 1.0)
    assert mcnemar([1] * 5000, [0] * 5000).p == 0.0  # 2^-4999: nothing overflows


def test_random_signs_are_mcnemar_for_0_and_1_and_scipys_test_for_the_rest() -> None:
    from scipy.stats import permutation_test

    for b, c in ((6, 1), (12, 3), (5, 5), (0, 0), (30, 22)):
        assert abs(sign_flip([1.0] * b + [-1.0] * c + [0.0] * 9) - mcnemar([1] * b + [0] * c, [0] * b + [1] * c).p) < 0.006
    differences = [1 / 3, 2 / 3, -1 / 3, 1.0, 0.0, 1 / 3, 0.7, -0.2, 0.4]
    exact = permutation_test((np.array(differences), np.zeros(9)), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", vectorized=True, n_resamples=np.inf)
    assert abs(sign_flip(differences) - exact.pvalue) < 0.006
    assert sign_flip(differences) == sign_flip(differences[::-1]) and sign_flip([0.5] * 60) == 1e-5
    with pytest.raises(InputError, match="got none"):
        sign_flip([])


def test_mcnemar_refuses_other_scores() -> None:
    with pytest.raises(InputError, match="scores of 0 and 1"):
        mcnemar([0.5], [1])
    with pytest.raises(InputError, match="needs pairs, got 1 and 2"):
        mcnemar([1], [1, 0])
    assert is_binary([]) and not is_binary([0, 2])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_by_its_definition(ps: list[float]) -> None:
    """Adjusted p of the k-th smallest: the largest of (n - j) · p_j over all j up to it, cut at 1."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted = holm(ps)
    for rank, i in enumerate(order):
        assert adjusted[i] == min(1.0, max((len(ps) - j) * ps[order[j]] for j in range(rank + 1)))


# Cells


def test_a_cell_by_hand() -> None:
    lines = [line(str(i), float(i <= 3), type="bridge" if i % 2 else "comparison", tokens=100 * i) for i in range(1, 5)]
    cell = only([*lines, line("5", None, type="bridge")])
    assert (cell["lines"], cell["questions"], cell["answered"], cell["right"]) == (5, 5, 4, 3.0)
    assert (cell["mean"], cell["mean_all"], cell["tokens"]) == (0.75, 0.6, 250.0)
    assert [cell["low"], cell["high"]] == [round(bound, 6) for bound in bootstrap([1.0, 1.0, 1.0, 0.0])]
    assert cell["wilson"] == [round(bound, 6) for bound in wilson(3, 4)]
    assert cell["sd"] is None and cell["by_seed"] == {} and cell["further"] == {}
    assert cell["skipped"] == {"length": 1} and cell["reasons"] == {"length: too long": 1}
    bridge, comparison = cell["by_type"]["bridge"], cell["by_type"]["comparison"]
    assert (bridge["questions"], bridge["answered"], bridge["mean"], bridge["low"], bridge["high"]) == (3, 2, 1.0, 1.0, 1.0)
    assert (comparison["questions"], comparison["answered"], comparison["mean"]) == (2, 2, 0.5)


def test_all_right_is_not_certain() -> None:
    cell = only([line(str(i)) for i in range(60)])
    assert (cell["low"], cell["high"]) == (1.0, 1.0) and cell["wilson"] == [0.939828, 1.0]


def test_scores_between_have_no_wilson() -> None:
    assert only([line("1", 0.5), line("2", 1.0)])["wilson"] is None


def test_seeds_are_pooled_within_a_question() -> None:
    lines = [line("1", 1.0, seed=42), line("1", 0.0, seed=43), line("1", 1.0, seed=44), line("2", 0.0, seed=42), line("2", 0.0, seed=43), line("2", None, seed=44)]
    cell = only(lines)
    assert (cell["questions"], cell["answered"], cell["lines"], cell["setting"]) == (2, 2, 6, {})
    assert cell["right"] == 0.666667 and cell["mean"] == 0.333333
    assert cell["mean_all"] == 0.333333  # (2/3 + 0/3) / 2
    assert cell["by_seed"] == {"42": 0.5, "43": 0.0, "44": 1.0} and cell["sd"] == 0.5
    assert cell["skipped"] == {"length": 1}


def test_a_question_that_fits_under_few_seeds_counts_with_those() -> None:
    cell = only([line("1", 1.0, seed=1), line("1", None, seed=2), line("2", None, seed=1), line("2", None, seed=2)])
    assert (cell["answered"], cell["questions"], cell["mean"], cell["mean_all"]) == (1, 2, 1.0, 0.25)


def test_seeds_are_in_the_order_of_numbers() -> None:
    assert list(only([line("1", seed=seed) for seed in (10, 9, 100)])["by_seed"]) == ["9", "10", "100"]


def test_nothing_and_all_skipped() -> None:
    assert numbers([]) == {"task": "arxiv-qa", "metric": "best_subspan_em", "cells": [], "gaps": [], "broken": []}
    cell = only([line("1", None, type="a"), line("2", None, skipped="memory: full")], further=lambda lines: {"never": 1.0})
    assert (cell["questions"], cell["answered"], cell["right"], cell["mean"], cell["low"], cell["wilson"], cell["tokens"]) == (2, 0, 0.0, None, None, None, None)
    assert cell["mean_all"] == 0.0 and cell["skipped"] == {"length": 1, "memory": 1} and cell["further"] == {}
    assert cell["by_type"]["a"] == {"questions": 1, "answered": 0, "mean": None, "low": None, "high": None}


def test_one_question() -> None:
    cell = only([line("Ω|é")])
    assert (cell["mean"], cell["low"], cell["high"], cell["mean_all"]) == (1.0, 1.0, 1.0, 1.0)


def test_reasons_are_counted_and_capped() -> None:
    lines = [line(str(i), None, skipped=f"length: {i % 30} tokens") for i in range(60)] + [line("x", None, skipped="length: 7 tokens")]
    reasons = only(lines)["reasons"]
    assert len(reasons) == 21 and next(iter(reasons.items())) == ("length: 7 tokens", 3)
    assert reasons["(other reasons)"] == 20 and sum(reasons.values()) == 61


def test_memory_that_was_free_is_no_number() -> None:
    """A run that goes on finds another amount free, and must end with the same bytes."""
    ones, others = ([line("1", None, skipped=f"memory: keys of 4.20 GiB are more than the {free} GiB") for _ in range(1)] for free in ("3.10", "1,002.9"))
    assert numbers(ones) == numbers(others)
    assert numbers(ones)["cells"][0]["reasons"] == {"memory: keys of … GiB are more than the … GiB": 1}


def test_cells_are_sorted_by_arm_and_setting() -> None:
    lines = [line("1", arm=arm, distractors=d, order=o) for arm in ("b", "z", "a") for d in (10, 2) for o in ("last", "first")] + [line("1", arm="z", distractors=0)]
    cells = numbers(lines, arms=["z", "b"])["cells"]
    assert [cell["arm"] for cell in cells] == ["z"] * 5 + ["b"] * 4 + ["a"] * 4
    assert [tuple(cell["setting"].values()) for cell in cells[:5]] == [(0,), (2, "first"), (2, "last"), (10, "first"), (10, "last")]


def test_settings_of_words_and_numbers_stand_side_by_side() -> None:
    cells = numbers([line("1", k=1), line("1", k="1"), line("1", k="a"), line("1")])["cells"]
    assert [cell["setting"] for cell in cells] == [{}, {"k": 1}, {"k": "1"}, {"k": "a"}]


def test_further_metrics_see_the_answered_lines_of_a_cell() -> None:
    seen: list[list[str]] = []

    def further(lines: Any) -> dict[str, float]:
        seen.append([line["id"] for line in lines])
        return {"f1": 0.5, "odd": math.nan, "endless": math.inf}

    result = numbers([line("10"), line("9"), line("2", None), line("1", arm="block")], further=further)
    assert [cell["further"] for cell in result["cells"]] == [{"endless": None, "f1": 0.5, "odd": None}] * 2
    assert seen == [["1"], ["9", "10"]]
    json.dumps(result, allow_nan=False)


def test_broken_rows_are_told_once() -> None:
    rows = [{"broken": "7", "unit": "7", "reason": "no answer"}, {"broken": "7", "unit": "7", "reason": "no answer"}, {"broken": "é", "unit": "8", "reason": "torn"}]
    assert numbers([*rows, line("1")])["broken"] == [{"id": "7", "reason": "no answer"}, {"id": "é", "reason": "torn"}]
    many = [{"broken": str(i), "unit": "1", "reason": "torn"} for i in range(9, 0, -1)]  # more than a set would happen to keep in order
    assert [row["id"] for row in numbers(many)["broken"]] == list("123456789")


def test_a_row_that_was_mended_is_broken_no_more() -> None:
    rows = [{"broken": id, "unit": unit, "reason": "no answer"} for id, unit in (("7", "7"), ("8", "8"), ("9", "9"), ("7", "70"), ("7, 2 distractors", "7"))]
    mended = [line("7"), line("8", None)]  # answered, and found too long: either way it could be read
    assert [row["id"] for row in numbers([*rows, *mended])["broken"]] == ["7", "7, 2 distractors", "9"]
    assert len(numbers(rows)["broken"]) == 4


def test_a_doubled_line_counts_once_and_a_contradiction_is_an_error() -> None:
    lines = [line("1"), line("2", 0.0, distractors=1, order="first")]
    assert numbers([*lines, {**lines[0], "ttft": 9.0}]) == numbers(lines)
    for other in (line("1", 0.0, answer="says 1.0"), line("1", answer="else"), line("1", None)):
        with pytest.raises(InputError, match="question '1' of arm 'graph' stands there twice"):
            numbers([*lines, other])
    assert len(unique([line("1"), line("01"), line("1", k=1)])) == 3


def test_a_lost_line_changes_the_cell() -> None:
    lines = [line(str(i), float(i % 2)) for i in range(10)]
    assert only(lines[:-1])["answered"] == 9 and only(lines[:-1])["mean"] == round(4 / 9, 6)


# Gaps


def test_a_gap_by_hand() -> None:
    first, last = (1.0, 0.0, 0.0, 1.0, 0.0), (1.0, 1.0, 1.0, 0.0, 1.0)
    lines = [line(str(i), score, "sequential", distractors=1, order=order) for order, scores in (("first", first), ("last", last)) for i, score in enumerate(scores)]
    lines += [line("8", 1.0, "sequential", distractors=1, order="first"), line("9", None, "sequential", distractors=1, order="first"), line("9", 1.0, "sequential", distractors=1, order="last")]
    (gap,) = numbers([*lines, line("0", arm="sequential", distractors=0)])["gaps"]
    assert (gap["arm"], gap["setting"], gap["questions"], gap["pairs"]) == ("sequential", {"distractors": 1}, 5, 5)
    assert (gap["first"], gap["last"], gap["gap"], gap["same_answers"]) == (0.4, 0.8, 0.4, 1)
    assert [gap["low"], gap["high"]] == [round(bound, 6) for bound in bootstrap([0.0, 1.0, 1.0, -1.0, 1.0])]
    assert gap["score_interval"] == [round(bound, 6) for bound in paired_difference([x == 1 for x in last], [x == 1 for x in first])[1:]]


def test_gaps_pair_by_seed() -> None:
    """The mean over seeds would pair 0.5 with 0.5; by seed the answers differ, and only pairs of one seed count."""
    lines = [line("1", score, order=order, seed=seed) for order, seed, score in (("first", 1, 1.0), ("first", 2, 0.0), ("last", 1, 0.0), ("last", 2, 1.0), ("last", 3, 1.0))]
    (gap,) = numbers(lines)["gaps"]
    assert (gap["questions"], gap["pairs"], gap["gap"], gap["same_answers"]) == (1, 2, 0.0, 0)
    assert gap["score_interval"] == [round(bound, 6) for bound in score_interval([[-1.0, 1.0]])]  # of pairs by seed too
    assert gap["last"] == 0.5  # without seed 3, which has no first


def test_the_same_answers_are_a_gap_of_zero() -> None:
    lines = [line(str(i), float(i < 17), distractors=2, order=order) for i in range(60) for order in ("first", "last")]
    (gap,) = numbers(lines)["gaps"]
    assert (gap["gap"], gap["low"], gap["high"], gap["same_answers"], gap["pairs"]) == (0.0, 0.0, 0.0, 60, 60)
    assert gap["score_interval"][0] < 0 < gap["score_interval"][1]


@pytest.mark.parametrize("score", [0.0, 1.0, 0.4])
def test_three_seeds_that_all_say_the_same_are_not_certain(score: float) -> None:
    """60 questions are 60, not 180, and what none of them shows may still be true of one in thirty."""
    lines = [line(str(i), score, distractors=1, order=order, seed=seed) for i in range(60) for order in ("first", "last") for seed in (42, 43, 44)]
    (gap,) = numbers(lines)["gaps"]
    assert (gap["questions"], gap["pairs"], gap["gap"], gap["low"], gap["high"]) == (60, 180, 0.0, 0.0, 0.0)
    assert gap["score_interval"] == [-0.031612, 0.031612]
    (one_seed,) = numbers([some for some in lines if some["setting"]["seed"] == 42])["gaps"]
    assert one_seed["score_interval"] == gap["score_interval"]


def test_there_is_no_gap_without_both_orders() -> None:
    assert numbers([line("1", order="first"), line("1")])["gaps"] == []
    (gap,) = numbers([line("1", order="first"), line("1", None, order="last")])["gaps"]
    assert (gap["pairs"], gap["gap"], gap["low"]) == (0, None, None)


# Order


SETTINGS = st.fixed_dictionaries({}, optional={"distractors": st.integers(0, 2), "order": st.sampled_from(["first", "last"]), "seed": st.integers(1, 3)})
SCORES = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 1 / 3, 0.1]))
LINES = st.lists(st.tuples(st.sampled_from(["graph", "block"]), SETTINGS, st.text(max_size=3), SCORES, st.sampled_from(["", "é|", "2 hops"])), max_size=40)


@given(LINES, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_same_lines_in_any_order_are_the_same_bytes(rows: list[tuple[Any, ...]], rng: random.Random) -> None:
    found = {json.dumps([arm, setting, id], sort_keys=True): line(id, score, arm, type=type, **setting) for arm, setting, id, score, type in rows}
    lines = [*found.values(), {"broken": "1", "unit": "1", "reason": "r"}, {"broken": "2", "unit": "1", "reason": "r"}]
    shuffled = rng.sample(lines, len(lines))
    reversed_keys = [dict(reversed(some.items())) | ({"setting": dict(reversed(some["setting"].items()))} if "setting" in some else {}) for some in shuffled]
    ours, theirs = (json.dumps(numbers(some, further=lambda cell: {"sum": sum(line["score"] for line in cell)}), allow_nan=False) for some in (lines, reversed_keys))
    assert ours == theirs
    assert sum(cell["lines"] for cell in json.loads(ours)["cells"]) == len(found)


# Published numbers


def test_published_numbers_are_as_in_the_paper() -> None:
    assert len([row for row in PUBLISHED if row.task.startswith("rag-")]) == 8 * 7 + 2 * 6 + 1
    assert len(published_for("arxiv-qa")) == 20 and all(row.of == 60 for row in published_for("arxiv-qa"))
    graph = {json.dumps(row.setting): row.value for row in published_for("arxiv-qa") if row.arm == "graph"}
    assert list(graph.values()) == [27, 17, 17, 9, 9]
    full = [row for row in published_for("rag-longbench-v2") if row.arm == "full"]
    assert [row.value for row in full] == [37.5, 33.7] and all("recomputed" in row.source for row in full)
    assert {row.value for row in published_for("rag-morehopqa") if row.arm == "hops3"} == {46.69}
    assert {row.value for row in published_for("topic-pubmed")} == {79.79, 83.24, 84.61}
    assert all(row.source.startswith("Graph-KV (arXiv 2506.07334)") and 0 <= row.value <= 100 for row in PUBLISHED)


def test_published_arms_are_ours() -> None:
    from graphkv_benchmarks.runner.arms import ARMS

    assert {row.arm for row in PUBLISHED} <= set(ARMS)
