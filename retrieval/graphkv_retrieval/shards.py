"""Vectors of texts, embedded in shards that are on disk as soon as they are done."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_64, xxh3_128

from graphkv.errors import StoreWarning
from graphkv_retrieval.embedders import Embedder, checked
from graphkv_retrieval.manifest import write_whole

SHARD = 512
"""Texts a shard: what a kill can lose."""


class Vectors:
    """The vectors of a list of texts, wherever they lie."""

    def __init__(self, shards: Sequence[np.ndarray[Any, Any]], where: np.ndarray[Any, Any]) -> None:
        self._shards, self._where = shards, where  # where: [N, 2], shard and row of each text

    def take(self, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 ``[n, D]`` of some of the texts."""
        where = self._where[rows]
        out = np.empty((len(rows), self._shards[0]["vector"].shape[1]), np.float32)
        for number in np.unique(where[:, 0]):
            mine = where[:, 0] == number
            out[mine] = self._shards[number]["vector"][where[mine, 1]]
        return out


def embed_in_shards(texts: Sequence[str], embedder: Embedder, folder: Path, report: Callable[[int, int], None] | None = None) -> Vectors:
    """Embed texts into a folder; what is there already is not embedded again, wherever in the corpus it stands now.

    A shard is one ``.npy`` file of records (digest of a text, its vector), written under a temporary name and renamed. Its name holds
    a digest of the embedder and one of its own bytes, so that a shard of another embedder is passed over and a damaged one is found out.
    Shards that hold nothing of this corpus are removed at the end.

    Args:
        texts: in the corpus' order; equal ones are embedded once. report: called with (texts done, texts to do).

    Raises:
        InputError: the embedder does not return what it should.

    Warns:
        StoreWarning: a damaged shard was removed; its texts are embedded again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*.part"):
        leftover.unlink()  # of a build that was killed
    kind = np.dtype([("key", "u1", (16,)), ("vector", "<f4", (embedder.dimension,))])
    keys = [xxh3_128(text.encode()).digest() for text in texts]
    missing = dict(zip(keys, texts, strict=True))
    paths = _own_shards(folder, embedder, kind)
    shards = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
    found: dict[bytes, tuple[int, int]] = {}
    for number, shard in enumerate(shards):
        rows = {key.tobytes(): (number, row) for row, key in enumerate(shard["key"])}
        found |= {key: place for key, place in rows.items() if key in missing and key not in found}
    todo = [(key, text) for key, text in missing.items() if key not in found]
    total = len(missing)
    for start in range(0, len(todo), SHARD):
        part = todo[start : start + SHARD]
        records = np.empty(len(part), kind)
        records["key"] = np.frombuffer(b"".join(key for key, _ in part), np.uint8).reshape(-1, 16)
        records["vector"] = checked(embedder, [text for _, text in part])
        paths.append(_write(folder, embedder, records))
        found |= {key: (len(shards), row) for row, (key, _) in enumerate(part)}
        shards.append(np.load(paths[-1], mmap_mode="r", allow_pickle=False))
        if report:
            report(total - len(todo) + start + len(part), total)
    where = np.array([found[key] for key in keys])
    used = {paths[number] for number in np.unique(where[:, 0])}
    for path in folder.glob("*.npy"):
        if path not in used:
            path.unlink()
    return Vectors(shards, where)


def _own_shards(folder: Path, embedder: Embedder, kind: np.dtype[Any]) -> list[Path]:
    """Whole shards of this embedder, in the order of their names."""
    whole = []
    for path in sorted(folder.glob(f"{_tag(embedder)}-*.npy")):
        data = path.read_bytes()
        if path.stem.rpartition("-")[2] == xxh3_128(data).hexdigest() and np.load(io.BytesIO(data), allow_pickle=False).dtype == kind:
            whole.append(path)
            continue
        path.unlink()
        warnings.warn(f"the shard {path} was damaged: its texts are embedded again", StoreWarning, stacklevel=3)
    return whole


def _write(folder: Path, embedder: Embedder, records: np.ndarray[Any, Any]) -> Path:
    buffer = io.BytesIO()
    np.save(buffer, records, allow_pickle=False)
    path = folder / f"{_tag(embedder)}-{xxh3_128(buffer.getvalue()).hexdigest()}.npy"
    write_whole(path, buffer.getvalue())
    return path


def _tag(embedder: Embedder) -> str:
    return xxh3_64(f"{embedder.identity} {embedder.dimension}".encode()).hexdigest()
