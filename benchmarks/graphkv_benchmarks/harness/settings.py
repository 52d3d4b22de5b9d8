"""A task's ``generation_kwargs`` → how an answer is decoded; what cannot be honoured is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphkv.errors import InputError, check_count, one_of
from graphkv.model import GraphModel

_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the longest answer, the first that is given counts: lm_eval's own rule."""

_CHOOSING = ("top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size", "min_new_tokens", "num_beams")
"""Handed on to transformers (beams are then refused by the engine, unless it is one)."""


@dataclass(frozen=True)
class Decoding:
    """How the answers to a group of requests are decoded.

    Attributes:
        until: strings that end an answer. max_new_tokens: the longest answer. config: a transformers GenerationConfig.
    """

    until: tuple[str, ...]
    max_new_tokens: int
    config: Any

    @classmethod
    def of(cls, given: Any, default: int, model: GraphModel) -> Decoding:
        """Read what a task says; greedy unless it asks for sampling (``do_sample`` true, or a temperature above 0 and nothing about ``do_sample``).

        Args:
            default: the longest answer where the task names none.

        Raises:
            InputError: an unknown setting, or a value that cannot be meant.
        """
        from transformers import GenerationConfig

        if not isinstance(given, Mapping):
            raise InputError(f"generation settings must be an object, got {given!r}")
        settings = {key: value for key, value in given.items() if value is not None}
        valid = ("until", "do_sample", "temperature", *_LIMITS, *_CHOOSING)
        for key in settings:
            if key not in valid:
                raise InputError(one_of("generation setting", key, valid))
        limits = [settings.pop(name) for name in _LIMITS if name in settings]
        longest = limits[0] if limits else default
        check_count("max_gen_toks", longest)
        until = _strings(settings.pop("until", ()))
        temperature = settings.pop("temperature", 0.0)
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or temperature < 0:
            raise InputError(f"temperature must be a number of at least 0, got {temperature!r}")
        sampled = settings.pop("do_sample", temperature > 0)
        if not isinstance(sampled, bool):
            raise InputError(f"do_sample must be true or false, got {sampled!r}")
        if sampled and temperature == 0 and "temperature" in given:
            raise InputError("do_sample=true with temperature=0 is a contradiction: give a temperature above 0, or do_sample=false")
        if sampled and temperature:
            settings["temperature"] = float(temperature)
        ends = _ids(model.model.generation_config.eos_token_id) | _ids(model.tokenizer.eos_token_id)  # lm_eval's own model ends at both
        config = GenerationConfig(do_sample=sampled, eos_token_id=sorted(ends) or None, **settings)
        model.generation_config(config, {})  # refuses what the engine cannot do, before anything is decoded
        return cls(until, longest, config)


def same_settings(given: Any) -> str:
    """Equal for equal settings: requests that have it in common are decoded together."""
    return json.dumps(given, sort_keys=True, default=str)


def _strings(until: Any) -> tuple[str, ...]:
    listed = [until] if isinstance(until, str) else list(until) if isinstance(until, list | tuple) else None
    if listed is None or not all(isinstance(stop, str) for stop in listed):
        raise InputError(f"until must be a string or a list of strings, got {until!r}")
    return tuple(stop for stop in dict.fromkeys(listed) if stop)


def _ids(eos: Any) -> set[int]:
    return set() if eos is None else {eos} if isinstance(eos, int) else set(eos)
