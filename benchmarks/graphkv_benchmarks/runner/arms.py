"""The arms of a run: a layout or a strategy by a short name, with its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from graphkv.errors import InputError, one_of
from graphkv.graph import SegmentGraph
from graphkv.layouts import make_layout
from graphkv.segments import Segment
from graphkv.strategies import GRAPH, find_strategy

from ..long_context.ways import read_specs


@dataclass(frozen=True)
class Arm:
    """One row of the tables.

    Attributes:
        name: as on the command line and in results. about: one line for the report's notes, with the paper or code that it follows.
        options: as ``engine.ask`` takes them; for strategy ``graph`` with `layout` among them.
    """

    name: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)
    strategy: str = GRAPH

    @property
    def layout(self) -> str | None:
        """The layout's name; None for a strategy that has none."""
        return str(self.options["layout"]) if self.strategy == GRAPH else None

    @property
    def query_aware(self) -> bool:
        """Whether it sees the question before it has read the documents."""
        return self.strategy != GRAPH and find_strategy(self.strategy).query_aware


EVERY = 10_000
"""As many sources as there are documents."""


def _layout(name: str, about: str, layout: str, **options: Any) -> Arm:
    return Arm(name, about, {"layout": layout, **options})


ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in (
        _layout("sequential", "plain causal reading of one text", "sequential"),
        _layout("block", "Block-RAG: each segment alone, positions one after the other", "block"),
        _layout("pcw", "Parallel Context Windows: each segment alone behind the prefix, shared positions", "pcw"),
        _layout("ape", "Adaptive Parallel Encoding: pcw with the context re-weighed (T = S = 0.9)", "ape"),
        _layout("graph", "Graph-KV along the data's own edges, shared positions", "graph"),
        _layout("top1", "Graph-KV Top-1: the best segment is the source of the rest", "graph_topk", m=1),
        _layout("top3", "Graph-KV Top-3: the three best segments are the sources of the rest", "graph_topk", m=3),
        _layout("full", "Graph-KV Full: every segment reads every other", "graph_full"),
        _layout("hops2", "Graph-KV 2-hop: best → next three → rest", "graph_hops", tiers=(1, 3)),
        _layout("hops3", "Graph-KV 3-hop: best → next two → next two → rest", "graph_hops", tiers=(1, 2, 2)),
        _layout("official-full", "the official RAG code with every passage a source (gapemp): sequential positions, targets see themselves", "graph_sequential", m=EVERY),
        _layout("official-top3", "the official RAG code with three sources (gapemp_appr)", "graph_sequential", m=3),
        Arm("full_context", "the whole text through the model's own forward, as a strategy", strategy="full_context"),
        Arm("infini_retri", "InfiniRetri: a sliding window keeps sentences that the question attends to", strategy="infini_retri"),
        Arm("landmark", "Landmark attention: blocks fetched by their landmarks; a model trained with them", strategy="landmark"),
    )
}
"""Every arm by its name. Each takes options of its own behind colons: ``graph:rounds=2``."""


def make_arms(specs: Iterable[str]) -> list[Arm]:
    """Arms from what stands on a command line.

    Args:
        specs: names of :data:`ARMS`, each with options behind colons: ``["sequential", "graph:rounds=2"]``.

    Raises:
        InputError: none, an unknown name, an option or a value that the arm's layout or strategy does not have, the same arm twice. Values of strategies
            other than ``graph`` are looked at when they are asked.

    Example:
        >>> [arm.name for arm in make_arms(["block", "graph:rounds=2"])]
        ['block', 'graph:rounds=2']
    """
    found: dict[str, Arm] = {}
    for spec in specs:
        name, *pairs = spec.split(":")
        if name not in ARMS:
            raise InputError(one_of("arm", name, ARMS))
        if spec in found:
            raise InputError(f"arm {spec!r} is given twice")
        base = ARMS[name]
        (_, own), *_ = read_specs([":".join([base.strategy, *pairs])], {}).values()
        if "layout" in own:
            raise InputError(f"arm {spec!r}: the arm's name says the layout; name another of {', '.join(ARMS)}")
        found[spec] = _changed(base, spec, own) if pairs else base
    if not found:
        raise InputError(f"expected at least one arm of {', '.join(ARMS)}, got none")
    return list(found.values())


def _changed(base: Arm, spec: str, own: Mapping[str, Any]) -> Arm:
    """An arm with options of its own; what it says of itself begins with them, as the rest may no longer hold."""
    told = (f"{key}={value}" + (f" in place of {base.options[key]}" if key in base.options else "") for key, value in own.items())
    arm = replace(base, name=spec, about=f"with {', '.join(told)}, else as {base.name}: {base.about}", options={**base.options, **own})
    if arm.layout is not None:
        options = {key: value for key, value in arm.options.items() if key != "layout"}
        try:
            make_layout(arm.layout, _TOY, dict.fromkeys(_TOY.ids, 1), prefix=1, question=1, **options)
        except InputError as error:
            raise InputError(f"arm {spec!r}: {error}") from None
    return arm


_TOY = SegmentGraph.from_segments((Segment.from_tokens(id, [1], score=score) for id, score in (("a", 3.0), ("b", 2.0), ("c", 1.0))), [("a", "b")])
"""What a layout is tried on before there is any data: whatever is refused here would be refused for every question."""
