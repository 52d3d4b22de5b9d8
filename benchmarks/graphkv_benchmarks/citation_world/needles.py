"""Needles in long filler, as worlds: a few facts with a key, a question for one of them."""

from __future__ import annotations

import random

from .names import Names
from .phrases import HAY, NOT_FOUND
from .world import Paper, Question, World, filler

NEEDLES = (
    ("One of the special magic numbers for {K} is: {V}.", "What is the special magic number for {K} mentioned in the provided text?"),
    ("The special magic word for {K} is {V}.", "What is the special magic word for {K}?"),
    ("The pass key for {K} is {V}. Remember it.", "What is the pass key for {K}?"),
    ("{K} keeps its secret code in the safe: {V}.", "What is the secret code of {K}?"),
    ("The best thing to do in {K} is to visit {V}.", "What is the best thing to do in {K}?"),
    ("The meeting point of {K} is {V}, as everybody agreed.", "Where is the meeting point of {K}?"),
)
PASSKEY = ("The pass key is {V}. Remember it. {V} is the pass key.", "What is the pass key?")
"""Mohtashami and Jaggi, 2023, arXiv 2305.16300, section 4.2."""


def _value(sentence: str, names: Names, rng: random.Random) -> str:
    """Numbers for numbers, keys and codes, an invented word for the rest."""
    if "number" in sentence or "key" in sentence or "code" in sentence:
        return names.number(rng.choice((5, 5, 6, 7)))
    return names.word()


def make_needles(seed: int, words: int, held_out: bool = False, documents: int = 1, needles: int = 4) -> World:
    """Untitled documents of filler with needles in some of them; the questions ask for each, and for one that is not there.

    Args:
        words: about so many words of filler a document. needles: so many in all, at least 1; none in the passkey form but one.

    Example:
        >>> world = make_needles(3, words=50)
        >>> world.questions[0].type
        'needle'
    """
    rng = random.Random(f"needles {seed} {words} {held_out} {documents} {needles}")
    names = Names(rng, held_out, 0.2)
    hay = rng.choice((None, None, *HAY))
    texts: list[list[str]] = []
    for _ in range(documents):
        sentences: list[str] = []
        while sum(len(s.split()) for s in sentences) < words:
            sentences += hay.split(". ") if hay else [filler(rng)]
        texts.append([s if s.endswith(".") else s + "." for s in sentences])
    papers = [Paper(f"p{i}", "", {}) for i in range(documents)]
    passkey = rng.random() < 0.25
    chosen = [PASSKEY] if passkey else [rng.choice(NEEDLES) for _ in range(needles)]
    questions = []
    for sentence, question in chosen:
        key = names.title() if rng.random() < 0.5 else names.word()
        value, place = _value(sentence, names, rng), rng.randrange(documents)
        texts[place].insert(rng.randint(0, len(texts[place])), sentence.replace("{K}", key).replace("{V}", value))
        name = papers[place].id
        questions.append(Question(question.replace("{K}", key), value, "needle", 1, name, (name,), "named", "needle", name))
    if not passkey:
        question = rng.choice(NEEDLES)[1].replace("{K}", names.title())
        questions.append(Question(question, NOT_FOUND, "unanswerable", 1, None, (), "named", "needle", None))
    for paper, sentences in zip(papers, texts, strict=True):
        paper.text = " ".join(sentences)
    return World(papers, questions)
