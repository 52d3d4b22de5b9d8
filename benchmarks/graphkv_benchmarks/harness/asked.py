"""Requests over documents: the engine reads a row's graph, and the rendered ``doc_to_text`` is the question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from graphkv.engine import GraphKV
from graphkv.errors import InputError, LengthError
from graphkv.graph import SegmentGraph
from graphkv.segments import Segment
from graphkv.strategies import GRAPH, find_strategy
from graphkv.window import check_window

from .plain import written
from .settings import Decoding

Ids = tuple[int, ...]

Split = Callable[[str, str], tuple[list[int], list[int]]]

_ONE_PROMPT = {"full_context": "sequential"}
"""Strategies that lay everything out as a layout does: what they need is known before anything is read."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One request over documents, checked and as far as possible as token ids.

    Attributes:
        where: task and row, for error messages. graph: what is read (in raw mode its segments are token ids).
        question: the question's text, or in raw mode its ids. length: its tokens, those of the template included.
        continuation: what is scored behind it; empty for an answer that is generated.
    """

    where: str
    graph: SegmentGraph
    question: str | Ids
    length: int
    continuation: Ids = ()


@dataclass(eq=False)
class GraphReader:
    """How rows with documents are read.

    Args:
        engine: reads them. layout: a layout's name, or None for ``graph``. options: the layout's own, or the strategy's.
        strategy: the way through the documents. raw: nothing is put around documents and question: no template, no titles; `opening`
            are then the ids that the tokenizer begins every text with (BOS), as lm_eval's ``hf`` has them.

    Raises:
        InputError: an unknown layout, strategy or option.
    """

    engine: GraphKV
    layout: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    strategy: str = GRAPH
    raw: bool = False
    opening: Ids = ()

    def __post_init__(self) -> None:
        self._bare: dict[SegmentGraph, SegmentGraph] = {}
        if self.strategy == GRAPH:
            self.layout = self.layout or "graph"
            if "prefix" in self.options:
                raise InputError("prefix is no option of a layout: the prompt is the model's own, or with raw=true none")
            two = [{"id": "a", "text": "a", "score": 1.0}, {"id": "b", "text": "b", "sources": ["a"], "score": 0.5}]
            self.engine.plan(two, "a", layout=self.layout, **self.options)
            return
        if self.layout is not None or self.raw:
            what = "layout" if self.layout else "raw"
            raise InputError(f"{what} is for strategy {GRAPH!r}, not for {self.strategy!r}: leave one of them out")
        find_strategy(self.strategy).check_options(list(self.options))

    def asked(self, where: str, graph: SegmentGraph, question: str, continuation: str | None, split: Split, new_tokens: int = 0) -> Asked:
        """A request, checked against the model's window as far as that can be known before the documents are read.

        Args:
            continuation: None where an answer is to be generated. split: a context and a continuation as ids, for raw mode.
            new_tokens: the longest answer; it must have room.

        Raises:
            InputError: an empty question or continuation, anything the engine refuses about the documents, or no room; `where` is named.
        """
        with named(where):
            if not question.strip():
                raise InputError("the question (doc_to_text) is empty: over documents it needs some text")
            if continuation is not None and self.strategy != GRAPH:
                way = f"use strategy {GRAPH!r} with one of its layouts (sequential is plain reading)"
                raise InputError(f"strategy {self.strategy!r} generates answers and has no log-likelihoods: {way}")
            if continuation is not None and not (continuation if self.raw else continuation.strip()):
                raise InputError(f"the continuation is {continuation!r}: expected some text")
            reader = self.engine.reader
            if self.raw:
                ids, follows = split(question, continuation or "")
                asked = Asked(where, self._as_ids(graph), tuple(ids), len(ids), tuple(follows))
            else:  # the template says what stands between question and answer, in place of the task's target_delimiter
                answer = () if continuation is None else reader.answer(continuation.lstrip())
                asked = Asked(where, graph, question, len(reader.question(question)), answer)
            if continuation is not None and not asked.continuation:
                raise InputError(f"the continuation {continuation!r} has no tokens of its own")
            self._check_room(asked, len(asked.continuation) or new_tokens)
        return asked

    def _check_room(self, asked: Asked, more: int) -> None:
        """Raises LengthError if documents, question and `more` tokens behind it do not fit; for some strategies only question and answer can be looked at."""
        model, reader = self.engine.model, self.engine.reader
        layout = self._layout if self.strategy == GRAPH else _ONE_PROMPT.get(self.strategy)
        if layout is None:
            before, left = "prefix and question", model.window - len(reader.ids(reader.template.prefix)) - asked.length
        else:
            options = self.options if self.strategy == GRAPH else {}
            plan = self.engine.plan(asked.graph, asked.question, prefix=self._prefix, layout=layout, **options)
            before, left = "documents and question", model.window - plan.question.answer_position - plan.question.length
        if more > left:
            what = f"the continuation has {more} tokens" if asked.continuation else f"the answer may have {more} tokens (max_gen_toks)"
            raise LengthError(f"{what}, but behind {before} only {max(left, 0)} of the model's {model.window} positions are left: expected less of either")
        if layout is not None:
            check_window(model, plan, new_tokens=more)  # a sliding window may be shorter

    def score(self, requests: Sequence[Asked], batch_size: int, *, done: Callable[[int], object]) -> list[tuple[float, bool]]:
        """(log-likelihood, is greedy) of every request's continuation, in order; those that share documents and question are scored together."""
        results: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for places in _together(requests, lambda asked: (id(asked.graph), asked.question)):
            first = requests[places[0]]
            continuations = [requests[place].continuation for place in places]
            with named(first.where):
                scores = self.engine.score(
                    first.graph, first.question, continuations, prefix=self._prefix, layout=self._layout, batch_size=batch_size, **self.options
                )  # fmt: skip
            for place, score in zip(places, scores, strict=True):
                results[place] = (float(score), score.is_greedy)
            done(len(places))
        return results

    def generate(self, requests: Sequence[Asked], how: Decoding, batch_size: int, *, done: Callable[[int], object]) -> list[str]:
        """The answers, in order; questions over the same documents are decoded together. White space around an answer is taken off, but not in raw mode.

        Raises:
            LengthError: an answer was cut, because a strategy left less room than ``how.max_new_tokens``; task and row are named.
        """
        texts = [""] * len(requests)
        options = {**self.options, **({"layout": self._layout} if self.strategy == GRAPH else {})}
        for places in _together(requests, lambda asked: id(asked.graph)):
            first = requests[places[0]]
            longest = max(places, key=lambda place: requests[place].length)  # where the documents are not at fault, it is
            with named(requests[longest].where):
                answers = self.engine.ask_many(
                    first.graph, [requests[place].question for place in places], strategy=self.strategy, max_new_tokens=how.max_new_tokens, prefix=self._prefix,
                    stop=how.until, generation_config=how.config, batch_size=batch_size, **options,
                )  # fmt: skip
            for place, answer in zip(places, answers, strict=True):
                if answer.finish_reason == "length" and answer.tokens_generated < how.max_new_tokens:
                    what = f"{requests[place].where}: the answer was cut after {answer.tokens_generated} of {how.max_new_tokens} tokens (max_gen_toks)"
                    raise LengthError(f"{what}: what strategy {self.strategy!r} keeps fills the model's window; keep less, or ask for less")
                texts[place] = written(self.engine.model, answer.token_ids, how.until) if self.raw else answer.text
            done(len(places))
        return texts

    @property
    def _layout(self) -> str:
        return self.layout or "graph"

    @property
    def _prefix(self) -> Ids | None:
        return self.opening if self.raw else None

    def _as_ids(self, graph: SegmentGraph) -> SegmentGraph:
        """The graph with each document's bare text as token ids, which no template is put around."""
        if graph not in self._bare:
            ids = {segment.id: self.engine.reader.ids(segment.text or "") for segment in graph}
            self._bare[graph] = SegmentGraph.from_segments([Segment.from_tokens(s.id, ids[s.id], score=s.score) for s in graph], graph.edges)
        return self._bare[graph]


@contextmanager
def named(where: str) -> Iterator[None]:
    """Errors of bad input say where it was."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{where}: {error}") from error


def _together(requests: Sequence[Asked], key: Callable[[Asked], Any]) -> list[list[int]]:
    """Places of requests with the same key; the keys in order of appearance."""
    groups: dict[Any, list[int]] = {}
    for place, asked in enumerate(requests):
        groups.setdefault(key(asked), []).append(place)
    return list(groups.values())
