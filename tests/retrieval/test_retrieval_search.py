"""BM25, dense and hybrid search against plain references."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_helpers import WordHashes, graph_of, sentences

from graphkv import InputError, Segment, SegmentGraph
from graphkv_retrieval import BM25Retriever, DenseRetriever, Hit, HybridRetriever, Retriever, score_documents

WORDS = st.sampled_from(["maple", "river", "night", "the", "lab", "Night", "of", "x"])
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=8).map(" ".join), min_size=1, max_size=12)


def words_of(text: str) -> list[str]:
    return re.findall(r"\b\w\w+\b", text.lower())


def bm25(texts: list[str], question: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """Lucene's formula, word by word."""
    split = [words_of(text) for text in texts]
    average = sum(map(len, split)) / len(split)
    scores = []
    for own in split:
        score = 0.0
        for word in words_of(question):
            frequency = sum(word in other for other in split)
            inverse = math.log(1 + (len(split) - frequency + 0.5) / (frequency + 0.5))
            times = own.count(word)
            score += inverse * times / (times + k1 * (1 - b + b * len(own) / average)) if times else 0.0
        scores.append(score)
    return scores


@settings(max_examples=50, deadline=None)
@given(TEXTS, st.lists(WORDS, min_size=1, max_size=5).map(" ".join), st.integers(1, 15))
def test_bm25_is_the_formula(texts: list[str], question: str, k: int) -> None:
    if not any(words_of(text) for text in texts):
        with pytest.raises(InputError, match="no segment has a word"):
            BM25Retriever.build(graph_of(texts))
        return
    expected = bm25(texts, question)
    hits = BM25Retriever.build(graph_of(texts)).search([question], k)[0]
    assert len(hits) == min(k, sum(score > 0 for score in expected))
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected, reverse=True)[: len(hits)], rel=1e-5)
    for hit in hits:
        assert hit.score == pytest.approx(expected[int(hit.id[1:])], rel=1e-5)
    scored = score_documents(graph_of(texts), question)
    assert [segment.score for segment in scored] == pytest.approx(expected, rel=1e-5)


def test_equal_scores_stand_in_order_also_at_the_cut() -> None:
    texts = ["a river"] * 9 + ["two maples"]
    retriever = BM25Retriever.build(graph_of(texts))
    assert [hit.id for hit in retriever.search(["river"], 4)[0]] == ["s0", "s1", "s2", "s3"]
    assert [hit.id for hit in DenseRetriever.build(graph_of(texts), WordHashes()).search(["a river"], 4)[0]] == ["s0", "s1", "s2", "s3"]


def test_titles_are_searched() -> None:
    graph = SegmentGraph.from_documents([{"id": "a", "text": "Leaves."}, {"id": "b", "text": "Leaves.", "title": "Maples"}])
    assert [hit.id for hit in BM25Retriever.build(graph).search(["maples"], 2)[0]] == ["b"]


def test_flat_is_the_inner_product() -> None:
    texts, embedder = sentences(300), WordHashes()
    questions = ["Who wrote Night Maple?", "Which lab does Silver Dawn come from?", texts[7]]
    found = DenseRetriever.build(graph_of(texts), embedder).search(questions, 10)
    scores = embedder.encode(questions) @ embedder.encode(texts).T
    for hits, row in zip(found, scores, strict=True):
        assert [hit.id for hit in hits] == [f"s{i}" for i in np.argsort(-row, kind="stable")[:10]]
        assert [hit.score for hit in hits] == pytest.approx(np.sort(row)[::-1][:10], abs=1e-6)
    assert found[2][0].id == "s7" and found[2][0].score == pytest.approx(1.0, abs=1e-6)


def test_no_more_hits_than_segments() -> None:
    graph = graph_of(["a river", "two maples"])
    assert len(DenseRetriever.build(graph, WordHashes()).search(["river"], 10)[0]) == 2
    assert len(BM25Retriever.build(graph).search(["river"], 10)[0]) == 1
    assert BM25Retriever.build(graph).search(["nothing"], 10) == [[]]
    assert BM25Retriever.build(graph).search([], 10) == []


class Fixed(Retriever):
    """Answers with one ranking, whatever it is asked."""

    def __init__(self, ranking: str, digest: str = "same") -> None:
        super().__init__(("a", "b", "c", "d"), digest)
        self.ranking = [Hit(id, 1.0) for id in ranking]

    def save(self, folder: str | Path) -> None:
        raise NotImplementedError

    def _search(self, questions, k):  # type: ignore[no-untyped-def]
        return [self.ranking[:k] for _ in questions]

    def _neighbours(self, texts, first, k):  # type: ignore[no-untyped-def]
        return [self.ranking[:k] for _ in texts]


def test_reciprocal_ranks_by_hand() -> None:
    hits = HybridRetriever([Fixed("bac"), Fixed("cb")]).search(["?"], 4)[0]
    assert hits == [Hit("b", 1 / 61 + 1 / 62), Hit("c", 1 / 63 + 1 / 61), Hit("a", 1 / 62)]
    tied = HybridRetriever([Fixed("da"), Fixed("ad")]).search(["?"], 1)[0]
    assert tied == [Hit("a", 1 / 61 + 1 / 62)], "of two with equal sums the first of the graph is first"


def test_a_hybrid_sees_below_the_cut() -> None:
    """b is second in both, and beats each part's best hit."""
    assert [hit.id for hit in HybridRetriever([Fixed("ab"), Fixed("cb")]).search(["?"], 1)[0]] == ["b"]


def test_what_cannot_be_searched() -> None:
    retriever = BM25Retriever.build(graph_of(["a river"]))
    for questions, k, message in (("river", 1, "expected a list of questions"), ([" "], 1, "a question must be some text"), (["river"], 0, "k must be a whole number")):
        with pytest.raises(InputError, match=message):
            retriever.search(questions, k)
    with pytest.raises(InputError, match="half of a character"):
        retriever.search(["\ud800 river"], 1)
    with pytest.raises(InputError, match="segment 's0' cannot be encoded"):
        BM25Retriever.build(graph_of(["river \udfff"]))
    with pytest.raises(InputError, match="made of token ids"):
        BM25Retriever.build(SegmentGraph.from_segments([Segment.from_tokens("a", [1, 2])]))
    with pytest.raises(InputError, match="at least one retriever"):
        HybridRetriever([])
    with pytest.raises(InputError, match="same segments"):
        HybridRetriever([Fixed("a"), Fixed("a", digest="other")])
