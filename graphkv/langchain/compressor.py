"""InfiniRetriCompressor: of each document the sentences that the model looks at when it is asked the question."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Self

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from graphkv.engine import GraphKV
from graphkv.errors import DocumentError, InputError
from graphkv.graph import SegmentGraph
from graphkv.segments import Segment
from graphkv_retrieval.excerpts import excerpts


class InfiniRetriCompressor(BaseDocumentCompressor):
    """Keeps of documents what a language model's attention finds for a question, sentence by sentence (InfiniRetri, arXiv 2502.12962).

    The documents pass the question window by window, so there may be more of them than the model's window holds. What is kept has
    ``metadata["relevance_score"]``, its share of the attention on all that was kept; a document of which nothing is kept is left out. Order, ids and other
    metadata stay.

    Args:
        model: a path, a hub id, or None for the embedded model; loaded at the first call, with `model_kwargs`. engine: a ready one in place of it; it may be
            that of a chat model, ``chat.running.engine``.
        window, top_tokens, phrase, layers, heads, rows, budget, windows_at_once: as in :meth:`graphkv_retrieval.infini_retri.InfiniRetri.ask_many`. `budget`,
            the most tokens kept of all documents together, is the one to set: without it much is kept of few documents.
        separator: between passages that are not neighbours in their document.

    Example:
        >>> compressor = InfiniRetriCompressor(budget=64)  # doctest: +SKIP
        >>> chain = retriever | (lambda found: compressor.compress_documents(found, question))  # doctest: +SKIP
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    model: str | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    engine: GraphKV | None = Field(default=None, exclude=True, repr=False)
    window: int | None = None
    top_tokens: int | None = None
    phrase: int = 8
    layers: int | list[int] | None = None
    heads: Any = None
    rows: str | None = None
    budget: int | None = None
    windows_at_once: int = 1
    separator: str = " "

    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)
    _own: GraphKV | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.engine is not None and (self.model is not None or self.model_kwargs):
            raise InputError("give an engine, or a model with its model_kwargs, not both")
        return self

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None) -> list[Document]:
        """What the question looks at in `documents`. The asynchronous form does the same in a thread.

        Raises:
            DocumentError: what is no document. InputError: no question, or options that cannot be meant. LengthError: window and budget do not fit the model.
        """
        for number, document in enumerate(documents):
            if not isinstance(document, Document):
                raise DocumentError(f"document {number}: expected a LangChain document, got {type(document).__name__}")
        # Named by place: two documents may share an id, and none needs one.
        segments = [Segment.from_text(str(i), d.page_content, title=_title(d)) for i, d in enumerate(documents) if d.page_content.strip()]
        if not segments:
            return []
        options = ("window", "top_tokens", "phrase", "layers", "heads", "rows", "budget", "windows_at_once")
        found = excerpts(self._engine(), SegmentGraph.from_segments(segments), query, **{name: getattr(self, name) for name in options})
        kept = []
        for excerpt in found:
            whole = documents[int(excerpt.id)]
            metadata = {**whole.metadata, "relevance_score": excerpt.score}
            kept.append(Document(id=whole.id, page_content=self.separator.join(excerpt.passages), metadata=metadata))
        return kept

    def _engine(self) -> GraphKV:
        if self.engine is not None:
            return self.engine
        with self._lock:
            if self._own is None:
                self._own = GraphKV.from_pretrained(self.model, store="memory", **self.model_kwargs)
            return self._own


def _title(document: Document) -> str | None:
    title = document.metadata.get("title")
    return title if isinstance(title, str) and title.strip() else None
