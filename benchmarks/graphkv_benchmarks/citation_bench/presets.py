"""Presets: which cells a run measures. A preset is a few grids; every option of the command replaces one side of all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from graphkv.errors import InputError, check_count, one_of

from ..citation_world import STYLES
from .arms import arm_named
from .cells import KINDS, Batch, check_batch

HOPS = KINDS[:3]
LAYOUTS = ("graph", "block", "pcw", "sequential")
ABLATION = ("graph", "graph-sequential-positions", "shared-no-edges", "block", "rounds-2", "rounds-3", "graph-wrong")


@dataclass(frozen=True)
class Grid:
    """All combinations of its sides. `places`: so many places of the gold document, evenly from first to last; 0: where it happens to be."""

    arms: tuple[str, ...]
    documents: tuple[int, ...] = (8,)
    styles: tuple[str, ...] = ("named",)
    words: tuple[int, ...] = (0,)
    kinds: tuple[str, ...] = HOPS
    places: int = 0

    def batches(self, questions: int) -> Iterator[Batch]:
        """Cells that can share worlds and forwards together. Comparisons and needles are asked of named worlds only: they hop over no citation."""
        for arm, style, documents, words in product(self.arms, self.styles, self.documents, self.words):
            kinds = tuple(kind for kind in self.kinds if style == "named" or kind not in ("comparison", "needle"))
            if arm_named(arm).removed or self.places:
                kinds = tuple(kind for kind in kinds if kind in HOPS)
            for place in _places(self.places, documents):
                if kinds:
                    yield Batch(arm, style, documents, words, kinds, questions, place)


def _places(count: int, documents: int) -> Sequence[int | None]:
    if count == 0:
        return (None,)
    steps = max(1, count - 1)
    return list(dict.fromkeys(round(i * (documents - 1) / steps) for i in range(count)))


_MAIN = (
    Grid((*LAYOUTS, "graph-wrong"), (8, 16, 32), STYLES, kinds=(*HOPS, "comparison", "unanswerable")),
    Grid(("graph-removed",), (8, 16, 32), STYLES),
)
_POSITION = (
    Grid((*LAYOUTS, "graph-wrong"), (16,), kinds=HOPS[:2], places=5),
    Grid((*LAYOUTS, "graph-wrong"), (32,), kinds=HOPS[:2], places=3),
    Grid(("graph-removed",), (16, 32)),
)
_ABLATION = (Grid(ABLATION, styles=("named", "bare")), Grid(("graph-removed",), styles=("named", "bare")))
_LENGTH = (
    Grid((*LAYOUTS, "graph-wrong", "graph-removed"), (4, 8, 16, 32), STYLES),
    Grid((*LAYOUTS, "graph-wrong", "graph-removed"), (24,), ("named", "bare")),
    Grid((*LAYOUTS, "graph-wrong", "graph-removed"), words=(300,)),
    Grid(("graph", "sequential"), (1,), words=(300, 1000), kinds=("needle",)),
    Grid(("graph",), (4,), words=(300,), kinds=("needle",)),
)
PRESETS: Mapping[str, tuple[Grid, ...]] = {
    "table": _MAIN,
    "position": _POSITION,
    "ablation": _ABLATION,
    "length": _LENGTH,
    "all": (*_MAIN, *_POSITION, *_ABLATION, *_LENGTH),
    "quick": (Grid(("graph", "block"), (2, 4), kinds=HOPS[:2]), Grid(("graph", "block"), (4,), kinds=HOPS[:1], places=2)),
}
"""``table``: layouts and controls; ``position``: the gold document moved through the context; ``ablation``: mask, positions, rounds;
``length``: more documents, and longer ones; ``all`` of these; ``quick``: small, for trying."""

QUICK_QUESTIONS, QUESTIONS = 24, 500


def batches_of(
    preset: str,
    *,
    arms: Sequence[str] | None = None,
    documents: Sequence[int] | None = None,
    styles: Sequence[str] | None = None,
    hops: Sequence[int] | None = None,
    words: Sequence[int] | None = None,
    questions: int | None = None,
) -> list[Batch]:
    """The batches of a preset, each once; what is given replaces that side of every grid.

    Args:
        hops: only these of the kinds that are told by hops; other kinds of the preset stay away.

    Raises:
        InputError: an unknown preset, arm, style or number of hops, or a number out of range.

    Example:
        >>> [batch.documents for batch in batches_of("quick", arms=["graph"])]
        [2, 4, 4, 4]
    """
    if preset not in PRESETS:
        raise InputError(one_of("preset", preset, PRESETS))
    given: dict[str, tuple[object, ...]] = {}
    for name, side in (("arms", arms), ("documents", documents), ("styles", styles), ("words", words)):
        if side is not None:
            given[name] = tuple(side)
    for count in documents or ():
        check_count("documents", count)
    for count in words or ():
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InputError(f"words must be whole numbers, 0 for facts only, got {count!r}")
    if hops is not None:
        for hop in hops:
            if hop not in (1, 2, 3):
                raise InputError(one_of("number of hops", hop, (1, 2, 3)))
        given["kinds"] = tuple(HOPS[hop - 1] for hop in hops)
    if any(not side for side in given.values()):
        raise InputError("every option that is given needs at least one value")
    count = questions if questions is not None else QUICK_QUESTIONS if preset == "quick" else QUESTIONS
    check_count("questions", count)
    grids = [replace(grid, **given) for grid in PRESETS[preset]]  # type: ignore[arg-type]
    batches = list(dict.fromkeys(batch for grid in grids for batch in grid.batches(count)))
    for batch in batches:
        check_batch(batch)
    return _joined(batches)


def _joined(batches: Sequence[Batch]) -> list[Batch]:
    """Without those batches whose kinds are all among the kinds of another that is else the same."""
    twins: dict[Batch, list[set[str]]] = {}
    for batch in batches:
        twins.setdefault(replace(batch, kinds=()), []).append(set(batch.kinds))
    return [batch for batch in batches if not any(set(batch.kinds) < kinds for kinds in twins[replace(batch, kinds=())])]
