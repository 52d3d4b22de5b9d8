"""The questions about a world: facts, citations, chains of citations, comparisons, and questions without an answer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from .names import Names
from .phrases import ASK, ATTRIBUTES, COMPARE, NOT_FOUND, RELATIONS, VIA, VIA_NESTED
from .world import STYLES, Paper, Question

MOST_HOPS = 3


def questions_about(papers: Sequence[Paper], everyone: Sequence[Paper], names: Names, rng: random.Random) -> list[Question]:
    """Every question that ``papers`` can answer, each worded once at random, and some that nobody can, in random order.

    Args:
        everyone: all documents of the world, distractors included; what stands in one of them is not "not in the documents".
    """
    by_id = {p.id: p for p in everyone}
    found = [q for paper in papers for q in about_paper(paper, by_id, rng)]
    found += _comparisons(papers, rng)
    found += [q for paper in papers for q in _unanswerable(paper, by_id, rng)]
    absent = [t for paper in papers for t in (*paper.others, *paper.absent.values())] + [names.title() for _ in range(2)]
    for title in absent:
        kind = rng.choice(ATTRIBUTES)
        found.append(_nothing(_fill(ASK[kind], title, rng), 1, "named", kind, None))
    # Two wordings can meet ("the baseline of X"); a question has one answer, so the second is left out.
    once = {q.question: q for q in reversed(found)}
    kept = list(once.values())
    rng.shuffle(kept)
    return kept


def _fill(phrases: Sequence[str], paper: str, rng: random.Random) -> str:
    return rng.choice(phrases).replace("{P}", paper)


def _phrase(title: str, via: Sequence[str], rng: random.Random) -> str:
    """Words that lead from a title over the relations, e.g. "the paper extended by the baseline of Night Maple"."""
    phrase = title
    for step, relation in enumerate(via):
        phrase = _fill((VIA_NESTED if step else VIA)[relation], phrase, rng)
    return phrase


def _chains(paper: Paper, by_id: dict[str, Paper]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """(relations, ids of papers from the first to the last) of every chain of citations from a paper, itself included."""
    open_chains: list[tuple[tuple[str, ...], tuple[str, ...]]] = [((), (paper.id,))]
    while open_chains:
        via, path = open_chains.pop()
        yield via, path
        if len(path) < MOST_HOPS:
            open_chains += [((*via, relation), (*path, cited)) for relation, cited in by_id[path[-1]].cites.items()]


def _style(path: Sequence[str], by_id: dict[str, Paper]) -> str:
    """The hardest style among the citations on a path."""
    return max((by_id[p].style for p in path[:-1]), key=STYLES.index, default="named")


def about_paper(paper: Paper, by_id: dict[str, Paper], rng: random.Random) -> Iterator[Question]:
    """Every question about a paper and what it cites that has an answer, each worded once at random. ``by_id`` holds all of these papers."""
    for via, path in _chains(paper, by_id):
        last, style, phrase = by_id[path[-1]], _style(path, by_id), _phrase(paper.title, via, rng)
        for kind, value in last.facts.items():
            yield Question(_fill(ASK[kind], phrase, rng), value, "attribute", len(path), last.id, path, style, kind, paper.id, via)
    for relation, cited in paper.cites.items():
        # A bare citation leaves no title in the citing text: the gold document is then the cited one.
        gold = cited if paper.style == "bare" else paper.id
        path = (paper.id, cited) if paper.style == "bare" else (paper.id,)
        yield Question(
            _fill(ASK[relation], paper.title, rng), by_id[cited].title, "title", 1, gold, path, paper.style, relation, paper.id
        )  # fmt: skip
    for relation, title in paper.absent.items():
        if paper.style != "bare":
            text = _fill(ASK[relation], paper.title, rng)
            yield Question(text, title, "title", 1, paper.id, (paper.id,), paper.style, relation, paper.id)


def _comparisons(papers: Sequence[Paper], rng: random.Random) -> Iterator[Question]:
    for kind in ("score", "year"):
        pool = rng.sample([p for p in papers if kind in p.facts], sum(kind in p.facts for p in papers))
        for left, right in zip(pool[::2], pool[1::2], strict=False):
            values = [float(left.facts[kind]), float(right.facts[kind])]
            if values[0] == values[1]:
                continue
            larger = rng.random() < 0.5
            winner = left if (values[0] > values[1]) == larger else right
            text = rng.choice(COMPARE[kind, larger]).replace("{A}", left.title).replace("{B}", right.title)
            path = (left.id, right.id) if winner is right else (right.id, left.id)
            yield Question(text, winner.title, "comparison", 1, winner.id, path, "named", kind, left.id)


def _nothing(text: str, hops: int, style: str, kind: str, subject: str | None, via: tuple[str, ...] = ()) -> Question:
    return Question(text, NOT_FOUND, "unanswerable", hops, None, (), style, kind, subject, via)


def _unanswerable(paper: Paper, by_id: dict[str, Paper], rng: random.Random) -> Iterator[Question]:
    """Questions about a paper whose answer nobody gave: a missing fact here or at the end of a chain, a missing citation, a missing paper."""
    for via, path in _chains(paper, by_id):
        missing = [kind for kind in ATTRIBUTES if kind not in by_id[path[-1]].facts]
        if missing and (len(path) < 3 or rng.random() < 0.5):
            kind = rng.choice(missing)
            yield _nothing(_fill(ASK[kind], _phrase(paper.title, via, rng), rng), len(path), _style(path, by_id), kind, paper.id, via)
        # The chain goes on to a paper that is not there.
        for relation in by_id[path[-1]].absent if len(path) < MOST_HOPS else ():
            kind, style = rng.choice(ATTRIBUTES), _style((*path, ""), by_id)
            yield _nothing(_fill(ASK[kind], _phrase(paper.title, (*via, relation), rng), rng), len(path) + 1, style, kind, paper.id, (*via, relation))
    for relation in paper.absent if paper.style == "bare" else ():
        yield _nothing(_fill(ASK[relation], paper.title, rng), 1, "bare", relation, paper.id)
    for relation in RELATIONS:
        if relation in paper.cites or relation in paper.absent:
            continue
        if rng.random() < 0.5:
            yield _nothing(_fill(ASK[relation], paper.title, rng), 1, "named", relation, paper.id)
        else:
            kind = rng.choice(ATTRIBUTES)
            yield _nothing(_fill(ASK[kind], _phrase(paper.title, (relation,), rng), rng), 2, "named", kind, paper.id, (relation,))
