"""Numbers that others reported, to stand beside ours: Graph-KV (arXiv 2506.07334, NeurIPS 2025)."""

from __future__ import annotations

from collections.abc import Mapping

from .case import Published

_PAPER = "Graph-KV (arXiv 2506.07334)"
_RAG = f"{_PAPER}, Tables 2, 3 and 7"

BACKBONES = "Tulu3-SFT, Tulu3-RAG and Tulu3-Block-FT, all Llama-3.1-8B"
"""The models behind :data:`PUBLISHED`."""

_METHODS: Mapping[str, str] = {
    "SFT sequential": "sequential",
    "SFT PCW": "pcw",
    "SFT APE": "ape",
    "Block-FT sequential": "sequential",
    "Block-RAG": "block",
    "Graph-KV": "graph",
    "Graph-KV Top-1": "top1",
    "Graph-KV Top-3": "top3",
    "Graph-KV Full": "full",
    "Graph-KV 2-hop": "hops2",
    "Graph-KV 3-hop": "hops3",
}
"""The arm of ours that comes nearest to each method."""

_SETS = ("rag-nq", "rag-2wiki", "rag-tqa", "rag-hotpotqa", "rag-multihop-rag", "rag-morehopqa", "rag-longbench-v2")
_ACCURACY: Mapping[str, tuple[float, ...]] = {
    "SFT sequential": (60.60, 68.33, 76.19, 73.42, 39.18, 38.37, 31.4),
    "SFT PCW": (39.22, 46.94, 60.13, 37.62, 42.01, 11.35, 15.6),
    "SFT APE": (49.05, 49.20, 66.28, 49.11, 40.34, 14.13, 26.8),
    "Block-FT sequential": (63.21, 77.29, 76.64, 77.43, 43.60, 37.38, 32.6),
    "Block-RAG": (59.39, 71.35, 74.44, 71.31, 43.32, 37.92, 31.4),
    "Graph-KV Top-1": (62.04, 73.60, 75.17, 73.39, 44.81, 37.96, 29.9),
    "Graph-KV Top-3": (62.29, 75.15, 75.66, 75.19, 45.79, 38.11, 32.5),
    "Graph-KV Full": (62.88, 74.38, 75.85, 76.17, 46.41, 44.90, 37.5),
    "Graph-KV 2-hop": (62.60, 75.76, 75.90, 76.19, 46.15, 45.70),
    "Graph-KV 3-hop": (62.74, 75.99, 76.04, 76.45, 46.74, 46.69),
}
"""Percent, a column for each of `_SETS`; the hops have no LongBench-v2."""

_ARXIV: Mapping[str, tuple[int, int, int, int, int]] = {
    "SFT sequential": (27, 9, 12, 0, 6),
    "Block-FT sequential": (30, 7, 14, 0, 9),
    "Block-RAG": (7, 3, 5, 0, 0),
    "Graph-KV": (27, 17, 17, 9, 9),
}
"""Correct of 60: without distractors; one distractor, first and last; two, first and last."""
_ARXIV_SETTINGS: tuple[Mapping[str, str | int], ...] = (
    {"distractors": 0},
    {"distractors": 1, "order": "first"},
    {"distractors": 1, "order": "last"},
    {"distractors": 2, "order": "first"},
    {"distractors": 2, "order": "last"},
)

_TOPIC: Mapping[str, tuple[float, float]] = {"Block-FT sequential": (67.09, 79.79), "Block-RAG": (69.55, 83.24), "Graph-KV": (71.03, 84.61)}


def _rag() -> list[Published]:
    rows = []
    for method, values in _ACCURACY.items():
        for task, value in zip(_SETS, values, strict=False):
            twice = (method, task) == ("Graph-KV Full", "rag-longbench-v2")
            rows.append(Published(task, _METHODS[method], method, value, _RAG + ("; as printed, 33.7 when recomputed" if twice else "")))
            if twice:
                rows.append(Published(task, _METHODS[method], f"{method}, recomputed", 33.7, f"{_RAG}; recomputed, where 37.5 is printed"))
    return rows


def _arxiv() -> list[Published]:
    source = f"{_PAPER}, Arxiv-QA"
    return [
        Published("arxiv-qa", _METHODS[method], method, value, source, setting, of=60)
        for method, values in _ARXIV.items()
        for setting, value in zip(_ARXIV_SETTINGS, values, strict=True)
    ]


def _topic() -> list[Published]:
    source = f"{_PAPER}, topic classification"
    return [
        Published(task, _METHODS[method], method, value, source)
        for method, values in _TOPIC.items()
        for task, value in zip(("topic-cora", "topic-pubmed"), values, strict=True)
    ]


PUBLISHED: tuple[Published, ...] = (*_arxiv(), *_rag(), *_topic())
"""Everything that is known, for any task; percent, or correct of `of`."""


def published_for(task: str) -> list[Published]:
    """What was reported for a task, in the order of the tables.

    Example:
        >>> [row.method for row in published_for("topic-cora")]
        ['Block-FT sequential', 'Block-RAG', 'Graph-KV']
    """
    return [row for row in PUBLISHED if row.task == task]
