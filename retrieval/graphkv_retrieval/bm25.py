"""BM25 through bm25s (numpy only, no model): scores for a graph's documents, and a retriever."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphkv.errors import InputError
from graphkv.graph import SegmentGraph
from graphkv.segments import Document
from graphkv_retrieval.base import Hit, Retriever, corpus_digest, searchable_texts
from graphkv_retrieval.likest import Likest, highest
from graphkv_retrieval.manifest import Manifest, begin, damaged, finish, read_ids, write_ids

MOST_WORDS = 25
"""Of a segment that looks for its neighbours so many words count, the rarest: as in Lucene's "more like this"."""

_FILES = ("data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy", "vocab.index.json", "params.index.json")


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
    for segment in graph.segments:
        if segment.text is None:
            raise InputError(f"segment {segment.id!r} is made of token ids: BM25 needs text; give it a score yourself")
    texts = searchable_texts(graph)
    corpus = _tokenize(texts)
    known = [word for word in _words([question])[0] if word in corpus.vocab]
    scores = [0.0] * len(texts)  # nothing in common; bm25s fails on a corpus or a query without words
    if known:
        retriever = bm25s.BM25()
        retriever.index(corpus, show_progress=False)
        scores = retriever.get_scores(known).tolist()
    scored = [replace(segment, score=score) for segment, score in zip(graph.segments, scores, strict=True)]
    return graph.with_segments(scored)


class BM25Retriever(Retriever):
    """BM25 over a graph's segments. What shares no word with a question is no hit.

    Example:
        >>> graph = SegmentGraph.from_documents([{"id": "a", "text": "Maples at night."}, {"id": "b", "text": "A river."}])
        >>> [hit.id for hit in BM25Retriever.build(graph).search(["Which river?"], k=2)[0]]
        ['b']
    """

    def __init__(self, ids: Sequence[str], digest: str, index: Any) -> None:
        super().__init__(ids, digest)
        self._index = index

    @classmethod
    def build(cls, graph: SegmentGraph) -> BM25Retriever:
        """Index a graph, in memory; 100,000 short segments take about two seconds.

        Raises:
            InputError: a segment without text, or no segment with a word (two letters or digits side by side) at all.
        """
        import bm25s

        texts = searchable_texts(graph)
        digest = corpus_digest(graph.ids, texts)
        corpus = _tokenize(texts)
        if not corpus.vocab:
            raise InputError("no segment has a word (two letters or digits side by side): BM25 has nothing to index; use a dense index")
        index = bm25s.BM25()
        index.index(corpus, create_empty_token=False, show_progress=False)
        return cls(graph.ids, digest, index)

    @classmethod
    def load(cls, folder: Path, manifest: Manifest) -> BM25Retriever:
        """Open a saved index, memory-mapped. Raises InputError if it is damaged."""
        import bm25s

        with damaged(folder):
            index = bm25s.BM25.load(folder, mmap=True, show_progress=False)
            # A memory map's own class makes each of the many small slices slow; a plain array over it does not.
            index.scores |= {name: np.asarray(index.scores[name]) for name in ("data", "indices", "indptr")}
        return cls(read_ids(folder, manifest), manifest.digest, index)

    def save(self, folder: str | Path) -> None:
        """Write the index in bm25s' own format. Raises InputError if other files are there."""
        place = begin(folder, "bm25")
        part = place / ".part"
        if part.exists():  # of a build that was killed
            shutil.rmtree(part)
        self._index.save(part, show_progress=False)
        for name in _FILES:  # renamed, not written over: who has the old files mapped keeps them
            (part / name).replace(place / name)
        part.rmdir()
        write_ids(place, self.ids)
        finish(place, Manifest("bm25", len(self.ids), self.digest), _FILES)

    def _search(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        found = []
        for words in _words(questions):
            scores = self._index.get_scores_from_ids([self._index.vocab_dict[word] for word in words if word in self._index.vocab_dict])
            rows = highest(scores, k)
            found.append(self._hits(rows, scores[rows]))
        return found

    def _neighbours(self, texts: Sequence[str], first: int, k: int) -> list[list[Hit]]:
        """Scores are relative to what the segment itself gets for its words, so 1 means: as like it as it is to itself."""
        frequency = np.diff(self._index.scores["indptr"])
        found = []
        for row, words in enumerate(_words(texts), start=first):
            own = {self._index.vocab_dict[word] for word in words}
            shared = sorted((word for word in own if frequency[word] > 1), key=lambda word: (frequency[word], word))
            found.append(self._hits(*self._likest.best(row, shared[:MOST_WORDS], k)))
        return found

    @functools.cached_property
    def _likest(self) -> Likest:
        scores = self._index.scores
        return Likest(scores["indptr"], scores["indices"], scores["data"], len(self.ids))

    def _hits(self, rows: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> list[Hit]:
        return [Hit(self.ids[row], float(score)) for row, score in zip(rows, scores, strict=True)]


def _tokenize(texts: list[str]) -> Any:
    import bm25s

    # No stop-word list: the languages are the user's, and frequent words weigh little anyway.
    return bm25s.tokenize(texts, stopwords=[], show_progress=False)


def _words(texts: Sequence[str]) -> list[list[str]]:
    import bm25s

    words: list[list[str]] = bm25s.tokenize(list(texts), stopwords=[], show_progress=False, return_ids=False)
    return words
