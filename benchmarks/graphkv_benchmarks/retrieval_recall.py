"""Supporting passages of multi-hop questions: recall of BM25, dense and hybrid retrieval, each alone and with what stands around its hits."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphkv.edges import merge_edges
from graphkv.errors import DocumentError, check_count
from graphkv.graph import SegmentGraph
from graphkv.segments import Segment
from graphkv_retrieval import BM25Retriever, DenseRetriever, Embedder, HybridRetriever, Retriever, expand, mention_edges, nearest_edges

from .machine import machine
from .readers import Row
from .scoring import paired_difference, wilson

DEPTHS = (2, 3, 5, 10, 20)
NEAREST = 3
"""Nearest neighbours of each passage, by BM25."""

EXPANSIONS: dict[str, tuple[str, str] | None] = {
    "": None,
    "+ mentions, 1 hop": ("mentions", "hops"),
    "+ mentions, PPR": ("mentions", "ppr"),
    "+ nearest, PPR": ("nearest", "ppr"),
    "+ both, PPR": ("both", "ppr"),
    "+ shuffled mentions, PPR": ("shuffled", "ppr"),
}
"""By name: along which edges, and how."""

HOW = {
    "corpus": "every passage of every row, each once; MoreHopQA's rows bring their two supporting passages and no others, so each passage supports some question and "
    "most mentions lead between two that belong together: a corpus with passages that support nothing is harder",
    "seen": "retrievers and edges see the passages, and of a row its question; the decomposition is used for scoring only",
    "gold": "the passages that the row's question decomposition names (paragraph_support_title)",
    "recall": "share of a question's supporting passages among the first k, mean over the questions; 95% interval by 10,000 bootstrap samples of questions",
    "all": "share of questions of which every supporting passage is among the first k; 95% Wilson interval",
    "difference": "`all` minus that of the same retriever without expansion, paired, 95% interval of Agresti and Min",
    "expansion": f"of k passages the better half, rounded up, are hits; the rest comes along edges, which are made of the passages alone: mentions (a passage's title stands in another's text), nearest ({NEAREST} by BM25)",
    "control": "shuffled mentions: as many edges between passages drawn at random",
}


def run_retrieval(
    rows: Sequence[Row], *, embedder: Embedder | None = None, depths: Sequence[int] = DEPTHS, seed: int = 1, report: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Recall of every retriever and expansion.

    Args:
        rows: MoreHopQA rows, as :func:`graphkv_benchmarks.readers.read_morehopqa` gives them.
        embedder: for dense and hybrid; without it only BM25 is measured. depths: the k of recall@k.
        report: called with (arms done, arms to do).

    Returns:
        ``{"machine", "how", "settings", "arms": {name: {"recall": {k: [mean, low, high]}, "all": {...}, "difference": {...}}}}``.

    Raises:
        DocumentError: no rows, or one that names no supporting passages. InputError: a depth below 1.
    """
    for depth in depths:
        check_count("depth", depth)
    graph, gold = corpus_of(rows)
    linked = linked_graphs(graph, seed)
    retrievers: dict[str, Retriever] = {"BM25": BM25Retriever.build(graph)}
    if embedder is not None:
        retrievers["dense"] = DenseRetriever.build(graph, embedder, "flat")
        retrievers["hybrid"] = HybridRetriever(list(retrievers.values()))
    questions = [row.question for row in rows]
    arms: dict[str, Any] = {}
    total = len(retrievers) * len(EXPANSIONS)
    for name, retriever in retrievers.items():
        hits = [{hit.id: hit.score for hit in found} for found in retriever.search(questions, max(depths))]
        plain: dict[int, list[bool]] = {}
        for expansion, way in EXPANSIONS.items():
            arm: dict[str, Any] = {"recall": {}, "all": {}, "difference": {}}
            for k in depths:
                found = [first(linked, scores, k, way) for scores in hits]
                shares = [len(wanted & ids) / len(wanted) for wanted, ids in zip(gold, found, strict=True)]
                whole = [share == 1 for share in shares]
                plain.setdefault(k, whole)
                arm["recall"][k] = [round(x, 4) for x in (statistics.fmean(shares), *bootstrap(shares, seed))]
                arm["all"][k] = [round(x, 4) for x in (sum(whole) / len(whole), *wilson(sum(whole), len(whole)))]
                arm["difference"][k] = [round(x, 4) for x in paired_difference(whole, plain[k])]
            arms[f"{name} {expansion}".strip()] = arm
            if report:
                report(len(arms), total)
    counts = {"questions": len(rows), "passages": len(graph), "edges": {kind: len(g.edges) for kind, g in linked.items()}}
    return {
        "machine": machine(),
        "how": HOW,
        "settings": {**counts, "embedder": None if embedder is None else embedder.identity, "seed": seed, "depths": list(depths)},
        "arms": arms,
    }


def corpus_of(rows: Sequence[Row]) -> tuple[SegmentGraph, list[set[str]]]:
    """One graph of all rows' passages, without edges, and the ids of each row's supporting passages.

    A passage that several rows have is there once. Passages of one title with different texts are told apart by a number.
    """
    if not rows:
        raise DocumentError("no rows to retrieve for: expected at least one")
    ids: dict[tuple[str | None, str | None], str] = {}
    segments: dict[str, Segment] = {}
    gold = []
    for row in rows:
        here: dict[str, str] = {}
        for segment in row.graph:
            key = (segment.title, segment.text)
            if key not in ids:
                same = sum(title == segment.title for title, _ in ids)
                ids[key] = segment.id if not same else f"{segment.id} ({same + 1})"
                segments[ids[key]] = Segment(ids[key], text=segment.text, title=segment.title)
            here[segment.id] = ids[key]
        steps = row.metadata.get("question_decomposition") or ()
        wanted = {here[title] for step in steps if (title := step.get("paragraph_support_title")) in here}
        if not wanted:
            raise DocumentError(f"row {row.id}: its question_decomposition names no passage that it has; expected paragraph_support_title")
        gold.append(wanted)
    return SegmentGraph.from_segments(segments.values()), gold


def linked_graphs(graph: SegmentGraph, seed: int) -> dict[str, SegmentGraph]:
    """The passages under the edges that expansions go along, by the name of the edges."""
    mentions, nearest = mention_edges(graph), nearest_edges(graph, NEAREST)
    draw = random.Random(seed)
    shuffled = [edge.between(*draw.sample(graph.ids, 2)) for edge in mentions]
    linked = {"mentions": mentions, "nearest": nearest, "shuffled": shuffled}
    return {name: graph.with_edges(edges) for name, edges in linked.items()} | {"both": merge_edges(graph.with_edges(mentions), nearest)}


def first(linked: Mapping[str, SegmentGraph], scores: Mapping[str, float], k: int, way: tuple[str, str] | None) -> set[str]:
    """The first `k` passages: hits, or the better half of them and what stands around these; hits fill up what is left."""
    ranked = sorted(scores, key=lambda id: -scores[id])
    if way is None or not ranked:
        return set(ranked[:k])
    seeds = {id: scores[id] for id in ranked[: (k + 1) // 2]}
    found = list(expand(linked[way[0]], seeds, how=way[1], max_segments=k))
    return set([*found, *(id for id in ranked if id not in found)][:k])


def bootstrap(values: Sequence[float], seed: int, samples: int = 10_000) -> tuple[float, float]:
    """A 95% interval of the mean: percentiles of the means of samples drawn with replacement (Efron, 1979).

    Example:
        >>> bootstrap([1.0] * 20, seed=1)
        (1.0, 1.0)
    """
    draw = random.Random(seed)
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(samples))
    return means[int(0.025 * samples)], means[int(0.975 * samples) - 1]


def table(result: dict[str, Any], depths: Sequence[int] | None = None) -> list[str]:
    """Recall and the share of questions with all their passages, in markdown; `depths` chooses some of those that were measured."""
    depths = depths or result["settings"]["depths"]
    lines = ["| retriever | " + " | ".join(f"recall@{k}" for k in depths) + " | " + " | ".join(f"all@{k}" for k in depths) + " |"]
    lines.append("|" + "---|" * (1 + 2 * len(depths)))
    for name, arm in result["arms"].items():
        cells = [_interval(arm[what][k if k in arm[what] else str(k)]) for what in ("recall", "all") for k in depths]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _interval(values: Sequence[float]) -> str:
    mean, low, high = (100 * x for x in values)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
