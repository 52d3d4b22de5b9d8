"""The file of a model's retrieval heads: written beside the model by ``graphkv heads``, read by infini_retri."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from graphkv.errors import InputError, check_count, one_of
from graphkv.model import EMBEDDED, GraphModel

from .heads import ROWS, HeadScores, tables

FILE = "graphkv_heads.json"
"""Its name in a model's folder."""

SHIPPED = ("embedded", "embedded-landmark")
"""Names of the models that are part of the package, whose folders are not the user's to write to."""


@dataclass(frozen=True)
class SavedHeads:
    """What is written down for a model.

    Attributes:
        heads: (layer, head). rows, window, top_tokens: settings that go well with them, None for the paper's.
        note: why they are not to be used, if they are not.
    """

    heads: tuple[tuple[int, int], ...]
    rows: str | None = None
    window: int | None = None
    top_tokens: int | None = None
    note: str = ""


def place_of_heads(model: GraphModel) -> Path:
    """Where heads are saved: in the model's folder; for a model from elsewhere, or one that is part of this package, in the user's cache, named by its weights."""
    folder = Path(model.name)
    if model.name and model.name not in SHIPPED and (folder / "config.json").is_file():
        return folder / FILE
    from platformdirs import user_cache_path

    return user_cache_path("graphkv") / "heads" / f"{model.fingerprint}.json"


def save_heads(model: GraphModel, scores: HeadScores, heads: Sequence[tuple[int, int]], *, window: int | None = None, top_tokens: int | None = None) -> Path:
    """Write down `heads`, with the scores, where :func:`saved_heads` finds them. The file is whole or not there.

    Raises:
        InputError: the place cannot be written to.
    """
    place = place_of_heads(model)
    row: dict[str, Any] = {
        "weights": model.fingerprint,
        "dtype": str(model.dtype).removeprefix("torch."),
        "shape": _shape(model),
        "heads": [list(pair) for pair in heads],
        "rows": scores.rows,
        "window": window,
        "top_tokens": top_tokens,
        "needles": scores.needles,
        "answered": scores.answered,
        "copied": scores.copied,
        **{name: _rounded(table) for name, table in tables(scores).items()},
    }
    scratch = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(_lines(row), encoding="utf-8")
        scratch.replace(place)
    except OSError as error:
        raise InputError(f"the heads cannot be saved at {place}: {error}") from error
    return place


def saved_heads(model: GraphModel) -> SavedHeads | None:
    """What was saved for this model, by the user or else in the package; with a `note`, and not to be used, if it was measured on another one. None if there is nothing.

    Raises:
        InputError: the file is there and is none of ours.
    """
    place = place_of_heads(model)
    if model.name == "embedded" and not place.exists():
        place = EMBEDDED / FILE
    try:
        row = json.loads(place.read_text(encoding="utf-8"))
        heads = tuple((int(layer), int(head)) for layer, head in row["heads"])
        shape, weights, dtype = row["shape"], row["weights"], row["dtype"]
        rows, window, top_tokens = row["rows"], row.get("window"), row.get("top_tokens")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{place} is no file of retrieval heads ({error}): make it anew with graphkv heads, or remove it") from error
    for value in (window, top_tokens):
        if value is not None:
            check_count(f"{place}: window and top_tokens", value)
    if rows not in ROWS:
        raise InputError(f"{place}: {one_of('rows', rows, ROWS)}")
    # The same weights in another dtype have another fingerprint, and the same heads.
    other = shape != _shape(model) or (dtype == str(model.dtype).removeprefix("torch.") and weights != model.fingerprint)
    if other or not heads or any(not 0 <= layer < shape[0] or not 0 <= head < shape[1] for layer, head in heads):
        return SavedHeads((), note=f"{place.name} was made for another model: the last layer is read; make it anew with graphkv heads")
    return SavedHeads(heads, rows, window, top_tokens)


def _shape(model: GraphModel) -> list[int]:
    config = model.config
    return [len(model.ropes), int(config.num_attention_heads), int(config.hidden_size), int(config.vocab_size)]


def _rounded(table: Tensor) -> list[list[float]]:
    return [[round(float(value), 4) for value in layer] for layer in table]


def _lines(row: dict[str, Any]) -> str:
    """One key a line: short, and readable in a diff."""
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in row.items()) + "\n}\n"
