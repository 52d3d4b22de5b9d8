"""Documents and segments: what a user brings, and what the model reads.

A :class:`Document` is a text with an id and, if it cites others, the ids of its sources. A :class:`Segment` is the
unit that is encoded into one KV cache: a document, a part of a long one, or token ids made elsewhere.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

from graphkv.errors import DocumentError


@dataclass(frozen=True)
class Document:
    """A text to be read.

    Args:
        id: unique within a graph.
        text: the body, not empty.
        title: shown to the model in front of the body.
        sources: ids of the documents that this one reads (cites); each becomes an edge source → this document.
        score: retrieval score, higher is better; `graph_topk` and `graph_hops` rank by it.
        edges: for some of the sources, what is known of the edge: ``{"b": {"kind": "cites", "weight": 2.0}}``.
        metadata: anything else, carried along to the segment untouched.

    Raises:
        DocumentError: empty id or text.

    Example:
        >>> Document("a", "Graphs are sets of edges.", title="Graphs", sources=("b",)).sources
        ('b',)
    """

    id: str
    text: str
    title: str | None = None
    sources: tuple[str, ...] = ()
    score: float | None = None
    edges: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise DocumentError(f"a document's id must be a non-empty string, got {self.id!r}; give each document an id")
        if not isinstance(self.text, str):
            raise DocumentError(f"document {self.id!r}: text must be a string, got {type(self.text).__name__}")
        if not self.text.strip():
            raise DocumentError(f"document {self.id!r} is empty: expected some text; leave it out or give it one")
        if isinstance(self.sources, str) or not isinstance(self.sources, Iterable):
            raise DocumentError(f"document {self.id!r}: 'sources' must be a list of document ids, got {self.sources!r}")
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "score", _checked_score("document", self.id, self.title, self.score))

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: str = "document") -> Document:
        """Read one row: ``{"id", "text", "title", "sources" (alias "cites"), "score"}``; other keys become metadata.

        A source is an id, or an object ``{"id", "kind", "weight"}``. Metadata that is called like one of these keys, or ``metadata``, stands
        in an object ``metadata``; such an object that holds anything else is metadata like any other.

        Args:
            row: the mapping; `id` may be a number, it becomes a string.
            where: named in error messages, for example ``"docs.jsonl, line 3"``.

        Raises:
            DocumentError: a missing or malformed field.
        """
        if not isinstance(row, Mapping):
            raise DocumentError(f"{where}: expected an object with the keys id and text, got {type(row).__name__}")
        missing = [key for key in ("id", "text") if row.get(key) is None]
        if missing:
            raise DocumentError(f"{where}: missing {' and '.join(missing)}; expected at least {{'id': ..., 'text': ...}}, got keys {sorted(map(str, row))}")
        if "sources" in row and "cites" in row:
            raise DocumentError(f"{where}: both 'sources' and its alias 'cites' are given; keep one")
        sources = row.get("sources", row.get("cites"))
        sources = [] if sources is None else sources
        if isinstance(sources, str) or not isinstance(sources, Iterable):
            raise DocumentError(f"{where}: 'sources' must be a list of document ids, got {sources!r}")
        edges = {str(source["id"]): _edge(source, where) for source in sources if isinstance(source, Mapping) and _has_id(source, where)}
        names = [str(source["id"]) if isinstance(source, Mapping) else str(source) for source in sources]
        title, score = row.get("title"), row.get("score")
        if isinstance(row["id"], bool) or not isinstance(row["id"], str | int):
            raise DocumentError(f"{where}: 'id' must be a string or a whole number, got {row['id']!r}")
        known = {"id", "text", "title", "sources", "cites", "score"}
        metadata = {k: v for k, v in row.items() if k not in known}
        further = row.get("metadata")
        if isinstance(further, Mapping) and further and known | {"metadata"} >= set(further):
            del metadata["metadata"]
            metadata |= further
        try:
            return cls(
                id=str(row["id"]),
                text=row["text"],
                title=None if title == "" else title,
                sources=tuple(dict.fromkeys(names)),
                score=score,
                edges=edges,
                metadata=metadata,
            )
        except DocumentError as error:
            raise DocumentError(f"{where}: {error}") from None


def _has_id(source: Mapping[str, Any], where: str) -> bool:
    if not isinstance(source.get("id"), str | int):
        raise DocumentError(f"{where}: a source is an id or an object with id, kind and weight, got {source!r}")
    return True


def _edge(source: Mapping[str, Any], where: str) -> dict[str, Any]:
    if unknown := sorted(set(source) - {"id", "kind", "weight"}):
        raise DocumentError(f"{where}: source {source['id']!r} has unknown keys {', '.join(unknown)}; expected id, kind, weight")
    return {key: source[key] for key in ("kind", "weight") if source.get(key) is not None}


def finite(value: object) -> float | None:
    """A finite number, also one of numpy's, as a float of Python's own; None for anything else.

    Example:
        >>> finite(2), finite(float("nan")), finite(True), finite(10**400)
        (2.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _checked_score(kind: str, id: str, title: object, score: object) -> float | None:
    """The score, after title and score have been checked; whole numbers stay whole."""
    if title is not None and not isinstance(title, str):
        raise DocumentError(f"{kind} {id!r}: 'title' must be a string, got {title!r}")
    number = finite(score)
    if score is not None and number is None:
        raise DocumentError(f"{kind} {id!r}: 'score' must be a finite number, got {score!r}")
    return score if isinstance(score, int) else number


@dataclass(frozen=True)
class Segment:
    """One unit of encoding: either text (tokenised by the engine, once) or token ids.

    Example:
        >>> Segment.from_tokens("a", [5, 6, 7]).tokens
        (5, 6, 7)
    """

    id: str
    text: str | None = None
    title: str | None = None
    tokens: tuple[int, ...] | None = None
    score: float | None = None
    document: str | None = None
    """Id of the document that this segment is a part of; None when the segment is the whole document."""
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The document's."""

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise DocumentError(f"a segment's id must be a non-empty string, got {self.id!r}")
        if (self.text is None) == (self.tokens is None):
            raise DocumentError(f"segment {self.id!r}: give either text or tokens")
        if self.tokens is not None:
            if not self.tokens:
                raise DocumentError(f"segment {self.id!r} is empty: expected at least one token id")
            if any(isinstance(t, bool) or not isinstance(t, int) or t < 0 for t in self.tokens):
                raise DocumentError(f"segment {self.id!r}: token ids must be non-negative integers, got {self.tokens[:8]!r}")
        object.__setattr__(self, "score", _checked_score("segment", self.id, self.title, self.score))
        if self.text is not None and not isinstance(self.text, str):
            raise DocumentError(f"segment {self.id!r}: text must be a string, got {type(self.text).__name__}")
        if self.text is not None and not self.text.strip():
            raise DocumentError(f"segment {self.id!r} is empty: expected some text")

    @classmethod
    def from_tokens(cls, id: str, tokens: Iterable[int], *, title: str | None = None, score: float | None = None) -> Segment:
        """A segment of ready token ids (a list, a tuple or a 1-D tensor); nothing is added to them.

        Raises:
            DocumentError: no ids, or ids that are not non-negative integers.
        """
        if isinstance(tokens, str) or not isinstance(tokens, Iterable):
            raise DocumentError(f"segment {id!r}: expected token ids, got {type(tokens).__name__}")
        ids = tokens.tolist() if hasattr(tokens, "tolist") else list(tokens)
        return cls(id=id, tokens=tuple(ids), title=title, score=score)

    @classmethod
    def from_text(cls, id: str, text: str, *, title: str | None = None, score: float | None = None) -> Segment:
        """A segment of text. It is rendered by the prompt's document template, as a document is."""
        return cls(id=id, text=text, title=title, score=score)

    @classmethod
    def from_document(cls, document: Document) -> Segment:
        """The whole document as one segment."""
        return cls(id=document.id, text=document.text, title=document.title, score=document.score, metadata=document.metadata)


def split_segment(segment: Segment, count: Callable[[str | None, str], int], max_tokens: int) -> list[Segment]:
    """Cut a long text segment into parts of at most `max_tokens`, at sentence boundaries.

    A sentence that is longer than the limit by itself is cut between words. Nothing is lost but white space at the
    cuts; each part keeps the title, and is named ``id#1``, ``id#2`` ...

    Args:
        segment: the segment; one made of token ids, or one that fits, comes back unchanged.
        count: tokens of a segment with this title and this text, as it will be rendered.
        max_tokens: the limit, in tokens.

    Returns:
        The parts in order; ``[segment]`` if nothing had to be cut.

    Raises:
        DocumentError: the limit leaves no room for any text (for example a title longer than the limit).
    """
    if segment.text is None or count(segment.title, segment.text) <= max_tokens:
        return [segment]

    def fits(text: str) -> bool:
        return count(segment.title, text.strip()) <= max_tokens

    parts: list[str] = []
    pending = ""
    for sentence in split_sentences(segment.text):
        if fits(pending + sentence):
            pending += sentence
            continue
        if pending.strip():
            parts.append(pending.strip())
        pending = sentence
        while (cut := _longest_fitting(pending, fits)) < len(pending):
            if cut == 0:
                raise DocumentError(f"document {segment.id!r}: nothing fits into max_segment_tokens={max_tokens} beside the title; raise the limit or shorten the title")
            if pending[:cut].strip():
                parts.append(pending[:cut].strip())
            pending = pending[cut:]
    if pending.strip():
        parts.append(pending.strip())
    return [replace(segment, id=f"{segment.id}#{i}", text=text, document=segment.id) for i, text in enumerate(parts, start=1)]


def _longest_fitting(text: str, fits: Callable[[str], bool]) -> int:
    """How many characters of `text` fit, if not all of them then preferably up to the end of a word.

    A window is doubled until it is too much, then halved: text far behind the cut is never tokenised.
    """
    width = 64
    while width < len(text) and fits(text[:width]):
        width *= 2
    if width >= len(text) and fits(text):
        return len(text)
    words = [m.end() for m in re.finditer(r"\S+(?=\s)", text[:width])]
    for candidates in (words, range(1, min(width, len(text)))):  # single characters only for one monstrous word
        low, high = 0, len(candidates)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if fits(text[: candidates[middle]]) else (low, middle)
        if low:
            return candidates[low - 1]
    return 0


def split_sentences(text: str) -> list[str]:
    """Sentences of `text`; put together they are `text` again. The boundaries are syntok's (numbers like 3.14 stay whole).

    Example:
        >>> split_sentences("It costs 3.14 dollars. Buy it!")
        ['It costs 3.14 dollars. ', 'Buy it!']
    """
    from syntok import segmenter

    starts = [sentence[0].offset for paragraph in segmenter.analyze(text) for sentence in paragraph if sentence]
    cuts = [0, *starts[1:], len(text)]  # white space in front belongs to the first sentence
    return [text[a:b] for a, b in itertools.pairwise(cuts) if b > a]
