"""The folder of a run: its config.yaml, and when two runs are the same one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphkv.errors import InputError

CONFIG, PREDICTIONS, METRICS, REPORT = "config.yaml", "predictions.jsonl", "metrics.json", "report.md"

_DECISIVE = ("task", "arms", "weights", "tokenizer", "generation", "landmark_weights", "dtype", "device", "prompt", "max_segment_tokens", "max_new_tokens", "max_memory", "limit", "versions")


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that decides over the numbers: equal for parts of one run, on whatever machine and wherever the data lies.

    Example:
        >>> decisive({"task": {"kind": "rag", "data": "/a"}, "model": "x", "limit": None})["task"]
        {'kind': 'rag'}
    """
    found = {key: config.get(key) for key in _DECISIVE}
    found["task"] = {key: value for key, value in (found["task"] or {}).items() if key != "data"}
    found["arms"] = [{key: arm[key] for key in ("name", "strategy", "options")} for arm in found["arms"] or ()]
    return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of what is not equal in the decisive parts of two configs."""
    ours, theirs = decisive(one), decisive(other)
    return [key for key in _DECISIVE if ours[key] != theirs[key]]


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.yaml, whole or not at all."""
    import yaml

    temporary = folder / f".{CONFIG}.part"
    temporary.write_text(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=150), encoding="utf-8")
    temporary.replace(folder / CONFIG)


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a run.

    Raises:
        InputError: the folder is not there, or is no run's.
    """
    import yaml

    path = folder / CONFIG
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} is not the folder of a run: there is no {CONFIG} in it") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}): it is not the config of a run") from None
    if not isinstance(found, dict) or not isinstance(found.get("task"), dict) or not isinstance(found.get("arms"), list):
        raise InputError(f"{path} is not the config of a run: expected task and arms in it")
    return found


def open_folder(folder: Path, config: Mapping[str, Any]) -> None:
    """Make the folder of a run, or find in it the same run that was stopped.

    Raises:
        InputError: it holds another run, or something else.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out is a folder, and {folder} is a file")
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CONFIG).exists():
        theirs = read_config(folder)
        apart = differing(config, theirs)
        if theirs.get("shard") != config.get("shard"):
            apart.append("shard")
        if apart:
            raise InputError(f"{folder} holds a run with other settings ({', '.join(apart)}): choose another --out, or delete it to begin anew")
    elif (folder / PREDICTIONS).exists():
        raise InputError(f"{folder} holds {PREDICTIONS} without {CONFIG}: choose another --out")
    else:
        write_config(folder, config)
