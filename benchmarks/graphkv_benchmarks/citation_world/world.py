"""Worlds of fictional papers that cite each other: what stands in which paper, and how it is written."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .names import Names
from .phrases import ATTRIBUTES, BARE_MENTIONS, FACTS, FILLER_PARTS, LEADS, OTHERS, RELATIONS

STYLES = ("named", "numbered", "bare")


@dataclass(frozen=True)
class Mark:
    """Where a value stands: characters [start, end) of the document's segment text (title line included).

    ``kind`` is the attribute or the relation; of a numbered citation "builds" is the ``[2]`` in the text and "builds.entry" the
    title in the reference list.
    """

    kind: str
    start: int
    end: int


@dataclass
class Paper:
    """One document. ``cites`` maps a relation to the id of the cited paper; all citations of a paper have one ``style``.

    ``absent`` maps a relation to the title of a cited paper that is not among the documents, ``others`` are further such titles
    in its reference list, cited for nothing that a question asks.
    """

    id: str
    title: str
    facts: dict[str, str]
    style: str = "named"
    cites: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    text: str = ""
    marks: list[Mark] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        return list(self.cites.values())

    @property
    def segment(self) -> str:
        """The text the model reads, as the embedded model's chat template renders it."""
        return f"Title: {self.title}. {self.text}\n" if self.title else f"{self.text}\n"


@dataclass(frozen=True)
class Question:
    """A question and what is known about it.

    Attributes:
        answer: the one right answer; "not in the documents" where there is none.
        type: attribute (of a paper), title (of a cited paper), comparison (of two papers), unanswerable, needle.
        hops: papers between the one named and the answer, plus one.
        gold: id of the document with the answer, None without one. path: ids of the documents on the way, gold last.
        style: how the citations on the way are written; named where there are none.
        kind: the attribute or relation asked for. subject: the paper that the question names; None if it is not among the documents.
        via: the relations hopped over, first hop first.
    """

    question: str
    answer: str
    type: str
    hops: int
    gold: str | None
    path: tuple[str, ...]
    style: str
    kind: str
    subject: str | None
    via: tuple[str, ...] = ()


@dataclass
class World:
    papers: list[Paper]
    questions: list[Question]

    def to_row(self) -> dict[str, Any]:
        """JSON-able form: documents with their sources, questions with answers."""
        documents = [{"id": p.id, "title": p.title, "text": p.text, "sources": p.sources} for p in self.papers]
        questions = [
            {"question": q.question, "answer": q.answer, "type": q.type, "hops": q.hops, "gold": q.gold, "path": list(q.path), "style": q.style}
            for q in self.questions
        ]
        return {"documents": documents, "questions": questions}

    def paper(self, name: str) -> Paper:
        """The paper with this id."""
        return next(p for p in self.papers if p.id == name)


@dataclass(frozen=True)
class Recipe:
    """What a world is made of: the difficulty dials. The defaults are the full mixture; a curriculum starts from less.

    Attributes:
        facts: fewest and most facts a paper. attributes: which ones. same_attributes: all papers of a world have the same.
        cite: share of papers that cite. second_cite: share of those that cite two (never bare: an edge does not say which relation
            it stands for). styles: weights of named, numbered and bare citations.
        pronoun: share of sentences with "it" or "this paper" for the title. lead: share that begin with a phrase like "Notably,".
        collide: share of invented words that begin like another of the world.
        words: a document has at least so many words; filler sentences stand between the facts. 0: facts only.
        distractors: so many papers neither cite nor are cited, and no question is about them.
        missing: so many papers more are cited as far as there are enough citations, and are not among the documents.
    """

    facts: tuple[int, int] = (3, 5)
    attributes: tuple[str, ...] = ATTRIBUTES
    same_attributes: bool = False
    cite: float = 0.8
    second_cite: float = 0.25
    styles: tuple[float, float, float] = (0.45, 0.15, 0.4)
    pronoun: float = 0.5
    lead: float = 0.15
    collide: float = 0.2
    words: int = 0
    distractors: int = 0
    missing: int = 0


def one_style(style: str, **changes: Any) -> Recipe:
    """A recipe whose citations are all of one style.

    Raises:
        ValueError: an unknown style.
    """
    if style not in STYLES:
        raise ValueError(f"unknown citation style {style!r}, expected one of {', '.join(STYLES)}")
    named, numbered, bare = (float(style == s) for s in STYLES)
    return Recipe(styles=(named, numbered, bare), **changes)


def filler(rng: random.Random) -> str:
    """A sentence that says nothing of interest."""
    subject, verb, thing, tail = (rng.choice(part) for part in FILLER_PARTS)
    return f"{subject} {verb} {thing}{tail}."


def _link(papers: Sequence[Paper], rng: random.Random, recipe: Recipe, names: Names) -> None:
    """Random acyclic citations: in a hidden order each paper may cite one or two earlier ones."""
    order = rng.sample(list(papers), len(papers))
    for place, paper in enumerate(order):
        if place == 0 or rng.random() >= recipe.cite:
            continue
        two = place > 1 and rng.random() < recipe.second_cite
        cited = rng.sample(order[:place], 2 if two else 1)
        relations = rng.sample(RELATIONS, len(cited))
        named, numbered, bare = recipe.styles
        weights = (named, numbered, 0.0 if two and named + numbered else bare)
        paper.style = rng.choices(STYLES, weights)[0]
        if paper.style == "bare":
            cited, relations = cited[:1], relations[:1]
        paper.cites = {relation: other.id for relation, other in zip(relations, cited, strict=True)}
        if paper.style == "numbered":
            paper.others = [names.title() for _ in range(rng.randint(0, 2))]


def _take_out(papers: Sequence[Paper], titles: dict[str, str], rng: random.Random, count: int) -> set[str]:
    """Ids of ``count`` papers, cited ones first; the citations of them by the others become absent ones."""
    cited = sorted({name for paper in papers for name in paper.cites.values()})
    rest = [paper.id for paper in papers if paper.id not in cited]
    gone = {*rng.sample(cited, min(count, len(cited))), *rng.sample(rest, max(0, count - len(cited)))}
    for paper in papers:
        paper.absent = {relation: titles[name] for relation, name in paper.cites.items() if name in gone}
        paper.cites = {relation: name for relation, name in paper.cites.items() if name not in gone}
    return gone


def _sentences(paper: Paper, titles: dict[str, str], rng: random.Random, recipe: Recipe) -> list[tuple[str, str, str]]:
    """(kind, sentence with {V}, value) of everything the paper says, in random order."""
    values = dict(paper.facts)
    numbers = {}
    cited = {relation: titles[name] for relation, name in paper.cites.items()} | paper.absent
    if paper.style == "numbered":
        listed = [*cited.values(), *paper.others]
        numbers = {title: f"[{n}]" for n, title in enumerate(rng.sample(listed, len(listed)), start=1)}
    for relation, title in cited.items():
        values[relation] = {"named": title, "bare": rng.choice(BARE_MENTIONS)}.get(paper.style) or numbers[title]
    found = []
    for kind in rng.sample(list(values), len(values)):
        pronoun = rng.random() < recipe.pronoun
        subject = rng.choice(("This paper", "This work", "It")) if pronoun else paper.title
        inner = rng.choice(("this paper", "this work")) if pronoun else paper.title
        sentence = rng.choice(FACTS[kind])
        if sentence.startswith("{S}") and rng.random() < recipe.lead:
            subject = rng.choice(LEADS) + (subject.lower() if pronoun else subject)
        found.append((kind, sentence.replace("{S}", subject).replace("{O}", inner), values[kind]))
    for other in paper.others:
        if rng.random() < 0.7:
            found.insert(rng.randint(0, len(found)), ("", rng.choice(OTHERS), numbers.get(other, other)))
    if numbers:
        found.append(("", "References:", ""))
        entry = {title: f"{relation}.entry" for relation, title in cited.items()}
        found += [(entry.get(title, ""), f"{number} {{V}}.", title) for title, number in numbers.items()]
    return found


def write_paper(paper: Paper, titles: dict[str, str], rng: random.Random, recipe: Recipe) -> None:
    """Fill ``text`` and ``marks``: one sentence a fact, filler between them, a reference list at the end."""
    sentences = _sentences(paper, titles, rng, recipe)
    body = next((i for i, (_, sentence, _) in enumerate(sentences) if sentence == "References:"), len(sentences))
    count = sum(len(f"{sentence} {value}".split()) - (value != "") for _, sentence, value in sentences)
    fill = []
    while count < recipe.words:
        fill.append(filler(rng))
        count += len(fill[-1].split())
    slots = sorted(rng.randint(0, body) for _ in fill)
    for place, sentence in zip(reversed(slots), fill, strict=True):
        sentences.insert(place, ("", sentence, ""))
    head, text = len(f"Title: {paper.title}. "), ""
    for kind, sentence, value in sentences:
        if kind:
            start = head + len(text) + bool(text) + sentence.index("{V}")
            paper.marks.append(Mark(kind, start, start + len(value)))
        text += " " * bool(text) + sentence.replace("{V}", value)
    paper.text = text


def make_world(seed: int, documents: int, held_out: bool = False, recipe: Recipe | None = None) -> World:
    """One world, the same for the same arguments.

    Args:
        seed: any integer.
        documents: number of papers, at least 1.
        held_out: draw names from the reserved eighth (evaluation) instead of the rest (training).
        recipe: the difficulty; the default is the full mixture.

    Raises:
        ValueError: if ``documents`` is not positive, or there are no more documents than distractors.

    Example:
        >>> row = make_world(seed=7, documents=4, held_out=True).to_row()
        >>> sorted(row), sorted(row["documents"][0])
        (['documents', 'questions'], ['id', 'sources', 'text', 'title'])
    """
    from .questions import questions_about

    recipe = recipe or Recipe()
    if documents < 1:
        raise ValueError(f"documents must be at least 1, got {documents}")
    if recipe.distractors >= documents:
        raise ValueError(f"of {documents} documents at most {documents - 1} can be distractors, got {recipe.distractors}")
    rng = random.Random(f"citation-world 2 {seed} {documents} {held_out}")
    names = Names(rng, held_out, recipe.collide)
    shared = rng.sample(recipe.attributes, min(rng.randint(*recipe.facts), len(recipe.attributes)))
    papers = []
    for index in range(documents + recipe.missing):
        kinds = shared
        if not recipe.same_attributes:
            kinds = rng.sample(recipe.attributes, min(rng.randint(*recipe.facts), len(recipe.attributes)))
        papers.append(Paper(f"p{index}", names.title(), {kind: names.value(kind) for kind in kinds}))
    core = [papers[i] for i in sorted(rng.sample(range(len(papers)), len(papers) - recipe.distractors))]
    _link(core, rng, recipe, names)
    titles = {p.id: p.title for p in papers}
    if recipe.missing:
        gone = _take_out(core, titles, rng, recipe.missing)
        papers, core = [p for p in papers if p.id not in gone], [p for p in core if p.id not in gone]
    for paper in papers:
        write_paper(paper, titles, rng, recipe)
    return World(papers, questions_about(core, papers, names, rng))
