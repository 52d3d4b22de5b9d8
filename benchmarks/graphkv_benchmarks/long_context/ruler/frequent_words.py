"""RULER's frequent words: coded words whose counts fall as a power of their rank; which three are the most frequent?"""

from __future__ import annotations

import random
import string
from functools import partial

from graphkv.errors import LengthError

from ..cases import Context, Documents, Form
from .setting import Setting, Wording, context_of

ALPHA = 2.0
LETTERS = 6
MAX_NEW_TOKENS = 50

INSTRUCTION = "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded words. "
QUESTION = (
    "Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared words in the above coded text?"
)
BEGUN = " According to the coded text above, the three most frequently appeared words are:"
WORDING = Wording(QUESTION, Form(INSTRUCTION, "Question: ", BEGUN, " Answer:"), MAX_NEW_TOKENS)


def frequent_words(setting: Setting, name: str, length: int, number: int) -> Context:
    """One case; the vocabulary has a word for every fifty tokens, and the most frequent "word" are dots."""
    rng = setting.rng(name, length, number)
    words: list[str] = []
    known: set[str] = set()
    while len(words) < (length - MAX_NEW_TOKENS) // 50:
        made = "".join(rng.choices(string.ascii_lowercase, k=LETTERS))
        if made not in known:
            known.add(made)
            words.append(made)
    words[:1] = ["..."]
    wording = setting.bared(WORDING)
    room = setting.room(length, QUESTION, wording.form, MAX_NEW_TOKENS)
    counts = _counts_that_fit(setting, words, room)
    build = partial(_documents, setting, words, counts, rng.getrandbits(64))
    return context_of(name, length, number, wording, words[1:4], build)


def zeta(alpha: float) -> float:
    """Riemann's zeta for alpha > 1: the first terms, and Euler and Maclaurin's formula for the rest.

    Example:
        >>> round(zeta(2.0), 9), round(zeta(4.0), 9)
        (1.644934067, 1.082323234)
    """
    n = 1000
    return float(sum(k**-alpha for k in range(1, n)) + n ** (1 - alpha) / (alpha - 1) + n**-alpha / 2 + alpha * n ** (-alpha - 1) / 12)


def word_counts(words: int, total: int, alpha: float = ALPHA) -> list[int]:
    """How often the word of each rank stands among about `total` words.

    Example:
        >>> word_counts(4, 1000)
        [607, 151, 67, 37]
    """
    scale = total / zeta(alpha)
    return [int(scale * rank**-alpha) for rank in range(1, words + 1)]


def _counts_that_fit(setting: Setting, words: list[str], room: int) -> list[int]:
    """The counts of the longest text of at most `room` tokens, in RULER's steps of a 32nd. Raises LengthError if the three would not differ."""
    costs = setting.meter.counts(words)
    step, total = max(1, room // 32), 0
    counts: list[int] = []
    while True:
        total += step
        longer = word_counts(len(words), total)
        if sum(count * cost for count, cost in zip(longer, costs, strict=True)) > room:
            break
        counts = longer
    if len(counts) < 5 or not counts[1] > counts[2] > counts[3] > counts[4]:
        raise LengthError(f"in {room} tokens the most frequent words do not differ in how often they stand: choose a greater length")
    return counts


def _documents(setting: Setting, words: list[str], counts: list[int], seed: int) -> Documents:
    every = [word for word, count in zip(words, counts, strict=True) for _ in range(count)]
    random.Random(seed).shuffle(every)
    return setting.documents(every, " ")
