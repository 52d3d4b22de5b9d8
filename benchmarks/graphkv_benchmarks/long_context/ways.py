"""What is compared: a strategy with its options, on a model."""

from __future__ import annotations

import ast
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphkv.engine import GraphKV
from graphkv.errors import InputError
from graphkv.layouts import LAYOUTS, layout_options
from graphkv.store import MemoryStore
from graphkv.strategies import GRAPH, find_strategy
from graphkv.strategy import Answer

from ..memory import peak_mb
from .cases import Context

TOGETHER = 2**17
"""Tokens of context that the questions decoded together have at most, all together: each may need a copy of the cache."""


@dataclass(frozen=True, eq=False)
class Way:
    """One column of the tables.

    Attributes:
        name: as in results. strategy, options: as ``engine.ask_many`` takes them. engine: holds the model. model: its name.
    """

    name: str
    strategy: str
    engine: GraphKV
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = "embedded"

    @property
    def query_aware(self) -> bool:
        """Whether the strategy sees the question before it has read the documents."""
        return self.strategy != GRAPH and find_strategy(self.strategy).query_aware

    def about(self) -> dict[str, Any]:
        """What decides over its numbers, as JSON has it."""
        return {
            "strategy": self.strategy,
            "options": {key: list(value) if isinstance(value, tuple) else value for key, value in self.options.items()},
            "query_aware": self.query_aware,
            "model": self.model,
            "weights": self.engine.model.fingerprint,
            "window": self.engine.model.window,
            "max_segment_tokens": self.engine.max_segment_tokens,
        }

    def ask(self, context: Context, documents: Sequence[Mapping[str, Any]], questions: Sequence[str]) -> tuple[list[Answer], float, float | None]:
        """Answers, seconds for all of them, and the rise of resident memory in MiB (None where it cannot be told).

        Each call has an empty store: nothing that was read for one context serves another.
        """
        form, model = context.form, self.engine.model
        template = form.template(self.engine.template) if form else self.engine.template
        begun = form.begin(self.engine.template) if form else ""
        engine = GraphKV(model, store=MemoryStore(), template=template, max_segment_tokens=self.engine.max_segment_tokens, batch_tokens=self.engine.batch_tokens)
        started = time.perf_counter()
        request: dict[str, Any] = {"max_new_tokens": context.max_new_tokens, "answer_prefix": begun, "batch_size": max(1, min(16, TOGETHER // context.length))}
        peak, answers = peak_mb(lambda: engine.ask_many(list(documents), list(questions), strategy=self.strategy, **request, **self.options))
        return answers, time.perf_counter() - started, peak


def option_names(strategy: str) -> list[str]:
    """The options of a strategy by name. Raises InputError for a strategy that there is not."""
    if strategy == GRAPH:
        return ["layout", *dict.fromkeys(key for layout in LAYOUTS for key in layout_options(layout))]
    return list(find_strategy(strategy).options())


def make_ways(specs: Sequence[str], options: Mapping[str, Any], engines: Mapping[str, tuple[str, GraphKV]], default: tuple[str, GraphKV]) -> list[Way]:
    """Ways from what stands on a command line.

    Args:
        specs, options: as in :func:`read_specs`.
        engines: (name of the model, engine) for some strategies; `default` for the rest.

    Raises:
        InputError: as :func:`read_specs` does.

    Example:
        >>> make_ways(["graph", "graph:layout=block"], {}, {}, ("embedded", engine))  # doctest: +SKIP
    """
    ways: list[Way] = []
    for spec, (strategy, own) in read_specs(specs, options).items():
        model, engine = engines.get(strategy, default)
        ways.append(Way(spec, strategy, engine, own, model))
    return ways


def read_specs(specs: Sequence[str], options: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The strategy and its options for each of `specs`: what can be checked before a model is loaded.

    Args:
        specs: strategies, each with options of its own behind a colon: ``infini_retri:window=512:neighbours=sources``.
        options: for every strategy that has one of this name; those behind a colon come first.

    Raises:
        InputError: an unknown strategy or option, the same way twice, an option that none of the strategies has.

    Example:
        >>> read_specs(["graph:layout=block", "full_context"], {"rounds": 2})
        {'graph:layout=block': ('graph', {'rounds': 2, 'layout': 'block'}), 'full_context': ('full_context', {})}
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    used: set[str] = set()
    for spec in specs:
        strategy, *pairs = spec.split(":")
        valid = option_names(strategy)
        own = _options(spec, pairs)
        if unknown := [key for key in own if key not in valid]:
            raise InputError(f"strategy {strategy!r} has no option {unknown[0]!r}; valid: {', '.join(sorted(valid)) or 'none'}")
        if spec in found:
            raise InputError(f"strategy {spec!r} is given twice")
        shared = {key: value for key, value in options.items() if key in valid}
        used |= set(shared)
        found[spec] = (strategy, {**shared, **own})
    if unused := sorted(set(options) - used):
        raise InputError(f"none of the strategies {', '.join(specs)} has an option {unused[0]!r}")
    return found


def _options(spec: str, pairs: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.replace("-", "_")
        if not equals or not key or not value:
            raise InputError(f"strategy {spec!r}: expected name:key=value:key=value, got {pair!r}")
        if key in found:
            raise InputError(f"strategy {spec!r}: {key} is given twice")
        try:
            found[key] = {"true": True, "false": False}[value.lower()] if value.lower() in ("true", "false") else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[key] = value
    return found
