"""Retrieval heads: which heads of a model look at the place that the answer is copied from.

Two scores, both from needles in a haystack that the model answers rightly:

*copy* ("Retrieval Head", arXiv 2404.15574, section 2): while the answer is written, how often a head's highest attention falls on the token
of the needle that is being copied; over needles that were answered. *found*: how often, before anything is written, a token of the needle is
among the best by a scan's score (:mod:`graphkv_retrieval.scan`), if the head is read alone; once with the question's rows, once with the
prompt's last row. By how much it is better, the *margin*, says how sure that is, window after window. A scan needs the second, and they are not
the same: a head that copies has often nothing to look for yet while the question is read.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphkv.errors import InputError, check_count
from graphkv.generate import complete_prompts, decoding
from graphkv.model import GraphModel
from graphkv.segments import split_sentences
from graphkv.strategies import Host
from graphkv.watch import Watch

from .needles import Needle, hay, make_needles
from .scan import phrase_sums

ROWS = ("question", "last")
"""Whose attention is read: the rows of the question, as InfiniRetri has it, or the prompt's last row, from which the answer's first token comes."""

BESIDE = 0.8
"""How often a head must find, and copy, to be saved."""

SHORTEST = 64
"""Tokens of the shortest haystack: in a shorter one there is next to nothing that a needle could be mistaken for."""


@dataclass(frozen=True, eq=False)
class HeadScores:
    """What was measured.

    Attributes:
        copy: ``[layers, heads]``, share of the copied tokens.
        margins: ``[needles, 2, layers, heads]``, natural logarithm of the needle's best score over the best of the rest (but for as many tokens as a
            phrase has); with the question's rows, and with the last row.
        answered: needles answered rightly. copied: tokens that were copied from one.
    """

    copy: Tensor
    margins: Tensor
    answered: int
    copied: int

    @property
    def needles(self) -> int:
        """Needles that were asked for."""
        return len(self.margins)

    def found(self, rows: str) -> Tensor:
        """Share of the needles that each head finds, ``[layers, heads]``, with the rows ``question`` or ``last``."""
        return (self.margins[:, ROWS.index(rows)] > 0).double().mean(0)

    @property
    def rows(self) -> str:
        """The rows with which the surest head is surer."""
        question, last = self.margins.median(0).values.flatten(1).amax(1).tolist()
        return "last" if last > question else "question"

    def ranked(self, rows: str | None = None) -> list[tuple[int, int]]:
        """(layer, head), the greatest median margin first, with these rows or the better ones; of equals the lower layer, behind which a scan can stop."""
        margins = self.margins[:, ROWS.index(rows or self.rows)].median(0).values
        pairs = [(layer, head) for layer in range(margins.shape[0]) for head in range(margins.shape[1])]
        return sorted(pairs, key=lambda pair: (-round(float(margins[pair]), 6), pair))

    def reaching(self, threshold: float = BESIDE) -> list[tuple[int, int]]:
        """The heads that find, with :attr:`rows`, and copy at least `threshold` of the time, the greatest margin first; none if nothing was copied."""
        found = self.found(self.rows)
        return [pair for pair in self.ranked() if self.copied and min(float(found[pair]), float(self.copy[pair])) >= threshold]

    def best(self, top: int = 2, threshold: float = BESIDE) -> list[tuple[int, int]]:
        """The first `top` of :meth:`reaching`; where no head reaches the threshold, the one with the greatest margin."""
        return sorted((self.reaching(threshold) or self.ranked()[:1])[:top])


def tables(scores: HeadScores) -> dict[str, Tensor]:
    """What a table of heads shows, each ``[layers, heads]``: copy, found with either rows, and the median margin with the better ones."""
    margin = scores.margins[:, ROWS.index(scores.rows)].median(0).values
    return {"copy": scores.copy, **{rows: scores.found(rows) for rows in ROWS}, "margin": margin}


def detect_heads(
    engine: Host,
    *,
    n: int = 32,
    length: int = 1024,
    seed: int = 0,
    phrase: int = 8,
    text: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> HeadScores:
    """Ask for `n` needles and look where each head looks.

    Args:
        engine: the model with its template. n: needles. length: tokens of a haystack, at least 64; the needle's depth goes evenly through it.
        seed: chooses names, values and filler. phrase: as in a scan. text: the haystack; invented filler without it.
        progress: called with needles done, and all of them.

    Raises:
        InputError: no room for such a haystack in the model's window, an empty `text`, or numbers that cannot be meant.

    Example:
        >>> detect_heads(GraphKV.from_pretrained(), n=16).best()  # doctest: +SKIP
        [(3, 0), (3, 1)]
    """
    for name, value in (("n", n), ("length", length), ("phrase", phrase)):
        check_count(name, value)
    model = engine.model
    layers, heads = len(model.ropes), int(model.config.num_attention_heads)
    if length > model.window // 2:
        raise InputError(f"length={length} is more than half of the model's window of {model.window}: needle, question and answer come on top")
    if length < SHORTEST:
        raise InputError(f"length={length} is too short for a haystack: expected at least {SHORTEST} tokens")
    own = None if text is None else [sentence.strip() for sentence in split_sentences(text) if sentence.strip()]
    if own is not None and not own:
        raise InputError("the text to hide needles in is empty: expected some sentences")
    copy, margins = torch.zeros(layers, heads, dtype=torch.float64), []
    answered = copied = 0
    for number, needle in enumerate(make_needles(n, seed)):
        case = _Case.of(engine, needle, length, own, (number + 0.5) / n, random.Random(f"hay {seed} {number}"))
        if case.answer(model) == needle.value:
            answered += 1
            hits, tokens = case.copies(model, layers, heads)
            copy += hits
            copied += tokens
        margins.append(case.margins(model, layers, heads, phrase))
        if progress is not None:
            progress(number + 1, n)
    return HeadScores(copy / max(copied, 1), torch.stack(margins), answered, copied)


@dataclass(frozen=True, eq=False)
class _Case:
    """One needle as token ids: the prompt, where the needle and its value are, where the question begins, the answer."""

    prompt: list[int]
    context: tuple[int, int]
    needle: tuple[int, int]
    question: int
    wanted: list[int]

    @classmethod
    def of(cls, engine: Host, needle: Needle, length: int, own: Sequence[str] | None, depth: float, rng: random.Random) -> _Case:
        reader, template = engine.reader, engine.template
        opening, _, closing = template.untitled.partition("{text}")
        sentences: list[tuple[int, ...]] = []
        left = length
        for sentence in itertools.islice(hay(rng, own), length):  # a token each, at the least
            ids = reader.ids(f" {sentence}")
            if len(ids) > left and sentences:
                break
            sentences.append(ids[:left])
            left -= len(sentences[-1])
        place = round(depth * len(sentences))
        sentences.insert(place, reader.ids(f" {needle.sentence}"))
        before = [*reader.ids(template.prefix), *reader.ids(opening)]
        start = len(before) + sum(map(len, sentences[:place]))
        context = [token for ids in sentences for token in ids] + list(reader.ids(closing))
        asked = reader.read([{"id": "a", "text": "a"}], [needle.question], None).questions[0]
        lead = question_start(engine, asked)
        prompt = [*before, *context, *asked]
        ends = (len(before), len(before) + len(context))
        return cls(prompt, ends, (start, start + len(sentences[place])), ends[1] + lead, list(reader.answer(needle.value)))

    def answer(self, model: GraphModel) -> str:
        config = decoding(model, len(self.prompt), len(self.wanted) + 2, (), None)
        return complete_prompts(model, [self.prompt], config)[0][0].text.strip().rstrip(".")

    def copies(self, model: GraphModel, layers: int, heads: int) -> tuple[Tensor, int]:
        """How often each head looks at the token that is being copied, and how many are."""
        first, last = self.needle
        here = self.prompt[first:last]
        steps = [i for i, token in enumerate(self.wanted) if token in here]
        ids = [*self.prompt, *self.wanted]
        hits = torch.zeros(layers, heads, dtype=torch.float64)
        if not steps:
            return hits, 0
        rows = torch.tensor([len(self.prompt) - 1 + i for i in steps])
        copied = torch.tensor([self.wanted[i] for i in steps])
        tokens = torch.tensor(ids)

        def look(layer: int, part: slice, weights: Tensor) -> None:
            top = weights[0].argmax(-1).cpu()  # [H, R]
            hits[layer] += ((tokens[top] == copied[part]) & (top >= first) & (top < last)).double().sum(-1)

        with torch.inference_mode():
            model.watch(tokens[None], Watch(dict.fromkeys(range(layers)), rows[None], look))
        return hits, len(steps)

    def margins(self, model: GraphModel, layers: int, heads: int, phrase: int) -> Tensor:
        """``[2, layers, heads]``, as :attr:`HeadScores.margins` of one needle."""
        rows = torch.arange(self.question, len(self.prompt))
        first, last = self.context
        scores = torch.zeros(2, layers, heads, last - first, dtype=torch.float64)

        def add(layer: int, part: slice, weights: Tensor) -> None:
            mine = weights[0].double().cpu()
            mass = mine[:, :, self.question :].sum(-1) ** 2
            scores[0, layer] += torch.einsum("hr,hrc->hc", mass, mine[:, :, first:last])
            scores[1, layer] = mine[:, -1, first:last]  # the last block's stays

        with torch.inference_mode():
            model.watch(torch.tensor([self.prompt]), Watch(dict.fromkeys(range(layers)), rows[None], add))
            summed = torch.stack([phrase_sums(row, phrase) for row in scores.flatten(0, 2)]).reshape(scores.shape).clamp(min=1e-30)
            begin, end = self.needle[0] - first, self.needle[1] - first
            rest = torch.cat((summed[..., : max(0, begin - phrase)], summed[..., end + phrase :]), dim=-1)  # what touches the needle counts for neither
            return (summed[..., begin:end].amax(-1) / rest.topk(min(phrase, rest.shape[-1])).values[..., -1]).log()


def question_start(engine: Host, ids: Sequence[int]) -> int:
    """Where the user's own words begin in a question as it was tokenised with its template: behind what the template has in front of it.

    A token that holds the last of the template and the first of the question counts as the question's.
    """
    lead = engine.reader.ids(engine.template.question.partition("{question}")[0])
    same = next((i for i, (a, b) in enumerate(zip(lead, ids, strict=False)) if a != b), min(len(lead), len(ids)))
    return min(same, len(ids) - 1)
