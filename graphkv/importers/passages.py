"""Rows of multi-hop questions (HotpotQA, 2WikiMultihopQA, MoreHopQA): their titled context passages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from graphkv.errors import DocumentError
from graphkv.importers.reading import Reading
from graphkv.importers.record import Item, Record, Section


def matches(row: Mapping[str, Any]) -> bool:
    """Whether a row has a question and a context: ``[[title, [sentence, ...]], ...]`` or ``{"title": [...], "sentences": [[...], ...]}``."""
    context = row.get("context")
    if "question" not in row:
        return False
    if isinstance(context, Mapping):
        return isinstance(context.get("title"), list) and isinstance(context.get("sentences"), list)
    return isinstance(context, list) and all(isinstance(passage, list | Mapping) for passage in context)


def read(row: Mapping[str, Any], where: str, reading: Reading) -> Iterator[Item]:
    """A record for each passage of the row, named by its title. The question is not part of the graph.

    Raises:
        DocumentError: titles and sentences that do not pair.
    """
    context = row["context"]
    if isinstance(context, Mapping):
        titles, sentences = context["title"], context["sentences"]
        if len(titles) != len(sentences):
            raise DocumentError(f"{where}: expected as many lists of sentences as titles, got {len(titles)} titles and {len(sentences)} lists")
        context = list(zip(titles, sentences, strict=True))
    for number, passage in enumerate(context, start=1):
        title, text = _passage(passage)
        if not text:
            reading.skip(where, f"passage {number}: expected [title, [sentence, ...]] with some text")
            continue
        id = title or f"passage {blake2b(text.encode('utf-8', 'replace'), digest_size=4).hexdigest()}"
        yield Record(id, title=title or None, sections=(Section("", text),), where=where, role="document")


def _passage(passage: object) -> tuple[str, str]:
    """Title and text; empty where they are not to be had."""
    if isinstance(passage, Mapping):
        passage = (passage.get("title"), passage.get("sentences", passage.get("text")))
    if not isinstance(passage, list | tuple) or len(passage) != 2:
        return "", ""
    title, sentences = passage
    parts = [sentences] if isinstance(sentences, str) else sentences
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        return "", ""
    return (" ".join(title.split()) if isinstance(title, str) else ""), " ".join(" ".join(parts).split())
