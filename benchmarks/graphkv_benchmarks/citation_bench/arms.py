"""The arms: under which layout the documents are read, and what is done to edges and documents before."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from graphkv.errors import InputError, one_of

from ..citation_world import World


@dataclass(frozen=True)
class Arm:
    """One column of the tables.

    Attributes:
        name: as on the command line. layout, options: as ``engine.ask`` takes them. about: one line for the tables' notes.
        edges: ``given``; ``wrong``: every citing paper gets as many other edges, none to itself or to what it cites; ``none``.
        removed: the gold document is taken out, and with it all edges to it.
    """

    name: str
    layout: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)
    edges: Literal["given", "wrong", "none"] = "given"
    removed: bool = False


ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("graph", "graph", "each paper reads what it cites; shared positions; one round"),
        Arm("block", "block", "each paper alone, positions one after the other"),
        Arm("pcw", "pcw", "each paper alone, shared positions, all see the prefix"),
        Arm("sequential", "sequential", "plain causal reading"),
        Arm("ape", "ape", "pcw with the context re-weighed (T = S = 0.9)"),
        Arm("graph-wrong", "graph", "`graph`, but every citing paper reads as many others instead, none that it cites", edges="wrong"),
        Arm("graph-removed", "graph", "`graph` without the document that holds the answer", removed=True),
        Arm("graph-sequential-positions", "graph", "`graph` with positions one after the other", {"positions": "sequential"}),
        Arm("shared-no-edges", "graph", "shared positions, nobody reads anybody", edges="none"),
        Arm("rounds-1", "graph", "`graph` with one round", {"rounds": 1}),
        Arm("rounds-2", "graph", "`graph` with two rounds", {"rounds": 2}),
        Arm("rounds-3", "graph", "`graph` with three rounds", {"rounds": 3}),
    )
}
"""Every arm by its name."""


def arm_named(name: str) -> Arm:
    """The arm of this name. Raises InputError, with the names there are, if there is none."""
    if name not in ARMS:
        raise InputError(one_of("arm", name, ARMS))
    return ARMS[name]


def documents_for(arm: Arm, world: World, seed: str, gold: str | None = None) -> list[dict[str, Any]]:
    """The world's documents as the arm gets to read them, as ``engine.ask`` takes them.

    Args:
        seed: decides which wrong edges are drawn; the same for the same seed.
        gold: the document that ``graph-removed`` takes out.

    Raises:
        InputError: the arm takes the gold document out, and no such document is named.

    Example:
        >>> world = make_world(1, 4, True)  # doctest: +SKIP
        >>> [d["sources"] for d in documents_for(ARMS["shared-no-edges"], world, "")]  # doctest: +SKIP
        [[], [], [], []]
    """
    documents: list[dict[str, Any]] = world.to_row()["documents"]
    # In an order that moving a document does not change: a moved one must not change the edges that are drawn.
    ids = sorted((d["id"] for d in documents), key=lambda name: (len(name), name))
    if arm.edges == "none":
        return [d | {"sources": []} for d in documents]
    if arm.edges == "wrong":
        rng = random.Random(f"wrong edges {seed}")
        sources = {d["id"]: d["sources"] for d in documents}
        drawn = {name: _others(name, sources[name], ids, rng) for name in ids}
        return [d | {"sources": drawn[d["id"]]} for d in documents]
    if arm.removed:
        if gold not in ids:
            raise InputError(f"arm {arm.name!r} takes the gold document out: expected one of {', '.join(ids)}, got {gold!r}")
        return [d | {"sources": [s for s in d["sources"] if s != gold]} for d in documents if d["id"] != gold]
    return documents


def _others(paper: str, cited: list[str], ids: list[str], rng: random.Random) -> list[str]:
    """As many papers as it cites, none of them cited or the paper itself; fewer only where the world is too small."""
    free = [other for other in ids if other != paper and other not in cited]
    return rng.sample(free, min(len(cited), len(free)))
