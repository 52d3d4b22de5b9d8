"""A cheap embedder and small corpora for the tests of retrieval."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

from graphkv import SegmentGraph
from graphkv_benchmarks.citation_world import make_world

DIMENSION = 32


class WordHashes:
    """Every word has a random vector of its own; a text is their sum, scaled to length 1. Remembers what it was asked for."""

    def __init__(self, name: str = "word-hashes") -> None:
        self.name, self.identity, self.dimension = name, f"{name}@1", DIMENSION
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        self.asked += texts
        out = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                out[row] += np.random.default_rng(xxh3_64_intdigest(word.encode())).standard_normal(self.dimension).astype(np.float32)
        lengths = np.linalg.norm(out, axis=1, keepdims=True)
        return out / np.where(lengths > 0, lengths, 1)


def graph_of(texts: Sequence[str], edges: Sequence[tuple[str, str]] = ()) -> SegmentGraph:
    """Segments s0, s1 ... with these texts."""
    graph = SegmentGraph.from_documents([{"id": f"s{i}", "text": text} for i, text in enumerate(texts)])
    return graph.with_edges(edges)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different sentences of citation worlds."""
    found: dict[str, None] = {}
    while len(found) < count:
        for paper in make_world(seed, 30).papers:
            found |= dict.fromkeys(f"{paper.title}: {sentence}" for sentence in paper.text.split(". "))
        seed += 1
    return list(found)[:count]
