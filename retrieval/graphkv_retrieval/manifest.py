"""The folder of an index: a manifest that is written last, so that its presence means "whole", and the digests of its files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

from graphkv.errors import InputError

MANIFEST = "graphkv-index.json"
MARKER = "graphkv-index.unfinished"
"""Stands in a folder while an index is being built there."""
IDS = "ids.json"
_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What an index is: bm25, dense or hybrid; how many segments; the digest of their ids and texts; the method's own settings."""

    method: str
    segments: int
    digest: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def begin(folder: str | Path, method: str) -> Path:
    """Make a folder ready for an index; one that is there is no longer whole from now on.

    Raises:
        InputError: the place is a file, or a folder with other files.
    """
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise InputError(f"{place} is a file: expected a folder for the index")
    if place.is_dir() and any(place.iterdir()) and not (place / MANIFEST).is_file() and not (place / MARKER).is_file():
        raise InputError(f"{place} has files that are not an index of graphkv's: name a new or an empty folder")
    place.mkdir(parents=True, exist_ok=True)
    (place / MARKER).write_text(f"an index ({method}) is being built here; until it is done there is no {MANIFEST}\n", encoding="utf-8")
    (place / MANIFEST).unlink(missing_ok=True)
    return place


def finish(place: Path, manifest: Manifest, files: Iterable[str]) -> None:
    """Write the manifest, with size and digest of `files` and of the ids."""
    sums = {name: [(place / name).stat().st_size, _file_digest(place / name)] for name in (*files, IDS)}
    write_whole(place / MANIFEST, json.dumps({"graphkv_index": _FORMAT, **asdict(manifest), "files": sums}, indent=1).encode())
    (place / MARKER).unlink(missing_ok=True)


def read_manifest(folder: str | Path, *, verify: bool = True) -> Manifest:
    """The manifest of a whole index.

    Args:
        folder: where the index is. verify: read every file once and compare its digest; without it only the sizes are compared.

    Raises:
        InputError: no index, one that is not finished, of another version, or damaged.
    """
    place = Path(folder)
    if not (place / MANIFEST).is_file():
        if (place / MARKER).is_file():
            raise InputError(f"the index in {place} is not finished: call build_index again with the same arguments, it goes on where it stopped")
        raise InputError(f"there is no index in {place}: expected a folder that `graphkv index` (build_index) wrote")
    with damaged(place):
        row = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        version, files = row.pop("graphkv_index"), dict(row.pop("files"))
        if version != _FORMAT:
            raise InputError(f"the index in {place} has format {version!r}, this version of graphkv reads {_FORMAT}: build it again")
        manifest = Manifest(**row)
        for name, (size, digest) in files.items():
            path = place / name
            if path.stat().st_size != size or (verify and _file_digest(path) != digest):
                raise ValueError(f"{name} is not what was written")
    return manifest


@contextmanager
def damaged(place: Path) -> Iterator[None]:
    """Errors of whatever cannot be read inside become one InputError that says to build again."""
    try:
        yield
    except InputError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise InputError(f"the index in {place} is damaged ({error}): build it again, in an empty folder") from error


def write_ids(place: Path, ids: Sequence[str]) -> None:
    """The segments' ids, in order."""
    write_whole(place / IDS, json.dumps(list(ids)).encode())


def read_ids(place: Path, manifest: Manifest) -> tuple[str, ...]:
    """The ids that :func:`write_ids` wrote. Raises InputError if they are damaged."""
    with damaged(place):
        ids = tuple(json.loads((place / IDS).read_text(encoding="utf-8")))
        if len(ids) != manifest.segments:
            raise ValueError(f"{len(ids)} ids for {manifest.segments} segments")
    return ids


def write_whole(path: Path, data: bytes) -> None:
    """A file that is either all there or not there, under its old content until then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _file_digest(path: Path) -> str:
    digest = xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
