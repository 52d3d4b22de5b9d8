"""Retrieval heads: which heads of a model look at the place that the answer is copied from, and where that is written down.

Two scores, both from needles in a haystack that the model answers rightly:

*copy* ("Retrieval Head", arXiv 2404.15574, section 2): while the answer is written, how often a head's highest attention falls on the token
of the needle that is being copied; over needles that were answered. *found*: how often, before anything is written, one of the best tokens by
a scan's score (:mod:`graphkv_retrieval.scan`) is the needle's, if the head is read alone; once with the question's rows, once with the prompt's
last row. A scan needs *found*, and the two are not the same: a head that copies has often nothing to look at yet while the question is read.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphkv.errors import InputError, check_count
from graphkv.generate import complete_prompts, decoding
from graphkv.model import EMBEDDED, GraphModel
from graphkv.strategies import Host
from graphkv.watch import Watch

from .needles import Needle, make_needles
from .scan import phrase_sums

FILE = "graphkv_heads.json"
"""Beside the model's weights."""

BESIDE = 0.8
"""The found score that a head must have to be saved with the best one."""


@dataclass(frozen=True, eq=False)
class HeadScores:
    """What was measured.

    Attributes:
        copy: ``[layers, heads]``, share of the copied tokens. question, last: ``[layers, heads]``, share of the needles that were found with the
            question's rows, with the last row.
        needles: asked. answered: of these, answered rightly. copied: tokens that were copied from a needle.
    """

    copy: Tensor
    question: Tensor
    last: Tensor
    needles: int
    answered: int
    copied: int

    def ranked(self, by: str) -> list[tuple[int, int]]:
        """(layer, head), the best first, `by` one of ``copy``, ``question``, ``last``; of equals the lower layer, behind which a scan can stop."""
        scores = {"copy": self.copy, "question": self.question, "last": self.last}[by]
        pairs = [(layer, head) for layer in range(scores.shape[0]) for head in range(scores.shape[1])]
        return sorted(pairs, key=lambda pair: (-round(float(scores[pair]), 6), pair))

    @property
    def rows(self) -> str:
        """The rows that find more, ``question`` or ``last``, by the best head of each."""
        return "last" if float(self.last.max()) > float(self.question.max()) else "question"

    def best(self, top: int = 2, threshold: float = BESIDE) -> list[tuple[int, int]]:
        """At most `top` heads that find, by :attr:`rows`, and copy at least `threshold` of the time; the one that finds best if there are none."""
        scores, ranked = self.last if self.rows == "last" else self.question, self.ranked(self.rows)
        good = [pair for pair in ranked if float(scores[pair]) >= threshold and (not self.copied or float(self.copy[pair]) >= threshold)]
        return sorted((good or ranked[:1])[:top])


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
        engine: the model with its template. n: needles. length: tokens of a haystack; the needle's depth goes evenly through it.
        seed: chooses names, values and filler. phrase: as in a scan. text: the haystack; invented filler without it.
        progress: called with needles done, and all of them.

    Raises:
        InputError: no room for such a haystack in the model's window, or numbers that cannot be meant.

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
    copy, question, last = (torch.zeros(layers, heads, dtype=torch.float64) for _ in range(3))
    answered = copied = 0
    for number, needle in enumerate(make_needles(n, seed)):
        case = _Case.of(engine, needle, length, text, (number + 0.5) / n, random.Random(f"hay {seed} {number}"))
        if case.answer(model) == needle.value:
            answered += 1
            hits, tokens = case.copies(model, layers, heads)
            copy += hits
            copied += tokens
        by_question, by_last = case.finds(model, layers, heads, phrase)
        question += by_question
        last += by_last
        if progress is not None:
            progress(number + 1, n)
    return HeadScores(copy / max(copied, 1), question / n, last / n, n, answered, copied)


@dataclass(frozen=True, eq=False)
class _Case:
    """One needle as token ids: the prompt, where the needle and its value are, where the question begins, the answer."""

    prompt: list[int]
    context: tuple[int, int]
    needle: tuple[int, int]
    question: int
    wanted: list[int]

    @classmethod
    def of(cls, engine: Host, needle: Needle, length: int, text: str | None, depth: float, rng: random.Random) -> _Case:
        reader, template = engine.reader, engine.template
        opening, _, closing = template.untitled.partition("{text}")
        sentences = [reader.ids(f" {sentence}") for sentence in needle.hay(rng, length, text)]
        while sum(map(len, sentences)) > length and len(sentences) > 1:
            sentences.pop()
        sentences.insert(round(depth * len(sentences)), reader.ids(f" {needle.sentence}"))
        place = round(depth * (len(sentences) - 1))
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

    def finds(self, model: GraphModel, layers: int, heads: int, phrase: int) -> tuple[Tensor, Tensor]:
        """1 for each head by which one of the `phrase` best tokens is the needle's: with the question's rows, with the last."""
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
            summed = torch.stack([phrase_sums(row, phrase) for row in scores.flatten(0, 2)]).reshape(scores.shape)
        best = summed.topk(min(phrase, last - first)).indices + first
        hit = ((best >= self.needle[0]) & (best < self.needle[1])).any(-1).double()
        return hit[0], hit[1]


def question_start(engine: Host, ids: Sequence[int]) -> int:
    """Where the user's own words begin in a question as it was tokenised with its template: behind what the template has in front of it.

    A token that holds the last of the template and the first of the question counts as the question's.
    """
    lead = engine.reader.ids(engine.template.question.partition("{question}")[0])
    same = next((i for i, (a, b) in enumerate(zip(lead, ids, strict=False)) if a != b), min(len(lead), len(ids)))
    return min(same, len(ids) - 1)


@dataclass(frozen=True)
class SavedHeads:
    """What is written down for a model.

    Attributes:
        heads: (layer, head). rows, window, top_tokens: settings that go well with them, None for the paper's.
        note: why they are not to be used, if they are not.
    """

    heads: tuple[tuple[int, int], ...]
    rows: str | None = None
    window: int | None = None
    top_tokens: int | None = None
    note: str = ""


def place_of_heads(model: GraphModel) -> Path:
    """The file: in the model's folder, or for a model from elsewhere in the user's cache, named by its weights."""
    folder = EMBEDDED if model.name == "embedded" else Path(model.name) if model.name else None
    if folder is not None and (folder / "config.json").is_file():
        return folder / FILE
    from platformdirs import user_cache_path

    return user_cache_path("graphkv") / "heads" / f"{model.fingerprint}.json"


def save_heads(model: GraphModel, scores: HeadScores, heads: Sequence[tuple[int, int]], *, window: int | None = None, top_tokens: int | None = None) -> Path:
    """Write down `heads`, with the scores, where :func:`saved_heads` finds them. The file is whole or not there.

    Raises:
        InputError: the place cannot be written to.
    """
    place = place_of_heads(model)
    row: dict[str, Any] = {
        "weights": model.fingerprint,
        "dtype": str(model.dtype).removeprefix("torch."),
        "shape": _shape(model),
        "heads": [list(pair) for pair in heads],
        "rows": scores.rows,
        "window": window,
        "top_tokens": top_tokens,
        "needles": scores.needles,
        "answered": scores.answered,
        "copied": scores.copied,
        **{name: [[round(float(v), 4) for v in layer] for layer in getattr(scores, name)] for name in ("copy", "question", "last")},
    }
    scratch = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(_lines(row), encoding="utf-8")
        scratch.replace(place)
    except OSError as error:
        raise InputError(f"the heads cannot be saved at {place}: {error}") from error
    return place


def saved_heads(model: GraphModel) -> SavedHeads | None:
    """What was saved for this model; with a `note`, and not to be used, if it was measured on another one. None if there is nothing.

    Raises:
        InputError: the file is there and is none of ours.
    """
    place = place_of_heads(model)
    try:
        row = json.loads(place.read_text(encoding="utf-8"))
        heads = tuple((int(layer), int(head)) for layer, head in row["heads"])
        shape, weights, dtype = row["shape"], row["weights"], row["dtype"]
        rows, window, top_tokens = row["rows"], row.get("window"), row.get("top_tokens")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{place} is no file of retrieval heads ({error}): make it anew with graphkv heads, or remove it") from error
    for value in (window, top_tokens):
        if value is not None:
            check_count(f"{place}: window and top_tokens", value)
    # The same weights in another dtype have another fingerprint, and the same heads.
    other = shape != _shape(model) or (dtype == str(model.dtype).removeprefix("torch.") and weights != model.fingerprint)
    if other or not heads or any(not 0 <= layer < shape[0] or not 0 <= head < shape[1] for layer, head in heads):
        return SavedHeads((), note=f"{place.name} was made for another model: the last layer is read; make it anew with graphkv heads")
    return SavedHeads(heads, rows, window, top_tokens)


def _shape(model: GraphModel) -> list[int]:
    config = model.config
    return [len(model.ropes), int(config.num_attention_heads), int(config.hidden_size), int(config.vocab_size)]


def _lines(row: dict[str, Any]) -> str:
    """One key a line: short, and readable in a diff."""
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in row.items()) + "\n}\n"
