"""The mixture of layouts that a run is trained under."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphkv.errors import LayoutError, one_of
from graphkv.layouts import LAYOUTS, layout_options

LANDMARK = "landmark"
"""Not a layout but a reading of its own: one running text with landmarks in it."""


@dataclass(frozen=True)
class Mixture:
    """Layouts by name with the weight of each, and the options that each gets.

    Example:
        >>> mixture = Mixture.parse("graph=2,block=1", {"rounds": 2})
        >>> mixture.weights, mixture.options["graph"], mixture.options["block"]
        ({'graph': 2.0, 'block': 1.0}, {'rounds': 2}, {})
    """

    weights: Mapping[str, float]
    options: Mapping[str, Mapping[str, Any]]

    @classmethod
    def parse(cls, text: str, options: Mapping[str, Any] | None = None) -> Mixture:
        """``"graph=2,block=1"`` or ``"graph"``; an option goes to every layout that has it.

        Raises:
            LayoutError: an unknown layout, one that exists only as a staged procedure, a weight that is none, or an
                option that none of the layouts has.
        """
        weights: dict[str, float] = {}
        for part in text.split(","):
            name, equals, number = (piece.strip() for piece in part.partition("="))
            options_of(name)
            if name == "graph_sequential":
                raise LayoutError("layout 'graph_sequential' moves keys between its phases: there is no packed forward to train it with; train 'graph_topk'")
            if name in weights:
                raise LayoutError(f"layout {name!r} is named twice in {text!r}")
            try:
                weights[name] = float(number) if equals else 1.0
            except ValueError:
                weights[name] = math.nan
            if not 0 < weights[name] < math.inf:
                raise LayoutError(f"expected name=weight with a weight above 0, for example graph=2,block=1; got {part.strip()!r}")
        valid = {name: options_of(name) for name in weights}
        for key in options or {}:
            if not any(key in known for known in valid.values()):
                raise LayoutError(one_of(f"option of {', '.join(weights)}:", key, sorted({k for known in valid.values() for k in known}) or ["none"]))
        return cls(weights, {name: {k: v for k, v in (options or {}).items() if k in known} for name, known in valid.items()})

    def draw(self, rng: random.Random) -> str:
        """The name of one layout, by weight."""
        return rng.choices(list(self.weights), list(self.weights.values()))[0]


def options_of(name: str) -> dict[str, Any]:
    """The options of a layout, or of the landmark reading, which has none. Raises LayoutError for an unknown name."""
    if name != LANDMARK and name not in LAYOUTS:
        raise LayoutError(one_of("layout", name, [*LAYOUTS, LANDMARK]))
    return {} if name == LANDMARK else layout_options(name)
