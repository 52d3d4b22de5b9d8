"""RULER's variable tracking: a chain of assignments in noise; which variables have the value? One solved example comes first."""

from __future__ import annotations

import itertools
import random
import string
from collections.abc import Sequence
from functools import partial

from graphkv.errors import LengthError

from ..cases import Context, Documents, Form
from .setting import NOISE, Setting, Wording, context_of

HOPS = 4
MAX_NEW_TOKENS = 30
EXAMPLE_TOKENS = 500

INSTRUCTION = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
QUESTION = "Find all variables that are assigned the value {value} in the text above."
BEGUN = " According to the chain(s) of variable assignment in the text above, {count} variables are assigned the value {value}, they are: "


def variable_tracking(setting: Setting, name: str, length: int, number: int, hops: int = HOPS) -> Context:
    """One case: a chain of `hops` assignments behind the first one."""
    rng = setting.rng(name, length, number)
    variables, lines, value = chain(rng, hops, letters=5)
    wording = setting.bared(wording_of(value, hops, "" if setting.bare else example(setting, rng, hops)))
    room = setting.room(length, wording.question, wording.form, wording.max_new_tokens) - sum(setting.meter.counts(lines, "\n"))
    build = partial(_documents, setting, room, lines, rng.getrandbits(64))
    return context_of(name, length, number, wording, variables, build)


def wording_of(value: str, hops: int, solved: str = "") -> Wording:
    """RULER's prompt, behind a solved example."""
    form = Form(solved + INSTRUCTION, "Question: ", BEGUN.format(count=hops + 1, value=value), " Answer:")
    return Wording(QUESTION.format(value=value), form, MAX_NEW_TOKENS)


def chain(rng: random.Random, hops: int, letters: int) -> tuple[list[str], list[str], str]:
    """Variables, the lines that assign them, and the value that all of them have.

    Example:
        >>> chain(random.Random(1), 1, 3)[1]  # doctest: +SKIP
        ['VAR EOR = 41325', 'VAR IZC = VAR EOR ']
    """
    variables: list[str] = []
    while len(variables) <= hops:
        made = "".join(rng.choices(string.ascii_uppercase, k=letters))
        if made not in variables:
            variables.append(made)
    value = str(rng.randint(10_000, 99_998))
    # The space at the end is RULER's.
    return variables, [f"VAR {variables[0]} = {value}", *(f"VAR {b} = VAR {a} " for a, b in itertools.pairwise(variables))], value


def example(setting: Setting, rng: random.Random, hops: int) -> str:
    """A solved case of some five hundred tokens, with variables of three letters, as it stands in front of the instruction."""
    variables, lines, value = chain(rng, hops, letters=3)
    solved = wording_of(value, hops)
    around = INSTRUCTION + f"\nQuestion: {solved.question} Answer:{solved.form.answer} {' '.join(variables)}\n\n"
    room = EXAMPLE_TOKENS - setting.meter.count(around) - sum(setting.meter.counts(lines, "\n"))
    text = "\n".join(_hidden(setting, room, lines, rng))
    return f"{INSTRUCTION}{text}\nQuestion: {solved.question} Answer:{solved.form.answer} {' '.join(variables)}\n\n"


def _documents(setting: Setting, room: int, lines: Sequence[str], seed: int) -> Documents:
    return setting.documents(_hidden(setting, room, lines, random.Random(seed)), "\n")


def _hidden(setting: Setting, room: int, lines: Sequence[str], rng: random.Random) -> list[str]:
    """Noise of `room` tokens with the lines of a chain in it, in their order."""
    noise = [NOISE] * (room // setting.meter.counts([NOISE], "\n")[0] if room > 0 else 0)
    if len(noise) < len(lines):
        raise LengthError(f"there is room for {len(noise)} lines of noise among which {len(lines)} assignments should stand: choose a greater length")
    for order, place in enumerate(sorted(rng.sample(range(len(noise)), len(lines)))):
        noise.insert(place + order, lines[order])
    return noise
