"""What the adapters have in common: a framework's documents as a graph, its settings as ours, and what an answer says of itself in its terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from types import SimpleNamespace
from typing import Any

from graphkv.chat import chat_prompt
from graphkv.errors import DocumentError, InputError, one_of
from graphkv.graph import SegmentGraph
from graphkv.importers import from_langchain
from graphkv.sampling import Sampling
from graphkv.scheduler import Question, Scheduler
from graphkv.strategy import Answer

Row = tuple[str, str | None, Mapping[str, Any], float | None]
"""A document of any framework: id, text, metadata (its ``title`` is shown to the model), retrieval score."""

CITES = (("cites", "$id"),)
"""The edges that are taken from metadata unless others are named: a document reads those whose ids are in its ``cites``."""


def graph_of(rows: Iterable[Row], edges: Sequence[tuple[str, str]] = CITES) -> SegmentGraph:
    """A graph of documents; edges from pairs of metadata fields as :func:`graphkv.importers.from_langchain` takes them.

    Raises:
        DocumentError: a document without text, or an id that is there twice.

    Example:
        >>> graph_of([("a", "New.", {"cites": ["b"]}, 0.5), ("b", "Old.", {}, None)]).edges
        (('b', 'a'),)
    """
    rows = list(rows)
    for id, text, _, _ in rows:
        if not isinstance(text, str) or not text.strip():
            raise DocumentError(f"document {id!r} has no text: leave it out or give it some")
    graph = from_langchain([SimpleNamespace(id=id, page_content=text, metadata=metadata) for id, text, metadata, _ in rows], edges)
    return graph.with_segments(replace(graph[id], score=score) for id, _, _, score in rows)


def question_of(
    scheduler: Scheduler, messages: Sequence[tuple[str, str]], documents: SegmentGraph | None, settings: Mapping[str, Any], layout: str = "graph"
) -> Question:
    """A chat's last message as a question over the documents, if there are any; `settings` are those of :class:`graphkv.Sampling`.

    Raises:
        InputError: a setting that Sampling does not have, or a value that it refuses; messages that do not end with the user's.
    """
    names = [field.name for field in fields(Sampling)]
    for name in settings:
        if name not in names:
            raise InputError(one_of("setting", name, names))
    stop = settings.get("stop") or ()
    stop = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list) else stop
    sampling = Sampling(**{**settings, "stop": stop})
    return Question(chat_prompt(scheduler.engine, messages, documents=documents is not None), documents, layout=layout, sampling=sampling)


def report_of(answer: Answer) -> dict[str, Any]:
    """What an answer says of itself, with OpenAI's names where there are any.

    Returns:
        `usage`: prompt_tokens, completion_tokens, total_tokens, and cached_tokens, those of the prompt whose KV was there. `finish_reason`. `citations`:
        ``{"start", "end", "text", "segments": [(id, share of the attention), ...]}`` for each stretch of the text that was read off segments.
    """
    prompt, new = answer.tokens_reused + answer.tokens_computed, answer.tokens_generated
    usage = {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new, "cached_tokens": answer.tokens_reused}
    return {"usage": usage, "finish_reason": answer.finish_reason, "citations": [asdict(citation) for citation in answer.citations]}
