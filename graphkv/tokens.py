"""Documents → segments → token ids, each text once."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from graphkv.errors import DocumentError, InputError
from graphkv.graph import SegmentGraph
from graphkv.model import GraphModel
from graphkv.prompt import PromptTemplate, tokenize, tokenize_pieces
from graphkv.segments import Document, Segment

Documents = SegmentGraph | Sequence[Document | Mapping[str, Any]]
"""A graph, or documents as :meth:`SegmentGraph.from_documents` takes them."""

Text = str | Sequence[int] | Tensor
"""Text, or token ids that are taken as they are."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """A graph and a prompt as token ids."""

    graph: SegmentGraph
    prefix: tuple[int, ...]
    segments: dict[str, tuple[int, ...]]
    questions: tuple[tuple[int, ...], ...]


class _KnownTexts:
    """Token ids of texts that were read lately, so that a document that comes with every question is tokenised once. Threads may share it."""

    MOST = 500_000
    """Tokens that are remembered: some 20 MB with their texts."""

    def __init__(self, model: GraphModel) -> None:
        self._model, self._lock, self._tokens = model, threading.Lock(), 0
        self._ids: OrderedDict[tuple[int, str | None, str], tuple[int, ...]] = OrderedDict()

    def get(self, title: str | None, text: str) -> tuple[int, ...] | None:
        with self._lock:
            key = self._key(title, text)
            if key in self._ids:
                self._ids.move_to_end(key)
            return self._ids.get(key)

    def put(self, title: str | None, text: str, ids: tuple[int, ...]) -> None:
        with self._lock:
            key = self._key(title, text)
            if key in self._ids or len(ids) > self.MOST // 4:
                return
            self._ids[key] = ids
            self._tokens += len(ids)
            while self._tokens > self.MOST:
                self._tokens -= len(self._ids.popitem(last=False)[1])

    def _key(self, title: str | None, text: str) -> tuple[int, str | None, str]:
        return len(self._model.tokenizer or ()), title, text  # a tokenizer that has been given more tokens reads a text otherwise


class TokenReader:
    """Tokenises graphs and questions for one model, and remembers the ids of each graph as long as the graph lives.

    Args:
        model: whose tokenizer and vocabulary are used. template: the text around documents and question.
        max_segment_tokens: longer documents become chains of segments; a graph's own setting comes first.
    """

    def __init__(self, model: GraphModel, template: PromptTemplate, max_segment_tokens: int | None = None) -> None:
        self.model, self.template, self.max_segment_tokens = model, template, max_segment_tokens
        self._known: weakref.WeakKeyDictionary[SegmentGraph, dict[str, tuple[int, ...]]] = weakref.WeakKeyDictionary()
        self._texts = _KnownTexts(model)
        self._parted: weakref.WeakKeyDictionary[SegmentGraph, SegmentGraph] = weakref.WeakKeyDictionary()

    def read(self, documents: Documents, questions: Sequence[Text], prefix: Text | None, *, raw: bool = False, answer_prefix: str = "") -> Tokens:
        """Token ids of everything. `prefix` None takes the template's; `raw` takes bare texts: no template, no titles, no cutting.

        Words of an `answer_prefix` stand behind each question, as the first words of an answer would.

        Raises:
            InputError: no question, ids beyond the vocabulary, text that cannot be tokenised; DocumentError and GraphError
                for the documents.
        """
        graph = documents if isinstance(documents, SegmentGraph) else SegmentGraph.from_documents(documents)
        if isinstance(questions, str) or not isinstance(questions, Sequence) or not questions:
            raise InputError(f"expected a list of at least one question, got {questions!r}; for one question use ask()")
        graph = graph if raw else self.split(graph)
        known = {} if raw else self._known.setdefault(graph, {})
        for segment in graph.segments:
            if segment.id not in known:
                known[segment.id] = self._segment_ids(segment, raw)
        begun = self.answer(answer_prefix) if answer_prefix else ()
        asked = [self.ids(q) if raw else (*self.question(q), *begun) for q in questions]
        return Tokens(graph, self.ids(self.template.prefix if prefix is None else prefix), dict(known), tuple(asked))

    def split(self, graph: SegmentGraph) -> SegmentGraph:
        """The graph with long documents as chains of segments; the graph itself where no limit is set."""
        limit = graph.max_segment_tokens or self.max_segment_tokens
        if limit is None:
            return graph
        if graph not in self._parted:
            self._parted[graph] = graph.split(lambda title, text: len(tokenize_pieces(self.model.tokenizer, self.template.pieces(title, text))), limit)
        return self._parted[graph]

    def count(self, segment: Segment) -> int:
        """Tokens of a segment as it is read: title, text and template."""
        return len(self._segment_ids(segment, raw=False))

    def _segment_ids(self, segment: Segment, raw: bool) -> tuple[int, ...]:
        if segment.tokens is not None:
            return self._check_ids(segment.tokens, f"segment {segment.id!r}")
        text = segment.text or ""
        title = None if raw else segment.title or ""
        if (known := self._texts.get(title, text)) is not None:
            return known
        ids = tokenize(self.model.tokenizer, text) if raw else tokenize_pieces(self.model.tokenizer, self.template.pieces(segment.title, text))
        self._check_ids(ids, f"segment {segment.id!r}")
        if not ids:
            raise DocumentError(f"segment {segment.id!r} has no tokens: the tokenizer made nothing of its text")
        self._texts.put(title, text, ids)
        return ids

    def question(self, question: Text) -> tuple[int, ...]:
        """A question in its template, everything behind the documents; token ids as they are. Raises InputError for an empty one."""
        if not isinstance(question, str):
            return self.ids(question)
        if not question.strip():
            raise InputError("the question is empty: expected some text")
        return self._check_ids(tokenize_pieces(self.model.tokenizer, self.template.question_pieces(question)), "the question")

    def answer(self, text: str) -> tuple[int, ...]:
        """An answer as the model is to write it behind the prompt: after a space, unless the prompt ends with white space, a special token or the question.

        Raises:
            InputError: the tokenizer makes nothing of it.

        Example:
            >>> engine.reader.answer("Ada Fumrel") == engine.reader.ids(" Ada Fumrel")  # doctest: +SKIP
            True
        """
        after = self.template.question.partition("{question}")[2]
        specials = tuple(getattr(self.model.tokenizer, "all_special_tokens", ()))
        apart = not after or after[-1].isspace() or after.endswith(specials) or text[:1].isspace()
        ids = self.ids(tokenize_pieces(self.model.tokenizer, [("" if apart else " ", False), (text, True)]))
        if not text.strip() or not ids:
            raise InputError(f"the answer {text!r} has no tokens: the tokenizer made nothing of it")
        return ids

    def ids(self, text: Text) -> tuple[int, ...]:
        """Text as token ids; token ids as they are. Raises InputError for ids that are none, or beyond the vocabulary."""
        if isinstance(text, str):
            return self._check_ids(tokenize(self.model.tokenizer, text), f"the text {text[:40]!r}")
        ids: Any = text.tolist() if isinstance(text, Tensor) else list(text) if isinstance(text, Sequence) else None
        if ids is None or any(isinstance(t, bool) or not isinstance(t, int) for t in ids):
            raise InputError(f"expected text, or token ids as whole numbers in one dimension, got {text!r}")
        return self._check_ids(tuple(ids), "the token ids")

    def _check_ids(self, ids: tuple[int, ...], what: str) -> tuple[int, ...]:
        size = self.model.model.get_input_embeddings().num_embeddings
        if ids and not 0 <= min(ids) <= max(ids) < size:
            raise InputError(f"{what}: expected ids from 0 to {size - 1} (the model's vocabulary), got {min(ids)} to {max(ids)}")
        return ids
