"""The folder of a run: whose it is, and whether these settings may go on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphkv.errors import InputError
from graphkv.train.checkpoint import Checkpoint, load

SETTINGS = "settings.json"


def open_run(folder: Path, settings: Mapping[str, Any], steps: int) -> Checkpoint | None:
    """Make the folder of a new run, or find the latest checkpoint of the run in it.

    Args:
        settings: those that a run keeps for its whole life, as JSON has them. steps: how many the run is to have.

    Returns:
        The checkpoint to go on from; None at the beginning.

    Raises:
        InputError: the folder holds something else, a run with other settings (they are named), or one that is beyond `steps`.
    """
    path = folder / SETTINGS
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} exists and is no training run ({SETTINGS} is not in it): choose another folder")
        _write(path, settings)
        return None
    saved = load(folder)
    if saved is None:  # it ended before its first checkpoint: nothing is lost by other settings
        _write(path, settings)
        return None
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(before, dict):
        raise InputError(f"{path} does not hold the settings of a run")
    differ = [name for name in settings if before.get(name) != settings[name]]
    if differ:
        named = "; ".join(f"{name} was {before.get(name)!r} and is now {settings[name]!r}" for name in differ)
        raise InputError(f"the run in {folder} has other settings: {named}. Go on with its own, or choose another folder")
    if saved.state["step"] > steps:
        raise InputError(f"the run in {folder} stands at step {saved.state['step']}, beyond steps={steps}: ask for more steps, or choose another folder")
    return saved


def _write(path: Path, settings: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(dict(settings), indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
