"""InfiniRetri's settings: the user's, else what was saved with the model's retrieval heads, else the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphkv.errors import InputError, check_count, one_of

from .head_file import SavedHeads, saved_heads
from .heads import ROWS
from .scan import Heads, Settings

if TYPE_CHECKING:
    from graphkv.model import GraphModel

WINDOW, TOP_TOKENS = 1024, 300
"""The paper's."""


@dataclass(frozen=True)
class Options:
    """Checked settings, and `notes` that say which heads decide."""

    window: int
    heads: Heads
    rows: str
    top_tokens: int
    phrase: int
    windows_at_once: int
    notes: tuple[str, ...]

    def settings(self, budget: int, batch_tokens: int) -> Settings:
        """For a scan."""
        return Settings(self.heads, self.rows, self.top_tokens, self.phrase, budget, self.windows_at_once, batch_tokens)


def choose(
    model: GraphModel,
    *,
    window: int | None,
    top_tokens: int | None,
    phrase: int,
    layers: int | Sequence[int] | None,
    heads: str | Sequence[int] | Sequence[Sequence[int]] | None,
    rows: str | None,
    windows_at_once: int,
) -> Options:
    """The settings that hold for a model.

    Raises:
        InputError: a number that cannot be meant, a layer or head that the model does not have.
    """
    counts = {"window": window, "top_tokens": top_tokens, "phrase": phrase, "windows_at_once": windows_at_once}
    for name, value in counts.items():
        if value is not None:
            check_count(name, value)
    if rows is not None and rows not in ROWS:
        raise InputError(one_of("rows", rows, ROWS))
    saved = saved_heads(model) if layers is None and heads is None else None
    notes = [saved.note] if saved is not None and saved.note else []
    known = saved if saved is not None and saved.heads else SavedHeads(())
    chosen: Heads = _by_layer(known.heads) if known.heads else chosen_heads(model, layers, heads)
    told = "; ".join(f"layer {layer}: {'all heads' if some is None else 'heads ' + ', '.join(map(str, some))}" for layer, some in sorted(chosen.items()))
    rows = rows or known.rows or "question"
    notes.append(f"attention of {told}{' (saved with the model)' if known.heads else ''}, {'the last row' if rows == 'last' else 'rows of the question'}")
    return Options(
        window=window or known.window or WINDOW,
        heads=chosen,
        rows=rows,
        top_tokens=top_tokens or known.top_tokens or TOP_TOKENS,
        phrase=phrase,
        windows_at_once=windows_at_once,
        notes=tuple(notes),
    )


def chosen_heads(model: GraphModel, layers: int | Sequence[int] | None, heads: Any) -> Heads:
    """`layers` and `heads` as a user gives them; the last layer and all heads where they are left out.

    Raises:
        InputError: not a layer or head of the model; pairs (layer, head) together with `layers`.

    Example:
        >>> chosen_heads(engine.model, -1, [0, 2])  # doctest: +SKIP
        {6: (0, 2)}
    """
    depth, width = len(model.ropes), int(model.config.num_attention_heads)
    named = [-1] if layers is None else [layers] if isinstance(layers, int) else list(layers) if isinstance(layers, Sequence) else []
    if not named or any(isinstance(n, bool) or not isinstance(n, int) or not -depth <= n < depth for n in named):
        raise InputError(f"layers must be layers of the model, from 0 to {depth - 1} or from -{depth} to -1, got {layers!r}")
    places = sorted({n % depth for n in named})
    if heads is None or heads == "all":
        return dict.fromkeys(places)
    listed = list(heads) if isinstance(heads, Sequence) and not isinstance(heads, str) else []
    if listed and all(isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2 for pair in listed):
        if layers is not None:
            raise InputError("heads as pairs (layer, head) name their layers: leave layers out")
        pairs = [(layer, head) for layer, head in listed]
    else:
        pairs = [(layer, head) for layer in places for head in listed]
    valid = pairs and all(isinstance(n, int) and not isinstance(n, bool) for pair in pairs for n in pair)
    if not valid or any(not -depth <= layer < depth or not 0 <= head < width for layer, head in pairs):
        raise InputError(f"heads must be 'all', heads from 0 to {width - 1}, or pairs (layer, head) with layers from 0 to {depth - 1}, got {heads!r}")
    return _by_layer([(layer % depth, head) for layer, head in pairs])


def _by_layer(pairs: Sequence[tuple[int, int]]) -> dict[int, tuple[int, ...] | None]:
    found: dict[int, tuple[int, ...] | None] = {}
    for layer, head in sorted(set(pairs)):
        found[layer] = (*(found.get(layer) or ()), head)
    return found
