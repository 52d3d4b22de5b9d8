"""Rows of the RAG sets: each format's row becomes a question, its gold answers, and documents in ascending order of score."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphkv.errors import DocumentError
from graphkv.graph import SegmentGraph
from graphkv.segments import Segment, finite

from ..readers import titled_passages

_EXCERPT = ("[Excerpt from document]\nt", "T")
"""The clean-up of the official code: "[Excerpt from document]\ntitle: ..." begins with "Title: ..."."""
_TITLE_LINE = re.compile(r"\A(?:- )?[Tt]itle: *([^\n]*\S) *\n+")


@dataclass(frozen=True)
class Wording:
    """How a row is read.

    Attributes:
        titles: split a title off texts that begin with one, as the model's own prompt wants it; else the text stays as released.
        as_published: gold answers as the official code takes them. passage_words: of a passage of LongBench-v2.
        by_domain: only one domain of LongBench-v2 is asked, so a row must say its own.
    """

    titles: bool = False
    as_published: bool = False
    passage_words: int = 512
    by_domain: bool = True


@dataclass(frozen=True)
class RagRow:
    """A row, read.

    Attributes:
        question, answers: as :class:`~graphkv_benchmarks.runner.case.Question` has them; as published, there can be no answer, or an empty one.
        graph: the documents, the best last.
        type: the row of its table, empty if there are no types. choices: texts of a multiple choice.
    """

    question: str
    answers: tuple[str, ...]
    graph: SegmentGraph
    type: str = ""
    choices: tuple[str, ...] = ()


def field(row: Mapping[str, Any], name: str, kind: type, *others: str, may_be_empty: bool = False) -> Any:
    """A field that must be there, or one of its other names.

    Raises:
        DocumentError: it is missing, of another type, or empty where it may not be.
    """
    found = next((row[key] for key in (name, *others) if row.get(key) is not None), None)
    if found is None:
        raise DocumentError(f"missing {name}; the row has {', '.join(sorted(map(str, row))) or 'no fields'}")
    if not isinstance(found, kind):
        raise DocumentError(f"expected {name} to be a {_SAID[kind]}, got {type(found).__name__}")
    if not may_be_empty and (found == [] or (isinstance(found, str) and not found.strip())):
        raise DocumentError(f"{name} is empty")
    return found


_SAID: Mapping[type, str] = {str: "string", list: "list"}


def answers_of(found: Any, *, first_only: bool = False, keep_blank: bool = False) -> tuple[str, ...]:
    """Gold answers: a text, a list of them, or a list of such lists.

    Args:
        first_only: of a list of lists only the first, as the official code does with NQ. keep_blank: as the official code, which scores a row
            without any answer 0 and finds an empty answer in every prediction; otherwise empty answers are left out, and one must be left.

    Raises:
        DocumentError: there is none, or something else than text in it.

    Example:
        >>> answers_of([["Rhine", "the Rhine"], ["Elbe"]]), answers_of([["Rhine"], ["Elbe"]], first_only=True), answers_of("5")
        (('Rhine', 'the Rhine', 'Elbe'), ('Rhine',), ('5',))
    """
    if first_only and isinstance(found, list) and found and isinstance(found[0], list):
        found = found[0]
    flat = tuple(dict.fromkeys(_flat(found)))
    kept = flat if keep_blank else tuple(answer for answer in flat if answer.strip())
    if not kept and not keep_blank:
        raise DocumentError("the answer is empty: expected at least one gold answer")
    return kept


def _flat(found: Any) -> Iterable[str]:
    if isinstance(found, list):
        for inner in found:
            yield from _flat(inner)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield str(found)
    elif isinstance(found, str):
        yield found
    else:
        raise DocumentError(f"expected answers to be texts or lists of texts, got {type(found).__name__}")


def graph_of(documents: Iterable[tuple[str | None, str, float | None]]) -> SegmentGraph:
    """Segments ``d0, d1, ...`` of (title, text, score), numbered as the row has them and put in ascending order of score.

    Of equal scores the row's later one stands later and ranks higher, see :func:`told_apart`; documents with the same title or text stay apart.
    Without scores the order is the row's.

    Raises:
        DocumentError: there are none, or one is empty.
    """
    segments = []
    for number, (title, text, score) in enumerate(documents):
        try:
            segments.append(Segment.from_text(f"d{number}", text, title=title or None, score=score))
        except DocumentError as error:
            raise DocumentError(f"document {number}: {error}") from None
    if not segments:
        raise DocumentError("the row has no documents")
    if segments[0].score is None:
        return SegmentGraph.from_segments(segments)
    return told_apart(SegmentGraph.from_segments(sorted(segments, key=_score)))


def told_apart(graph: SegmentGraph) -> SegmentGraph:
    """The same segments in the same order, with equal scores told apart: the one shown later, nearer to the question, ranks higher. No edges.

    The official code takes the last m passages of those shown, where our layouts rank by score and of equals take the first. A score that is moved
    is the next greater number; the row's own stands in the metadata as ``score``.

    Example:
        >>> graph = SegmentGraph.from_segments([Segment.from_text("a", "x", score=1), Segment.from_text("b", "y", score=1)])
        >>> [(segment.id, segment.score) for segment in told_apart(graph)]
        [('a', 1), ('b', 1.0000000000000002)]
    """
    moved: dict[str, Segment] = {}
    least = -math.inf
    for segment in sorted(graph, key=_score):
        score = _score(segment)
        if score <= least:
            score = math.nextafter(least, math.inf)
            moved[segment.id] = replace(segment, score=score, metadata={**segment.metadata, "score": segment.score})
        least = score
    return SegmentGraph.from_segments(moved.get(segment.id, segment) for segment in graph) if moved else graph


def _score(segment: Segment) -> float:
    return segment.score or 0.0


def _split_title(text: str) -> tuple[str | None, str]:
    """A title line at the head of a text, and the rest; (None, text) where there is none, or nothing behind it.

    Example:
        >>> _split_title("Title: Rhine\\nA river."), _split_title("A river.")
        (('Rhine', 'A river.'), (None, 'A river.'))
    """
    match = _TITLE_LINE.match(text)
    return (match[1], text[match.end() :]) if match and text[match.end() :].strip() else (None, text)


def _scored(document: Any, number: int) -> float:
    if not isinstance(document, dict):
        raise DocumentError(f"document {number}: expected an object with text and score, got {type(document).__name__}")
    score = finite(document.get("score"))
    if score is None:
        raise DocumentError(f"document {number}: expected score to be a finite number, got {document.get('score')!r}")
    return score


def _text(document: Mapping[str, Any], name: str, number: int) -> str:
    if not isinstance(document.get(name), str):
        raise DocumentError(f"document {number}: expected {name} to be a string, got {document.get(name)!r}")
    return str(document[name])


def block_row(row: Mapping[str, Any], wording: Wording) -> RagRow:
    """A row of 2Wiki, TQA or HotpotQA as Block-Attention prepares them."""
    found = field(row, "answers", object, may_be_empty=wording.as_published)
    return _block(row, answers_of(found, keep_blank=wording.as_published))


def nq_row(row: Mapping[str, Any], wording: Wording) -> RagRow:
    """A row of NQ: the same, with lists of answers, of which the official code takes the first."""
    found = field(row, "answers", object)
    return _block(row, answers_of(found, first_only=wording.as_published, keep_blank=wording.as_published))


def _block(row: Mapping[str, Any], answers: tuple[str, ...]) -> RagRow:
    documents = [
        (_text(document, "title", i), _text(document, "text", i), score)
        for i, document in enumerate(field(row, "documents", list))
        for score in [_scored(document, i)]
    ]
    return RagRow(field(row, "question", str), answers, graph_of(documents), _type(row, "type"))


def multihop_row(row: Mapping[str, Any], wording: Wording) -> RagRow:
    """A row of MultiHop-RAG with what GIST-large-Embedding retrieved. One without an answer is a broken one; its own code leaves it out."""
    documents = []
    for i, document in enumerate(field(row, "retrieval_list", list, "documents")):
        score, text = _scored(document, i), _text(document, "text", i).replace(*_EXCERPT)
        documents.append((*(_split_title(text) if wording.titles else (None, text)), score))
    answers = answers_of(field(row, "answer", object, "answers"))
    return RagRow(field(row, "query", str, "question"), answers, graph_of(documents), _type(row, "question_type"))


def morehop_row(row: Mapping[str, Any], wording: Wording) -> RagRow:
    """A row of MoreHopQA: as Graph-KV released it (texts, the best last), or as its authors did (titled passages, scored here by BM25)."""
    hops = row.get("no_of_hops")
    kind = f"{hops} hop{'s' if hops != 1 else ''}" if isinstance(hops, int) and not isinstance(hops, bool) else ""
    question, found = field(row, "question", str), field(row, "answers", object, "answer", may_be_empty=wording.as_published)
    answers = answers_of(found, keep_blank=wording.as_published)
    if row.get("documents") is None and row.get("context") is not None:
        passages = titled_passages(field(row, "context", list), "context")
        return RagRow(question, answers, _ranked(passages, question), kind)
    documents = []
    for number, text in enumerate(field(row, "documents", list)):
        if not isinstance(text, str):
            raise DocumentError(f"document {number}: expected a string, got {type(text).__name__}")
        documents.append((*(_split_title(text) if wording.titles else (None, text)), float(number)))
    return RagRow(question, answers, graph_of(documents), kind)


def longbench_row(row: Mapping[str, Any], wording: Wording) -> RagRow:
    """A row of LongBench-v2: its context in passages in the order of the text, scored by BM25 against the question."""
    from graphkv_retrieval.bm25 import score_documents

    question = field(row, "question", str).strip()
    choices = tuple(field(row, f"choice_{letter}", str).strip() for letter in "ABCD")
    answer = field(row, "answer", str)
    if answer not in ("A", "B", "C", "D"):
        raise DocumentError(f"expected answer to be A, B, C or D, got {answer!r}")
    if wording.by_domain:
        field(row, "domain", str)
    passages = passages_of(field(row, "context", str).strip(), wording.passage_words)
    graph = SegmentGraph.from_segments(Segment.from_text(f"d{i}", text) for i, text in enumerate(passages))
    listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip("ABCD", choices, strict=True))
    kind = ", ".join(str(row[key]) for key in ("difficulty", "length") if row.get(key))
    return RagRow(f"{question}\nChoices:\n{listed}", (answer,), told_apart(score_documents(graph, question)), kind, choices)


def passages_of(text: str, words: int) -> list[str]:
    """A text cut behind every so many words; the passages joined are the text.

    Example:
        >>> passages_of("one two  three\\nfour five", 2)
        ['one two  ', 'three\\nfour ', 'five']
    """
    ends = [match.end() for match in re.finditer(r"\S+\s*", text)]
    cuts = [0, *ends[words - 1 :: words]]
    if cuts[-1] < len(text):
        cuts.append(len(text))
    return [text[a:b] for a, b in itertools.pairwise(cuts)]


def _ranked(passages: Sequence[tuple[str, str]], question: str) -> SegmentGraph:
    from graphkv_retrieval.bm25 import score_documents

    scored = score_documents(graph_of([(title, text, None) for title, text in passages]), question)
    return told_apart(scored.reordered(segment.id for segment in sorted(scored, key=_score)))


def _type(row: Mapping[str, Any], name: str) -> str:
    return row[name] if isinstance(row.get(name), str) else ""


READERS: Mapping[str, Callable[[Mapping[str, Any], Wording], RagRow]] = {
    "nq": nq_row,
    "2wiki": block_row,
    "tqa": block_row,
    "hotpotqa": block_row,
    "multihop-rag": multihop_row,
    "morehopqa": morehop_row,
    "longbench-v2": longbench_row,
}
"""The reader of each set's rows. Each raises DocumentError for a row that it cannot read."""
