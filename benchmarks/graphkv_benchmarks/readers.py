"""Readers of real multi-hop data sets: each row becomes a question, its gold answers and a graph of its passages.

To add a data set: a `read_...` function that returns rows, and a line in `_READERS`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from graphkv.errors import DocumentError, InputError, one_of
from graphkv.graph import SegmentGraph

Edges = Literal["none", "decomposition"]


@dataclass(frozen=True)
class Row:
    """One question over a few passages.

    Attributes:
        id: the row's own id. question: as asked. answers: gold answers, any of which counts.
        graph: the passages, in the row's order.
        hops: how many steps the data set says the question takes, None if it does not say.
        metadata: the rest of the row, as it is.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    graph: SegmentGraph
    hops: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_morehopqa(path: str | Path, *, edges: Edges = "none") -> list[Row]:
    """Rows of MoreHopQA (Schnitzler et al., arXiv 2406.13397), as released: a JSON list of objects.

    Each entry of ``context`` is ``[title, [sentence, ...]]`` and becomes one document with its title as id.

    Args:
        path: the JSON file.
        edges: ``"none"``, the default and the honest setting for a score: the row names no edges, so use a layout that
            makes its own (`graph_full`, `graph_topk`, `graph_hops`). ``"decomposition"``: along the gold decomposition of
            the question each hop's passage reads the passage of the hop before (as in Graph-KV's 1 → 2-4 → rest), so
            that a later passage is encoded with what leads to it. **This is gold information**: it says which passages
            are needed and in which order. Use it to study edges, never as a result beside methods without it.

    Raises:
        DocumentError: the file is missing or is not such a list; a row lacks something. File and row are named.
        InputError: an unknown kind of edges.

    Example:
        >>> rows = read_morehopqa("morehopqa.json")  # doctest: +SKIP
        >>> rows[0].question, rows[0].answers, rows[0].graph.ids  # doctest: +SKIP
    """
    if edges not in ("none", "decomposition"):
        raise InputError(one_of("kind of edges", edges, ("none", "decomposition")))
    path = Path(path)
    rows = _json(path)
    if not isinstance(rows, list) or not rows:
        raise DocumentError(f"{path}: expected a JSON list of MoreHopQA rows, got {type(rows).__name__ if not isinstance(rows, list) else 'an empty list'}")
    return [_morehopqa_row(row, f"{path}, row {i}", edges) for i, row in enumerate(rows)]


def _morehopqa_row(row: Any, where: str, edges: Edges) -> Row:
    if not isinstance(row, dict):
        raise DocumentError(f"{where}: expected an object, got {type(row).__name__}")
    missing = [key for key in ("_id", "question", "answer", "context") if row.get(key) in (None, "", [])]
    if missing:
        expected = "expected a MoreHopQA row with _id, question, answer and context (a file of documents is JSON Lines: one object a line, no list)"
        raise DocumentError(f"{where}: missing {', '.join(missing)}; {expected}")
    if not isinstance(row["question"], str) or not isinstance(row["context"], list):
        raise DocumentError(f"{where}: expected question to be a string and context to be a list of [title, sentences]")
    documents = [{"id": title, "title": title, "text": text} for title, text in titled_passages(row["context"], where)]
    try:
        graph = SegmentGraph.from_documents(documents)
    except DocumentError as error:
        raise DocumentError(f"{where}: {error}") from None
    if edges == "decomposition":
        graph = graph.with_edges(_decomposition_edges(row, graph, where))
    used = {"_id", "question", "answer", "context", "no_of_hops"}
    return Row(
        id=str(row["_id"]),
        question=row["question"],
        answers=(str(row["answer"]),),
        graph=graph,
        hops=row.get("no_of_hops"),
        metadata={key: value for key, value in row.items() if key not in used},
    )


def titled_passages(context: Sequence[Any], where: str) -> list[tuple[str, str]]:
    """(title, text) of each ``[title, [sentence, ...]]`` in a row's ``context``, as HotpotQA, 2WikiMultihopQA and MoreHopQA have them.

    Most sentences of MoreHopQA come without the space that parts them, HotpotQA's begin with it: one stands between two sentences either way.

    Raises:
        DocumentError: an entry of another shape.

    Example:
        >>> titled_passages([["Rhine", ["The Rhine is a river.", " It is long.", "It is wide."]]], "row 0")
        [('Rhine', 'The Rhine is a river. It is long. It is wide.')]
    """
    for number, passage in enumerate(context):
        if not _is_passage(passage):
            raise DocumentError(f"{where}, passage {number}: expected [title, [sentence, ...]], got {str(passage)[:60]}")
    return [(title, _joined(sentences)) for title, sentences in context]


def _joined(sentences: Sequence[str]) -> str:
    """One text of sentences, with a space where neither side has white space."""
    text = ""
    for sentence in sentences:
        parted = not text or not sentence or text[-1].isspace() or sentence[0].isspace()
        text += sentence if parted else f" {sentence}"
    return text


def _is_passage(passage: Any) -> bool:
    return (
        isinstance(passage, Sequence)
        and len(passage) == 2
        and isinstance(passage[0], str)
        and isinstance(passage[1], list)
        and all(isinstance(sentence, str) for sentence in passage[1])
    )


def _decomposition_edges(row: Mapping[str, Any], graph: SegmentGraph, where: str) -> list[tuple[str, str]]:
    """(earlier hop's passage, later hop's passage); steps that need no passage (arithmetic, spelling) are passed over."""
    steps = row.get("question_decomposition")
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise DocumentError(f"{where}: edges='decomposition' needs question_decomposition, a list of steps")
    titles = [title for step in steps if (title := step.get("paragraph_support_title"))]
    for title in titles:
        if title not in graph:
            raise DocumentError(f"{where}: the decomposition names {title!r}, which is not among the passages {', '.join(graph.ids)}")
    return [(a, b) for a, b in itertools.pairwise(titles) if a != b]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DocumentError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path} cannot be read as UTF-8 text: {error}") from None
    except json.JSONDecodeError as error:
        raise DocumentError(f"{path}: not valid JSON ({error.msg} at line {error.lineno}, column {error.colno})") from None


_READERS: dict[str, Callable[..., list[Row]]] = {"morehopqa": read_morehopqa}


def recognise(path: str | Path) -> Callable[..., list[Row]] | None:
    """The reader for a data set file, or None if it is something else (JSON Lines of documents, for example).

    Only the start of the file is looked at: a JSON list is taken for MoreHopQA, the one data set there is so far; the
    reader itself then says what does not fit.

    Example:
        >>> recognise("documents.jsonl") is None
        True
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            start = file.read(512).lstrip("\ufeff \t\r\n")
    except (OSError, UnicodeDecodeError):
        return None
    return _READERS["morehopqa"] if start.startswith("[") else None
