"""The shards of a run put together: the folder that the run would have left, had it been done in one piece."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphkv.errors import InputError, StoreError

from .case import Line
from .folder import CONFIG, METRICS, PREDICTIONS, REPORT, differing, read_config, write_config
from .metrics import name_of, outcome, unique
from .predictions import key_of, read_lines

_OWN = ("shard", "units", "memory", "workers", "threads", "store", "command", "seconds", "machine")
"""Of a config what each part has for itself; in the merged one it stands under `merged`. The whole has shard, units and command of its own."""


@dataclass(frozen=True)
class Part:
    """A shard: the `index`-th of `count`, counted from 1."""

    folder: Path
    config: Mapping[str, Any]
    lines: Sequence[Line]
    index: int
    count: int


def merge(runs: Sequence[Path], out: Path, partial: bool = False) -> dict[str, Any]:
    """Put shards together in a new folder, whole or not at all.

    Where every shard is there and done, metrics.json is that of the undivided run, byte for byte. The merged folder is a run of its own: what is
    missing in it can be asked there with the command of the undivided run.

    Args:
        runs: folders of the shards, in any order. out: a folder that is not there yet, or is empty.
        partial: take what is there, although a shard is missing or not done; the report says so.

    Returns:
        The metrics, as in metrics.json.

    Raises:
        InputError: parts of different runs; a question answered twice, differently; a shard that is missing, is there twice or is not done; `out` is not empty.
        StoreError: a file cannot be read or written (the disk is full); `out` is then as it was.

    Example:
        >>> merge([Path("runs/a"), Path("runs/b")], Path("runs/all"))["cells"][0]["answered"]  # doctest: +SKIP
        60
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there and is not empty: choose another --out")
    parts = _parts(runs)
    missing = _missing(parts)
    if not partial:
        if missing:
            raise InputError(f"of {parts[0].count} shards {_shards(parts, missing)} are missing: give their folders too, or say --partial")
        for part in parts:
            if left := unfinished(part):
                raise InputError(f"{part.folder} (shard {part.index}/{part.count}) is not done: {left}; give its command again, or say --partial")
    lines = _together(parts)
    return _written(out, _config(parts, missing), lines, parts[0].folder)


def _written(out: Path, config: Mapping[str, Any], lines: Sequence[Line], like: Path) -> dict[str, Any]:
    """The folder, made beside its place and moved there when it is whole, with the rights of folder `like`. Returns the metrics."""
    from ..tasks import task_from
    from .run import finish

    with _naming(out, out):
        out.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        with _naming(out, place, CONFIG):
            write_config(place, config)
        with _naming(out, place, PREDICTIONS):
            _write(place / PREDICTIONS, lines)
        with _naming(out, place, METRICS, REPORT):
            result = finish(place, task_from(config["task"]))
        with _naming(out, place):
            place.chmod(like.stat().st_mode & 0o777)  # a temporary folder is its owner's alone
            place.rename(out)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return result


@contextmanager
def _naming(out: Path, place: Path, *names: str) -> Iterator[None]:
    """What cannot be written in `place`, which stands in for `out`, is a StoreError. A full disk names no file: it is the first of `names` that is not there, or the last."""
    try:
        yield
    except OSError as error:
        there = Path(str(error.filename)) if error.filename else place / next((name for name in names if not (place / name).exists()), names[-1] if names else "")
        path = out / there.relative_to(place) if there.is_relative_to(place) else there
        raise StoreError(f"{path} cannot be written ({error.strerror or error}): nothing was merged; make room, or choose another --out, and merge again") from error


def _parts(runs: Sequence[Path]) -> list[Part]:
    """The shards in their order."""
    if not runs:
        raise InputError("there is nothing to merge: expected the folders of the shards")
    parts: dict[int, Part] = {}
    first: Part | None = None
    for folder in runs:
        config = read_config(folder)
        index, count = _shard(folder, config)
        try:
            lines = read_lines(folder / PREDICTIONS)
        except OSError as error:
            raise StoreError(f"{folder / PREDICTIONS} cannot be read ({error.strerror or error}): nothing was merged") from error
        part = Part(folder, config, lines, index, count)
        first = first or part
        if apart := differing(first.config, config):
            raise InputError(f"{first.folder} and {folder} are not parts of one run: {', '.join(apart)} differ")
        if count != first.count:
            raise InputError(f"{first.folder} and {folder} are not parts of one run: it was cut into {first.count} and into {count}")
        if index in parts:
            if folder.resolve() == parts[index].folder.resolve():
                raise InputError(f"{folder} is given twice")
            part = _longer(parts[index], part)
        parts[index] = part
    return [parts[index] for index in sorted(parts)]


def _longer(one: Part, other: Part) -> Part:
    """Of two runs of one shard that agree, what both have."""
    lines = {key_of(line): line for line in one.lines}
    for line in other.lines:
        _agree(one.folder, lines.setdefault(key_of(line), line), other.folder, line)
    best = one if len(one.lines) >= len(other.lines) else other
    return Part(best.folder, best.config, list(lines.values()), best.index, best.count)


def _shard(folder: Path, config: Mapping[str, Any]) -> tuple[int, int]:
    text = str(config.get("shard", "1/1"))
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise InputError(f"{folder}: expected a shard such as 1/4 in its config, got {text!r}")
    if config.get("missing_shards"):
        raise InputError(f"{folder} was merged without shards {', '.join(config['missing_shards'])}: merge the shards themselves")
    return int(index), int(count)


def _missing(parts: Sequence[Part]) -> list[int]:
    there = {part.index for part in parts}
    return [index for index in range(1, parts[0].count + 1) if index not in there]


def _shards(parts: Sequence[Part], indices: Sequence[int]) -> str:
    return ", ".join(f"{index}/{parts[0].count}" for index in indices)


def unfinished(part: Part) -> str:
    """What a shard lacks, in words; empty if it is done.

    Every unit of the config must have lines, every arm the same questions of it, and the metrics that end a run must be about as many lines.
    """
    by_unit: dict[str, dict[str, set[str]]] = {}
    for line in part.lines:
        arms = by_unit.setdefault(str(line["unit"]), {})
        if "broken" not in line:
            arms.setdefault(line["arm"], set()).add(json.dumps([line["setting"], line["id"]], sort_keys=True))
    units = part.config.get("units")
    if not isinstance(units, int):
        raise InputError(f"{part.folder}: expected the number of its units in its config, got {units!r}")
    if len(by_unit) < units:
        return f"{units - len(by_unit)} of {units} units have no answers"
    names = [arm["name"] for arm in part.config["arms"]]
    for unit, arms in by_unit.items():
        asked = set().union(*arms.values())
        for name in names:
            if asked - arms.get(name, set()):
                return f"arm {name!r} lacks answers about unit {unit!r}"
    questions = sum("broken" not in line for line in part.lines)
    if (counted := _counted(part.folder / METRICS)) != questions:
        return f"its {METRICS} is of {counted} lines, and there are {questions}" if counted is not None else f"it has no {METRICS}"
    return ""


def _counted(path: Path) -> int | None:
    """How many lines a metrics.json counts; None where there is none."""
    try:
        return sum(int(cell["lines"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}): give the run's command again, which writes it anew") from None


def _together(parts: Sequence[Part]) -> list[Line]:
    """All lines, each key once: the questions by arm, setting and id, then the broken rows."""
    found: dict[str, tuple[Part, Line]] = {}
    for part in parts:
        for line in part.lines:
            other, theirs = found.setdefault(key_of(line), (part, line))
            _agree(other.folder, theirs, part.folder, line)
    lines = [line for _, line in found.values()]
    arms = [arm["name"] for arm in parts[0].config["arms"]]
    broken = sorted((line for line in lines if "broken" in line), key=key_of)
    return [*unique(lines, arms), *broken]


def _agree(one: Path, ours: Line, other: Path, theirs: Line) -> None:
    """Raises InputError if two lines with one key say different things."""
    if "broken" in ours:
        if ours["reason"] != theirs["reason"]:
            raise InputError(f"row {ours['broken']!r} is broken in {one} and in {other} for different reasons: they did not read the same data")
    elif outcome(ours) != outcome(theirs) or ours.get("prompt") != theirs.get("prompt"):
        what = "prompts" if outcome(ours) == outcome(theirs) else "answers"
        raise InputError(f"{name_of(ours)} has different {what} in {one} and in {other}: they are not parts of one run")


def _config(parts: Sequence[Part], missing: Sequence[int]) -> dict[str, Any]:
    """The config of the undivided run, with what each part had for itself."""
    units = None if missing else sum(int(part.config.get("units") or 0) for part in parts)
    own = [{"folder": str(part.folder), **{key: part.config.get(key) for key in _OWN}} for part in parts]
    command = shlex.join(["graphkv", "bench", "merge", *(str(part.folder) for part in parts)])
    shared = {key: value for key, value in parts[0].config.items() if key not in _OWN}
    merged = {**shared, "shard": "1/1", "units": units, "command": command, "merged": own}
    if missing:
        merged["missing_shards"] = [f"{index}/{parts[0].count}" for index in missing]
    return merged


def _write(path: Path, lines: Sequence[Line]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            text = json.dumps(line, ensure_ascii=False)
            try:
                text.encode()
            except UnicodeEncodeError:  # half a character, which UTF-8 has no place for
                text = json.dumps(line)
            file.write(text + "\n")
