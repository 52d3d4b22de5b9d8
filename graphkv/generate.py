"""Decoding over an assembled context: batches of questions, sampling, stop strings, streams, log-likelihoods."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphkv.assemble import AssembledContext
from graphkv.errors import InputError, LengthError
from graphkv.model import GraphModel
from graphkv.strategy import Score


@dataclass(frozen=True)
class Completion:
    """Generated text, its ids without padding, and why it ended (``stop`` or ``length``)."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str


class _Clock:
    """Stopping criterion that never stops: notes when the first token was there."""

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        if self.first is None:
            self.first = time.perf_counter()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class _Cancelled:
    """Stopping criterion that stops when nobody listens to the stream any more."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((input_ids.shape[0],), self.event.is_set(), dtype=torch.bool, device=input_ids.device)


class _Ids:
    """Streamer that puts the new ids into a queue, one at a time; the prompt, which comes first, is passed over."""

    def __init__(self) -> None:
        self.queue: queue.Queue[int | BaseException | None] = queue.Queue()
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self.queue.put(int(token))

    def end(self) -> None:
        """The end is marked by the thread that decodes, after errors have been passed on."""


class TextStream:
    """Tokens in, text out as soon as it can be shown. A stop string is never shown, nor a part of one that comes true.

    Attributes:
        tokens: what has come. reach: characters of the whole text after each token, the stop string and what follows left out.
        stopped: whether a stop string has come.

    Example:
        >>> text = TextStream(model, ["\\n"])  # doctest: +SKIP
        >>> [text.push(token) for token in tokenizer("Ada\\nBob")["input_ids"]], text.rest()  # doctest: +SKIP
        (['Ada', '', ''], '')
    """

    def __init__(self, model: GraphModel, stops: Sequence[str] = ()) -> None:
        self._model, self._stops, self._shown = model, stops, 0
        self.tokens: list[int] = []
        self.reach: list[int] = []
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that can be shown now and could not before; mostly a word, often nothing."""
        self.tokens.append(token)
        text, self.stopped = _cut(_decode(self._model, self.tokens), self._stops)
        text = text.lstrip()
        self.reach.append(len(text))
        safe = len(text.rstrip()) if self.stopped else _safe_length(text, self._stops)
        piece, self._shown = text[self._shown : safe], max(self._shown, safe)
        return piece

    def rest(self) -> str:
        """What was held back, at the end."""
        rest = _cut(_decode(self._model, self.tokens), self._stops)[0].strip()
        piece, self._shown = rest[self._shown :], max(self._shown, len(rest))
        return piece

    def completion(self, ended: bool) -> Completion:
        """The whole answer; `ended` by an end token, which was not pushed."""
        return _completed(self._model, self.tokens, ended, self._stops)


def decoding(model: GraphModel, used: int, max_new_tokens: int | None, stop: Sequence[str], config: Any) -> Any:
    """The generation settings for answers that begin at position `used`; `config` is the caller's, or None for greedy.

    Raises:
        LengthError: no position is left for an answer. InputError: settings that cannot be served.
    """
    left = model.window - used
    if left < 1:
        raise LengthError(f"the documents and the question fill the model's window of {model.window} positions: no room for an answer")
    wanted = max_new_tokens or getattr(config, "max_new_tokens", None) or 64
    overrides: dict[str, Any] = {"max_new_tokens": min(wanted, left)}
    if stop:
        overrides["stop_strings"] = list(stop)
    return model.generation_config(config, overrides)


def complete_prompts(model: GraphModel, prompts: Sequence[Sequence[int]], config: Any, *, stopping: Sequence[Any] = ()) -> tuple[list[Completion], float]:
    """Decode after whole prompts of their own, as one left-padded batch, without any context: the model's plain ``generate``.

    `stopping` and what is returned are as in :func:`complete`.

    Raises:
        InputError: no prompt, or an empty one.
    """
    if not prompts or not all(prompts):
        raise InputError("expected at least one prompt, and at least one token in each")
    return complete(model, AssembledContext((), (), 0, None), prompts, config, stopping=stopping)


def question_batch(model: GraphModel, context: AssembledContext, questions: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Left-padded token ids and position ids ``[B, T]``, and the mask ``[B, N + T]`` that hides the padding."""
    longest = max(len(q) for q in questions)
    ids = torch.full((len(questions), longest), model.pad_token_id)
    positions = torch.full((len(questions), longest), context.position)
    mask = torch.ones(len(questions), context.length + longest, dtype=torch.long)
    for row, question in enumerate(questions):
        pad = longest - len(question)
        ids[row, pad:] = torch.tensor(list(question))
        positions[row, pad:] += torch.arange(len(question))
        mask[row, context.length : context.length + pad] = 0
    return ids.to(model.device), positions.to(model.device), mask.to(model.device)


def complete(
    model: GraphModel, context: AssembledContext, questions: Sequence[Sequence[int]], config: Any, *, stopping: Sequence[Any] = ()
) -> tuple[list[Completion], float]:
    """Decode a batch of questions over one context.

    Args:
        stopping: criteria that transformers asks after every token.

    Returns:
        One completion a question, and the moment (``time.perf_counter()``) at which the first token was there.
    """
    ids, positions, mask = question_batch(model, context, questions)
    clock = _Clock()
    cache = model.cache(context.keys, context.values, len(questions))
    out = model.generate(cache, ids, positions, mask, config, reweigh=context.reweigh, stopping=[clock, *stopping])
    ends = end_tokens(config.eos_token_id)
    return [_completion(model, row, ends, config.stop_strings) for row in out.tolist()], clock.first or time.perf_counter()


def stream(model: GraphModel, context: AssembledContext, question: Sequence[int], config: Any) -> Iterator[str]:
    """Decode one question, yielding text as it comes. A stop string is never shown, nor a part of one that comes true.

    Leaving the loop early stops the decoding; an error in it is raised here.
    """
    ids, positions, mask = question_batch(model, context, [question])
    source, cancelled = _Ids(), _Cancelled()
    cache = model.cache(context.keys, context.values)

    def run() -> None:
        try:
            model.generate(cache, ids, positions, mask, config, reweigh=context.reweigh, streamer=source, stopping=[cancelled])  # type: ignore[arg-type]
        except BaseException as error:  # passed on to the listener, who raises it
            source.queue.put(error)
        source.queue.put(None)

    thread = threading.Thread(target=copy_context().run, args=(run,), name="graphkv-stream", daemon=True)
    thread.start()
    ends, text = end_tokens(config.eos_token_id), TextStream(model, _listed(config.stop_strings))
    try:
        while (item := source.queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            if item in ends:
                continue
            if piece := text.push(item):
                yield piece
            if text.stopped:
                break
        if rest := text.rest():
            yield rest
    finally:
        cancelled.event.set()
        thread.join()


def score(model: GraphModel, context: AssembledContext, question: Sequence[int], continuations: Sequence[Sequence[int]], batch_size: int, *, between: Callable[[], None] | None = None) -> list[Score]:
    """Log-likelihood of each continuation after the question, natural log, summed over its tokens. `between` is called after every forward."""
    scores: list[Score] = []
    for start in range(0, len(continuations), batch_size):
        part = continuations[start : start + batch_size]
        rows = [[*question, *c] for c in part]
        ids, positions, mask = question_batch(model, context, rows)
        keep = max(map(len, part)) + 1  # rows end at the right edge; a large vocabulary makes logits the largest tensor
        logits = model.answer_logits(model.cache(context.keys, context.values, len(rows)), ids, positions, mask, context.reweigh, keep=keep)
        for row, continuation in enumerate(part):
            n = len(continuation)
            targets = torch.tensor(list(continuation), device=logits.device)
            predicted = logits[row, -n - 1 : -1].float()
            chosen = predicted.log_softmax(-1).gather(-1, targets[:, None]).sum()
            scores.append(Score(float(chosen), tokens=n, is_greedy=bool((predicted.argmax(-1) == targets).all())))
        if between:
            between()
    return scores


def _completion(model: GraphModel, row: Sequence[int], ends: frozenset[int], stop_strings: Any) -> Completion:
    end = next((place for place, token in enumerate(row) if token in ends), len(row))
    return _completed(model, row[:end], end < len(row), _listed(stop_strings))


def _completed(model: GraphModel, tokens: Sequence[int], ended: bool, stops: Sequence[str]) -> Completion:
    kept = list(tokens)
    text, stopped = _cut(_decode(model, kept), stops)
    while stopped and len(kept) > 1 and _cut(_decode(model, kept[:-1]), stops)[1]:
        kept.pop()  # ids up to the one that completed the stop string; what follows in a batch is padding
    return Completion(text.strip(), tuple(kept), "stop" if ended or stopped else "length")


def _decode(model: GraphModel, tokens: Sequence[int]) -> str:
    text: str = model.tokenizer.decode(list(tokens), skip_special_tokens=True)
    return text


def _cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """`text` up to the first stop string, and whether there was one."""
    found = [text.index(s) for s in stops if s in text]
    return (text[: min(found)], True) if found else (text, False)


def _safe_length(text: str, stops: Sequence[str]) -> int:
    """How much of `text` can be shown: no half character, no beginning of a stop string, no white space at the end."""
    whole = text.rstrip("\ufffd")
    safe = len(whole)
    for stop in stops:
        for n in range(min(len(stop) - 1, len(whole)), 0, -1):
            if whole.endswith(stop[:n]):
                safe = min(safe, len(whole) - n)
                break
    return len(whole[:safe].rstrip())


def _listed(stop_strings: Any) -> list[str]:
    return [stop_strings] if isinstance(stop_strings, str) else list(stop_strings or ())


def end_tokens(eos: int | Sequence[int] | None) -> frozenset[int]:
    """The ids that end an answer, from a generation config's ``eos_token_id``."""
    return frozenset(() if eos is None else (eos,) if isinstance(eos, int) else eos)
