"""An episode: one world and many questions about it, packed into one row with its own positions, mask and targets.

prefix  p0  p1(round 1)  q0  q1        every question reads the prefix and all blocks, and no other question;
all questions stand at the same positions. Which block reads which is the layout:

sequential  prefix and documents are one causal text
block       each document alone, positions one after another
pcw         each document alone but for the prefix, all from position 1
graph       each document alone (round 0), then those that cite again on the round-0 blocks of what they cite (round 1)
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..citation_world import RELATIONS, Mark, Paper, Question, World
from .net import Probe

LAYOUTS = ("graph", "sequential", "block", "pcw")
# Which heads are told where to look, (layer, heads) by purpose; see `_Probes`.
TITLE_HEADS, EDGE_HEADS, FIND_HEADS, READ_HEADS = (1, (0, 1)), (1, (2, 3)), (2, (0, 1)), (3, (0, 1))


@dataclass
class Episode:
    """Tensors of one row of T tokens.

    ``answer_at`` are the rows whose next token is ``answer_ids``; ``answer_question`` says of which question. ``text_at`` and
    ``text_ids`` are the same for the documents' own text. ``split`` tokens come before the first question.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    split: int
    answer_at: Tensor
    answer_ids: Tensor
    answer_question: Tensor
    text_at: Tensor
    text_ids: Tensor
    probes: dict[int, Probe]
    questions: list[Question]


@dataclass
class _Block:
    """``start`` is the first row of the block in the episode, ``position`` its first position."""

    name: tuple[str, int]
    ids: list[int]
    reads: list[tuple[str, int]]
    position: int
    start: int = 0


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


def _blocks(world: World, layout: str, texts: Mapping[str, list[int]], sources: Mapping[str, list[str]]) -> tuple[list[_Block], int]:
    """The blocks of the documents and the position of the questions. The prefix is the block ("", 0)."""
    prefix, position = ("", 0), 1
    if layout in ("sequential", "block"):
        blocks: list[_Block] = []
        for paper in world.papers:
            reads = [prefix] + [b.name for b in blocks] if layout == "sequential" else []
            blocks.append(_Block((paper.id, 0), texts[paper.id], reads, position))
            position += len(texts[paper.id])
        return blocks, position
    if layout == "pcw":
        blocks = [_Block((paper.id, 0), texts[paper.id], [prefix], position) for paper in world.papers]
        return blocks, position + max(len(b.ids) for b in blocks)
    if layout != "graph":
        raise ValueError(f"unknown layout {layout!r}, expected one of {LAYOUTS}")
    read = {source for paper in world.papers for source in sources[paper.id]}
    blocks = [_Block((p.id, 0), texts[p.id], [], position) for p in world.papers if p.id in read or not sources[p.id]]
    position += max(len(b.ids) for b in blocks)
    targets = [_Block((p.id, 1), texts[p.id], [(s, 0) for s in sources[p.id]], position) for p in world.papers if sources[p.id]]
    return blocks + targets, position + max((len(b.ids) for b in targets), default=0)


def build(
    world: World,
    questions: Sequence[Question],
    layout: str,
    tokenizer: PreTrainedTokenizerFast,
    sources: Mapping[str, list[str]] | None = None,
    with_probes: bool = True,
) -> Episode:
    """Pack ``world`` and ``questions`` under ``layout``.

    Args:
        sources: edges to use instead of the true ones (the wrong-edges control).
        with_probes: also collect the auxiliary attention targets.

    Raises:
        ValueError: for an unknown layout.
    """
    sources = sources or {p.id: p.sources for p in world.papers}
    core = tokenizer.backend_tokenizer
    coded = {p.id: core.encode(p.segment, add_special_tokens=False) for p in world.papers}
    blocks, asked_at = _blocks(world, layout, {name: c.ids for name, c in coded.items()}, sources)
    blocks.insert(0, _Block(("", 0), [int(tokenizer.bos_token_id)], [], 0))
    asked = [core.encode(f"Question: {q.question}\nAnswer:", add_special_tokens=False) for q in questions]
    answers = [core.encode(f" {q.answer}", add_special_tokens=False).ids for q in questions]

    every = [b.name for b in blocks]
    for index, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        blocks.append(_Block(("question", index), question.ids + answer, every, asked_at))
    ids: list[int] = []
    for block in blocks:
        block.start = len(ids)
        ids += block.ids
    number = {b.name: i for i, b in enumerate(blocks)}
    allowed = torch.zeros(len(blocks), len(blocks), dtype=torch.bool)
    for i, block in enumerate(blocks):
        allowed[i, [number[name] for name in block.reads]] = True
    lengths = torch.tensor([len(b.ids) for b in blocks])
    owner = torch.repeat_interleave(torch.arange(len(blocks)), lengths)
    inside = torch.arange(len(ids)) - torch.tensor([b.start for b in blocks])[owner]
    mask = allowed[owner][:, owner] | ((owner[:, None] == owner[None, :]) & (inside[:, None] >= inside[None, :]))
    split = blocks[len(every)].start if len(blocks) > len(every) else len(ids)

    answer_at: list[int] = []
    answer_ids: list[int] = []
    answer_question: list[int] = []
    for index, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        first = blocks[len(every) + index].start + len(question.ids) - 1
        answer_at += range(first, first + len(answer) + 1)
        answer_ids += [*answer, int(tokenizer.eos_token_id)]
        answer_question += [index] * (len(answer) + 1)
    text_at = torch.tensor([row for b in blocks[1 : len(every)] for row in range(b.start, b.start + len(b.ids) - 1)])

    probes = _Probes()
    if with_probes:
        starts = {b.name: b.start for b in blocks}
        _document_probes(probes, world, coded, starts, layout)
        _question_probes(probes, world, questions, coded, asked, answers, starts, answer_at, answer_question)
    packed = torch.tensor(ids)
    positions = inside + torch.tensor([b.position for b in blocks])[owner]
    return Episode(
        packed, positions, mask, split, torch.tensor(answer_at), torch.tensor(answer_ids), torch.tensor(answer_question),
        text_at, packed[text_at + 1], probes.tensors(), list(questions),
    )  # fmt: skip


def _copies(starts: Mapping[tuple[str, int], int], paper: str) -> list[int]:
    """First rows of the paper's blocks, the latest round first."""
    return [starts[paper, r] for r in (1, 0) if (paper, r) in starts]


def _title(coded: Mapping[str, object], paper: Paper) -> list[int]:
    """Token indices of the two words of the title inside the paper's segment."""
    return _tokens_of(coded[paper.id].offsets, len("Title: "), len(f"Title: {paper.title}"))[:2]  # type: ignore[attr-defined]


def _mark(paper: Paper, kind: str) -> Mark:
    return next(mark for mark in paper.marks if mark.kind == kind)


def _mention(coded: Mapping[str, object], paper: Paper, relation: str) -> list[int]:
    """Token indices of the last two words of a citation: the title, or "cited paper"."""
    mark = _mark(paper, relation)
    words = _tokens_of(coded[paper.id].offsets, mark.start, mark.end)  # type: ignore[attr-defined]
    return [words[-2], words[-1]]


def _document_probes(
    probes: _Probes, world: World, coded: Mapping[str, object], starts: Mapping[tuple[str, int], int], layout: str
) -> None:
    """Values and citations look at their paper's title; a bare citation looks at the title of the paper at the other end of the edge."""
    by_id = {p.id: p for p in world.papers}
    for paper in world.papers:
        title = _title(coded, paper)
        for start in _copies(starts, paper.id):
            for mark in paper.marks:
                for token in _tokens_of(coded[paper.id].offsets, mark.start, mark.end):  # type: ignore[attr-defined]
                    probes.add(TITLE_HEADS, start + token, [start + t for t in title])
        if layout == "graph" and (paper.id, 1) in starts:
            for relation, (cited, named) in paper.cites.items():
                there = [starts[cited, 0] + t for t in _title(coded, by_id[cited])] if (cited, 0) in starts else []
                if not named and there:
                    for place, token in enumerate(_mention(coded, paper, relation)):
                        probes.add(EDGE_HEADS, starts[paper.id, 1] + token, [there[place]] * 2)


def _question_probes(
    probes: _Probes,
    world: World,
    questions: Sequence[Question],
    coded: Mapping[str, object],
    asked: Sequence[object],
    answers: Sequence[list[int]],
    starts: Mapping[tuple[str, int], int],
    answer_at: Sequence[int],
    answer_question: Sequence[int],
) -> None:
    """Each answer row looks at the title in the question, then finds the fact or the citation, then reads the value."""
    by_id = {p.id: p for p in world.papers}
    rows: dict[int, list[int]] = {}
    for row, index in zip(answer_at, answer_question, strict=True):
        rows.setdefault(index, []).append(row)
    for index, question in enumerate(questions):
        subject, gold = by_id[question.subject], by_id[question.gold]
        begin = starts["question", index]
        at = question.question.index(subject.title) + len("Question: ")
        named = [begin + t for t in _tokens_of(asked[index].offsets, at, at + len(subject.title))[:2]]  # type: ignore[attr-defined]
        if question.style == "bare" and question.hops == 1:
            value = _title(coded, gold)
        else:
            mark = _mark(gold, question.kind)
            value = _tokens_of(coded[gold.id].offsets, mark.start, mark.end)  # type: ignore[attr-defined]
        relation = question.via or (question.kind if question.kind in RELATIONS else None)
        here = _copies(starts, subject.id)
        there = _copies(starts, gold.id)
        for step, row in enumerate(rows[index]):
            probes.add(TITLE_HEADS, row, named)
            # The row after the last value token predicts the end of the answer: nothing to look at.
            if step < len(value):
                copies = [start + value[step] for start in there]
                probes.add(READ_HEADS, row, [copies[0]] * 2, [copies[-1]] * 2)
            if relation is not None and (question.via or question.style == "bare"):
                mention = _mention(coded, subject, relation)
                # Only the round-1 copy of a bare citation has read the cited paper.
                last = here[0] if question.style == "bare" else here[-1]
                probes.add(FIND_HEADS, row, [here[0] + t for t in mention], [last + t for t in mention])
            elif step < len(value):
                probes.add(FIND_HEADS, row, [copies[0]] * 2, [copies[-1]] * 2)


def wrong_sources(world: World, rng: random.Random) -> dict[str, list[str]]:
    """As many edges from each paper as before, none of them to a paper it cites."""
    result = {}
    for paper in world.papers:
        others = [p.id for p in world.papers if p.id != paper.id and p.id not in paper.sources]
        result[paper.id] = rng.sample(others, min(len(paper.sources), len(others)))
    return result
