"""A corpus into a store: the blocks that asking would make, resumed, by several processes, under a small budget."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, random_graph, random_ids, tiny_model

from graphkv import FileStore, GraphKV, InputError, ModelError, SegmentGraph, StoreError
from graphkv.bulk import encode_corpus
from graphkv.model import EMBEDDED

GRAPH = random_graph({f"d{i}": 3 + 5 * (i % 4) for i in range(12)}, [(f"d{i}", f"d{(i * 3 + 1) % 12}") for i in range(0, 12, 2)] + [("d1", "d4"), ("d4", "d5")])


def tiny(store: Any, batch_tokens: int = 4096) -> GraphKV:
    return GraphKV(GraphKV.from_pretrained((tiny_model(), byte_tokenizer())).model, store=store, batch_tokens=batch_tokens)


@pytest.mark.parametrize("batch_tokens", [1, 20, 4096])
@pytest.mark.parametrize(("layout", "options"), [("graph", {}), ("graph", {"rounds": 2}), ("graph_topk", {"m": 2}), ("pcw", {}), ("sequential", {})])
def test_asking_finds_everything(tmp_path: Path, layout: str, options: dict[str, Any], batch_tokens: int) -> None:
    engine = tiny(tmp_path / "kv", batch_tokens)
    done = encode_corpus(engine, GRAPH, layout=layout, prefix=[1, 2], **options)
    assert done.blocks_encoded == len(done.keys) == len(engine.store) and done.tokens_found == 0
    encoded = engine.encode(GRAPH, layout=layout, prefix=[1, 2], **options)
    assert encoded.tokens_computed == 0
    fresh = tiny("memory").logits(GRAPH, random_ids(5), layout=layout, prefix=[1, 2], **options)
    assert torch.allclose(engine.logits(GRAPH, random_ids(5), layout=layout, prefix=[1, 2], **options), fresh, rtol=1e-4, atol=1e-4)


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    engine = tiny(tmp_path / "kv", 20)

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_corpus(engine, GRAPH, progress=stop)
    there = set(engine.store.keys())
    done = encode_corpus(engine, GRAPH)
    assert 0 < len(there) == done.blocks_found < len(done.keys) and done.blocks_encoded == len(done.keys) - len(there)
    assert encode_corpus(engine, GRAPH).tokens_encoded == 0


def test_a_budget_that_holds_next_to_nothing_is_only_slower(tmp_path: Path) -> None:
    """Sources that are evicted before their targets come are encoded again."""
    small = tiny(FileStore(tmp_path / "kv", max_bytes=12_000), 20)
    done = encode_corpus(small, GRAPH, rounds=2)
    assert done.blocks_encoded == len(done.keys) > len(small.store) and small.store.nbytes <= 12_000


def test_several_processes(tmp_path: Path) -> None:
    documents = [{"id": f"p{i}", "title": f"Paper {i}", "text": "It rains in the north. " * 60, "sources": [f"p{i - 1}"] if i % 3 == 1 else []} for i in range(12)]
    for document in documents:
        document["text"] += document["id"]
    graph = SegmentGraph.from_documents(documents)
    engine = GraphKV.from_pretrained(store=tmp_path / "kv")
    seen: list[tuple[int, int]] = []
    done = encode_corpus(engine, graph, workers=2, load={"model": str(EMBEDDED), "dtype": "float32"}, progress=lambda *args: seen.append(args))
    assert len(engine.store) == len(done.keys) == done.blocks_encoded and seen[-1] == (done.tokens_encoded, done.tokens_encoded) and len(seen) > 2
    assert engine.encode(graph).tokens_computed == 0, "the processes made the blocks that this one looks for"


def test_several_processes_need_files_and_a_model_to_load(tmp_path: Path) -> None:
    for engine, load in ((tiny("memory"), {"model": "x"}), (tiny(tmp_path / "kv"), None)):
        with pytest.raises(InputError, match="several workers need a store in files, and load="):
            encode_corpus(engine, GRAPH, workers=2, load=load)
    with pytest.raises(InputError, match="workers must be a whole number"):
        encode_corpus(tiny("memory"), GRAPH, workers=0)


def test_workers_never_write_another_models_numbers(tmp_path: Path) -> None:
    engine = GraphKV.from_pretrained(dtype=torch.bfloat16, store=tmp_path / "kv")
    documents = [{"id": f"p{i}", "text": f"{i} It rains. " * 300} for i in range(6)]
    with pytest.raises(InputError, match="load= gives another model than the engine's"):
        encode_corpus(engine, documents, workers=2, load={"model": str(EMBEDDED), "dtype": "float32"})
    assert len(engine.store) == 0


def test_a_worker_that_dies_is_a_clear_error(tmp_path: Path) -> None:
    engine = GraphKV.from_pretrained(store=tmp_path / "kv")
    documents = [{"id": f"p{i}", "text": f"{i} It rains. " * 300} for i in range(12)]

    def kill(done: int, total: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(ModelError, match="a worker process died; each of the 2 holds the model"):
        encode_corpus(engine, documents, workers=2, load={"model": str(EMBEDDED), "dtype": "float32"}, progress=kill)
    again = encode_corpus(engine, documents)
    assert 0 < again.blocks_found < len(again.keys) == again.blocks_kept, "what was encoded is kept"


def test_what_is_not_kept_is_not_called_encoded(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="was opened read-only"):
        encode_corpus(tiny(FileStore(tmp_path / "kv", read_only=True)), GRAPH)
    for store in (FileStore(tmp_path / "kv", read_only=True), FileStore(tmp_path / "kv", max_bytes=10)):
        with pytest.raises(StoreError, match=r"did not keep a block of .* read-only, or its budget is smaller"):
            tiny(store).encode(GRAPH)
    done = encode_corpus(tiny(FileStore(tmp_path / "kv", max_bytes=12_000), 20), GRAPH)
    assert 0 < done.blocks_kept < len(done.keys)
    pinned = encode_corpus(tiny(FileStore(tmp_path / "pinned", max_bytes=12_000), 20), GRAPH, pin=True)
    assert pinned.blocks_kept == len(pinned.keys), "pinned blocks stay, whatever the budget"


def test_nothing_kept_under_a_deep_layout_is_slow_and_not_endless(tmp_path: Path) -> None:
    """Every block reads all before it, and none is kept: each batch encodes its sources once, not once a path."""
    chain = random_graph({f"d{i}": 2 for i in range(24)}, [])
    done = encode_corpus(tiny(FileStore(tmp_path / "kv", max_bytes=10), 4), chain, layout="sequential")
    assert done.blocks_encoded == 24 and done.blocks_kept == 0
