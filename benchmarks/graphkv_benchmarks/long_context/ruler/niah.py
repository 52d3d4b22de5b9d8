"""RULER's eight needle tasks: one or more needles in noise, in essays, or among other needles; keys and values are words, numbers, uuids."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Literal

from graphkv.errors import LengthError

from ..cases import Context, Documents, Form
from .setting import NOISE, Setting, Wording, context_of
from .words import key_word

Kind = Literal["words", "numbers", "uuids"]

NEEDLE = "One of the special magic {kind} for {key} is: {value}."
DEPTHS = tuple(round(100 * i / 39) for i in range(40))
"""Percent; needles in essays stand at different ones of these."""
MAX_NEW_TOKENS = 128


@dataclass(frozen=True)
class Niah:
    """One of the tasks: what the haystack is, of what kind keys and values are, and how many keys, values a key, and keys asked for."""

    haystack: Literal["noise", "essay", "needle"]
    key: Kind = "words"
    value: Kind = "numbers"
    keys: int = 1
    values: int = 1
    asked: int = 1


NIAH: Mapping[str, Niah] = {
    "niah_single_1": Niah("noise"),
    "niah_single_2": Niah("essay"),
    "niah_single_3": Niah("essay", value="uuids"),
    "niah_multikey_1": Niah("essay", keys=4),
    "niah_multikey_2": Niah("needle"),
    "niah_multikey_3": Niah("needle", key="uuids", value="uuids"),
    "niah_multivalue": Niah("essay", values=4),
    "niah_multiquery": Niah("essay", keys=4, asked=4),
}
"""RULER's settings (its synthetic.yaml)."""


def niah(task: Niah, setting: Setting, name: str, length: int, number: int) -> Context:
    """One case: its needles are drawn here, its text when it is built."""
    rng = setting.rng(name, length, number)
    drawn: set[str] = set()
    keys = [_draw(task.key, rng, drawn) for _ in range(task.keys)]
    values = {key: [_draw(task.value, rng, drawn) for _ in range(task.values)] for key in keys}
    needles = [NEEDLE.format(kind=task.value, key=key, value=value) for key in keys for value in values[key]]
    rng.shuffle(needles)
    asked = rng.sample(keys, task.asked)
    wording = setting.bared(wording_of(task, asked))
    room = setting.room(length, wording.question, wording.form, wording.max_new_tokens)
    room -= sum(setting.meter.counts(needles, " " if task.haystack == "essay" else "\n"))
    depths = sorted(rng.sample(DEPTHS, len(needles)))
    build = partial(_documents, task, setting, room, needles, depths, drawn, rng.getrandbits(64))
    # Among noise and needles the place is drawn when the text is made: only essays have depths.
    depth = depths[0] / 100 if task.haystack == "essay" and len(needles) == 1 else None
    return context_of(name, length, number, wording, [value for key in asked for value in values[key]], build, depth)


def wording_of(task: Niah, asked: Sequence[str]) -> Wording:
    """RULER's prompt; in the singular where one value of one key is asked for.

    Example:
        >>> wording_of(Niah("noise"), ["amber-oak"]).question
        'What is the special magic number for amber-oak mentioned in the provided text?'
    """
    query = f"{', '.join(asked[:-1])}, and {asked[-1]}" if len(asked) > 1 else asked[0]
    if task.asked * task.values == 1:
        kind = task.value[:-1]
        instruction = f"A special magic {kind} is hidden within the following text. Make sure to memorize it. I will quiz you about the {kind} afterwards.\n"
        question = f"What is the special magic {kind} for {query} mentioned in the provided text?"
        begun = f" The special magic {kind} for {query} mentioned in the provided text is"
    else:
        kind = task.value
        instruction = f"Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz you about the {kind} afterwards.\n"
        question = f"What are all the special magic {kind} for {query} mentioned in the provided text?"
        begun = f" The special magic {kind} for {query} mentioned in the provided text are"
    return Wording(question, Form(instruction, answer=begun), MAX_NEW_TOKENS)


def _draw(kind: Kind, rng: random.Random, drawn: set[str]) -> str:
    """A word, a number of seven digits or a uuid that was not drawn before."""
    tries = 0
    while True:
        if kind == "numbers":
            made = str(rng.randint(1_000_000, 9_999_999))
        elif kind == "words":
            made = key_word(rng, 2 + tries // 20)  # some 14,000 pairs are fewer than a million tokens ask for
        else:
            made = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        if made not in drawn:
            drawn.add(made)
            return made
        tries += 1


def _documents(task: Niah, setting: Setting, room: int, needles: Sequence[str], depths: Sequence[int], taken: Set[str], seed: int) -> Documents:
    rng = random.Random(seed)
    if task.haystack == "essay":
        sentences = setting.essays.take(room, rng.randrange(len(setting.essays.units)))
        borders = [len(sentences) * depth // 100 for depth in depths]
        for border, needle in sorted(zip(borders, needles, strict=True), key=lambda placed: placed[0], reverse=True):
            sentences.insert(border, needle)
        return setting.documents(sentences, " ")
    lines = _noise(setting, room) if task.haystack == "noise" else _other_needles(task, setting, room, taken, rng)
    if len(lines) < len(needles):
        raise LengthError(f"there is room for {len(lines)} lines among which {len(needles)} needles should stand: choose a greater length")
    for place, needle in zip(sorted(rng.sample(range(len(lines)), len(needles)), reverse=True), needles, strict=True):
        lines.insert(place, needle)
    return setting.documents(lines, "\n")


def _noise(setting: Setting, room: int) -> list[str]:
    return [NOISE] * (room // setting.meter.counts([NOISE], "\n")[0])


def _other_needles(task: Niah, setting: Setting, room: int, taken: Set[str], rng: random.Random) -> list[str]:
    """Needles with other keys and values than those `taken`, as many as there is room for."""
    drawn = set(taken)
    lines: list[str] = []
    while True:
        some = [NEEDLE.format(kind=task.value, key=_draw(task.key, rng, drawn), value=_draw(task.value, rng, drawn)) for _ in range(64)]
        for line, count in zip(some, setting.meter.counts(some, "\n"), strict=True):
            if count > room:
                return lines
            room -= count
            lines.append(line)
