"""Text of a wanted number of tokens: sentences with known token counts, needles between them, documents made of both.

Every sentence is tokenised once, with the separator in front of it. For tokenizers that never merge across white space (nearly all) the
sum is the count of the whole text, so a haystack of a million tokens is cut anywhere without being tokenised again.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphkv.engine import GraphKV
from graphkv.errors import DocumentError, LengthError
from graphkv.prompt import PromptTemplate, tokenize
from graphkv.segments import split_sentences

from ..citation_world.world import filler
from .cases import Documents, Form


class Meter:
    """Counts tokens of one tokenizer, each text once.

    Raises:
        InputError: the engine has no tokenizer.
    """

    def __init__(self, engine: GraphKV) -> None:
        self.tokenizer: Any = engine.model.tokenizer
        self.template: PromptTemplate = engine.template
        self._known: dict[str, int] = {"": 0}
        self.count(" ")

    def count(self, text: str) -> int:
        """Tokens of a text."""
        if text not in self._known:
            self._known[text] = len(tokenize(self.tokenizer, text))
        return self._known[text]

    def counts(self, units: Sequence[str], separator: str = " ") -> list[int]:
        """Tokens of each unit with the separator in front of it."""
        new = [text for text in dict.fromkeys(separator + unit for unit in units) if text not in self._known]
        for start in range(0, len(new), 4096):
            part = new[start : start + 4096]
            ids = self.tokenizer(part, add_special_tokens=False)["input_ids"]
            self._known.update((text, len(row)) for text, row in zip(part, ids, strict=True))
        return [self._known[separator + unit] for unit in units]

    def around(self, questions: Iterable[str], max_new_tokens: int, form: Form | None = None) -> int:
        """Tokens of everything but the documents: prefix, the longest question, the answer's beginning, room for the answer."""
        template = form.template(self.template) if form else self.template
        begun = self.count(form.begin(self.template)) if form else 0
        return self.count(template.prefix) + max(self.count(template.ask(q)) for q in questions) + begun + max_new_tokens

    def per_document(self, form: Form | None = None) -> int:
        """Tokens that an untitled document has beside its text."""
        template = form.template(self.template) if form else self.template
        return self.count(template.untitled.replace("{text}", ""))


@dataclass(frozen=True)
class Haystack:
    """Sentences, the tokens of each, and what stands between them.

    Example:
        >>> hay = Haystack(("It rains.", "It pours.", "It stops."), (3, 3, 3), " ")
        >>> hay.take(7), hay.take(4, start=2)
        (['It rains.', 'It pours.'], ['It stops.'])
    """

    units: tuple[str, ...]
    counts: tuple[int, ...]
    separator: str = " "

    def take(self, tokens: int, start: int = 0) -> list[str]:
        """As many sentences as fit into `tokens`, from number `start` on, begun again at the end.

        Raises:
            LengthError: not even one does.
        """
        found: list[str] = []
        for i in itertools.count(start):
            place = i % len(self.units)
            if self.counts[place] > tokens:
                break
            tokens -= self.counts[place]
            found.append(self.units[place])
        if not found:
            raise LengthError("the context has no room for a single sentence beside the prompt: choose a greater length")
        return found


def filler_haystack(meter: Meter, tokens: int, seed: int) -> Haystack:
    """Sentences about nothing, as the citation world has them, at least `tokens` of them unless they begin again."""
    rng = random.Random(f"haystack {seed}")
    units: list[str] = []
    total = 0
    while total < tokens and len(units) < 100_000:
        some = [filler(rng) for _ in range(1024)]
        units += some
        total += sum(meter.counts(some))
    return Haystack(tuple(units), tuple(meter.counts(units)))


def repeated_haystack(meter: Meter, text: str, separator: str = " ") -> Haystack:
    """The sentences of a text, over and over."""
    units = [sentence.strip() for sentence in split_sentences(text)]
    return Haystack(tuple(units), tuple(meter.counts(units, separator)), separator)


def text_haystack(meter: Meter, path: Path) -> Haystack:
    """The sentences of a file, over and over if it is too short.

    Raises:
        DocumentError: the file cannot be read as UTF-8 text, or holds none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path} cannot be read as UTF-8 text: {error}") from None
    units = [" ".join(sentence.split()) for sentence in split_sentences(text) if sentence.strip()]
    if not units:
        raise DocumentError(f"{path} is empty: expected text for the haystack")
    return Haystack(tuple(units), tuple(meter.counts(units)))


def insert(units: Sequence[str], counts: Sequence[int], needles: Sequence[tuple[float, str]]) -> list[str]:
    """Put each needle at the sentence border nearest to its depth: 0 before the first sentence, 1 behind the last.

    Example:
        >>> insert(["a.", "b.", "c.", "d."], [2, 2, 2, 2], [(0.5, "N"), (1.0, "E"), (0.0, "S")])
        ['S', 'a.', 'b.', 'N', 'c.', 'd.', 'E']
    """
    ends = [0, *itertools.accumulate(counts)]
    placed = []
    for order, (depth, needle) in enumerate(needles):
        wanted = depth * ends[-1]
        border = bisect.bisect_left(ends, wanted)
        if border and (border == len(ends) or wanted - ends[border - 1] < ends[border] - wanted):
            border -= 1
        placed.append((border, order, needle))
    found = list(units)
    for border, _, needle in sorted(placed, reverse=True):
        found.insert(border, needle)
    return found


def documents_of(units: Sequence[str], counts: Sequence[int], separator: str, document_tokens: int) -> Documents:
    """Untitled documents of at least `document_tokens` tokens each (but the last), cut between units; one document for 0."""
    groups: list[list[str]] = [[]]
    total = 0
    for unit, count in zip(units, counts, strict=True):
        if document_tokens and total >= document_tokens:
            groups.append([])
            total = 0
        groups[-1].append(unit)
        total += count
    return [{"id": f"h{i}", "text": separator.join(group)} for i, group in enumerate(groups)]


def room_for(length: int, around: int, per_document: int, document_tokens: int, needles: int = 0) -> int:
    """Tokens that are left for the haystack.

    Args:
        around: what :meth:`Meter.around` says. per_document: what :meth:`Meter.per_document` says. needles: tokens of all needles.

    Raises:
        LengthError: none are.
    """
    documents = length // document_tokens + 1 if document_tokens else 1
    left = length - around - needles - documents * per_document
    if left <= 0:
        raise LengthError(f"a length of {length} tokens has no room for a haystack: question, answer and needles take {length - left}; choose a greater one")
    return left
