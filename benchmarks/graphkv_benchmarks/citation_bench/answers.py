"""When an answer is right: greedy decoding would give exactly the gold tokens and then end.

With the gold answer as input, every row's arg-max is the gold token if and only if greedy decoding produces it. So one packed forward
a world tells it for all its questions: :func:`graphkv.encode.packed_rows`. Prompt and token ids are the engine's own, as in
``engine.ask``. The answer is tokenised by itself, with a space in front unless the prompt ends in white space (``Answer:`` wants a
space; a chat template that ends in a newline does not). For models that were not trained to answer with nothing but the value,
this score is strict: "The author is Ada Fumrel." is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from graphkv.encode import packed_rows
from graphkv.engine import GraphKV
from graphkv.errors import InputError
from graphkv.layouts import make_layout
from graphkv.window import check_window

from ..citation_world import NOT_FOUND


@dataclass(frozen=True)
class Outcome:
    """Of one question: whether greedy decoding gives the gold answer and ends; whether it begins to say "not in the documents"."""

    right: bool
    refused: bool


def end_tokens(engine: GraphKV) -> frozenset[int]:
    """The ids that end an answer. Raises InputError if the model has none: then no answer is exact."""
    ends = engine.model.generation_config(None, {}).eos_token_id
    found = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
    if not found:
        raise InputError("the model has no end token, so that no answer of its own ever ends: set eos_token_id in its generation_config.json")
    return found


@torch.no_grad()
def outcomes(
    engine: GraphKV, documents: Sequence[dict[str, Any]], questions: Sequence[str], answers: Sequence[str], *, layout: str = "graph", **options: Any
) -> list[Outcome]:
    """Whether each question is answered exactly, as ``engine.ask`` would greedily, in one packed forward.

    Args:
        documents, layout, options: as ``engine.ask`` takes them. answers: the gold answer of each question.

    Raises:
        InputError: no questions, not as many answers, a model without end token, or anything that ``engine.ask`` refuses.
        LengthError: the layout or an answer does not fit into the model's window.

    Example:
        >>> outcomes(engine, documents, ["Who wrote Night Maple?"], ["Ada Fumrel"], layout="graph")  # doctest: +SKIP
        [Outcome(right=True, refused=False)]
    """
    if len(questions) != len(answers):
        raise InputError(f"expected one gold answer a question, got {len(answers)} for {len(questions)} questions")
    ends = end_tokens(engine)
    tokens = engine.reader.read(documents, questions, None)
    golds = [engine.reader.answer(answer) for answer in answers]
    refusal = engine.reader.answer(NOT_FOUND)[0]
    rows = [(*question, *gold) for question, gold in zip(tokens.questions, golds, strict=True)]
    lengths = {id: len(ids) for id, ids in tokens.segments.items()}
    plan = make_layout(layout, tokens.graph, lengths, prefix=len(tokens.prefix), question=max(map(len, rows)), **options)
    check_window(engine.model, plan)
    # Rows of one length stand together: the kernel answers them in one call.
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    last = [len(golds[i]) + 1 for i in order]
    logits = packed_rows(engine.model, plan, tokens.segments, tokens.prefix, [rows[i] for i in order], last=last)
    found: list[Outcome] = [Outcome(False, False)] * len(rows)
    for i, row in zip(order, logits, strict=True):
        given = row.argmax(-1).tolist()
        found[i] = Outcome(tuple(given[:-1]) == golds[i] and given[-1] in ends, given[0] == refusal)
    return found
