"""Edges made by retrieval: nearest neighbours, and titles that stand in texts."""

from __future__ import annotations

import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_helpers import WordHashes, graph_of, sentences

from graphkv import InputError, Segment, SegmentGraph
from graphkv_retrieval import BM25Retriever, DenseRetriever, Hit, HybridRetriever, Retriever, mention_edges, nearest_edges
from graphkv_retrieval.base import corpus_digest, searchable_texts
from graphkv_retrieval.bm25 import MOST_WORDS
from graphkv_retrieval.hybrid import DEPTH


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_nearest_by_vectors(kind: str) -> None:
    texts, k = sentences(200), 3
    graph, embedder = graph_of(texts), WordHashes()
    retriever = DenseRetriever.build(graph, embedder, kind)
    embedder.asked.clear()
    edges = nearest_edges(graph, k, retriever=retriever)
    assert embedder.asked == [], "the index has the vectors"
    vectors = embedder.encode(texts)
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -2)
    expected = {(f"s{j}", f"s{i}") for i, row in enumerate(similar) for j in np.argsort(-row, kind="stable")[:k]}
    assert len(set(edges) & expected) >= (600 if kind == "flat" else 590) and len(edges) == 600
    for edge in edges:
        assert edge.kind == "nearest" and edge.weight == pytest.approx(similar[int(edge[0][1:]), int(edge[1][1:])], abs=1e-6)


def test_nearest_by_words() -> None:
    graph = graph_of(["red maples at night", "red maples at night", "red oaks", "red", "a river"])
    edges = nearest_edges(graph, 2)
    assert [tuple(edge) for edge in edges if edge[1] == "s0"] == [("s1", "s0"), ("s3", "s0")]
    assert not any("s4" in edge for edge in edges), "a river shares no word"
    assert all(edge[0] != edge[1] and edge.kind == "nearest" and 0 < (edge.weight or 0) <= 1 for edge in edges)
    assert next(edge.weight for edge in edges if edge == ("s1", "s0")) == 1.0
    assert graph.with_edges([*graph.edges, *edges]).sources("s0") == ("s1", "s3")


def by_every_score(retriever: BM25Retriever, texts: list[str], k: int) -> list[list[Hit]]:
    """The neighbours by BM25 from the scores of all segments."""
    index, found = retriever._index, []
    frequency = np.diff(index.scores["indptr"])
    for row, text in enumerate(texts):
        words = {index.vocab_dict[word] for word in text.lower().split() if word in index.vocab_dict}
        shared = sorted((word for word in words if frequency[word] > 1), key=lambda word: (frequency[word], word))
        scores = index.get_scores_from_ids(shared[:MOST_WORDS])
        scores = np.minimum(scores / scores[row], 1) if scores[row] else scores
        best = [other for other in np.argsort(-scores, kind="stable") if other != row and scores[other] > 0]
        found.append([Hit(retriever.ids[other], float(scores[other])) for other in best[:k]])
    return found


ZIPF = st.integers(0, 63).map(lambda draw: f"w{draw.bit_length()}{'abcd'[draw % 4] if draw > 15 else ''}")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(ZIPF, min_size=1, max_size=8).map(" ".join), min_size=1, max_size=60), st.integers(1, 8))
def test_bm25_leaves_out_nothing(texts: list[str], k: int) -> None:
    """Some words rare and some in nearly every text, and many equal scores: what is skipped could not have been among the best."""
    graph = graph_of(texts)
    retriever = BM25Retriever.build(graph)
    assert retriever.neighbours(graph, k) == by_every_score(retriever, texts, k)


def test_bm25_leaves_out_nothing_that_is_as_like_as_can_be() -> None:
    """A long segment gets less for its words than several others do, which are all as like it as can be: the first of them count."""
    long = "rare common " + " ".join(f"word{i}" for i in range(60))
    for first in ("common rare of", "common common common common"):  # less than the next ones; without the rare word
        texts = [first, *["rare rare rare rare"] * 3, long, *["common"] * 10, *["other"] * 25]
        hits = BM25Retriever.build(graph_of(texts)).neighbours(graph_of(texts), 2)[4]
        assert hits == [Hit("s0", 1.0), Hit("s1", 1.0)]


def test_bm25_walks_only_what_it_must() -> None:
    texts = [f"the paper of group{i // 4} and person{i // 8}" for i in range(800)]
    graph = graph_of(texts)
    retriever = BM25Retriever.build(graph)
    asked, likest = [], retriever._likest
    plain = likest._asked
    likest._asked = lambda rows, sums, words: (asked.append((len(rows), len(words))), plain(rows, sums, words))[1]  # type: ignore[method-assign,func-returns-value]
    assert retriever.neighbours(graph, 3) == by_every_score(retriever, texts, 3)
    assert set(asked) == {(4, 4)}, "the four of a group, and four words that all have"


def test_mutual_edges() -> None:
    graph = graph_of(["red maples", "red maples too", "red maples too and more of them"])
    every, mutual = nearest_edges(graph, 1), nearest_edges(graph, 1, mutual=True)
    assert len(every) == 3 and {edge for edge in every if edge[::-1] in every} == set(mutual) and len(mutual) == 2


def test_nearest_by_both() -> None:
    graph = graph_of(sentences(50))
    both = HybridRetriever([BM25Retriever.build(graph), DenseRetriever.build(graph, WordHashes())])
    edges = nearest_edges(graph, 2, retriever=both)
    assert len(edges) == 100 and all(edge[0] != edge[1] and (edge.weight or 0) <= 2 / 61 for edge in edges)


class Counted(Retriever):
    """Finds the next few segments, and counts the rankings that are in memory at once."""

    class Ranking(list[Hit]):
        """A list that can be referred to weakly."""

    def __init__(self, graph: SegmentGraph) -> None:
        super().__init__(graph.ids, corpus_digest(graph.ids, searchable_texts(graph)))
        self.live: weakref.WeakValueDictionary[int, Counted.Ranking] = weakref.WeakValueDictionary()
        self.most = 0

    def save(self, folder: str | Path) -> None:
        raise NotImplementedError

    def _search(self, questions, k):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    def _neighbours(self, texts, first, k):  # type: ignore[no-untyped-def]
        found = []
        for row in range(first, first + len(texts)):
            ranking = self.Ranking(Hit(id, 1.0) for id in self.ids[row + 1 : row + 4])
            self.live[id(ranking)] = ranking
            found.append(ranking)
        self.most = max(self.most, len(self.live))
        return found


def test_the_memory_of_a_hybrid_does_not_grow_with_the_graph() -> None:
    graph = graph_of(["x"] * 20_000)
    parts = [Counted(graph), Counted(graph)]
    found = HybridRetriever(parts).neighbours(graph, 2)
    assert [[hit.id for hit in hits] for hits in found[9_999:10_001]] == [["s10000", "s10001"], ["s10001", "s10002"]]
    assert all(part.most <= 600 for part in parts)


def test_block_by_block_is_the_same_as_at_once() -> None:
    texts = sentences(700)
    graph = graph_of(texts)
    parts = [BM25Retriever.build(graph), DenseRetriever.build(graph, WordHashes())]
    both, calls = HybridRetriever(parts), []
    found = both.neighbours(graph, 3, lambda done, total: calls.append((done, total)))
    assert found == both._fused([part._neighbours(texts, 0, DEPTH) for part in parts], 3)
    assert calls == [(256, 700), (512, 700), (700, 700)]
    again: list[tuple[int, int]] = []
    nearest_edges(graph, 3, retriever=both, progress=lambda done, total: again.append((done, total)))
    assert again == calls


def test_ten_thousand_segments_take_seconds() -> None:
    graph = graph_of(sentences(10_000))
    started = time.perf_counter()
    assert len(nearest_edges(graph, 5)) > 40_000
    assert time.perf_counter() - started < 30


def test_nearest_of_another_graph() -> None:
    with pytest.raises(InputError, match="build it again"):
        nearest_edges(graph_of(["a river"]), 1, retriever=BM25Retriever.build(graph_of(["maples"])))
    with pytest.raises(InputError, match="k must be"):
        nearest_edges(graph_of(["a river"]), 0)


def mentions(*documents: tuple[str, str | None, str]) -> dict[tuple[str, str], float | None]:
    graph = SegmentGraph.from_documents([{"id": id, "title": title, "text": text} for id, title, text in documents])
    edges = mention_edges(graph)
    assert all(edge.kind == "mentions" for edge in edges)
    return {(edge[0], edge[1]): edge.weight for edge in edges}


def test_mentions_are_counted_whatever_case_and_marks() -> None:
    text = "As NIGHT MAPLE shows (see night-maple), and Night\nMaple's lab."
    assert mentions(("a", "Night Maple", "On leaves."), ("b", None, text)) == {("a", "b"): 3}


def test_mentions_are_whole_words() -> None:
    assert mentions(("a", "Night Maple", "x"), ("b", None, "Midnight maple. Night Maples. Night and Maple.")) == {}


def test_the_longest_title_wins() -> None:
    titles = (("a", "Graph Attention", "x"), ("b", "Graph Attention Networks", "x"), ("c", "Attention Networks", "x"))
    assert mentions(*titles, ("d", None, "Graph Attention Networks")) == {("b", "d"): 1}
    assert mentions(*titles, ("d", None, "Graph Attention Net, Attention Networks")) == {("a", "d"): 1, ("c", "d"): 1}
    assert mentions(("a", "Night Maple Silver Dawn", "x"), ("b", "Maple Silver", "x"), ("d", None, "Night Maple Silver Dusk")) == {("b", "d"): 1}


def test_short_titles_are_words() -> None:
    assert mentions(("a", "Maple", "x"), ("b", "Lantern", "x"), ("c", "On It", "x"), ("d", None, "maple lantern on it")) == {("b", "d"): 1, ("c", "d"): 1}
    assert mentions(("a", "?!", "x"), ("b", None, "?!")) == {}


def test_ones_own_title_is_no_mention() -> None:
    own = ("a", "Graph Attention", "Graph Attention reads graphs.")
    assert mentions(own, ("b", "Attention", "x")) == {}, "nor is a part of it"
    parts = SegmentGraph.from_segments([Segment.from_text(f"a#{i}", "On Night Maple.", title="Night Maple") for i in (1, 2)] + [Segment.from_text("b", "Night Maple.")])
    assert mention_edges(parts) == [("a#1", "b"), ("a#2", "b")]


def test_token_segments_are_mentioned_and_mention_nothing() -> None:
    graph = SegmentGraph.from_segments([Segment.from_tokens("a", [1, 2], title="Night Maple"), Segment.from_text("b", "Night Maple.")])
    assert mention_edges(graph) == [("a", "b")]


def test_the_time_grows_with_the_text() -> None:
    """Ten thousand titles that begin alike, in a text that begins them all the time."""
    titles = [{"id": f"t{i}", "title": f"On the nature of {i}", "text": "x"} for i in range(10_000)]
    graph = SegmentGraph.from_documents([*titles, {"id": "b", "text": "on the nature of " * 50_000 + "77"}])
    started = time.perf_counter()
    assert mention_edges(graph) == [("t77", "b")]
    assert time.perf_counter() - started < 5
