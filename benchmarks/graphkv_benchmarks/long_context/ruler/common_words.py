"""RULER's common words: a numbered list in which ten words stand more often than the others. One solved example comes first."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from graphkv.errors import LengthError

from ..cases import Context, Documents, Form
from .setting import Setting, Wording, context_of
from .words import sample_words

COMMON = 10
MAX_NEW_TOKENS = 120
LONG = 4096
"""From this length on common words stand 30 times and others 3 times; below, and where that has no room, 6 times and once."""

INSTRUCTION = (
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often.\n"
)
QUESTION = f"What are the {COMMON} most common words in the above list?"
BEGUN = f" The top {COMMON} words that appear most often in the list are:"


def common_words(setting: Setting, name: str, length: int, number: int) -> Context:
    """One case, with as many different words as there is room for."""
    if length >= LONG:
        try:
            return _common_words(setting, name, length, number, (30, 3), (40, 10, 3))
        except LengthError:
            pass  # a tokenizer of many tokens a word: RULER's shorter list is the one that fits
    return _common_words(setting, name, length, number, (6, 1), (20, 3, 1))


def _common_words(setting: Setting, name: str, length: int, number: int, stand: tuple[int, int], example: tuple[int, int, int]) -> Context:
    rng = setting.rng(name, length, number)
    solved, common = numbered(rng, *example)
    before = "" if setting.bare else f"{INSTRUCTION}{' '.join(solved)}\nQuestion: {QUESTION} Answer:{BEGUN} {listed(common)}\n"
    wording = setting.bared(Wording(QUESTION, Form(before + INSTRUCTION, "Question: ", BEGUN, " Answer:"), MAX_NEW_TOKENS))
    room = setting.room(length, QUESTION, wording.form, MAX_NEW_TOKENS)
    seed = rng.getrandbits(64)
    words = _most_words(setting, room, seed, *stand)
    _, common = numbered(random.Random(seed), words, *stand)
    return context_of(name, length, number, wording, common, partial(_documents, setting, seed, words, *stand))


def numbered(rng: random.Random, words: int, often: int, seldom: int) -> tuple[list[str], list[str]]:
    """``["1. oak", "2. pine", ...]`` of so many different words in random order, and the ten that stand `often` times."""
    drawn = sample_words(words, rng)
    common = drawn[:COMMON]
    every = common * often + drawn[COMMON:] * seldom
    rng.shuffle(every)
    return [f"{i}. {word}" for i, word in enumerate(every, start=1)], common


def listed(words: Sequence[str]) -> str:
    """``"1. oak 2. pine"``"""
    return " ".join(f"{i}. {word}" for i, word in enumerate(words, start=1))


def _most_words(setting: Setting, room: int, seed: int, often: int, seldom: int) -> int:
    """The most different words whose list has at most `room` tokens. Raises LengthError if even the common ones are too many."""

    def tokens(words: int) -> int:
        return sum(setting.meter.counts(numbered(random.Random(seed), words, often, seldom)[0]))

    low = COMMON + 1
    if tokens(low) > room:
        raise LengthError(f"the shortest list has {tokens(low)} tokens, there is room for {room}: choose a greater length")
    high = low + room // (2 * seldom)  # a word and its number are two tokens at least
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tokens(middle) <= room else (low, middle - 1)
    return low


def _documents(setting: Setting, seed: int, words: int, often: int, seldom: int) -> Documents:
    return setting.documents(numbered(random.Random(seed), words, often, seldom)[0], " ")
