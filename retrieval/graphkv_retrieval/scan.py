"""Window by window through a text that is longer than a model's window, keeping the sentences that the question looks at (arXiv 2502.12962).

Each window is read behind the sentences kept so far, inside the prompt, in one forward. Of its attention only the question's rows are
computed (:mod:`graphkv.watch`)::

    prefix | kept sentences | window | question
             └──── columns ────────┘   └ rows ┘

A row's weights are summed over the heads, and over a phrase of neighbouring tokens; the row counts with the square of the attention that it
gives to the question itself; a token's score is the sum over the rows. The sentences of the best tokens are kept, whole and in order, and
compete again in the next window. Nothing else is carried along: no keys, no values.

The square, and that it is taken from the first window and kept, are not in the paper; they are what its authors' package does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

from graphkv.errors import ModelError
from graphkv.watch import Watch

from .sentences import Ints, Sentences

if TYPE_CHECKING:
    from graphkv.model import GraphModel

Heads = Mapping[int, tuple[int, ...] | None]
"""Layer → its heads, None for all of them."""


@dataclass(frozen=True)
class Settings:
    """How a text is read.

    Attributes:
        heads: whose attention decides. rows: ``question``, all of its rows, as the paper has it; ``last``, the prompt's last row alone, from
            which the answer's first token comes: it is there that retrieval heads look up what they copy.
        top_tokens: the best tokens, whose sentences are kept. phrase: tokens that a weight is summed over.
        budget: most tokens that may be kept. windows_at_once: windows that are read against the same kept sentences before they compete.
        batch_tokens: tokens of one forward, if it has more than one row.
    """

    heads: Heads
    rows: str = "question"
    top_tokens: int = 300
    phrase: int = 8
    budget: int | None = None
    windows_at_once: int = 1
    batch_tokens: int = 4096


@dataclass(frozen=True)
class Asked:
    """One question as it stands behind the documents: its `ids`, and where in them the user's own words start."""

    ids: tuple[int, ...]
    start: int = 0


@dataclass(eq=False)
class Kept:
    """What one question keeps.

    Attributes:
        sentences: their numbers, in the text's order. scores: each one's share of the question's attention, when it was last looked at.
        weights: how much each of the question's rows counts, as in the first window; None before it.
        tokens_read: tokens of the documents that were read, again for every time. tokens_computed: with prefix and question.
        over_budget: sentences that were left out for want of room.
    """

    sentences: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))
    weights: Tensor | None = None
    tokens_read: int = 0
    tokens_computed: int = 0
    over_budget: int = 0


@dataclass(frozen=True, eq=False)
class _Reading:
    """One row of a batch: a question, and the sentences that it reads now; `later` if its window is not the first of those read at once."""

    question: int
    later: bool
    sentences: Ints
    ids: Ints
    context: tuple[int, int]


def pack(lengths: Ints, window: int) -> list[Ints]:
    """Sentences by number, packed greedily into windows of at most `window` tokens; a longer sentence is a window of its own.

    Example:
        >>> [w.tolist() for w in pack(np.array([3, 3, 5, 1]), 6)]
        [[0, 1], [2, 3]]
    """
    windows: list[Ints] = []
    first = total = 0
    for number, length in enumerate(lengths.tolist()):
        if number > first and total + length > window:
            windows.append(np.arange(first, number))
            first, total = number, 0
        total += length
    return [*windows, np.arange(first, len(lengths))]


@torch.inference_mode()
def scan(
    model: GraphModel,
    text: Sentences,
    windows: Sequence[Ints],
    prefix: Sequence[int],
    questions: Sequence[Asked],
    settings: Settings,
    *,
    progress: Callable[[int, int], None] | None = None,
    watcher: Callable[[int, list[Kept]], None] | None = None,
) -> list[Kept]:
    """Read `windows` of `text` for every question, and tell what each keeps.

    Args:
        model: the model. text: the sentences. windows: their numbers, as :func:`pack` makes them.
        prefix: token ids before the documents. questions: what stands behind them.
        progress: called with tokens of the text that have been read, and all of them.
        watcher: called after every step with the number of windows read and what is kept.

    Raises:
        ModelError: the attention is not made of numbers, so that no sentence is better than another.
    """
    kept = [Kept() for _ in questions]
    lengths = text.lengths
    total = int(sum(lengths[window].sum() for window in windows))
    done = 0
    for start in range(0, len(windows), settings.windows_at_once):
        step = windows[start : start + settings.windows_at_once]
        readings = [_reading(text, prefix, q, question, kept[q], window, i > 0) for q, question in enumerate(questions) for i, window in enumerate(step)]
        scores: dict[int, list[tuple[Ints, Tensor]]] = {q: [] for q in range(len(questions))}
        for batch in _batches(readings, settings.batch_tokens):
            for reading, found in zip(batch, _token_scores(model, batch, questions, kept, settings), strict=True):
                scores[reading.question].append((reading.sentences, found))
        for q, mine in scores.items():
            _keep(kept[q], lengths, mine, settings)
        done += int(sum(lengths[window].sum() for window in step))
        if progress is not None:
            progress(done, total)
        if watcher is not None:
            watcher(min(start + settings.windows_at_once, len(windows)), kept)
    return kept


def _reading(text: Sentences, prefix: Sequence[int], number: int, question: Asked, kept: Kept, window: Ints, later: bool) -> _Reading:
    sentences = np.concatenate((kept.sentences, window))
    context = text.tokens(sentences)
    ids = np.concatenate((np.asarray(prefix, dtype=np.int64), context, np.asarray(question.ids, dtype=np.int64)))
    kept.tokens_read += len(context)
    kept.tokens_computed += len(ids)
    return _Reading(number, later, sentences, ids, (len(prefix), len(prefix) + len(context)))


def _batches(readings: list[_Reading], batch_tokens: int) -> Iterator[list[_Reading]]:
    """Readings of like length together, so that little is padding. The first window of each question comes before the later ones: it sets the weights."""
    batch: list[_Reading] = []
    for reading in sorted(readings, key=lambda r: (r.later, -len(r.ids))):
        if batch and max(len(r.ids) for r in (*batch, reading)) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(reading)
    yield batch


def _token_scores(model: GraphModel, batch: list[_Reading], questions: Sequence[Asked], kept: list[Kept], settings: Settings) -> list[Tensor]:
    """The score of every context token of each reading, float64 ``[C]``, on the CPU."""
    longest = max(len(reading.ids) for reading in batch)
    asked = [questions[reading.question] for reading in batch]
    counts = [1 if settings.rows == "last" else len(question.ids) - question.start for question in asked]
    ids = torch.full((len(batch), longest), model.pad_token_id)
    rows = torch.zeros(len(batch), max(counts), dtype=torch.long)
    for i, (reading, count) in enumerate(zip(batch, counts, strict=True)):
        ids[i, : len(reading.ids)] = torch.from_numpy(reading.ids)
        # A shorter question's last row is there several times, and not looked at.
        rows[i] = (len(reading.ids) - count + torch.arange(max(counts))).clamp(max=len(reading.ids) - 1)
    attention = torch.zeros(len(batch), max(counts), longest, dtype=torch.promote_types(model.dtype, torch.float32), device=model.device)

    def add(layer: int, part: slice, weights: Tensor) -> None:
        attention[:, part] += weights.sum(1).to(attention.device)

    model.watch(ids, Watch(settings.heads, rows, add))
    scores = []
    for i, (reading, count) in enumerate(zip(batch, counts, strict=True)):
        mine = attention[i, :count].cpu().double()
        owner = kept[reading.question]
        if owner.weights is None:
            owner.weights = mine[:, len(reading.ids) - count : len(reading.ids)].sum(1) ** 2 if settings.rows == "question" else mine.new_ones(1)
        first, last = reading.context
        scores.append(phrase_sums(owner.weights @ mine[:, first:last], settings.phrase))
        if not bool(scores[-1].isfinite().all()):
            raise ModelError(f"the attention of a window has values that are no numbers (overflow in {model.dtype}?): load the model with dtype='float32'")
    return scores


def phrase_sums(scores: Tensor, phrase: int) -> Tensor:
    """Each score ``[C]`` with its neighbours: ``phrase // 2`` before and ``(phrase - 1) // 2`` behind, zeros outside.

    Example:
        >>> phrase_sums(torch.tensor([1.0, 2.0, 4.0, 8.0]), 3)
        tensor([ 3.,  7., 14., 12.])
    """
    padded = pad(scores[None, None], (phrase // 2, (phrase - 1) // 2))
    return conv1d(padded, padded.new_ones(1, 1, phrase))[0, 0]


def _keep(kept: Kept, lengths: Ints, read: list[tuple[Ints, Tensor]], settings: Settings) -> None:
    """The sentences of the best tokens, as far as the budget goes; what was read in several windows counts as where it did best."""
    numbers = np.concatenate([sentences for sentences, _ in read])
    scores = np.concatenate([found.numpy() for _, found in read])
    of = np.repeat(numbers, lengths[numbers])  # [C] sentence of each token
    if len(read) > 1:
        numbers, of, scores = _merged(numbers, lengths, of, scores)
    top = min(settings.top_tokens, len(scores))
    best = np.argpartition(scores, len(scores) - top)[len(scores) - top :]
    chosen = np.unique(of[best])
    begins = np.append(0, np.cumsum(lengths[numbers])[:-1])
    place = np.searchsorted(numbers, chosen)
    if settings.budget is not None and lengths[chosen].sum() > settings.budget:
        peaks = np.maximum.reduceat(scores, begins)[place]
        fitting = _fitting(lengths[chosen], peaks, settings.budget)
        kept.over_budget += len(chosen) - len(fitting)
        chosen, place = chosen[fitting], place[fitting]
    kept.sentences = chosen
    kept.scores = np.add.reduceat(scores, begins)[place]


def _merged(numbers: Ints, lengths: Ints, of: Ints, scores: np.ndarray) -> tuple[Ints, Ints, np.ndarray]:
    """Every sentence once, in order, with the best score that each of its tokens had."""
    once = np.unique(numbers)
    starts = np.append(0, np.cumsum(lengths[once]))
    within = np.concatenate([np.arange(lengths[n]) for n in numbers])
    best = np.full(starts[-1], -np.inf)
    np.maximum.at(best, starts[np.searchsorted(once, of)] + within, scores)
    return once, np.repeat(once, lengths[once]), best


def _fitting(lengths: Ints, peaks: np.ndarray, budget: int) -> Ints:
    """The places of the sentences that fit: the best first, and whatever still has room."""
    taken, left = [], budget
    for place in np.argsort(-peaks, kind="stable").tolist():
        if lengths[place] <= left:
            taken.append(place)
            left -= int(lengths[place])
    return np.sort(np.array(taken, dtype=np.int64))
