"""BM25 scores for the documents of a graph, through bm25s (numpy only, no model)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from graphkv.errors import InputError
from graphkv.graph import SegmentGraph
from graphkv.segments import Document


def score_documents(documents: SegmentGraph | Iterable[Document | Mapping[str, Any]], question: str) -> SegmentGraph:
    """The same graph with a `score` on every segment: how well it matches the question (BM25, higher is better).

    The layouts `graph_topk`, `graph_hops` and `graph_sequential` rank by that score. Title and text both count. Order and
    edges stay as they are; an earlier score is replaced.

    Args:
        documents: a graph, or documents as :meth:`SegmentGraph.from_documents` takes them.
        question: what is asked.

    Raises:
        InputError: an empty question, or a segment that is made of token ids and so has no text to match.

    Example:
        >>> graph = score_documents([{"id": "a", "text": "Maples at night."}, {"id": "b", "text": "A river."}], "Which river?")
        >>> graph["b"].score > graph["a"].score
        True
    """
    import bm25s

    graph = documents if isinstance(documents, SegmentGraph) else SegmentGraph.from_documents(documents)
    if not question.strip():
        raise InputError("the question is empty: expected some text to rank by")
    texts = []
    for segment in graph.segments:
        if segment.text is None:
            raise InputError(f"segment {segment.id!r} is made of token ids: BM25 needs text; give it a score yourself")
        texts.append(f"{segment.title or ''} {segment.text}")
    # No stop-word list: the languages are the user's, and frequent words weigh little anyway.
    corpus = bm25s.tokenize(texts, stopwords=[], show_progress=False)
    asked = bm25s.tokenize(question, stopwords=[], show_progress=False, return_ids=False)[0]
    known = [word for word in asked if word in corpus.vocab]
    scores = [0.0] * len(texts)  # nothing in common; bm25s fails on a corpus or a query without words
    if known:
        retriever = bm25s.BM25()
        retriever.index(corpus, show_progress=False)
        scores = retriever.get_scores(known).tolist()
    scored = [replace(segment, score=score) for segment, score in zip(graph.segments, scores, strict=True)]
    return SegmentGraph(scored, graph.edges, max_segment_tokens=graph.max_segment_tokens)
