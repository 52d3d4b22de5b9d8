"""What is asked over HTTP: citation worlds of about a wanted number of tokens, and the bodies of requests about them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphkv.engine import GraphKV
from graphkv.errors import InputError
from graphkv.store import MemoryStore

from ..citation_world import Recipe, make_world


@dataclass(frozen=True)
class Context:
    """Documents and questions about them.

    Attributes:
        name: also the beginning of its documents' ids, so that those of several contexts can be kept side by side.
        documents: rows with id, title, text and sources. questions: as many as were asked for, all different.
        tokens: of all blocks that are encoded under layout `graph`; a paper that cites is encoded once alone and once with what it cites.
    """

    name: str
    documents: tuple[Mapping[str, Any], ...]
    questions: tuple[str, ...]
    tokens: int

    @property
    def ids(self) -> list[str]:
        """The documents' ids."""
        return [row["id"] for row in self.documents]

    def shuffled(self, seed: int) -> Context:
        """The same documents in another order."""
        rows = list(self.documents)
        while len(rows) > 1 and tuple(rows) == self.documents:
            random.Random(seed).shuffle(rows)
            seed += 1
        return replace(self, documents=tuple(rows))

    def body(self, question: str, *, stream: bool = False, stored: bool = False) -> bytes:
        """The body of ``POST /v1/chat/completions``; with `stored` it names the documents, which the server has already."""
        body: dict[str, Any] = {"messages": [{"role": "user", "content": question}], "max_tokens": 64}
        if stored:
            body["graph"] = {"documents": self.ids}
        else:
            body["documents"] = self.documents
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return json.dumps(body).encode()


def make_context(engine: GraphKV, name: str, seed: int, tokens: int, questions: int) -> Context:
    """A held-out citation world of about `tokens` tokens.

    Raises:
        InputError: so few tokens that there are not so many questions.

    Example:
        >>> context = make_context(engine, "c1", seed=1, tokens=2048, questions=2)  # doctest: +SKIP
        >>> len(context.questions), 1700 < context.tokens < 2400  # doctest: +SKIP
        (2, True)
    """
    words, count = min(200, max(0, tokens // 40)), max(2, tokens // 256)
    made: dict[int, Context] = {}
    while count not in made and len(made) < 5:  # how long a world gets is known when it is made
        made[count] = _world(engine, name, seed, count, words, questions)
        count = max(2, round(count * tokens / made[count].tokens))
    context = min(made.values(), key=lambda one: abs(one.tokens - tokens))
    if len(context.questions) < questions:
        raise InputError(f"a context of {tokens} tokens has {len(context.questions)} questions, {questions} are wanted: ask for more tokens")
    return context


def expected_answers(engine: GraphKV, contexts: Sequence[Context]) -> dict[tuple[str, str], str]:
    """What :meth:`GraphKV.ask` answers in this process: (context's name, question) → text. Nothing of it is kept in a store."""
    answers: dict[tuple[str, str], str] = {}
    for context in contexts:
        own = GraphKV(engine.model, store=MemoryStore(), template=engine.template, max_segment_tokens=engine.max_segment_tokens)
        found = own.ask_many(list(context.documents), context.questions, max_new_tokens=64, batch_size=1)  # each by itself, as ask() does it
        answers |= {(context.name, question): answer.text for question, answer in zip(context.questions, found, strict=True)}
    return answers


def _world(engine: GraphKV, name: str, seed: int, count: int, words: int, questions: int) -> Context:
    row = make_world(seed, count, held_out=True, recipe=Recipe(words=words)).to_row()
    named = {document["id"]: f"{name}-{document['id']}" for document in row["documents"]}
    documents = tuple({**document, "id": named[document["id"]], "sources": [named[id] for id in document["sources"]]} for document in row["documents"])
    plan = engine.plan(list(documents))
    return Context(name, documents, tuple(q["question"] for q in row["questions"][:questions]), sum(plan.blocks[i].length for i in plan.context))
