"""Helpers of the scheduler's tests: questions in one line, and a model whose forwards are noted and can be held."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from graphkv import GraphKV, SegmentGraph
from graphkv.chat import chat_prompt
from graphkv.question import Question
from graphkv.sampling import Sampling

SECONDS = 60
"""How long a test waits for what must come; on a busy machine too."""

DOCUMENTS = [
    {"id": "a", "title": "Alpha", "text": "The first paper.", "sources": ["b", "c"]},
    {"id": "b", "title": "Beta", "text": "The second one, a little longer.", "sources": ["c"]},
    {"id": "c", "text": "A third without title."},
    {"id": "d", "text": "A fourth, which cites nobody."},
]
OTHERS = [{"id": "x", "text": "Of something else."}, {"id": "y", "text": "And more of it.", "sources": ["x"]}]


def question(engine: GraphKV, documents: SegmentGraph | list[Any] | None, text: str = "Which?", *, layout: str = "graph", scope: str = "", **settings: Any) -> Question:
    """A question by one user's message; `settings` are the answer's, or the layout's under ``options``."""
    options = settings.pop("options", {})
    graph = SegmentGraph.from_documents(documents) if isinstance(documents, list) else documents
    return Question(chat_prompt(engine, [("user", text)], documents=graph is not None), graph, layout, options, Sampling(**settings), scope)


class Forwards:
    """Every forward of a model: its kind (``encode``, ``read`` for questions, ``step`` for answers) and its rows, or tokens for ``encode``.

    Attributes:
        log: what has been run. fail: called before each with (kind, the forward's first argument); may raise.
    """

    def __init__(self, engine: GraphKV) -> None:
        self.log: list[tuple[str, int]] = []
        self.fail: Callable[[str, Any], None] = lambda kind, first: None
        self._go, self._held = threading.Event(), threading.Event()
        self._go.set()
        encode, step = engine.model.encode, engine.model.step

        def noted_encode(token_ids: Any, *args: Any) -> Any:
            self._note("encode", len(token_ids), token_ids)
            return encode(token_ids, *args)

        def noted_step(reading: Any, token_ids: Any, positions: Any, tails: Any = ()) -> Any:
            self._note("step" if tails else "read", len(token_ids), reading)
            return step(reading, token_ids, positions, tails)

        engine.model.encode, engine.model.step = noted_encode, noted_step  # type: ignore[method-assign]

    def _note(self, kind: str, count: int, first: Any) -> None:
        if not self._go.is_set():
            self._held.set()
        assert self._go.wait(SECONDS)
        self.log.append((kind, count))
        self.fail(kind, first)

    def count(self, kind: str) -> int:
        """How many there were of one kind."""
        return sum(1 for of, _ in self.log if of == kind)

    @contextmanager
    def held(self) -> Iterator[None]:
        """As long as it lasts the next forward waits to begin; left at once when the block ends."""
        self._held.clear()
        self._go.clear()
        try:
            yield
        finally:
            self._go.set()

    def wait_until_held(self) -> None:
        """Until a forward waits to begin."""
        assert self._held.wait(SECONDS)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)
