"""How the next token of each answer is chosen: greedy, or drawn, each answer by a generator of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphkv.errors import InputError, check_count


@dataclass(frozen=True)
class Sampling:
    """Settings of one answer.

    Attributes:
        max_new_tokens: the longest answer; 64 if None, fewer where the model's window ends.
        temperature: 0 takes the likeliest token; above it tokens are drawn from ``softmax(logits / temperature)``.
        top_p: draw from the fewest tokens whose probabilities sum to this. top_k: draw from the k likeliest; 0 for all.
        seed: of the answer's own generator; without one no two runs draw alike. What stands beside an answer in a batch does not change its draws.
        stop: the answer ends before the first of these strings.

    Raises:
        InputError: a value out of its range.

    Example:
        >>> Sampling(temperature=0.7, top_p=0.9, seed=1).greedy
        False
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None:
            check_count("max_new_tokens", self.max_new_tokens)
        for name, low, high in (("temperature", 0.0, 100.0), ("top_p", 0.0, 1.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
        if self.top_p == 0:
            raise InputError("top_p must be above 0: nothing is left to draw from; for the likeliest token use temperature=0")
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 0:
            raise InputError(f"top_k must be a whole number of at least 0 (0 for all), got {self.top_k!r}")
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int) or not -(2**63) <= self.seed < 2**64):
            raise InputError(f"seed must be a whole number of at most 64 bits, got {self.seed!r}")
        if not isinstance(self.stop, tuple) or any(not isinstance(s, str) or not s for s in self.stop):
            raise InputError(f"stop must be a tuple of strings, none of them empty, got {self.stop!r}")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken."""
        return self.temperature == 0

    def generator(self) -> torch.Generator:
        """A generator for one answer."""
        generator = torch.Generator()
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.seed)
        return generator


def next_tokens(logits: Tensor, settings: Sequence[Sampling], generators: Sequence[torch.Generator]) -> list[int]:
    """One token for each row of logits ``[B, vocab]``, each by its own settings and generator.

    Example:
        >>> next_tokens(torch.tensor([[0.0, 2.0, 1.0]]), [Sampling()], [torch.Generator()])
        [1]
    """
    best: list[int] = logits.argmax(-1).tolist()
    for row, (chosen, generator) in enumerate(zip(settings, generators, strict=True)):
        if not chosen.greedy:
            best[row] = _drawn(logits[row].float().cpu(), chosen, generator)
    return best


def _drawn(logits: Tensor, chosen: Sampling, generator: torch.Generator) -> int:
    """A token drawn from logits ``[vocab]``: temperature, then the k likeliest, then the likeliest up to `top_p`, as transformers orders them."""
    # The largest is 0, so a tiny temperature cannot overflow; and in float64 no temperature above 0 is rounded to 0.
    scaled = (logits - logits.max()).double() / chosen.temperature
    values, tokens = scaled.sort(descending=True, stable=True)
    if chosen.top_k:
        values, tokens = values[: chosen.top_k], tokens[: chosen.top_k]
    chances = values.softmax(-1)
    if chosen.top_p < 1:
        before = chances.cumsum(-1) - chances
        chances = chances.masked_fill(before >= chosen.top_p, 0.0)  # the first always stays
    return int(tokens[torch.multinomial(chances, 1, generator=generator)])
