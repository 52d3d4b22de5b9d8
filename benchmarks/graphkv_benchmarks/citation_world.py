"""A fictional world of papers that cite each other, for testing how a model reads a graph of documents.

Every name is invented, so nothing can be answered from memory. A paper is one short document with a few facts (author, method,
dataset, lab, score) and up to two citations. A citation is *named* ("builds on Night Maple") or *bare* ("builds on the cited
paper"): of a bare citation the edge of the graph is the only trace. Questions ask for an attribute of a paper (one hop), for an
attribute of the paper it cites (two hops), or for the title of the cited paper (one hop).

One name in eight is reserved for held-out worlds by a stable hash, so training and evaluation share no title, author's surname,
method, dataset or lab.

    >>> row = make_world(seed=7, documents=4, held_out=True).to_row()
    >>> sorted(row), sorted(row["documents"][0])
    (['documents', 'questions'], ['id', 'sources', 'text', 'title'])

From the shell::

    python -m graphkv_benchmarks.citation_world --seed 1 --worlds 100 --documents 8 --held-out --out worlds.jsonl
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ATTRIBUTES = ("author", "method", "dataset", "lab", "score")
RELATIONS = ("builds", "compares")
BARE_MENTIONS = ("the cited paper", "the earlier work", "the cited work", "the earlier paper")
HELD_OUT_ONE_IN = 8

_TITLE_WORDS = (
    "Amber Anchor Arctic Aspen Autumn Beacon Birch Breeze Bridge Canyon Cedar Circle Cloud Comet Copper Coral Crystal Dawn Delta"
    " Desert Dune Eagle Echo Ember Falcon Feather Fern Field Flame Forest Fountain Frost Galaxy Garden Geyser Glacier Golden"
    " Granite Harvest Hazel Heron Hollow Horizon Indigo Iris Island Ivory Jade Jasper Juniper Lagoon Lantern Laurel Linden Lotus"
    " Lunar Maple Marble Meadow Meteor Mirror Mist Mountain Night Oak Ocean Olive Onyx Opal Orbit Orchid Oyster Pearl Pebble Pine"
    " Planet Pond Prairie Prism Quartz Quiet Rain Raven Reed Ridge River Ruby Saffron Sapphire Scarlet Shadow Shell Silver Sky"
    " Snow Solar Spark Spiral Spring Star Stone Storm Summit Sunset Swift Temple Thistle Thunder Tide Timber Topaz Tower Valley"
    " Velvet Violet Walnut Wave Willow Winter"
)
_FIRST_NAMES = (
    "Ada Alan Anna Ben Carl Cora Dana Dora Emil Eva Finn Gina Hugo Ida Ivan Jane Jon Kai Lara Leo Lina Max Mia Nina Nora Oskar"
    " Otto Paul Rosa Sam Sara Theo Tina Tom Uma Vera Wade Will Xena Zoe"
)
TITLE_WORDS, FIRST_NAMES = tuple(_TITLE_WORDS.split()), tuple(_FIRST_NAMES.split())
ONSETS, VOWELS, CODAS = "bdfgklmnprstvz", "aeiou", "klmnrsx"


def _stable_hash(name: str) -> int:
    """The same number on every machine and in every process, which Python's own ``hash`` is not."""
    return int.from_bytes(hashlib.sha256(b"citation-world " + name.lower().encode()).digest()[:4], "big")


def _syllables() -> tuple[str, ...]:
    """Seventy consonant-vowel-consonant syllables spread evenly over the possible ones that begin no real word used here."""
    real = {word.lower()[:3] for word in (*TITLE_WORDS, *FIRST_NAMES)} | {"fuk", "fux", "sux", "kum", "pus", "kok", "sex"}
    every = [s for o in ONSETS for v in VOWELS for c in CODAS if o != c and (s := o + v + c) not in real]
    return tuple(sorted(sorted(every, key=_stable_hash)[:70]))


SYLLABLES = _syllables()

# In every sentence the words that tell the attribute come before its value. {S} opens a sentence ("It", "This paper", the title),
# {O} stands inside one, {V} is the value.
FACTS: dict[str, tuple[str, ...]] = {
    "author": ("{S} was written by {V}.", "{S} is by {V}.", "The author of {O} is {V}.", "The person who wrote {O} is {V}."),
    "method": (
        "{S} introduces {V}.",
        "{S} proposes a method called {V}.",
        "The method of {O} is {V}.",
        "The new method in {O} is named {V}.",
    ),
    "dataset": ("{S} is evaluated on {V}.", "{S} uses the dataset {V}.", "The dataset of {O} is {V}.", "The experiments of {O} use {V}."),
    "lab": ("{S} comes from {V}.", "{S} was done at {V}.", "The lab behind {O} is {V}.", "{S} is from the lab {V}."),
    "score": ("{S} reaches a score of {V}.", "{S} reports {V} points.", "The score of {O} is {V}.", "{S} scores {V}."),
    "builds": ("{S} builds on {V}.", "{S} extends {V}.", "{S} is based on {V}.", "The ideas of {O} build on {V}."),
    "compares": ("{S} compares against {V}.", "{S} is compared with {V}.", "The baseline of {O} is {V}."),
}
ASK: dict[str, tuple[str, ...]] = {
    "author": ("Who wrote {P}?", "Who is the author of {P}?"),
    "method": ("Which method does {P} introduce?", "What is the method of {P}?"),
    "dataset": ("Which dataset does {P} use?", "What is the dataset of {P}?"),
    "lab": ("Which lab does {P} come from?", "What is the lab behind {P}?"),
    "score": ("What score does {P} report?", "What is the score of {P}?"),
    "builds": ("Which paper does {P} build on?", "Which paper is extended by {P}?"),
    "compares": ("Which paper does {P} compare against?", "Which paper is {P} compared with?"),
}
VIA: dict[str, tuple[str, ...]] = {
    "builds": ("the paper that {P} builds on", "the paper extended by {P}"),
    "compares": ("the paper that {P} compares against", "the paper that {P} is compared with"),
}


def is_held_out(name: str) -> bool:
    """Whether this name may appear only in held-out worlds; the same answer on every machine."""
    return _stable_hash(name) % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True)
class Mark:
    """Where a value stands: characters [start, end) of the document's segment text (title line included)."""

    kind: str
    start: int
    end: int


@dataclass
class Paper:
    """One document. ``cites`` maps a relation to (id of the cited paper, whether it is named)."""

    id: str
    title: str
    facts: dict[str, str]
    cites: dict[str, tuple[str, bool]] = field(default_factory=dict)
    text: str = ""
    marks: list[Mark] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        return [cited for cited, _ in self.cites.values()]

    @property
    def segment(self) -> str:
        """The text the model reads, as the chat template renders it."""
        return f"Title: {self.title}. {self.text}\n"


@dataclass(frozen=True)
class Question:
    """``subject`` is the paper named in the question, ``kind`` what is asked, ``via`` the relation hopped over first."""

    question: str
    answer: str
    hops: int
    gold: str
    style: str
    kind: str
    subject: str
    via: str | None


@dataclass
class World:
    papers: list[Paper]
    questions: list[Question]

    def to_row(self) -> dict[str, Any]:
        """JSON-able form: documents with their sources, questions with answers."""
        documents = [{"id": p.id, "title": p.title, "text": p.text, "sources": p.sources} for p in self.papers]
        questions = [{"question": q.question, "answer": q.answer, "hops": q.hops, "gold": q.gold, "style": q.style} for q in self.questions]
        return {"documents": documents, "questions": questions}


@dataclass(frozen=True)
class Recipe:
    """What a world is made of. The defaults are the full difficulty; a curriculum starts from less."""

    facts: tuple[int, int] = (3, 5)
    attributes: tuple[str, ...] = ATTRIBUTES
    same_attributes: bool = False
    cite: float = 0.75
    second_cite: float = 0.25
    bare: float = 0.4
    pronoun: float = 0.5
    collide: float = 0.2


class _Names:
    """Draws names that are new in this world and on the wanted side of the train / held-out split."""

    def __init__(self, rng: random.Random, held_out: bool, collide: float) -> None:
        self.rng, self.held_out, self.collide = rng, held_out, collide
        self.used: set[str] = set()
        self.titles: list[str] = []
        self.words: list[str] = []

    def _fresh(self, name: str) -> bool:
        return name.lower() not in self.used and is_held_out(name) == self.held_out

    def title(self) -> str:
        """Two words; some titles share one of them with another title of the world."""
        while True:
            words = self.rng.sample(TITLE_WORDS, 2)
            if self.titles and self.rng.random() < 0.3:
                place = self.rng.randrange(2)
                words[place] = self.rng.choice(self.titles).split()[place]
            name = " ".join(words)
            if words[0] != words[1] and self._fresh(name):
                self.used.add(name.lower())
                self.titles.append(name)
                return name

    def word(self) -> str:
        """An invented word of two or three syllables; with probability ``collide`` it begins like one already used."""
        while True:
            parts = self.rng.choices(SYLLABLES, k=2 if self.rng.random() < 0.7 else 3)
            if self.words and self.rng.random() < self.collide:
                parts[0] = self.rng.choice(self.words)[:3].lower()
            name = "".join(parts).capitalize()
            if self._fresh(name):
                self.used.add(name.lower())
                self.words.append(name)
                return name

    def value(self, attribute: str) -> str:
        if attribute == "author":
            return f"{self.rng.choice(FIRST_NAMES)} {self.word()}"
        if attribute != "score":
            return self.word()
        while True:
            score = f"{self.rng.randint(10, 99)}.{self.rng.randint(0, 9)}"
            if score not in self.used:
                self.used.add(score)
                return score


def _link(papers: Sequence[Paper], rng: random.Random, recipe: Recipe) -> None:
    """Random acyclic citations: in a hidden order each paper may cite one or two earlier ones. Only a single citation may be bare,
    because an edge does not say which of two relations it stands for."""
    order = rng.sample(list(papers), len(papers))
    for place, paper in enumerate(order):
        if place == 0 or rng.random() >= recipe.cite:
            continue
        two = place > 1 and rng.random() < recipe.second_cite
        cited = rng.sample(order[:place], 2 if two else 1)
        relations = rng.sample(RELATIONS, len(cited))
        named = two or rng.random() >= recipe.bare
        paper.cites = {relation: (other.id, named) for relation, other in zip(relations, cited, strict=True)}


def _write(paper: Paper, titles: dict[str, str], rng: random.Random, recipe: Recipe) -> None:
    """Fill ``text`` and ``marks``: one sentence a fact, in random order."""
    values = dict(paper.facts)
    for relation, (cited, named) in paper.cites.items():
        values[relation] = titles[cited] if named else rng.choice(BARE_MENTIONS)
    head, text = len(f"Title: {paper.title}. "), ""
    for kind in rng.sample(list(values), len(values)):
        pronoun = rng.random() < recipe.pronoun
        subject = rng.choice(("This paper", "This work", "It")) if pronoun else paper.title
        inner = rng.choice(("this paper", "this work")) if pronoun else paper.title
        sentence = rng.choice(FACTS[kind]).replace("{S}", subject).replace("{O}", inner)
        start = head + len(text) + bool(text) + sentence.index("{V}")
        paper.marks.append(Mark(kind, start, start + len(values[kind])))
        text += " " * bool(text) + sentence.replace("{V}", values[kind])
    paper.text = text


def _questions(papers: Sequence[Paper], rng: random.Random) -> list[Question]:
    """Every question the world can answer, each worded once at random, in random order."""
    by_id = {p.id: p for p in papers}
    found = []
    for paper in papers:
        for kind, value in paper.facts.items():
            text = rng.choice(ASK[kind]).replace("{P}", paper.title)
            found.append(Question(text, value, 1, paper.id, "named", kind, paper.id, None))
        for relation, (cited_id, named) in paper.cites.items():
            cited, style = by_id[cited_id], "named" if named else "bare"
            text = rng.choice(ASK[relation]).replace("{P}", paper.title)
            # A bare citation leaves no title in the citing text: the gold document is then the cited one.
            found.append(Question(text, cited.title, 1, paper.id if named else cited.id, style, relation, paper.id, None))
            via = rng.choice(VIA[relation]).replace("{P}", paper.title)
            for kind, value in cited.facts.items():
                text = rng.choice(ASK[kind]).replace("{P}", via)
                found.append(Question(text, value, 2, cited.id, style, kind, paper.id, relation))
    rng.shuffle(found)
    return found


def make_world(seed: int, documents: int, held_out: bool = False, recipe: Recipe | None = None) -> World:
    """One world, the same for the same arguments.

    Args:
        seed: any integer.
        documents: number of papers, at least 1.
        held_out: draw names from the reserved eighth (evaluation) instead of the rest (training).
        recipe: the mixture; the default is the full difficulty.

    Raises:
        ValueError: if ``documents`` is not positive.
    """
    if documents < 1:
        raise ValueError(f"documents must be at least 1, got {documents}")
    recipe = recipe or Recipe()
    rng = random.Random(f"citation-world {seed} {documents} {held_out}")
    names = _Names(rng, held_out, recipe.collide)
    shared = rng.sample(recipe.attributes, min(rng.randint(*recipe.facts), len(recipe.attributes)))
    papers = []
    for index in range(documents):
        kinds = shared
        if not recipe.same_attributes:
            kinds = rng.sample(recipe.attributes, min(rng.randint(*recipe.facts), len(recipe.attributes)))
        papers.append(Paper(f"p{index}", names.title(), {kind: names.value(kind) for kind in kinds}))
    _link(papers, rng, recipe)
    titles = {p.id: p.title for p in papers}
    for paper in papers:
        _write(paper, titles, rng, recipe)
    return World(papers, _questions(papers, rng))


def entities(row: dict[str, Any]) -> set[str]:
    """The invented names of a row (titles and answers that are not scores; of an author the surname), lower case."""
    titles = {d["title"].lower() for d in row["documents"]}
    answers = {q["answer"].lower() for q in row["questions"] if not re.fullmatch(r"[\d.]+", q["answer"])} - titles
    return titles | {answer.split()[-1] for answer in answers}


def rows(
    seed: int, worlds: int, documents: int, held_out: bool, questions: int | None, recipe: Recipe | None = None
) -> Iterator[dict[str, Any]]:
    """``worlds`` rows; with ``questions``, at most that many questions each."""
    for index in range(worlds):
        row = make_world(seed * 1_000_003 + index, documents, held_out, recipe).to_row()
        row["questions"] = row["questions"][:questions]
        yield row


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="graphkv_benchmarks.citation_world", description="Write citation worlds as JSON lines.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=10, help="how many worlds, one a line")
    parser.add_argument("--documents", type=int, default=8, help="papers a world")
    parser.add_argument("--questions", type=int, default=None, help="at most this many questions a world (default: all)")
    parser.add_argument("--bare", type=float, default=Recipe.bare, help="share of single citations that do not name the paper")
    parser.add_argument("--held-out", action="store_true", help="use the names reserved for evaluation")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    with args.out.open("w", encoding="utf-8") as file:
        for row in rows(args.seed, args.worlds, args.documents, args.held_out, args.questions, Recipe(bare=args.bare)):
            file.write(json.dumps(row) + "\n")
    print(json.dumps({"out": str(args.out), "worlds": args.worlds}))


if __name__ == "__main__":
    main()
