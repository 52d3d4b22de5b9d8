"""Searching landmarks: FAISS against torch on the keys of a real text, and how much of exact search HNSW finds.

The text is read with exact search; the queries are those of every head of every token of the questions, as they come to the memory. Each
layer's landmark keys are then put into every kind of index, and the same queries are searched.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphkv.engine import GraphKV
from graphkv.errors import InputError, check_count
from graphkv.landmark import landmark_of
from graphkv.landmark_reading import BlockMemory
from graphkv.store import MemoryStore
from graphkv_kernels import top_landmarks
from graphkv_retrieval.landmark_documents import LandmarkSettings, read_documents
from graphkv_retrieval.landmark_index import FaissLandmarks, check_index

from .citation_world import make_world
from .machine import machine

PAPERS = 60
"""Of one world."""

HOW = {
    "text": "papers of citation worlds, held-out names, one after the other; the questions are the worlds' own, in turn",
    "queries": "every head of every token of the questions, as it is searched: rotated by the distance of the first place",
    "recall": "share of exact search's k blocks that are found, mean over queries; of older blocks only (the last k are always compared by torch), first layer left out (its landmarks are all alike)",
    "mass": "the same, each block weighed by its share in the softmax over the k landmark scores that exact search found",
    "ms": "milliseconds a query, one thread, all queries of a layer and key head at once; torch is one matrix product and topk",
    "build_ms": "milliseconds to add one key, mean over layers",
    "same": "flat: share of queries for which the k blocks are exactly torch's",
}


class _Recorder:
    """A memory that remembers what it was asked."""

    def __init__(self, inner: BlockMemory) -> None:
        self.inner, self.asked = inner, dict[int, list[Tensor]]()
        self.blocks, self.tokens, self.landmarks, self.fetch = inner.blocks, inner.tokens, inner.landmarks, inner.fetch

    def search(self, layer: int, query: Tensor, k: int, older: int) -> tuple[Tensor, Tensor]:
        self.asked.setdefault(layer, []).append(query)
        return self.inner.search(layer, query, k, older)


def run_landmark_index(
    engine: GraphKV, *, tokens: int = 32_768, questions: int = 20, k: int = 4, seed: int = 0, report: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Read `tokens` tokens and compare the searches of `questions` questions.

    Args:
        engine: over a model that was trained with landmarks. k: blocks that are chosen. report: called with (tokens read, tokens to read).

    Raises:
        InputError: a number below 1, or so few tokens that there is nothing to choose, no FAISS. UnsupportedModelError: a model without landmarks.
    """
    for name, value in (("tokens", tokens), ("questions", questions), ("k", k)):
        check_count(name, value)
    check_index("flat")
    import faiss

    model, config = engine.model, landmark_of(engine.model)
    text, asked = _text(engine, tokens, questions, seed)
    settings = LandmarkSettings.of(model, config, len(text), k, None, "token", "torch", "none")
    older = settings.blocks - k
    if older <= k:
        raise InputError(f"{tokens} tokens are {settings.blocks} blocks: with k={k} there is nothing to choose; read a longer text, or take a smaller k")
    reading = read_documents(model, MemoryStore(0), text, settings, progress=report).reading
    recorder = _Recorder(reading.memory)
    with model.landmark_reading(replace(reading, memory=recorder, chunk=False)), torch.no_grad():
        for question in asked:
            model.model(torch.tensor([question], device=model.device), use_cache=False, logits_to_keep=1)
    threads, of_faiss = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)  # FAISS has an OpenMP of its own
    try:
        layers = {layer: _compare(reading.memory.landmarks(layer, 0, older), torch.cat(queries, 1), k) for layer, queries in sorted(recorder.asked.items())}
    finally:
        torch.set_num_threads(threads)
        faiss.omp_set_num_threads(of_faiss)
    kinds = {
        kind: {name: round(sum(layer[kind][name] for layer in layers.values()) / len(layers), 5) for name in next(iter(layers.values()))[kind]}
        for kind in ("torch", "flat", "hnsw")
    }
    return {
        "machine": machine(),
        "how": HOW,
        "settings": {
            "model": model.name, "fingerprint": model.fingerprint, "block": config.block, "tokens": len(text), "blocks": settings.blocks, "k": k, "chunk": settings.chunk,
            "questions": len(asked), "queries": sum(q.shape[0] * q.shape[1] for part in recorder.asked.values() for q in part), "seed": seed,
        },
        "kinds": kinds,
        "layers": {str(layer): {"hnsw_recall": round(row["hnsw"]["recall"], 5), "hnsw_mass": round(row["hnsw"]["mass"], 5)} for layer, row in layers.items()},
    }  # fmt: skip


def lines(result: dict[str, Any]) -> list[str]:
    """The result as a table."""
    settings = result["settings"]
    head = f"{settings['blocks']:,} blocks of {settings['block']}, k={settings['k']}, {settings['queries']:,} queries"
    rows = [f"{kind:<6} recall {row['recall']:.4f}  mass {row['mass']:.4f}  {row['ms']:.4f} ms a query  {row['build_ms']:.4f} ms to add a key" for kind, row in result["kinds"].items()]
    return [head, *rows]


def _text(engine: GraphKV, tokens: int, questions: int, seed: int) -> tuple[list[int], list[tuple[int, ...]]]:
    """So many tokens of papers behind the prefix, and questions about them."""
    text: list[int] = []
    asked: list[tuple[int, ...]] = []
    while len(text) < tokens:
        world = make_world(seed, PAPERS, held_out=True)
        documents = [{"id": paper.id, "title": paper.title, "text": paper.text} for paper in world.papers]
        found = engine.reader.read(documents, [question.question for question in world.questions], None if not text else ())
        text += [*found.prefix, *(t for ids in found.segments.values() for t in ids)]
        asked += found.questions
        seed += 1
    step = max(1, len(asked) // questions)
    return text[:tokens], asked[::step][:questions]


def _compare(keys: Tensor, query: Tensor, k: int) -> dict[str, dict[str, float]]:
    """One layer: keys ``[K, M, D]``, queries ``[K, N, D]``."""
    keys, query = keys.float().cpu(), query.float().cpu()
    searched, added = query.shape[0] * query.shape[1], keys.shape[0] * keys.shape[1]
    begin = time.perf_counter()
    scores, exact = top_landmarks(query, keys, k)
    seconds = time.perf_counter() - begin
    share = (scores * query.shape[-1] ** -0.5).softmax(-1)
    rows = {"torch": {"recall": 1.0, "mass": 1.0, "same": 1.0, "ms": 1000 * seconds / searched, "build_ms": 0.0}}
    for kind in ("flat", "hnsw"):
        index, begin = FaissLandmarks(kind), time.perf_counter()
        index.add(keys)
        built = time.perf_counter()
        found = index.search(query, k)[1]
        done = time.perf_counter()
        hit = (exact[..., None] == found[..., None, :]).any(-1)
        rows[kind] = {
            "recall": float(hit.float().mean()),
            "mass": float((hit * share).sum(-1).mean()),
            "same": float((exact == found).all(-1).float().mean()),
            "ms": 1000 * (done - built) / searched,
            "build_ms": 1000 * (built - begin) / added,
        }
    return rows
