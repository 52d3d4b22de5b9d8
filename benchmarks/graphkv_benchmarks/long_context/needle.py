"""A needle in a haystack: one sentence with a key and a value at a depth, a question for the value."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from graphkv.errors import InputError

from ..citation_world.names import Names
from ..citation_world.needles import NEEDLES
from .cases import Case, Context, Documents
from .haystack import Haystack, Meter, documents_of, insert, room_for

MAX_NEW_TOKENS = 24


@dataclass(frozen=True)
class Needle:
    """A sentence to be hidden, what is asked about it, and the answer."""

    sentence: str
    question: str
    answer: str


def make_needle(phrasing: int, names: Names, rng: random.Random) -> Needle:
    """A needle in one of the citation world's phrasings, 0 being RULER's, with a key and a value that `names` has not given yet."""
    sentence, question = NEEDLES[phrasing]
    key = names.title() if rng.random() < 0.5 else names.word()
    # Numbers, keys and codes are digits, everything else is an invented word: as in citation_world.needles.
    digits = any(word in sentence for word in ("number", "key", "code"))
    value = names.number(rng.choice((5, 6, 7))) if digits else names.word()
    return Needle(sentence.replace("{K}", key).replace("{V}", value), question.replace("{K}", key), value)


def spread(count: int) -> list[float]:
    """So many depths from 0 to 1.

    Example:
        >>> spread(5), spread(1)
        ([0.0, 0.25, 0.5, 0.75, 1.0], [0.5])
    """
    return [0.5] if count == 1 else [round(i / (count - 1), 4) for i in range(count)]


def needle_contexts(
    meter: Meter,
    haystack: Haystack,
    lengths: Sequence[int],
    depths: Sequence[float],
    *,
    phrasings: int = 3,
    repeats: int = 1,
    per_context: int = 1,
    seed: int = 1,
    held_out: bool = True,
    document_tokens: int = 512,
    task: str = "needle",
) -> list[Context]:
    """Contexts with needles at every length and depth.

    Args:
        lengths: tokens of the whole prompt, the answer's room included. depths: from 0 to 1.
        phrasings: the first so many of ``citation_world.needles.NEEDLES``. repeats: cases of each length, depth and phrasing.
        per_context: so many cases share a haystack, each with a needle of its own; at other depths and in other words where there are any.
        held_out: keys and words that no training saw.
        document_tokens: the haystack in untitled documents of about so many tokens; 0 for a single one.

    Raises:
        InputError: more phrasings than there are. LengthError: a length without room for a haystack.
    """
    if not 1 <= phrasings <= len(NEEDLES):
        raise InputError(f"phrasings must be from 1 to {len(NEEDLES)}, got {phrasings}")
    found = []
    for length in lengths:
        # Neighbours in this order differ in depth and, as far as there are several, in phrasing.
        grid = [(depth, (i + turn) % phrasings) for _ in range(repeats) for turn in range(phrasings) for i, depth in enumerate(depths)]
        for number, start in enumerate(range(0, len(grid), per_context)):
            name = f"{task}-{length}-{number}"
            rng = random.Random(f"{name} {seed} {held_out}")
            names = Names(rng, held_out, 0.2)
            part = grid[start : start + per_context]
            needles = [make_needle(phrasing, names, rng) for _, phrasing in part]
            asked = [Case(f"{name}-{i}", task, n.question, (n.answer,), depth) for i, ((depth, _), n) in enumerate(zip(part, needles, strict=True))]
            room = room_for(
                length,
                meter.around([n.question for n in needles], MAX_NEW_TOKENS),
                meter.per_document(),
                document_tokens,
                sum(meter.counts([n.sentence for n in needles])),
            )
            placed = [(depth, n.sentence) for (depth, _), n in zip(part, needles, strict=True)]
            build = partial(bury, meter, haystack, room, rng.randrange(len(haystack.units)), placed, document_tokens)
            found.append(Context(name, length, tuple(asked), build, "exact", MAX_NEW_TOKENS))
    return found


def bury(meter: Meter, haystack: Haystack, room: int, start: int, needles: Sequence[tuple[float, str]], document_tokens: int) -> Documents:
    """Documents of `room` tokens of haystack, from its sentence number `start` on, with the needles at their depths."""
    units = haystack.take(room, start)
    units = insert(units, meter.counts(units, haystack.separator), needles)
    return documents_of(units, meter.counts(units, haystack.separator), haystack.separator, document_tokens)
