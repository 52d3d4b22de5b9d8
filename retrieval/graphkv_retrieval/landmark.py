"""Landmark attention as a strategy: documents of any length in a memory, and a question that chooses blocks of it for every head and token.

Landmark Attention (Mohtashami and Jaggi, 2023, arXiv 2305.16300). The model must have been trained with landmarks. The documents are read
once, without a question (:mod:`graphkv_retrieval.landmark_documents`), and stay in the engine's store; any number of questions follow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graphkv.errors import DocumentError, InputError, LengthError
from graphkv.generate import Completion, complete_prompts, decoding
from graphkv.landmark import landmark_of
from graphkv.landmark_reading import LandmarkReading
from graphkv.progress import late_progress
from graphkv.strategies import Host, Request, Strategy
from graphkv.strategy import Answer, SegmentUse, Timings
from graphkv.tokens import Documents, Text, Tokens
from graphkv_retrieval.landmark_documents import DocumentsRead, LandmarkSettings, read_documents


class Landmark(Strategy):
    """The documents one after the other, read in chunks; a token reads its chunk and the `k` blocks before it whose landmarks it attends to most.

    Example:
        >>> engine = GraphKV.from_pretrained("embedded-landmark")  # doctest: +SKIP
        >>> engine.ask(long_documents, "What is the pass key?", strategy="landmark", k=4).text  # doctest: +SKIP
        '71432'
    """

    name = "landmark"
    query_aware = False
    summary = "any length in a memory of blocks, some of which every head and token chooses by their landmarks"

    def ask_many(  # type: ignore[override]
        self,
        engine: Host,
        documents: Documents,
        questions: Sequence[Text],
        request: Request,
        *,
        k: int | None = None,
        chunk: int | None = None,
        granularity: str = "token",
        index: str = "torch",
        offload: str = "none",
    ) -> list[Answer]:
        """Answer `questions`: the documents are read once, and not at all if they are in the store as they are to be read.

        Args:
            k: blocks that are chosen beside a token's own chunk; 4, or all if there are fewer.
            chunk: tokens read at a time, landmarks included, a multiple of the model's block; 256, or what the window has room for.
            granularity: ``token``: every head of every token chooses; ``head``: every head chooses once for a chunk or a question, for which
                less has to be fetched.
            index: ``torch``, or FAISS: ``flat`` (exact) or ``hnsw`` (approximate).
            offload: where keys and values are while they are not read: ``none``, beside the model; ``cpu``; or ``store``, the engine's store.

        Raises:
            UnsupportedModelError: the model was not trained with landmarks. InputError: options that cannot be meant, more blocks than there are.
            LengthError: blocks and chunk, or blocks and question, do not fit into the model's window.
            StoreError: with ``offload="store"``, a chunk cannot be kept.
        """
        begin = time.perf_counter()
        model, config = engine.model, landmark_of(engine.model)
        tokens = engine.reader.read(documents, questions, request.prefix, answer_prefix=request.answer_prefix)
        text = [*tokens.prefix, *(t for ids in tokens.segments.values() for t in ids)]
        for id, ids in tokens.segments.items():
            if config.token_id in ids:
                raise DocumentError(f"segment {id!r} holds the landmark token {config.token_id}: it is put in while reading, leave it out")
        for what, ids in [("the prefix", tokens.prefix), *(("the question", ids) for ids in tokens.questions)]:
            if config.token_id in ids:
                raise InputError(f"{what} holds the landmark token {config.token_id}: it is put in while reading, leave it out")
        if not all(tokens.questions):
            raise InputError("the question is empty: expected some text")
        settings = LandmarkSettings.of(model, config, len(text), k, chunk, granularity, index, offload)
        generation = _decoding(engine, tokens, settings, request)
        planned = time.perf_counter()
        with late_progress("reading tokens") as progress:
            read = read_documents(model, engine.store, text, settings, progress=progress)
        encoded = time.perf_counter()
        answers: list[Answer] = []
        for start in range(0, len(questions), request.batch_size):
            part = tokens.questions[start : start + request.batch_size]
            reading = replace(read.reading, chunk=False, usage=torch.zeros(len(part), settings.blocks, dtype=torch.float64, device=model.device))
            with model.landmark_reading(reading):
                completions, first = complete_prompts(model, part, generation, stopping=[_Ended(reading, generation)])
            timings = Timings(planned - begin, encoded - planned, 0.0, first - begin, time.perf_counter() - begin)
            usage = torch.zeros(0) if reading.usage is None else reading.usage.cpu()
            answers += [_answer(c, tokens, settings, read, len(q), used, timings) for c, q, used in zip(completions, part, usage, strict=True)]
        return answers


class _Ended:
    """Stopping criterion that never stops: what is padding behind an answer that has ended does not count as use of a block."""

    def __init__(self, reading: LandmarkReading, config: Any) -> None:
        ends = config.eos_token_id
        self.reading, self.ends = reading, [*(ends if isinstance(ends, list) else [] if ends is None else [ends]), config.pad_token_id]

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        goes_on = ~torch.isin(input_ids[:, -1], torch.tensor(self.ends, device=input_ids.device))
        self.reading.counted = goes_on if self.reading.counted is None else self.reading.counted & goes_on
        return torch.zeros_like(goes_on)


def _decoding(engine: Host, tokens: Tokens, settings: LandmarkSettings, request: Request) -> Any:
    """How to generate: never a landmark. Raises LengthError if the chosen blocks and the longest question fill the window."""
    longest, before = max(map(len, tokens.questions)), settings.positions
    limit = min(engine.model.window, engine.model.sliding_window or engine.model.window)
    if before + longest >= limit:
        raise LengthError(f"the question has {longest} tokens, but beside the chosen blocks only {limit - before} of the model's {limit} positions are left: ask a shorter one, or choose a smaller k")
    config = decoding(engine.model, before + longest + engine.model.window - limit, request.max_new_tokens, request.stop, request.generation_config)
    config.suppress_tokens = [*(config.suppress_tokens or ()), settings.config.token_id]
    return config


def _answer(
    completion: Completion, tokens: Tokens, settings: LandmarkSettings, read: DocumentsRead, question: int, usage: Tensor, timings: Timings
) -> Answer:
    documents = sum(map(len, tokens.segments.values()))
    return Answer(
        text=completion.text,
        token_ids=completion.token_ids,
        finish_reason=completion.finish_reason,
        segments=_segments(tokens, settings, read, usage),
        layout=Landmark.name,
        tokens_reused=read.tokens_reused,
        tokens_computed=read.tokens_computed + question,
        tokens_generated=len(completion.token_ids),
        timings=timings,
        strategy=Landmark.name,
        tokens_read=documents,
        tokens_kept=min(settings.k * (settings.config.block - 1), documents),
    )


def _segments(tokens: Tokens, settings: LandmarkSettings, read: DocumentsRead, usage: Tensor) -> tuple[SegmentUse, ...]:
    """The segments of which a block was fetched, in the text's order. A block's share is divided among its tokens; the prefix may have some of it."""
    step, per_chunk = settings.config.block - 1, settings.chunk // settings.config.block
    share = (usage / usage.sum()).tolist()
    uses, start, end = [], len(tokens.prefix), len(tokens.prefix) + sum(map(len, tokens.segments.values()))
    for id, ids in tokens.segments.items():
        stop, score, blocks = start + len(ids), 0.0, range(start // step, -(-(start + len(ids)) // step))
        for number in blocks:
            first, last = number * step, min((number + 1) * step, end)
            score += share[number] * (min(stop, last) - max(start, first)) / (last - first)
        if score > 0:
            reused = all(read.reused[number // per_chunk] for number in blocks)
            uses.append(SegmentUse(id, len(ids), (id,), (), reused, score))
        start = stop
    return tuple(uses)
