"""The memory of blocks: what is put in comes out, wherever it lies, and FAISS finds what torch finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from graphkv import InputError, StoreError
from graphkv.kv import SegmentKV
from graphkv.store import FileStore, MemoryStore, Store
from graphkv_kernels import top_landmarks
from graphkv_retrieval.landmark_index import FaissLandmarks, check_index
from graphkv_retrieval.landmark_memory import OFFLOADS, LandmarkMemory

CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def chunks(lengths: list[int], layers: int = 2) -> list[SegmentKV]:
    """Random keys and values of two key heads of 8."""
    made = []
    for n, length in enumerate(lengths):
        keys, values = (tuple(draw(2, length, 8, seed=100 * n + 10 * layer + part) for layer in range(layers)) for part in (0, 1))
        made.append(SegmentKV(f"{n:032x}", tuple(range(n, n + length)), keys, values))
    return made


def filled(offload: str, store: Store | None = None, held_bytes: int = 2**20) -> tuple[LandmarkMemory, list[SegmentKV]]:
    """Blocks of 4 in chunks of 12, the last block of 3."""
    memory, parts = LandmarkMemory(4, 8, 12, [CPU, CPU], offload=offload, store=store, held_bytes=held_bytes), chunks([12, 12, 7])
    for part in parts:
        if store is not None:
            store.put(part)
        memory.add(part)
    return memory, parts


@pytest.mark.parametrize("offload", OFFLOADS)
def test_what_is_put_in_comes_out(offload: str, tmp_path: Path) -> None:
    memory, parts = filled(offload, FileStore(tmp_path) if offload == "store" else None)
    assert (memory.blocks, memory.tokens) == (8, 31)
    head, block = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 5, 7, 2, 7])
    for layer in range(2):
        keys, values = (torch.cat([getattr(part, what)[layer] for part in parts], 1) for what in ("keys", "values"))
        got_keys, got_values, lengths = memory.fetch(layer, head, block)
        assert lengths.tolist() == [4, 4, 3, 4, 3] and got_keys.shape == got_values.shape == (5, 4, 8)
        for at, (h, b, n) in enumerate(zip(head.tolist(), block.tolist(), lengths.tolist(), strict=True)):
            assert torch.equal(got_keys[at, :n], keys[h, b * 4 : b * 4 + n]) and torch.equal(got_values[at, :n], values[h, b * 4 : b * 4 + n])
        assert torch.equal(memory.landmarks(layer, 1, 8), keys[:, [7, 11, 15, 19, 23, 27, 30]])


def test_a_store_is_read_from_and_little_is_held(tmp_path: Path) -> None:
    parts = chunks([12, 12, 7])
    memory, _ = filled("store", FileStore(tmp_path), held_bytes=parts[0].nbytes + 1)
    landmarks = 2 * 2 * 8 * 8 * 4
    assert memory.nbytes == landmarks  # nothing is held before something is asked for
    for block in (0, 3, 6, 1, 4, 7):
        memory.fetch(0, torch.tensor([0]), torch.tensor([block]))
        assert memory.nbytes <= landmarks + parts[0].nbytes + 1
    both = memory.fetch(1, torch.tensor([0, 0, 1]), torch.tensor([0, 7, 4]))
    whole = filled("none")[0].fetch(1, torch.tensor([0, 0, 1]), torch.tensor([0, 7, 4]))
    assert all(torch.equal(a, b) for a, b in zip(both, whole, strict=True))


def test_a_chunk_that_the_store_lost_is_an_error() -> None:
    store = MemoryStore()
    memory, parts = filled("store", store)
    store.remove(parts[1].key)
    with pytest.raises(StoreError, match="chunk 1 of the text is not in the store any more"):
        memory.fetch(0, torch.tensor([0]), torch.tensor([4]))


def test_chunks_that_do_not_fit_are_refused() -> None:
    memory, _ = filled("none")
    with pytest.raises(InputError, match="expected chunks of 12 tokens and 8 blocks in all"):
        memory.add(chunks([4])[0])
    with pytest.raises(InputError, match="unknown offload 'disk'; valid: cpu, none, store"):
        LandmarkMemory(4, 8, 12, [CPU], offload="disk")
    with pytest.raises(InputError, match="needs a store"):
        LandmarkMemory(4, 8, 12, [CPU], offload="store")


@pytest.mark.parametrize("many", [1, 5, 200, 5000])
def test_flat_returns_what_torch_returns(many: int) -> None:
    keys, query, k = draw(2, many, 16, seed=1), draw(2, 40, 16, seed=2), min(many, 4)
    index = FaissLandmarks("flat")
    for start in range(0, many, 1000):  # grows while the text is read
        index.add(keys[:, start : start + 1000])
    assert len(index) == many
    best, chosen = index.search(query, k)
    expected, numbers = top_landmarks(query, keys, k)
    assert torch.equal(chosen, numbers)
    torch.testing.assert_close(best, expected)


def test_flat_returns_what_torch_returns_where_many_are_equal() -> None:
    keys = torch.randint(-1, 2, (2, 300, 3), generator=torch.Generator().manual_seed(1)).float()
    query = torch.randint(-1, 2, (2, 50, 3), generator=torch.Generator().manual_seed(2)).float()
    index = FaissLandmarks("flat")
    index.add(keys)
    for got, expected in zip(index.search(query, 4), top_landmarks(query, keys, 4), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("shift", [0.0, 3.0])  # keys of trained models lie off the origin
def test_hnsw_finds_most_of_them(shift: float) -> None:
    centres = draw(1, 60, 16, seed=3)
    keys = centres[:, torch.arange(1500) % 60] + 0.5 * draw(1, 1500, 16, seed=4) + shift
    query = centres[:, torch.arange(200) % 60] + 0.5 * draw(1, 200, 16, seed=5)
    index = FaissLandmarks("hnsw")
    index.add(keys)
    chosen = index.search(query, 4)[1]
    exact = top_landmarks(query, keys, 4)[1]
    recall = (chosen[..., :, None] == exact[..., None, :]).any(-1).float().mean()
    assert recall >= 0.95


def test_hnsw_of_a_few_that_are_all_equal_is_full() -> None:
    index = FaissLandmarks("hnsw")
    index.add(torch.ones(1, 40, 4))
    chosen = index.search(torch.ones(1, 3, 4), 40)[1]
    assert (chosen >= 0).all() and all(len(set(row)) == 40 for row in chosen[0].tolist())


def test_an_index_behind_the_memory() -> None:
    """The memory's own search adds to an index what has become old since the last one."""
    parts = chunks([12] * 6)
    memories = {kind: LandmarkMemory(4, 18, 12, [CPU, CPU], index=kind) for kind in ("torch", "flat", "hnsw")}
    query = draw(2, 9, 8, seed=7)
    for n, part in enumerate(parts):
        for memory in memories.values():
            memory.add(part)
        if n:
            results = [memory.search(1, query, 3, 3 * n) for memory in memories.values()]
            assert all(torch.equal(results[0][1], numbers) for _, numbers in results[1:])


@pytest.mark.parametrize("k", [2, 3, 4, 7])
def test_a_graph_is_the_same_whether_the_text_was_read_or_came_from_the_store(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. Searched after every chunk, as while reading. 2. Searched only when all chunks are there: keys are added in the same pieces."""
    parts, pieces = chunks([12] * 6 + [7]), list[list[int]]()
    add = FaissLandmarks.add

    def noted(self: FaissLandmarks, keys: Tensor) -> None:
        pieces[-1].append(keys.shape[1])
        add(self, keys)

    monkeypatch.setattr(FaissLandmarks, "add", noted)
    for searched in (True, False):
        pieces.append([])
        memory = LandmarkMemory(4, 20, 12, [CPU, CPU], index="hnsw")
        for part in parts:
            memory.add(part)
            if (searched or part is parts[-1]) and memory.blocks > k:
                memory.search(1, draw(2, 1, 8), min(k, memory.blocks - k), memory.blocks - k)
    assert pieces[0] == pieces[1] and sum(pieces[0]) == 20 - k and len(pieces[0]) > 3


def test_an_index_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown index 'ivf'; valid: flat, hnsw, torch"):
        check_index("ivf")
    monkeypatch.setitem(sys.modules, "faiss", None)
    check_index("torch")
    with pytest.raises(InputError, match="index 'flat' needs FAISS: pip install faiss-cpu"):
        LandmarkMemory(4, 8, 12, [CPU], index="flat")
