"""Auxiliary attention targets: which rows a few heads are told to look at while the circuits form.

Layers count from 0. Heads 0 and 1 share a key-value head, 2 and 3 another.

layer 0, heads 2-3   relation          a citation → the word that says what it is cited for
layer 1, heads 0-1   own title         a value, a citation, a title → the title of its paper; an answer row → the title in the question
layer 1, heads 2-3   edge              a bare citation → the title of the cited paper, across the edge; a title in a reference list
                                       → its number there; a number in the text → the word that says what it is cited for
layer 2, heads 2-3   reference         a title in a reference list → its number in the text
layers 2-4, heads 0-1   one step each  an answer row → the first citation, the second, the value (chains through reference lists
                                       begin a layer later); the prefix where there is no such citation or value: then the answer
                                       is "not in the documents"

Comparisons: the last word of each title in the question finds its paper's value (layers 2-3), the answer row looks at both of
these words (layer 4), then copies the winner (layer 5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from ..citation_world import RELATIONS, Mark, Paper, Question, World
from .episodes import Coded, Reading
from .net import Probe

RELATION_HEADS, TITLE_HEADS, EDGE_HEADS, REFERENCE_HEADS = (0, (2, 3)), (1, (0, 1)), (1, (2, 3)), (2, (2, 3))
PREFIX = 0
"""The row of the prefix's only token."""
FIRST_STEP, STEPS = 2, 3
CITING_WORDS = re.compile(r"\b(?:builds?|extends|based|starting|continues|compares|compared|baseline|results)\b", re.IGNORECASE)


def _tokens_of(offsets: Sequence[tuple[int, int]], start: int, end: int) -> list[int]:
    """Indices of the tokens that overlap characters [start, end)."""
    return [i for i, (a, b) in enumerate(offsets) if a < end and b > start]


class _Probes:
    """Collects attention targets: (layer, head) at a row should look at one of two rows."""

    def __init__(self) -> None:
        self.rows: dict[int, list[tuple[int, int, int, int]]] = {}

    def add(self, heads: tuple[int, tuple[int, ...]], query: int, first: Sequence[int], second: Sequence[int] | None = None) -> None:
        """Head ``i`` of ``heads`` looks at ``first[i]`` (or ``second[i]``)."""
        layer, numbers = heads
        for index, head in enumerate(numbers):
            self.rows.setdefault(layer, []).append((head, query, first[index], (second or first)[index]))

    def tensors(self) -> dict[int, Probe]:
        return {layer: Probe(*torch.tensor(rows, dtype=torch.long).T) for layer, rows in self.rows.items()}


def _mark(paper: Paper, kind: str) -> Mark:
    return next(mark for mark in paper.marks if mark.kind == kind)


def attention_targets(
    world: World,
    questions: Sequence[Question],
    coded: Coded,
    reading: Reading,
    answer_at: Sequence[int],
    answer_question: Sequence[int],
) -> dict[int, Probe]:
    """Targets by layer for one episode. Questions about a paper that is not there get none."""
    probes = _Probes()
    if all(p.title for p in world.papers):
        _document_targets(probes, world, coded, reading)
    rows: dict[int, list[int]] = {}
    for row, index in zip(answer_at, answer_question, strict=True):
        rows.setdefault(index, []).append(row)
    for index, question in enumerate(questions):
        if question.type in ("attribute", "title", "unanswerable") and question.subject is not None and question.kind != "needle":
            _question_targets(probes, world, question, coded, index, rows[index])
        if question.type == "comparison":
            _comparison_targets(probes, world, question, coded, index, rows[index])
        if question.type == "needle":
            value = _value_tokens(coded, question.path[-1], world.paper(question.path[-1]).segment.rindex(question.answer), len(question.answer))
            for step, row in enumerate(rows[index][: len(value)]):
                copies = coded.copies(question.path[-1])
                probes.add((FIRST_STEP + 1, (0, 1)), row, [copies[0] + value[step]] * 2, [copies[-1] + value[step]] * 2)
    return probes.tensors()


def _value_tokens(coded: Coded, paper: str, start: int, length: int) -> list[int]:
    return _tokens_of(coded.documents[paper].offsets, start, start + length)


def _title(coded: Coded, paper: Paper) -> list[int]:
    """Token indices of the two words of the title inside the paper's segment."""
    return _value_tokens(coded, paper.id, len("Title: "), len(paper.title))[:2]


def _ends(coded: Coded, paper: Paper, kind: str) -> list[int]:
    """Token indices of the last two words of a citation: the title, "cited paper", "2]"."""
    mark = _mark(paper, kind)
    words = _value_tokens(coded, paper.id, mark.start, mark.end - mark.start)
    return [words[-2], words[-1]]


def _document_targets(probes: _Probes, world: World, coded: Coded, reading: Reading) -> None:
    """Values and citations look at their paper's title, a bare citation at the cited title, a listed title at its number in the text."""
    for paper in world.papers:
        title = _title(coded, paper)
        for start in coded.copies(paper.id):
            probes.add(TITLE_HEADS, start + title[0], [start + title[0]] * 2)
            probes.add(TITLE_HEADS, start + title[1], [start + t for t in title])
            for mark in paper.marks:
                for token in _value_tokens(coded, paper.id, mark.start, mark.end - mark.start):
                    probes.add(TITLE_HEADS, start + token, [start + t for t in title])
            for relation in (*paper.cites, *paper.absent):
                _citation_targets(probes, paper, relation, coded, start)
        if not reading.resolves_bare or paper.style != "bare":
            continue
        for relation, cited in paper.cites.items():
            there = _title(coded, world.paper(cited))
            last = max((r for p, r in coded.starts if p == paper.id), default=0)
            for round in range(1, last + 1):
                # The latest block of the cited paper that this round reads.
                seen = [r for p, r in coded.starts if p == cited and r < round]
                if seen and (paper.id, round) in coded.starts:
                    source = coded.starts[cited, max(seen)]
                    for place, token in enumerate(_ends(coded, paper, relation)):
                        probes.add(EDGE_HEADS, coded.starts[paper.id, round] + token, [source + there[place]] * 2)


def _citation_targets(probes: _Probes, paper: Paper, relation: str, coded: Coded, start: int) -> None:
    """A citation in the copy at row ``start`` looks at the word that says what it is cited for, a listed title at both its numbers."""
    mark = _mark(paper, relation)
    word = list(CITING_WORDS.finditer(paper.segment[: mark.start]))[-1]
    said = start + _value_tokens(coded, paper.id, word.start(), word.end() - word.start())[0]
    for token in _ends(coded, paper, relation):
        probes.add(RELATION_HEADS, start + token, [said] * 2)
    if paper.style != "numbered":
        return
    number = start + _value_tokens(coded, paper.id, mark.start, mark.end - mark.start)[1]
    probes.add(EDGE_HEADS, number, [said] * 2)
    # In the list stands "[2] Night Maple.": the digit is the third character before the title.
    listed = start + _value_tokens(coded, paper.id, _mark(paper, f"{relation}.entry").start - 3, 1)[0]
    for token in _ends(coded, paper, f"{relation}.entry"):
        probes.add(EDGE_HEADS, start + token, [listed] * 2)
        probes.add(REFERENCE_HEADS, start + token, [number] * 2)


def _question_targets(probes: _Probes, world: World, question: Question, coded: Coded, index: int, rows: Sequence[int]) -> None:
    """Each answer row looks at the title in the question, then steps over the citations, then reads the value."""
    subject = world.paper(question.subject or "")
    at = question.question.index(subject.title) + len("Question: ")
    named = [coded.question_starts[index] + t for t in _tokens_of(coded.asked[index].offsets, at, at + len(subject.title))[:2]]
    for row in rows:
        probes.add(TITLE_HEADS, row, named)
    stops: list[tuple[Paper, str]] = []
    paper, known = subject, True
    for relation in question.via:
        known = relation in paper.cites
        if known or relation in paper.absent:
            stops.append((paper, relation))
        if not known:
            break
        paper = world.paper(paper.cites[relation])
    if question.type == "unanswerable":
        if known and question.kind in paper.absent:
            stops.append((paper, question.kind))
        # Numbered citations are known a layer later, also the one that is not there.
        listed = any(p.style == "numbered" for p, _ in stops) or ((not known or question.kind in RELATIONS) and paper.style == "numbered")
        _step_targets(probes, coded, stops, FIRST_STEP + listed, rows[:1])
        for place in range(len(stops), STEPS):
            probes.add((FIRST_STEP + listed + place, (0, 1)), rows[0], [PREFIX] * 2)
        return
    gold = world.paper(question.gold or "")
    if question.type == "attribute":
        mark = _mark(gold, question.kind)
        value = _value_tokens(coded, gold.id, mark.start, mark.end - mark.start)
    elif question.style == "bare":
        # The answer is the title at the other end of the edge.
        stops.append((paper, question.kind))
        value = _title(coded, gold)
    else:
        mark = _mark(gold, f"{question.kind}.entry" if gold.style == "numbered" else question.kind)
        value = _value_tokens(coded, gold.id, mark.start, mark.end - mark.start)
    listed = any(p.style == "numbered" for p, _ in stops) or (question.type == "title" and gold.style == "numbered")
    _step_targets(probes, coded, stops, FIRST_STEP + listed, rows)
    there = coded.copies(gold.id)
    for place in range(len(stops), STEPS):
        # The row after the last value token predicts the end of the answer: nothing to look at.
        for row, token in zip(rows, value, strict=False):
            probes.add((FIRST_STEP + listed + place, (0, 1)), row, [there[0] + token] * 2, [there[-1] + token] * 2)


def _step_targets(probes: _Probes, coded: Coded, stops: Sequence[tuple[Paper, str]], layer: int, rows: Sequence[int]) -> None:
    """Answer rows look at one citation after the other, each a layer later."""
    for place, (citing, relation) in enumerate(stops):
        mention = _ends(coded, citing, f"{relation}.entry" if citing.style == "numbered" else relation)
        copies = coded.copies(citing.id)
        # Only a later copy of a bare citation has read the cited paper.
        last = copies[0] if citing.style == "bare" else copies[-1]
        for row in rows:
            probes.add((layer + place, (0, 1)), row, [copies[0] + t for t in mention], [last + t for t in mention])


def _comparison_targets(probes: _Probes, world: World, question: Question, coded: Coded, index: int, rows: Sequence[int]) -> None:
    """Each title in the question finds its value; the answer looks at both, then copies the title that wins."""
    start, offsets = coded.question_starts[index], coded.asked[index].offsets
    words = {}
    for paper in (world.paper(name) for name in question.path):
        at = question.question.index(paper.title) + len("Question: ")
        words[paper.id] = [start + t for t in _tokens_of(offsets, at, at + len(paper.title))[:2]]
        probes.add(TITLE_HEADS, words[paper.id][-1], words[paper.id])
        mark = _mark(paper, question.kind)
        digits = _value_tokens(coded, paper.id, mark.start, mark.end - mark.start)
        copies = coded.copies(paper.id)
        for layer, (one, other) in ((FIRST_STEP, digits[:2]), (FIRST_STEP + 1, digits[-2:])):
            pair = (one, other)
            probes.add((layer, (0, 1)), words[paper.id][-1], [copies[0] + t for t in pair], [copies[-1] + t for t in pair])
    first, second = sorted(words.values())
    probes.add((FIRST_STEP + 2, (0, 1)), rows[0], [first[-1], second[-1]])
    for step, row in enumerate(rows[:2]):
        probes.add((FIRST_STEP + 3, (0, 1)), row, [words[question.gold or ""][step]] * 2)
