"""What all tasks of RULER share: the model's tokenizer, the haystacks, the seed, and how a case is put together."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..cases import Case, Context, Documents, Form
from ..haystack import Haystack, Meter, documents_of, room_for

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
"""RULER's noise: this line again and again."""


@dataclass(frozen=True)
class Setting:
    """Attributes:

    meter: counts the model's tokens. essays: stands in for the essays. seed: of everything drawn.
    document_tokens: the text in documents of about so many tokens; 0 for a single one.
    bare: leave out the solved examples and the first words of the answer, for models that were trained to answer with the values alone.
    """

    meter: Meter
    essays: Haystack
    seed: int = 42
    document_tokens: int = 512
    bare: bool = False

    def rng(self, task: str, length: int, number: int) -> random.Random:
        """The random numbers of one case."""
        return random.Random(f"ruler {self.seed} {task} {length} {number}")

    def room(self, length: int, question: str, form: Form, max_new_tokens: int) -> int:
        """Tokens for the text. Raises LengthError if there are none."""
        around = self.meter.around([question], max_new_tokens, form)
        return room_for(length, around, self.meter.per_document(form), self.document_tokens)

    def bared(self, wording: Wording) -> Wording:
        """The wording, without the answer's first words if they are to be left out."""
        return replace(wording, form=replace(wording.form, answer="", answer_head="")) if self.bare else wording

    def documents(self, units: Sequence[str], separator: str) -> Documents:
        """The text as documents."""
        return documents_of(units, self.meter.counts(units, separator), separator, self.document_tokens)


@dataclass(frozen=True)
class Wording:
    """A task's prompt: RULER's text around the context, and how many tokens may be answered."""

    question: str
    form: Form
    max_new_tokens: int


def context_of(
    task: str, length: int, number: int, wording: Wording, golds: Sequence[str], build: Callable[[], Documents], depth: float | None = None
) -> Context:
    """One case as a context of its own."""
    name = f"{task}-{length}-{number}"
    case = Case(f"{name}-0", task, wording.question, tuple(golds), depth)
    return Context(name, length, (case,), build, "string_match_all", wording.max_new_tokens, wording.form)
