"""Choosing the next token: draws against the softmax they come from, top_p and top_k read from their definitions, seeds."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from helpers import random_graph, random_ids, tiny_engine
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from graphkv import InputError
from graphkv.batch import Row, RunningBatch
from graphkv.generate import TextStream
from graphkv.sampling import Sampling, next_tokens

LOGITS = [1.0, -0.5, 2.0, 0.3, 1.7, -3.0, 0.9]
DRAWS = 2500
CHI_SQUARE = {1: 23.9, 2: 27.6, 3: 30.7, 4: 33.4, 5: 35.9, 6: 38.3}
"""Above this, by degrees of freedom, one run in a million falls by chance."""


def drawn(settings: Sampling, logits: list[float], count: int = DRAWS) -> list[int]:
    """How often each token comes."""
    generator = settings.generator()
    tokens = [next_tokens(torch.tensor([logits]), [settings], [generator])[0] for _ in range(count)]
    return [tokens.count(token) for token in range(len(logits))]


def chances_of(settings: Sampling, logits: list[float]) -> list[float]:
    """By the definitions, in Python: softmax(logits / temperature); the k likeliest; of those the fewest whose chances sum to top_p."""
    powers = [math.exp((logit - max(logits)) / settings.temperature) for logit in logits]
    order = sorted(range(len(logits)), key=lambda token: -powers[token])
    kept = order[: settings.top_k] if settings.top_k else order
    total, summed, chosen = sum(powers[token] for token in kept), 0.0, list[int]()
    for token in kept:
        chosen.append(token)
        summed += powers[token] / total
        if summed >= settings.top_p:
            break
    total = sum(powers[token] for token in chosen)
    return [powers[token] / total if token in chosen else 0.0 for token in range(len(logits))]


SETTINGS = [
    Sampling(temperature=1.0, seed=1),
    Sampling(temperature=0.4, seed=2),
    Sampling(temperature=3.0, seed=3),
    Sampling(temperature=1.0, top_k=3, seed=4),
    Sampling(temperature=1.0, top_p=0.6, seed=5),
    Sampling(temperature=2.0, top_p=0.8, top_k=5, seed=6),
    Sampling(temperature=1.0, top_p=0.01, seed=7),
    Sampling(temperature=1.5, top_k=100, seed=8),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_draws_are_distributed_as_the_softmax_says(settings: Sampling) -> None:
    expected, counts = chances_of(settings, LOGITS), drawn(settings, LOGITS)
    assert all(count == 0 for count, chance in zip(counts, expected, strict=True) if chance == 0)
    possible = [(count, DRAWS * chance) for count, chance in zip(counts, expected, strict=True) if chance > 0]
    distance = sum((count - wanted) ** 2 / wanted for count, wanted in possible)
    assert len(possible) == 1 or distance < CHI_SQUARE[len(possible) - 1], (counts, expected)


@pytest.mark.parametrize("temperature,top_k,top_p", [*itertools.product([0.5, 1.0, 2.5], [0, 1, 4], [0.2, 0.7, 0.95, 1.0])])
def test_the_tokens_that_can_come_are_transformers(temperature: float, top_k: int, top_p: float) -> None:
    """1. the definitions; 2. transformers' own warpers; 3. what comes in many draws."""
    settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=0)
    logits = [logit / 2 for logit in LOGITS[:5]]
    scores = TemperatureLogitsWarper(temperature)(None, torch.tensor([logits]))  # type: ignore[arg-type]
    for warper in [TopKLogitsWarper(top_k)] if top_k else []:
        scores = warper(None, scores)  # type: ignore[arg-type]
    scores = TopPLogitsWarper(top_p)(None, scores)  # type: ignore[arg-type]
    theirs = scores[0].softmax(-1).tolist()
    assert chances_of(settings, logits) == pytest.approx(theirs, rel=1e-5)
    counts = drawn(settings, logits, 150)
    assert [count > 0 for count in counts] == [chance > 0 for chance in theirs]


def test_greedy_takes_the_likeliest_and_the_first_of_equals() -> None:
    assert next_tokens(torch.tensor([[0.0, 2.0, 1.0], [5.0, 5.0, 4.0], [-9.0, -8.0, -7.0]]), [Sampling()] * 3, [torch.Generator()] * 3) == [1, 0, 2]
    assert Sampling(temperature=0, seed=3).greedy and not Sampling(temperature=1e-9).greedy


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-45, 1e-300, 5e-324])
def test_a_tiny_temperature_is_greedy_in_the_limit(temperature: float) -> None:
    assert drawn(Sampling(temperature=temperature, seed=1), [0.0, 2.0, 1.0, -torch.inf], 5) == [0, 5, 0, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_a_token_that_cannot_come_does_not(dtype: torch.dtype) -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0]], dtype=dtype)
    settings = Sampling(temperature=100.0, seed=1)
    generator = settings.generator()
    assert {next_tokens(logits, [settings], [generator])[0] for _ in range(50)} == {1, 3}


def test_each_row_has_its_own_settings_and_its_own_generator() -> None:
    """The draws of a row are those that it has alone, whatever stands beside it."""
    logits = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    settings = [Sampling(temperature=1.0, seed=1), Sampling(), Sampling(temperature=2.0, top_k=7, seed=1), Sampling(temperature=1.0, top_p=0.5, seed=9)]
    generators = [one.generator() for one in settings]
    together = [next_tokens(logits, settings, generators) for _ in range(40)]
    for row, one in enumerate(settings):
        generator = one.generator()
        assert [tokens[row] for tokens in together] == [next_tokens(logits[row : row + 1], [one], [generator])[0] for _ in range(40)]
    assert len({tokens[0] for tokens in together}) > 5 and {tokens[1] for tokens in together} == {int(logits[1].argmax())}


def test_seeds() -> None:
    def some(seed: int | None) -> list[int]:
        settings = Sampling(temperature=1.0, seed=seed)
        generator = settings.generator()
        return [next_tokens(torch.zeros(1, 1000), [settings], [generator])[0] for _ in range(8)]

    assert some(5) == some(5) != some(6)
    assert some(None) != some(None)
    assert some(-(2**63)) != some(2**64 - 1), "both ends of the range can be used"


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    drawn(Sampling(temperature=1.0), LOGITS, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_answer_is_drawn_alike_alone_and_among_others() -> None:
    engine = tiny_engine()
    context = engine.assembled(random_graph({"a": 40, "b": 20}, [("a", "b")]))

    def tokens(*rows: Row) -> list[int]:
        batch = RunningBatch(engine.model, context)
        for row in rows:
            batch.add([row])
        while batch.rows:
            batch.drop([row for row in batch.rows if row.finish_reason])
            if batch.rows:
                batch.step()
        return rows[-1].text.tokens

    def row(seed: int, limit: int = 20, **settings: Any) -> Row:
        sampling = Sampling(temperature=1.5, seed=seed, **settings)
        return Row(tuple(random_ids(10, seed)), sampling, limit, frozenset(), TextStream(engine.model))

    assert tokens(row(7)) == tokens(row(1, 4), row(2, top_k=3), row(3, 2), row(7)) != tokens(row(8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of at least 1, got 0"),
        ({"max_new_tokens": 2.5}, "max_new_tokens must be"),
        ({"max_new_tokens": True}, "max_new_tokens must be"),
        ({"temperature": -0.1}, "temperature must be a number from 0 to 100, got -0.1"),
        ({"temperature": 101}, "temperature must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"temperature": "hot"}, "temperature must be a number from 0 to 100, got 'hot'"),
        ({"temperature": True}, "temperature must be"),
        ({"temperature": None}, "temperature must be"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"top_p": 1.1}, "top_p must be a number from 0 to 1, got 1.1"),
        ({"top_p": float("nan")}, "top_p must be"),
        ({"top_k": -1}, r"top_k must be a whole number of at least 0 \(0 for all\), got -1"),
        ({"top_k": 1.0}, "top_k must be"),
        ({"top_k": False}, "top_k must be"),
        ({"seed": 2**64}, "seed must be a whole number of at most 64 bits"),
        ({"seed": -(2**63) - 1}, "seed must be"),
        ({"seed": 0.5}, "seed must be"),
        ({"stop": "END"}, "stop must be a tuple of strings, none of them empty, got 'END'"),
        ({"stop": ("",)}, "stop must be"),
        ({"stop": (1,)}, "stop must be"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sampling(**settings)
