"""The FAISS indexes: recall against exact search, and that a saved one is the same, memory-mapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphkv import InputError
from graphkv_retrieval.vectors import KINDS, PQ_POINTS, VectorIndex

DIMENSION = 32


def clustered(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Unit vectors around 100 centres, the same centres for every seed."""
    centres = np.random.default_rng(1).standard_normal((100, DIMENSION))
    rng = np.random.default_rng(seed)
    points = centres[rng.integers(0, 100, count)] + 0.5 * rng.standard_normal((count, DIMENSION))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def points() -> np.ndarray[Any, np.dtype[np.float32]]:
    return clustered(PQ_POINTS)


@pytest.fixture(scope="module")
def indexes(points: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, VectorIndex]:
    return {kind: VectorIndex.build(kind, points.__getitem__, len(points), DIMENSION) for kind in KINDS}


@pytest.mark.parametrize(("kind", "least"), [("flat", 1.0), ("hnsw", 0.98), ("ivfpq", 0.6)])
def test_recall(kind: str, least: float, indexes: dict[str, VectorIndex], points: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    queries = clustered(100, seed=2)
    exact = np.argsort(-(queries @ points.T), axis=1)[:, :10]
    scores, rows = indexes[kind].search(queries, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, rows, strict=True)])
    assert recall >= least
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_index_is_the_same(kind: str, indexes: dict[str, VectorIndex], tmp_path: Path) -> None:
    queries = clustered(20, seed=3)
    indexes[kind].save(tmp_path / "index")
    again = VectorIndex.load(kind, tmp_path / "index")
    assert len(again) == len(indexes[kind]) and again.dimension == DIMENSION
    for before, after in zip(indexes[kind].search(queries, 10), again.search(queries, 10), strict=True):
        np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(indexes[kind].vectors(50, 90), again.vectors(50, 90))
    again.save(tmp_path / "index")  # over the file that it has mapped
    np.testing.assert_array_equal(again.search(queries, 10)[1], VectorIndex.load(kind, tmp_path / "index").search(queries, 10)[1])
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_a_loaded_index_stays_on_disk(kind: str, tmp_path: Path) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc")

    def private_mb() -> float:
        return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("RssAnon"))

    wide = np.zeros((2000, 4096), np.float32)  # 31 MiB
    wide[np.arange(2000), np.arange(2000)] = 1
    VectorIndex.build(kind, wide.__getitem__, 2000, 4096).save(tmp_path / "index")
    before = private_mb()
    index = VectorIndex.load(kind, tmp_path / "index")
    assert index.search(wide[:1], 1)[1].tolist() == [[0]]
    assert private_mb() - before < 10


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_the_vectors_come_back(kind: str, indexes: dict[str, VectorIndex], points: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    np.testing.assert_array_equal(indexes[kind].vectors(10, 30), points[10:30])


def test_building_reports(points: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    calls: list[tuple[int, int]] = []
    VectorIndex.build("flat", points.__getitem__, len(points), DIMENSION, lambda done, total: calls.append((done, total)))
    assert calls == [(8192, len(points)), (len(points), len(points))]


def test_what_cannot_be_built() -> None:
    with pytest.raises(InputError, match="unknown kind of index 'tree'; valid: flat, hnsw, ivfpq"):
        VectorIndex.build("tree", clustered(10).__getitem__, 10, DIMENSION)
    with pytest.raises(InputError, match=r"at least 9,984 segments.*got 5,000: use flat or hnsw"):
        VectorIndex.build("ivfpq", clustered(10).__getitem__, 5000, DIMENSION)
