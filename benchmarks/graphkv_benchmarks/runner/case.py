"""What a benchmark consists of: a task gives units, a unit gives cases, a case is documents and questions about them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphkv.graph import SegmentGraph
from graphkv.prompt import PromptTemplate

from ..scoring import best_subspan_em

Setting = Mapping[str, str | int]
"""Under which conditions a case is asked: ``{"distractors": 1, "order": "first", "seed": 42}``; empty where there is one condition only."""

Line = dict[str, Any]
"""A line of predictions.jsonl, see :mod:`graphkv_benchmarks.runner.predictions`."""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        id: unique in its task; the same id in every setting. text: what is put into the template's ``{question}``.
        answers: gold answers, any of which counts. type: the row of its table, for example ``"bridge"``; empty where there are no types.
        choices: where the answer is one of a few names (a class, a letter), all of them.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    type: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """Documents, and the questions that are asked about them.

    Attributes:
        unit: the unit it belongs to. setting: the condition. graph: the documents with their edges and scores.
        sequential_graph: what arm ``sequential`` reads in place of `graph`, where the official code words it differently; mostly None.
    """

    unit: str
    setting: Setting
    graph: SegmentGraph
    questions: tuple[Question, ...]
    sequential_graph: SegmentGraph | None = None


@dataclass(frozen=True)
class Broken:
    """A row that cannot be read: it is reported, and the rest goes on.

    Attributes:
        id: of the row or file, as good as it can be told. reason: one sentence that says what was expected and what came.
    """

    id: str
    reason: str


class Task(ABC):
    """A benchmark. A new one is a file of :mod:`graphkv_benchmarks.tasks` and a verb of the CLI.

    Tasks are small frozen dataclasses of plain values (they are sent to worker processes); data is read when it is asked for.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """For results: ``arxiv-qa``, ``rag-nq``."""

    @property
    def metric(self) -> str:
        """The name of :meth:`score` in results."""
        return "best_subspan_em"

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Everything that decides over the numbers, as JSON and YAML have it (file names, seeds, modes, what the method may see)."""

    @abstractmethod
    def units(self) -> Sequence[str]:
        """Ids of the units in order. All cases of a unit share documents, so they are run together; shards and workers get whole units.

        Raises:
            DocumentError: the data is not there, or is not what the task reads; with the folder that is expected.
        """

    @abstractmethod
    def cases(self, unit: str) -> Iterator[Case | Broken]:
        """The cases of a unit; a broken row in place of a case that cannot be read. Deterministic."""

    @abstractmethod
    def template(self, own: PromptTemplate) -> PromptTemplate:
        """The prompt. `own` is the model's: returned as it is where the task is to be asked in the model's own words."""

    @abstractmethod
    def max_new_tokens(self, arm: str) -> int:
        """The cap of an answer, for an arm by its name."""

    def stop(self) -> tuple[str, ...]:
        """Strings that end an answer."""
        return ()

    def score(self, prediction: str, question: Question) -> float:
        """0 to 1."""
        return best_subspan_em(prediction, question.answers)

    def further(self, lines: Sequence[Line]) -> dict[str, float]:
        """Other metrics of one cell (one arm under one setting, all its answered lines), by name; for tasks whose papers report several."""
        return {}


@dataclass(frozen=True)
class Published:
    """A number that somebody else reported.

    Attributes:
        arm: ours that comes nearest. method: as the source calls it. value: in the unit of the table (0 to 100, or correct of `of`).
        setting: of the cell. of: where the number is a count, of how many. source: paper and table.
    """

    task: str
    arm: str
    method: str
    value: float
    source: str
    setting: Mapping[str, str | int] = field(default_factory=dict)
    of: int | None = None
