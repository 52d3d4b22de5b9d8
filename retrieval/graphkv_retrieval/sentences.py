"""Sentences as token ids: where a tokenised text has its sentence ends, found without tokenising anything again.

The letters of every token are known from the tokenizer's vocabulary; put together they are the text, and where a sentence begins in it
is a token's place. So text segments and segments of ready token ids are cut in one way, and every token belongs to exactly one sentence.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphkv.segments import split_sentences

Ints = NDArray[np.int64]

STRETCH = 20_000
"""Characters that the sentence splitter is given at once: its time and memory stay in proportion to the text."""

_EAST_ASIAN = re.compile("(?<=[。！？])(?=[^。！？」』”’）])")
"""Ends of sentences that no space follows."""

_HALF = "\ufffd"
"""What a token decodes to that holds a part of a character only."""


@dataclass(frozen=True, eq=False)
class Sentences:
    """A text of `T` tokens in `N` sentences.

    Attributes:
        ids: token ids ``[T]``, those of all segments one after the other.
        starts: ``[N + 1]``, where each sentence begins, and the end.
        segment: ``[N]``, the segment that each is of, as a place in `segments`.
        segments: ids of the segments, in order.
        cut: how many sentences were longer than allowed, and are several here.
    """

    ids: Ints
    starts: Ints
    segment: Ints
    segments: tuple[str, ...]
    cut: int = 0

    def __len__(self) -> int:
        return len(self.segment)

    @property
    def lengths(self) -> Ints:
        """Tokens of each sentence, ``[N]``."""
        return np.diff(self.starts)

    def tokens(self, chosen: Sequence[int] | Ints) -> Ints:
        """Token ids of some sentences, one after the other."""
        parts = [self.ids[self.starts[i] : self.starts[i + 1]] for i in chosen]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def find_sentences(tokenizer: Any, segments: Mapping[str, Sequence[int]], longest: int) -> Sentences:
    """The sentences of segments, given as token ids by segment id; one of more than `longest` tokens is cut into pieces of at most so many.

    Without a tokenizer every segment is one sentence.

    Example:
        >>> found = find_sentences(engine.model.tokenizer, tokens.segments, longest=1024)  # doctest: +SKIP
        >>> found.tokens([0])  # doctest: +SKIP
        array([ 17, 202,   4])
    """
    letters = Letters(tokenizer) if tokenizer is not None else None
    starts: list[Ints] = []
    owners: list[Ints] = []
    before = cut = 0
    ids = [np.asarray(tokens, dtype=np.int64) for tokens in segments.values()]
    for number, tokens in enumerate(ids):
        begins = np.zeros(1, dtype=np.int64) if letters is None else sentence_starts(letters, tokens)
        ends = np.append(begins[1:], len(tokens))
        long = np.flatnonzero(ends - begins > longest)
        if len(long):
            cut += len(long)
            pieces = [np.arange(begins[i], ends[i], longest) for i in long]
            begins = np.unique(np.concatenate((begins, *pieces)))
        starts.append(begins + before)
        owners.append(np.full(len(begins), number))
        before += len(tokens)
    return Sentences(np.concatenate(ids), np.append(np.concatenate(starts), before), np.concatenate(owners), tuple(segments), cut)


def sentence_starts(letters: Letters, ids: Ints) -> Ints:
    """The tokens that sentences begin with, the first being 0. A token that holds a sentence's end and the next one's start begins the next."""
    text, ends = letters.read(ids)
    cuts = np.fromiter(_starts(text), dtype=np.int64)
    return np.unique(np.append(0, np.searchsorted(ends, cuts, side="right")))


def _starts(text: str) -> Iterator[int]:
    """Where in `text` sentences begin, but for the first."""
    at = 0
    while at < len(text):
        stretch = text[at : at + STRETCH]
        sentences = [part for sentence in split_sentences(stretch) for part in _EAST_ASIAN.split(sentence) if part]
        whole = at + len(stretch) == len(text)
        # The last sentence of a stretch may go on behind it: it is read again with the next, unless it fills the stretch.
        if not whole and len(sentences) > 1:
            sentences.pop()
        for length in map(len, sentences):
            at += length
            if at < len(text) and (whole or len(sentences) > 1):
                yield at


class Letters:
    """What the tokens of a tokenizer spell, each looked up once.

    A token is decoded behind another one, since some tokenizers leave out the space in front of what comes first.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._known: dict[int, str] = {}
        self._runs: dict[tuple[int, ...], str] = {}  # of several tokens that are one character
        self._anchor: tuple[list[int], str] | None = None

    def read(self, ids: Ints) -> tuple[str, Ints]:
        """The text of some tokens, and for each token where it ends in it, ``[T]``."""
        tokens = ids.tolist()
        for token in set(tokens) - self._known.keys():
            self._known[token] = self._spelled([token])
        pieces = list(map(self._known.__getitem__, tokens))
        self._join_halves(tokens, pieces)
        return "".join(pieces), np.fromiter(itertools.accumulate(map(len, pieces)), dtype=np.int64, count=len(pieces))

    def _spelled(self, tokens: list[int]) -> str:
        if self._anchor is None:
            first = list(self.tokenizer("a", add_special_tokens=False)["input_ids"])
            self._anchor = (first, self._decode(first))
        ids, text = self._anchor
        return self._decode([*ids, *tokens])[len(text) :]

    def _decode(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        return text

    def _join_halves(self, tokens: list[int], pieces: list[str]) -> None:
        """A character that is spread over several tokens is given to the first of them: no sentence begins inside it."""
        halves = [i for i, piece in enumerate(pieces) if _HALF in piece]
        done = -1
        for first in halves:
            if first <= done:
                continue
            for end in range(first + 2, min(first + 5, len(tokens) + 1)):  # at most four bytes
                run = tuple(tokens[first:end])
                if run not in self._runs:
                    self._runs[run] = self._spelled(list(run))
                text = self._runs[run]
                if _HALF not in text:
                    pieces[first:end] = [text] + [""] * (end - first - 1)
                    done = end - 1
                    break
