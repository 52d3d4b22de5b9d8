"""Checkpoints that survive a kill at any moment: two folders in turn, safetensors and JSON, the JSON last.

::

    DIR/checkpoint-a/model.safetensors  optimizer.safetensors  state.json
    DIR/checkpoint-b/...

A folder without ``state.json`` is one that was being written, and does not count. The folder that is written is always the
one that does not hold the latest whole checkpoint, so there is always one left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from graphkv.errors import InputError, ModelError

FOLDERS = ("checkpoint-a", "checkpoint-b")
_STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved.

    Attributes:
        tensors: groups of named tensors, for example ``{"model": {...}, "optimizer": {...}}``; on the CPU.
        state: whatever JSON can hold. number: 1 for the first checkpoint in its folder, one more for each that followed.
    """

    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    number: int


def save(folder: str | Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> Path:
    """Write a checkpoint beside the latest one, which stays as it is.

    Args:
        folder: made if it is missing. tensors: groups of named tensors, one file a group; an empty group is kept too.
        state: what JSON can hold; numbers come back as they were.

    Returns:
        The folder written to, one of :data:`FOLDERS`.

    Raises:
        InputError: the name of a group is not a plain file name.

    Example:
        >>> save("run", {"model": {"w": torch.ones(2)}}, {"step": 10}).name  # doctest: +SKIP
        'checkpoint-a'
    """
    bad = [name for name in tensors if not name or Path(name).name != name]
    if bad:
        raise InputError(f"a group of tensors needs a plain name, got {bad[0]!r}")
    folder = Path(folder)
    numbers = {name: _number(folder / name) for name in FOLDERS}
    target = folder / min(FOLDERS, key=lambda name: numbers[name])
    target.mkdir(parents=True, exist_ok=True)
    (target / _STATE).unlink(missing_ok=True)  # from here on the folder does not count
    for left in target.glob("*.safetensors*"):
        left.unlink()
    sizes: dict[str, int] = {}
    for name, group in tensors.items():
        path = target / f"{name}.safetensors"
        save_file(_apart(group), path)
        _flush(path)
        sizes[name] = path.stat().st_size
    _write_last(target / _STATE, {"number": max(numbers.values()) + 1, "bytes": sizes, "state": dict(state)})
    return target


def load(folder: str | Path) -> Checkpoint | None:
    """The latest whole checkpoint of `folder`; None if there is none.

    Raises:
        ModelError: a file of it cannot be read although it was finished.
    """
    folder = Path(folder)
    name = max(FOLDERS, key=lambda name: _number(folder / name))
    written = _read(folder / name)
    if written is None:
        return None
    try:
        tensors = {group: load_file(folder / name / f"{group}.safetensors") for group in written["bytes"]}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the checkpoint {folder / name} cannot be read: {error}") from error
    return Checkpoint(tensors, written["state"], written["number"])


def _apart(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, contiguous, none of them sharing memory with another (safetensors refuses that)."""
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in group.items():
        copy = tensor.detach().cpu().contiguous()
        if copy.untyped_storage().data_ptr() in seen:
            copy = copy.clone()
        seen.add(copy.untyped_storage().data_ptr())
        apart[name] = copy
    return apart


def _read(folder: Path) -> dict[str, Any] | None:
    """``state.json`` of a whole checkpoint; None if it is missing, cut short, or does not fit the files beside it."""
    try:
        written: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        whole = all((folder / f"{name}.safetensors").stat().st_size == size for name, size in written["bytes"].items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return written if whole and isinstance(written.get("number"), int) and "state" in written else None


def _number(folder: Path) -> int:
    written = _read(folder)
    return 0 if written is None else int(written["number"])


def _write_last(path: Path, value: Any) -> None:
    """The completion marker: it appears under its name only when it, and all that came before it, is on the disk."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    _flush(temporary)
    os.replace(temporary, path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return  # only POSIX opens folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
