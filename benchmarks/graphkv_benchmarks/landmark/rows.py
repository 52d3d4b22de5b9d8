"""Training rows for the landmark model: ``python -m graphkv_benchmarks.landmark.rows --out rows.jsonl``.

Four kinds of contexts, each of at most so many tokens (512 by default; many are shorter), half of them one long untitled document:
citation worlds; needles and pass keys in filler; needles with several values, or in nothing but needles; chains of variables. The wording
of the latter two is that of RULER (Hsieh et al., 2024, arXiv 2404.06654).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from graphkv.model import EMBEDDED
from graphkv.progress import late_progress

from ..citation_world import NOT_FOUND, TITLE_WORDS, Recipe, World, make_needles, make_world
from ..citation_world.names import Names
from ..citation_world.phrases import HAY
from ..citation_world.world import filler
from ..embedded.mixture import choose

KINDS = {"world": 0.36, "needle": 0.32, "values": 0.18, "variables": 0.14}
"""Share of rows by kind."""

STYLES = (0.8, 0.2, 0.0)
"""Named and numbered citations: a bare one cannot be followed in running text."""
SHARE = (0.26, 0.06, 0.2, 0.04, 0.14)
"""Shares of questions over two hops, three hops, about cited titles, comparing, and without an answer."""
MOST_QUESTIONS = 10

MAGIC = "One of the special magic numbers for {K} is: {V}."
ASK_ONE = "What is the special magic number for {K} mentioned in the provided text?"
ASK_ALL = "What are all the special magic numbers for {K} mentioned in the provided text?"
FIND = "Find all variables that are assigned the value {V} in the text above."
INTRODUCTIONS = (
    "A special magic number is hidden within the following text. Make sure to memorize it. I will quiz you about the number afterwards.",
    "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will quiz you about the numbers afterwards.",
)
TRACK = "Memorize and track the chain(s) of variable assignment hidden in the following text."

Row = dict[str, Any]


class _Counter:
    """Counts the tokens of a text as the model's prompt has it."""

    def __init__(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)

    def __call__(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _room(rng: random.Random, most: int) -> int:
    """Tokens of a context: half of them full, the others shorter."""
    return most if rng.random() < 0.5 else rng.randint(60, most)


def _row(documents: Sequence[str], questions: Sequence[tuple[str, str]], kind: str) -> Row:
    return {
        "documents": [{"id": f"p{i}", "text": text} for i, text in enumerate(documents)],
        "questions": [{"question": q, "answer": a} for q, a in questions],
        "kind": kind,
    }


def _sentences(rng: random.Random, held_out: bool) -> Iterator[str]:
    """Filler without an end: one sentence or one paragraph over and over, sentences about nothing, or the text of papers."""
    hay = rng.choice((None, None, *HAY, "papers"))
    while True:
        if hay == "papers":
            for paper in make_world(rng.randrange(2**40), 6, held_out, Recipe(styles=STYLES)).papers:
                yield paper.segment.strip()
        elif hay:
            yield from (s if s.endswith(".") else s + "." for s in hay.split(". "))
        else:
            yield filler(rng)


def _filled(rng: random.Random, counter: _Counter, needles: Sequence[str], room: int, held_out: bool, introduction: str = "", between: str = " ") -> list[str]:
    """One document, or two to four, of filler with the needles at random places, their order kept, of at most `room` tokens together."""
    left = room - sum(counter(between + n) for n in needles) - counter(introduction) - 8
    sentences: list[str] = []
    for sentence in _sentences(rng, held_out):
        left -= counter(between + sentence)
        if left < 0:
            break
        sentences.append(sentence)
    for needle, at in zip(reversed(needles), sorted((rng.randint(0, len(sentences)) for _ in needles), reverse=True), strict=True):
        sentences.insert(at, needle)
    if introduction:
        sentences.insert(0, introduction)
    many = 1 if rng.random() < 0.5 else min(rng.randint(2, 4), len(sentences))
    cuts = [0, *sorted(rng.sample(range(1, len(sentences)), many - 1)), len(sentences)]
    return [between.join(sentences[a:b]) for a, b in pairwise(cuts)]


def world_row(rng: random.Random, counter: _Counter, most: int, held_out: bool) -> Row:
    """A citation world of 4 to 11 papers; half the time they are one untitled document, each under its title all the same."""
    while True:
        recipe = Recipe(styles=STYLES, words=rng.choice((0, 0, 0, 50, 80)), missing=rng.choice((0, 0, 0, 1, 2)))
        world: World = make_world(rng.randrange(2**40), rng.randint(4, 11), held_out, recipe)
        if sum(counter(p.segment) for p in world.papers) <= most:
            break
    questions = [(q.question, q.answer) for q in choose(world, rng, MOST_QUESTIONS, SHARE)]
    if rng.random() < 0.5:
        return _row(["".join(p.segment for p in world.papers).strip()], questions, "world")
    documents = replace(world, questions=[]).to_row()["documents"]
    return {"documents": documents, "questions": [{"question": q, "answer": a} for q, a in questions], "kind": "world"}


def needle_row(rng: random.Random, counter: _Counter, most: int, held_out: bool) -> Row:
    """One to six needles, or a pass key, in filler."""
    room = _room(rng, most)
    words = max(20, round(room / 1.45) - 12)
    while True:
        documents = 1 if rng.random() < 0.5 else rng.randint(2, 4)
        world = make_needles(rng.randrange(2**40), max(10, words // documents), held_out, documents, rng.randint(1, 6))
        if sum(counter(p.segment) for p in world.papers) <= most:
            return _row([p.text for p in world.papers], [(q.question, q.answer) for q in world.questions], "needle")
        words = round(words * 0.9)


def _keys(rng: random.Random, names: Names) -> Iterator[str]:
    """Keys of one kind: titles, invented words, or two common words with a hyphen as RULER has them."""
    kind, used = rng.randrange(3), set[str]()
    while True:
        key = names.title() if kind == 0 else names.word() if kind == 1 else "-".join(rng.sample(TITLE_WORDS, 2)).lower()
        if key not in used:
            used.add(key)
            yield key


def values_row(rng: random.Random, counter: _Counter, most: int, held_out: bool) -> Row:
    """Keys with one to four values each in filler, asked for one by one or all at once; or a context of nothing but needles."""
    names = Names(rng, held_out, 0.2)
    keys = _keys(rng, names)
    room = _room(rng, most)
    digits = rng.choice((5, 7, 7))
    introduction = rng.choice(("", *INTRODUCTIONS))
    if rng.random() < 0.3:
        facts = {next(keys): [names.number(digits)] for _ in range(max(2, (room - 40) // 28))}
    else:
        facts = {next(keys): [names.number(digits) for _ in range(rng.choice((1, 1, 2, 3, 4)))] for _ in range(rng.randint(1, 4))}
    lines = [(key, value) for key, values in facts.items() for value in values]
    rng.shuffle(lines)
    while sum(counter(" " + MAGIC.replace("{K}", k).replace("{V}", v)) for k, v in lines) > most - 60:
        lines.pop()
    needles = [MAGIC.replace("{K}", k).replace("{V}", v) for k, v in lines]
    documents = _filled(rng, counter, needles, room if len(facts) <= 4 else 0, held_out, introduction)
    questions = []
    for key in dict.fromkeys(k for k, _ in lines):
        found = [v for k, v in lines if k == key]
        ask = ASK_ALL if len(found) > 1 or rng.random() < 0.2 else ASK_ONE
        questions.append((ask.replace("{K}", key), ", ".join(found)))
    rng.shuffle(questions)
    questions = questions[: MOST_QUESTIONS - 2] + [(ASK_ONE.replace("{K}", next(keys)), NOT_FOUND)] * (rng.random() < 0.5)
    return _row(documents, questions, "values")


def variables_row(rng: random.Random, counter: _Counter, most: int, held_out: bool) -> Row:
    """One or two chains of two to four assignments behind the first, in filler; the answer is the names in the chain's order."""
    chains = []
    used = set[str]()
    for _ in range(rng.randint(1, 2)):
        value, chain = str(rng.randrange(10000, 100000)), list[str]()
        for _ in range(rng.randint(2, 4) + 1):
            name = "".join(rng.choices(string.ascii_uppercase, k=5))
            if name not in used:
                used.add(name)
                chain.append(name)
        chains.append((value, chain))
    queues = [[f"VAR {names[0]} = {value}", *(f"VAR {b} = VAR {a}" for a, b in pairwise(names))] for value, names in chains]
    lines: list[str] = []
    while any(queues):  # the chains interleaved, each in its order
        lines.append(rng.choice([q for q in queues if q]).pop(0))
    introduction = TRACK if rng.random() < 0.5 else ""
    documents = _filled(rng, counter, lines, _room(rng, most), held_out, introduction, rng.choice((" ", "\n")))
    return _row(documents, [(FIND.replace("{V}", value), ", ".join(names)) for value, names in chains], "variables")


MAKERS = {"world": world_row, "needle": needle_row, "values": values_row, "variables": variables_row}


def make_rows(seed: int, count: int, *, tokens: int = 512, held_out: bool = False, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[Row]:
    """Rows as :mod:`graphkv.train.rows` reads them; the i-th depends on its number and the arguments only.

    Args:
        tokens: most tokens of a context. held_out: names of the reserved eighth (numbers and variables are not reserved). kinds: which.

    Raises:
        ValueError: too few tokens, or an unknown kind.

    Example:
        >>> row = next(make_rows(0, 1, kinds=["variables"]))
        >>> row["questions"][0]["question"].startswith("Find all variables")
        True
    """
    if tokens < 256:
        raise ValueError(f"a context needs at least 256 tokens for every kind to fit, got {tokens}")
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise ValueError(f"unknown kind {unknown[0]!r}, expected one of {', '.join(KINDS)}")
    counter = _Counter()
    for number in range(count):
        rng = random.Random(f"landmark rows {seed} {number} {held_out}")
        kind = rng.choices(list(kinds), [KINDS[k] for k in kinds])[0]
        yield MAKERS[kind](rng, counter, tokens, held_out)


def write_rows(path: Path, seed: int, count: int, *, tokens: int = 512, held_out: bool = False, kinds: Sequence[str] = tuple(KINDS)) -> Path:
    """Write rows as JSON lines, under a temporary name first; a file that is there already is left as it is. Arguments as in :func:`make_rows`."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as file, late_progress("making rows") as progress:
        for number, row in enumerate(make_rows(seed, count, tokens=tokens, held_out=held_out, kinds=kinds), start=1):
            file.write(json.dumps(row) + "\n")
            progress(number, count)
    os.replace(temporary, path)
    return path


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m graphkv_benchmarks.landmark.rows", description="Write training rows for the landmark model as JSON lines.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--tokens", type=int, default=512, help="most tokens of a context, landmarks not counted")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--held-out", action="store_true", help="use the names reserved for evaluation")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    if args.rows < 1 or args.tokens < 256:
        parser.error(f"--rows must be at least 1 and --tokens at least 256, got {args.rows} and {args.tokens}")
    args.out.unlink(missing_ok=True)
    write_rows(args.out, args.seed, args.rows, tokens=args.tokens, held_out=args.held_out, kinds=args.kinds)
    print(json.dumps({"out": str(args.out), "rows": args.rows}))


if __name__ == "__main__":
    main()
