"""Answers that are being written over one context, together: rows join and leave between any two tokens.

    step      row 0        row 1        row 2
    1         question                             a question is read in one forward, and gives the row's first token
    2         token        question
    3         token        token        question
    4                      token        token      row 0 has ended and is gone

The context is shared and never copied (:mod:`graphkv.shared`); each row has keys and values of its own for its question and its answer, which stand
against the right edge of one tensor a layer, with padding in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graphkv.assemble import AssembledContext
from graphkv.generate import TextStream
from graphkv.model import GraphModel
from graphkv.sampling import Sampling, next_tokens
from graphkv.shared import Looks, SharedReading

_TOKENS, _PAIRS = 4096, 2**24
"""Tokens of questions, and pairs of them in a mask, that one forward takes: questions beyond it are read in several."""

_KEPT = 16
"""Parts of the context whose share is kept for every token."""


@dataclass(eq=False)
class Row:
    """One answer on its way.

    Attributes:
        question: its token ids. sampling: how tokens are chosen. limit: the most new tokens. ends: ids that end it.
        text: what has been written. looks: for every token that was written, its attention on the parts of the context that had most of it.
        finish_reason: ``"stop"`` or ``"length"`` once it has ended.
    """

    question: tuple[int, ...]
    sampling: Sampling
    limit: int
    ends: frozenset[int]
    text: TextStream
    looks: list[dict[int, float]] = field(default_factory=list)
    finish_reason: str | None = None

    def __post_init__(self) -> None:
        self.generator = self.sampling.generator()
        self.next: int | None = None  # the token that was chosen last and has not been read yet

    def take(self, token: int) -> str:
        """A token that was chosen; the text that can be shown now."""
        self.next = token
        if token in self.ends:
            self.finish_reason = "stop"
            return self.text.rest()
        piece = self.text.push(token)
        if self.text.stopped:
            self.finish_reason = "stop"
        elif len(self.text.tokens) >= self.limit:
            self.finish_reason = "length"
            piece += self.text.rest()
        return piece


class RunningBatch:
    """The rows over one context.

    Args:
        heads: layer → heads whose attention is noted. groups: for each token of the context the part it belongs to, ``[N]``, `count` for one that is not counted.

    Example:
        >>> batch = RunningBatch(model, context)  # doctest: +SKIP
        >>> batch.add([row])  # doctest: +SKIP
        >>> while batch.rows:  # doctest: +SKIP
        ...     batch.drop([row for row in batch.rows if row.finish_reason])
        ...     shown = batch.step() if batch.rows else []
    """

    def __init__(
        self, model: GraphModel, context: AssembledContext, *, heads: Mapping[int, tuple[int, ...]] | None = None, groups: Tensor | None = None, count: int = 0
    ) -> None:
        self.model, self.context = model, context
        self.heads, self.groups, self.count = heads or {}, groups, count
        self.rows: list[Row] = []
        self._tails: list[tuple[Tensor, Tensor]] = []  # one pair [B, H_kv, S, D] a layer
        self._seen = torch.zeros(0, 0, dtype=torch.bool)  # [B, S]: False is padding
        self._lines: list[int] = []  # of these tensors, one a row; others belonged to rows that have left

    @torch.no_grad()
    def add(self, rows: Sequence[Row]) -> list[str]:
        """Read the questions of new rows and choose their first tokens. Returns the text that can be shown of each."""
        longest = max(len(row.question) for row in rows)
        ids = torch.full((len(rows), longest), self.model.pad_token_id)
        positions = torch.full((len(rows), longest), self.context.position)
        seen = torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, row in enumerate(rows):
            pad = longest - len(row.question)
            ids[i, pad:] = torch.tensor(row.question)
            positions[i, pad:] += torch.arange(len(row.question))
            seen[i, pad:] = True
        self._compact()
        tails: list[tuple[Tensor, Tensor]] = []
        step = max(1, min(_TOKENS // len(rows), _PAIRS // (len(rows) * longest)))
        for start in range(0, longest, step):
            part = slice(start, min(start + step, longest))
            # A token sees what stands before it in its row; padding sees itself alone, so that there is a softmax.
            itself = torch.arange(start, part.stop)[:, None] == torch.arange(part.stop)
            mask = (seen[:, None, : part.stop] & seen[:, part, None]).tril(start) | itself
            logits, tails, looks = self._forward(ids[:, part], positions[:, part], mask, tails)
        self._join(tails, seen)
        self.rows += rows
        self._lines = list(range(len(self.rows)))
        return self._choose(rows, logits, looks)

    @torch.no_grad()
    def step(self) -> list[str]:
        """One more token for every row. Returns the text that can be shown of each."""
        self._compact()
        ids = torch.tensor([[row.next] for row in self.rows])
        positions = torch.tensor([[self.context.position + len(row.question) + len(row.text.tokens) - 1] for row in self.rows])
        self._seen = torch.cat((self._seen, torch.ones(len(self.rows), 1, dtype=torch.bool)), dim=1)
        logits, self._tails, looks = self._forward(ids, positions, self._seen[:, None], self._tails)
        return self._choose(self.rows, logits, looks)

    def drop(self, gone: Sequence[Row]) -> None:
        """Rows leave; the others keep what they have. Wants no memory, so it cannot fail for want of it: the next forward moves what is left together."""
        leaving = set(map(id, gone))
        staying = [(line, row) for line, row in zip(self._lines, self.rows, strict=True) if id(row) not in leaving]
        self._lines, self.rows = [line for line, _ in staying], [row for _, row in staying]
        if not self.rows:
            self._tails, self._seen = [], self._seen[:0, :0]

    def _compact(self) -> None:
        """Let go of the lines of rows that have left, and of columns that are padding in all others."""
        if len(self._lines) == len(self._seen):
            return
        seen = self._seen[self._lines]
        first = int(seen.any(0).int().argmax())
        self._tails = [(keys[self._lines, :, first:], values[self._lines, :, first:]) for keys, values in self._tails]
        self._seen, self._lines = seen[:, first:].contiguous(), list(range(len(self.rows)))

    def _forward(
        self, ids: Tensor, positions: Tensor, mask: Tensor, tails: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]], list[dict[int, float]] | None]:
        device = self.model.device
        looks = Looks(self.heads, self.groups, self.count) if self.groups is not None and self.heads and self.count else None
        reading = SharedReading(self.context.keys, self.context.values, mask.to(device), self.context.reweigh, looks)
        logits, tails = self.model.step(reading, ids.to(device), positions.to(device), tails)
        return logits, list(tails), None if looks is None or looks.shares is None else _largest(looks.shares)

    def _choose(self, rows: Sequence[Row], logits: Tensor, looks: list[dict[int, float]] | None) -> list[str]:
        shown = []
        tokens = next_tokens(logits, [row.sampling for row in rows], [row.generator for row in rows])
        for i, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            if looks is not None and token not in row.ends:
                row.looks.append(looks[i])
            shown.append(row.take(token))
        return shown

    def _join(self, tails: list[tuple[Tensor, Tensor]], seen: Tensor) -> None:
        """New rows' own keys and values below the others', all against the right edge."""
        if not self.rows:
            self._tails, self._seen = tails, seen
            return
        width = max(self._seen.shape[1], seen.shape[1])
        self._seen = torch.cat((_widened(self._seen, width), _widened(seen, width)))
        self._tails = [
            (torch.cat((_widened(old_keys, width), _widened(keys, width))), torch.cat((_widened(old_values, width), _widened(values, width))))
            for (old_keys, old_values), (keys, values) in zip(self._tails, tails, strict=True)
        ]


def _largest(shares: Tensor) -> list[dict[int, float]]:
    """Of ``[B, count]`` the few largest of each row, largest first: what a long answer over thousands of segments can keep."""
    values, parts = shares.topk(min(_KEPT, shares.shape[1]), dim=-1)
    return [dict(zip(of, much, strict=True)) for of, much in zip(parts.tolist(), values.tolist(), strict=True)]


def _widened(x: Tensor, width: int) -> Tensor:
    """``[B, S]`` or ``[B, H, S, D]`` with zeros (False) in front, up to S = `width`."""
    more = width - x.shape[-1 if x.dim() == 2 else -2]
    if not more:
        return x
    return torch.nn.functional.pad(x, (more, 0) if x.dim() == 2 else (0, 0, more, 0))
