"""Ways through documents to an answer, by name: the interface that each of them has, and where they are found.

A strategy is a class with two facts about itself and one method. Another package adds one by an entry point::

    [project.entry-points."graphkv.strategies"]
    my_way = "my_package.my_way:MyWay"

Then ``engine.ask(documents, question, strategy="my_way")`` finds it. Ours are declared in the same way, in pyproject.toml.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Protocol

from graphkv.errors import GraphKVError, InputError, check_count, one_of
from graphkv.model import GraphModel
from graphkv.prompt import PromptTemplate
from graphkv.store import Store
from graphkv.strategy import Answer
from graphkv.tokens import Documents, Text, TokenReader

GROUP = "graphkv.strategies"
"""The entry-point group."""

GRAPH = "graph"
"""The strategy that the engine itself is: each segment encoded once, read along the edges."""


@dataclass(frozen=True)
class Request:
    """What is asked for beside documents and questions; every strategy honours all of it.

    Attributes:
        max_new_tokens: the longest answer; 64 if None, fewer if the model's window ends before.
        prefix: text or ids in place of the template's. stop: end the answer at one of these strings.
        generation_config: a transformers GenerationConfig; greedy without one. batch_size: questions decoded together.
        answer_prefix: words that the answer begins with: they are read behind the prompt and are no part of the answer's text.
    """

    max_new_tokens: int | None = None
    prefix: Text | None = None
    stop: tuple[str, ...] = ()
    generation_config: Any = None
    batch_size: int = 16
    answer_prefix: str = ""

    @classmethod
    def of(
        cls,
        max_new_tokens: int | None = None,
        prefix: Text | None = None,
        stop: str | Sequence[str] | None = None,
        generation_config: Any = None,
        batch_size: int = 16,
        answer_prefix: str = "",
    ) -> Request:
        """Checked once, for every strategy. Raises InputError for a value that cannot be meant."""
        if max_new_tokens is not None:
            check_count("max_new_tokens", max_new_tokens)
        check_count("batch_size", batch_size)
        stops = (stop,) if isinstance(stop, str) else () if stop is None else tuple(stop) if isinstance(stop, Sequence) else None
        if stops is None or any(not isinstance(s, str) or not s for s in stops):
            raise InputError("stop must be a string or a list of strings, none of them empty")
        if not isinstance(answer_prefix, str):
            raise InputError(f"answer_prefix must be text, got {type(answer_prefix).__name__}")
        return cls(max_new_tokens, prefix, stops, generation_config, batch_size, answer_prefix)


class Host(Protocol):
    """What a strategy may use of the engine that calls it."""

    model: GraphModel
    store: Store
    template: PromptTemplate
    reader: TokenReader
    batch_tokens: int

    def ask_many(self, graph: Documents, questions: Sequence[Text], **options: Any) -> list[Answer]:
        """The engine's own method: a strategy that ends in another one (most end in ``graph`` with some layout) calls it."""
        ...


class Strategy(ABC):
    """A way through documents to an answer.

    Class attributes:
        name: what it is called. query_aware: True if it sees the question before it has read the documents, so that nothing
            of the reading serves another question. summary: one line for lists.

    The keyword-only parameters of :meth:`ask_many` are its options; the engine refuses any other before it is called.

    Example:
        >>> class First(Strategy):
        ...     name, query_aware, summary = "first", False, "reads the first document only"
        ...
        ...     def ask_many(self, engine, documents, questions, request, *, layout="graph"):
        ...         first = list(documents)[:1]
        ...         return engine.ask_many(first, questions, layout=layout, max_new_tokens=request.max_new_tokens)
    """

    name: ClassVar[str]
    query_aware: ClassVar[bool]
    summary: ClassVar[str] = ""

    @abstractmethod
    def ask_many(self, engine: Host, documents: Documents, questions: Sequence[Text], request: Request, **options: Any) -> list[Answer]:
        """Answer `questions`, at least one, from `documents`, one :class:`Answer` each, in order.

        Raises:
            InputError: anything that cannot be done, before any work is done.
        """

    @classmethod
    def options(cls) -> dict[str, Any]:
        """The options with their defaults."""
        parameters = inspect.signature(cls.ask_many).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @classmethod
    def check_options(cls, options: Sequence[str]) -> None:
        """Raises InputError for a name that is no option of this strategy."""
        valid = cls.options()
        if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls.ask_many).parameters.values()):
            return  # it looks at them itself
        for name in options:
            if name not in valid:
                raise InputError(one_of(f"option of strategy {cls.name!r}:", name, valid or ["none"]))


def strategy_names() -> list[str]:
    """Every strategy that is installed, the engine's own first.

    Example:
        >>> strategy_names()[0]
        'graph'
    """
    return [GRAPH, *sorted(set(_declared()) - {GRAPH})]


def find_strategy(name: str) -> Strategy:
    """A strategy by name; ``graph`` is the engine itself and is no object of this kind.

    Raises:
        InputError: no such strategy, ``graph``, or the package that declares it does not give one.
    """
    if name == GRAPH:
        raise InputError("strategy 'graph' is the engine's own chain, not an object: engine.ask(..., strategy='graph') runs it")
    declared = _declared()
    if name not in declared:
        raise InputError(one_of("strategy", name, strategy_names()))
    return _load(declared[name])


@cache
def _load(point: EntryPoint) -> Strategy:
    try:
        made = point.load()()
    except GraphKVError:
        raise
    except Exception as error:  # whatever another package does when it is imported
        raise InputError(f"strategy {point.name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(made, Strategy) or not isinstance(getattr(made, "query_aware", None), bool) or not isinstance(getattr(made, "name", None), str):
        raise InputError(f"strategy {point.name!r} ({point.value}) is no graphkv.Strategy with a name and query_aware")
    return made


def _declared() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
