"""A question, checked and laid out, and the context that it reads: what a scheduler works with."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graphkv.assemble import AssembledContext, exposed_order
from graphkv.chat import ChatPrompt
from graphkv.encode import block_keys, block_tokens
from graphkv.engine import GraphKV
from graphkv.errors import InputError, LengthError
from graphkv.graph import SegmentGraph
from graphkv.layout import Layout
from graphkv.layouts import make_layout
from graphkv.sampling import Sampling
from graphkv.store import Store
from graphkv.store.scoped import ScopedStore
from graphkv.window import check_window

DEFAULT_NEW_TOKENS = 64

Lane = tuple[str, int]
"""Questions whose answers are written together: the context's name, and the power of two that a question's length is below. Rows are padded to the longest, and
a question of ten thousand words is not to make fifty short ones as long."""

_SHORT = 8
"""Questions of up to 256 tokens share a lane."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked.

    Attributes:
        prompt: token ids before and behind the documents; :func:`graphkv.chat.chat_prompt` makes them.
        documents: a graph, or None for a conversation without documents.
        layout, options: as in :meth:`graphkv.GraphKV.ask`. sampling: how tokens are chosen.
        scope: whose it is. What was encoded under one scope is neither seen nor reused under another.
    """

    prompt: ChatPrompt
    documents: SegmentGraph | None = None
    layout: str = "graph"
    options: Mapping[str, Any] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    scope: str = ""


@dataclass(frozen=True, eq=False)
class Laid:
    """The documents of a question, laid out.

    Attributes:
        graph: with long documents cut. layout: its plan. tokens, prefix: token ids. store: where its blocks are looked for.
        order: the blocks that the question reads, as they lie in the assembled context.
    """

    graph: SegmentGraph
    layout: Layout
    tokens: Mapping[str, tuple[int, ...]]
    prefix: tuple[int, ...]
    store: Store
    order: tuple[int, ...]

    @property
    def context_tokens(self) -> int:
        """Tokens of all blocks but the question."""
        return sum(self.layout.blocks[i].length for i in self.layout.context)

    @property
    def segments(self) -> list[str]:
        """The segment of each part of the context that is watched; one that has several blocks is there as often."""
        return [segment for i in self.order if (segment := self.layout.blocks[i].segment) is not None]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A question that can be answered.

    Attributes:
        name: of the context: the same for all questions that read the same. laid: its documents, None without any.
        question: token ids. sampling: as asked. limit: the most new tokens. seconds: how long all this took.
    """

    name: str
    laid: Laid | None
    question: tuple[int, ...]
    sampling: Sampling
    limit: int
    seconds: float

    @property
    def lane(self) -> Lane:
        """Which answers it is written with."""
        return self.name, max(_SHORT, (len(self.question) - 1).bit_length())


@dataclass(frozen=True, eq=False)
class ReadyContext:
    """A context that questions can be asked over.

    Attributes:
        context: rotated keys and values. groups: for each of its tokens which segment's block it belongs to, in order, ``[N]``; `count` for tokens that
            are not watched: the prefix, and every block's first token, which draws attention whatever it says. count: how many blocks.
    """

    context: AssembledContext
    groups: Tensor
    count: int

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return sum(x.numel() * x.element_size() for x in (*self.context.keys, *self.context.values))


def prepare(engine: GraphKV, question: Question, *, answered: bool = True, more: int = 0) -> Prepared:
    """Tokens, layout and checks; no forward.

    Args:
        answered: False where only the documents are wanted. more: tokens that will stand behind the question instead of an answer.

    Raises:
        InputError: whatever :meth:`GraphKV.ask` refuses.
    """
    begin = time.perf_counter()
    asked = engine.reader.ids(question.prompt.question)
    if answered and not asked:
        raise InputError("the question is empty: expected some text")
    if question.documents is None:
        if question.prompt.prefix:
            raise InputError("without documents the whole prompt belongs into the question: chat_prompt(..., documents=False)")
        laid, used, name = None, len(asked), f"no documents|{question.scope}"
    else:
        laid, name = _lay_out(engine, question, question.documents, asked)
        used = laid.layout.question.answer_position + len(asked)
    left = engine.model.window - used
    if answered and left < max(1, more):
        raise LengthError(f"the documents and the question take {used} of the model's window of {engine.model.window} positions: no room for {max(1, more)} more tokens")
    limit = min(question.sampling.max_new_tokens or DEFAULT_NEW_TOKENS, max(1, left))
    if answered and (sliding := engine.model.sliding_window) is not None:
        new = more or limit
        if laid is not None:
            check_window(engine.model, laid.layout, new_tokens=new)
        elif used + new > sliding:
            raise LengthError(f"the model's sliding window of {sliding} tokens is shorter than the prompt and {new} more tokens: sliding windows are not supported yet")
    return Prepared(name, laid, asked, question.sampling, limit, time.perf_counter() - begin)


def ready_context(laid: Laid, context: AssembledContext) -> ReadyContext:
    """An assembled context, with its tokens told apart."""
    groups, count = [], 0
    for i in laid.order:
        block = laid.layout.blocks[i]
        part = torch.full((block.length,), -1)
        if block.segment is not None:
            part[1:] = count
            count += 1
        groups.append(part)
    joined = torch.cat(groups)
    return ReadyContext(context, joined.masked_fill(joined < 0, count), count)


def empty_context() -> ReadyContext:
    """What a conversation without documents reads."""
    return ReadyContext(AssembledContext((), (), 0, None), torch.zeros(0, dtype=torch.long), 0)


def _lay_out(engine: GraphKV, question: Question, documents: SegmentGraph, asked: Sequence[int]) -> tuple[Laid, str]:
    """The documents, and the context's name: a digest of the scope, of the blocks that the question reads and where, of its own place, and of how they are weighed."""
    tokens = engine.reader.read(documents, [asked], question.prompt.prefix)
    lengths = {id: len(ids) for id, ids in tokens.segments.items()}
    layout = make_layout(question.layout, tokens.graph, lengths, prefix=len(tokens.prefix), question=len(asked), **question.options)
    check_window(engine.model, layout)
    store = ScopedStore(engine.store, question.scope) if question.scope else engine.store
    keys = block_keys(engine.model, store, layout, block_tokens(layout, tokens.segments, tokens.prefix))
    order = exposed_order(layout, keys)
    read = [(keys[i], layout.blocks[i].answer_position, layout.blocks[i].segment is None) for i in order]  # a prefix is not weighed, and not watched
    about = (question.scope, layout.question.answer_position, layout.temperature, layout.scale, read)
    return Laid(tokens.graph, layout, tokens.segments, tokens.prefix, store, tuple(order)), hashlib.sha256(repr(about).encode()).hexdigest()
