"""Invented data sets on disk: made whole or not at all, and known again by how they were made."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graphkv.errors import InputError

MADE = "offline.json"


def make_set(place: Path, made: Mapping[str, Any], write: Callable[[Path], Mapping[str, Any]]) -> dict[str, Any]:
    """Write a set into the folder `place`, or leave it where the same one is there.

    Args:
        made: how it is made: what tells it from another set. write: fills an empty folder, and returns further facts about what it wrote.

    Returns:
        What offline.json in the folder holds: `made`, and the further facts.

    Raises:
        InputError: the folder holds something else, or another set.
    """
    if (there := _there(place, made)) is not None:
        return there
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent, ignore_cleanup_errors=True) as temporary:
        part = Path(temporary) / place.name
        part.mkdir()
        facts = {**made, **write(part)}
        (part / MADE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        try:
            part.rename(place)
        except OSError:
            if (there := _there(place, made)) is None:  # else another process was faster
                raise
    return facts


def _there(place: Path, made: Mapping[str, Any]) -> dict[str, Any] | None:
    """What offline.json of the same set says; None if there is nothing. Raises InputError if there is something else."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return None
    try:
        found = json.loads((place / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{place} is there and was not made by `graphkv bench offline`: choose another folder, or delete it") from None
    if not isinstance(found, dict) or any(found.get(key) != value for key, value in made.items()):
        raise InputError(f"{place} holds another set (its {MADE}: {json.dumps(found)}): choose another folder, or delete it")
    return found
