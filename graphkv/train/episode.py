"""An episode: one row under one layout, packed into one forward with all its questions.

Each question block holds the question and its answer. It reads what the layout shows to a question, and no other question;
all of them stand at the same positions. Two segments (a reads b), prefix P, two questions, one character a block::

          P b0 a1 Q1 Q2
    P     1
    b0    0  1
    a1    0  1  1
    Q1    1  1  1  1
    Q2    1  1  1  0  1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphkv.encode import block_tokens, pack_rows
from graphkv.errors import InputError
from graphkv.graph import SegmentGraph
from graphkv.layout import Layout
from graphkv.layouts import make_layout
from graphkv.tokens import TokenReader
from graphkv.window import check_window
from graphkv_kernels import BlockPattern, LandmarkGroups


@dataclass(frozen=True, eq=False)
class Episode:
    """One packed forward of T tokens, and what is to be predicted.

    Attributes:
        token_ids, positions: ``[T]``, in packed order: prefix, the layout's blocks, then one block a question.
        pattern: those blocks, and which reads which; under landmarks the groups of their softmax.
        layout: what the pattern was made from, for the longest of the questions.
        answer_at, answer_ids: ``[A]`` int64: after row ``answer_at[i]`` comes ``answer_ids[i]``: answer tokens and the end token.
        answer_question: ``[A]`` int64: the number of the question. text_at, text_ids: ``[X]``, the same for the documents' own tokens.
    """

    token_ids: list[int]
    positions: list[int]
    pattern: BlockPattern | LandmarkGroups
    layout: Layout
    answer_at: Tensor
    answer_ids: Tensor
    answer_question: Tensor
    text_at: Tensor
    text_ids: Tensor


def make_episode(reader: TokenReader, graph: SegmentGraph, questions: Sequence[tuple[str, str]], layout: str, options: Mapping[str, Any]) -> Episode:
    """Pack `questions`, pairs (question, answer), over a graph. Ids, positions and who reads whom are those of the engine.

    Raises:
        LengthError: it does not fit into the model's window. InputError: whatever the engine refuses.
    """
    end = end_token(reader)
    tokens = reader.read(graph, [question for question, _ in questions], None)
    answers = [reader.answer(answer) for _, answer in questions]
    asked = [question + answer for question, answer in zip(tokens.questions, answers, strict=True)]
    lengths = {id: len(ids) for id, ids in tokens.segments.items()}
    plan = make_layout(layout, tokens.graph, lengths, prefix=len(tokens.prefix), question=max(map(len, asked)), **options)
    check_window(reader.model, plan, new_tokens=1)
    token_ids, positions, pattern = pack_rows(plan, tokens.segments, tokens.prefix, asked)
    blocks = [*block_tokens(plan, tokens.segments, tokens.prefix), *asked]
    answer_at: list[int] = []
    answer_after: list[int] = []
    owner: list[int] = []
    text_at: list[int] = []
    text_ids: list[int] = []
    row = 0
    for number, ids in enumerate(blocks):
        question = number - len(plan.context)
        if question >= 0:
            first = row + len(tokens.questions[question]) - 1
            answer_at += range(first, row + len(ids))
            answer_after += [*answers[question], end]
            owner += [question] * (len(answers[question]) + 1)
        elif plan.blocks[number].segment is not None:
            text_at += range(row, row + len(ids) - 1)
            text_ids += ids[1:]
        row += len(ids)
    tensors = (torch.tensor(x, dtype=torch.long) for x in (answer_at, answer_after, owner, text_at, text_ids))
    return Episode(token_ids, positions, pattern, plan, *tensors)


def end_token(reader: TokenReader) -> int:
    """The token that ends an answer: one at which ``generate`` stops, the tokenizer's own where it is one of them.

    Raises:
        InputError: neither the model nor the tokenizer has one.
    """
    found = reader.model.model.generation_config.eos_token_id
    stops = [] if found is None else [found] if isinstance(found, int) else list(found)
    own = getattr(reader.model.tokenizer, "eos_token_id", None)
    if not stops and own is None:
        raise InputError("neither the model nor its tokenizer has an end token (eos): an answer could not be ended")
    return int(own if own is not None and (own in stops or not stops) else stops[0])
