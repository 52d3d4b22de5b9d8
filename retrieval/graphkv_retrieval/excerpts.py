"""What a question looks at in documents, as text: InfiniRetri's scan without its answer, for those who read the kept sentences with something else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphkv.prompt import PromptTemplate
from graphkv.segments import Segment
from graphkv.strategies import Host
from graphkv.tokens import Documents

from .heads import question_start
from .infini_retri import room
from .options import choose
from .scan import Asked, pack, scan
from .sentences import Ints, Letters, find_sentences


@dataclass(frozen=True)
class Excerpt:
    """The kept sentences of one document.

    Attributes:
        id: the document's. passages: its kept sentences in order; those that follow each other in the document are one passage.
        score: share of the question's attention on everything that was kept, 0 to 1.
    """

    id: str
    passages: tuple[str, ...]
    score: float


def excerpts(
    engine: Host,
    documents: Documents,
    question: str,
    *,
    window: int | None = None,
    top_tokens: int | None = None,
    phrase: int = 8,
    layers: int | Sequence[int] | None = None,
    heads: str | Sequence[int] | Sequence[Sequence[int]] | None = None,
    rows: str | None = None,
    budget: int | None = None,
    windows_at_once: int = 1,
) -> list[Excerpt]:
    """The sentences of documents that a question attends to, window by window; options as in :meth:`graphkv_retrieval.infini_retri.InfiniRetri.ask_many`.

    Returns:
        One for each document of which something was kept, in the documents' order. Titles are read, and are not part of a passage.

    Raises:
        InputError: options that cannot be meant, no question, documents that are none. LengthError: question, window and budget do not fit into the model's window.

    Example:
        >>> [excerpt.passages for excerpt in excerpts(engine, papers, "Who wrote Night Maple?", budget=40)]  # doctest: +SKIP
        [('Night Maple was written by Ada Fumrel.',)]
    """
    model = engine.model
    options = choose(model, window=window, top_tokens=top_tokens, phrase=phrase, layers=layers, heads=heads, rows=rows, windows_at_once=windows_at_once)
    tokens = engine.reader.read(documents, [question], None)
    most = room(model, tokens, options, budget)
    text = find_sentences(model.tokenizer, tokens.segments, min(options.window, most))
    asked = Asked(tokens.questions[0], question_start(engine, tokens.questions[0]))
    (kept,) = scan(model, text, pack(text.lengths, options.window), tokens.prefix, [asked], options.settings(most, engine.batch_tokens))
    letters, total = Letters(model.tokenizer), float(kept.scores.sum()) or 1.0
    passages: dict[str, list[str]] = {}
    scores: dict[str, float] = {}
    begin = 0
    for number, segment in enumerate(tokens.graph.segments):
        ids = tokens.segments[segment.id]
        mine = text.segment[kept.sentences] == number
        if mine.any():
            chosen = kept.sentences[mine]
            spans = _joined(text.starts[chosen] - begin, text.starts[chosen + 1] - begin)
            document = segment.document or segment.id
            passages.setdefault(document, []).extend(_passages(letters, engine.template, segment, np.asarray(ids, dtype=np.int64), spans))
            scores[document] = scores.get(document, 0.0) + float(kept.scores[mine].sum()) / total
        begin += len(ids)
    return [Excerpt(id, tuple(found), scores[id]) for id, found in passages.items() if found]


def _joined(starts: Ints, ends: Ints) -> list[tuple[int, int]]:
    """Stretches of tokens, those that touch put together.

    Example:
        >>> _joined(np.array([0, 3, 9]), np.array([3, 5, 12]))
        [(0, 5), (9, 12)]
    """
    spans: list[tuple[int, int]] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _passages(letters: Letters, template: PromptTemplate, segment: Segment, ids: Ints, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The words of token spans, as far as they are the document's own and not its title's or the template's."""
    read, ends = letters.read(ids)
    first, last = _own_words(template, segment, read)
    stops = np.append(0, ends)
    found = (read[max(first, int(stops[start])) : min(last, int(stops[end]))].strip() for start, end in spans)
    return [passage for passage in found if passage]


def _own_words(template: PromptTemplate, segment: Segment, read: str) -> tuple[int, int]:
    """Where in what the tokens spell the document's text stands; everything, where the tokenizer spells it otherwise."""
    if segment.text is None:
        return 0, len(read)
    before = 0
    for piece, is_users in template.pieces(segment.title, segment.text):
        if is_users and piece == segment.text:
            break
        before += len(piece)
    place = read.find(segment.text, before)
    return (place, place + len(segment.text)) if place >= 0 else (0, len(read))
