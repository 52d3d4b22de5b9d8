"""Topic classification on citation networks (Cora, Pubmed): the class of a paper from its text and its neighbours' texts.

Graph-KV (arXiv 2506.07334) reports 71.03 on Cora and 84.61 on Pubmed, but released neither code nor prompt nor which papers were asked. What is
ours here, and stands in config.yaml: the prompt (in the style of the released ones), the papers asked, how neighbours are chosen, how answers are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from graphkv.errors import DocumentError, InputError, check_count, one_of
from graphkv.graph import SegmentGraph
from graphkv.prompt import PromptTemplate

from ..runner.case import Broken, Case, Line, Question, Task
from . import topic_cora, topic_pubmed
from .scores import named_choice
from .topic_papers import Paper, Papers

_SETS = {"cora": (topic_cora.read_cora, tuple(topic_cora.CLASSES.values())), "pubmed": (topic_pubmed.read_pubmed, tuple(topic_pubmed.CLASSES.values()))}
SETS = tuple(_SETS)
_LISTED = {"pubmed": ("Diabetes Mellitus, Experimental", "Diabetes Mellitus Type 1", "Diabetes Mellitus Type 2")}
"""How the question lists the classes where an answer is recognised by less than the whole name: "type 2 diabetes" is an answer too."""

TEMPLATE = PromptTemplate(
    prefix="<|user|>\nYou are an intelligent AI assistant. You will first read the related works of a paper, then you will read the paper. "
    "Then answer the question.\n\n",
    document="- Title: {title}\n{text}\n",
    untitled="- {text}\n",
    question="Please classify the paper using its own text and its related works. Answer with the name of one class and nothing else. \n"
    " Question: {question} \n<|assistant|>\n",
)
"""Prompt "paper": the released Arxiv-QA instruction and the released RAG documents, with a question block of ours."""

_SEES = "the texts of the paper and of the neighbours chosen, who cites whom among them, and the list of classes; no paper's class, no example, no training"


@dataclass(frozen=True)
class TopicTask(Task):
    """Zero-shot: no class of any paper is ever shown. The target reads its neighbours: papers that it cites or that cite it.

    Attributes:
        set: ``cora`` or ``pubmed``. data: its folder, see :data:`topic_cora.EXPECTED` and :data:`topic_pubmed.EXPECTED`.
        neighbours: the most that a paper reads. choose: which, where there are more: ``bm25`` (nearest to the paper's own text; the nearest stands last)
            or ``id`` (the lowest).
        hops: 2 lets each neighbour read its own neighbours too (the target excepted), as many again; arm ``graph:rounds=2`` carries them to the target.
        test: how many papers are asked: those with the least SHA-256 of seed and id, so a smaller test is a part of a larger one. seed: another choice.
        prompt: ``paper`` (:data:`TEMPLATE`) or ``model``. answers: ``strict``: an answer must name one class and no other; ``first``: it counts as the first
            class of the list whose name stands anywhere in it.

    Raises:
        InputError: an unknown name, or a number that cannot be.

    Example:
        >>> TopicTask("cora", "dataset/cora_orig").name
        'topic-cora'
    """

    set: str
    data: str
    neighbours: int = 10
    choose: str = "bm25"
    hops: int = 1
    test: int = 1000
    seed: int = 1
    prompt: str = "paper"
    answers: str = "strict"

    def __post_init__(self) -> None:
        for kind, got, valid in (
            ("set", self.set, SETS),
            ("choice of neighbours", self.choose, ("bm25", "id")),
            ("number of hops", self.hops, (1, 2)),
            ("prompt", self.prompt, ("paper", "model")),
            ("reading of answers", self.answers, ("strict", "first")),
        ):
            if got not in valid:
                raise InputError(one_of(kind, got, valid))
        check_count("test", self.test)
        if self.neighbours < 0:
            raise InputError(f"neighbours must be a whole number of at least 0, got {self.neighbours}")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> TopicTask:
        """The task that a config.yaml tells of."""
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})

    @property
    def metric(self) -> str:
        return "accuracy"

    @property
    def name(self) -> str:
        return f"topic-{self.set}"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that tell the classes apart in an answer."""
        return _SETS[self.set][1]

    def settings(self) -> dict[str, Any]:
        read = self._read()
        counts = {"papers": len(read.papers), "papers_without_text": read.without_text, "citations_left_out": read.edges_left_out, "digest": read.digest}
        return {"kind": "topic", **asdict(self), **counts, "sees": _SEES}

    def units(self) -> Sequence[str]:
        """The papers that are asked, in the order of their hashes; then the rows that could not be read."""
        read = self._read()
        chosen = sorted(read.papers, key=lambda id: hashlib.sha256(f"{self.seed}:{id}".encode()).digest())[: self.test]
        return [*chosen, *(row.id for row in read.broken)]

    def cases(self, unit: str) -> Iterator[Case | Broken]:
        read = self._read()
        if unit not in read.papers:
            rows = [row for row in read.broken if row.id == unit]
            if not rows:
                raise DocumentError(f"{self.data}: no paper {unit!r} with a text")
            yield from rows
            return
        paper = read.papers[unit]
        question = Question(unit, self._question(paper), (paper.label,), paper.label, self.classes)
        yield Case(unit, {}, self._graph(read, unit), (question,))

    def template(self, own: PromptTemplate) -> PromptTemplate:
        return TEMPLATE if self.prompt == "paper" else own

    def max_new_tokens(self, arm: str) -> int:
        return 32

    def score(self, prediction: str, question: Question) -> float:
        if self.answers == "first":
            given = next((name for name in question.choices if named_choice(prediction, (name,))), None)
        else:
            given = named_choice(prediction, question.choices)
        return float(given == question.answers[0])

    def further(self, lines: Sequence[Line]) -> dict[str, float]:
        """The shares of answers that name no class, and several."""
        counts = [sum(named_choice(line["answer"], (name,)) is not None for name in self.classes) for line in lines]
        return {"no_class": counts.count(0) / len(counts), "several_classes": sum(count > 1 for count in counts) / len(counts)} if counts else {}

    def _read(self) -> Papers:
        return _SETS[self.set][0](self.data)

    def _question(self, paper: Paper) -> str:
        classes = "; ".join(_LISTED.get(self.set, self.classes))
        words = paper.text.split()
        called = f'with the title "{paper.title}"' if paper.title else f'that begins with "{" ".join(words[:12])}"'
        return f"To which class does the paper {called} belong? The classes are: {classes}."

    def _graph(self, read: Papers, target: str) -> SegmentGraph:
        """Documents from far to near, the target last."""
        near = self._chosen(read, target)
        reads = {target: near}
        if self.hops == 2:
            reads |= {id: [far for far in self._chosen(read, id) if far != target] for id in near}
        far = dict.fromkeys(id for reader in near for id in reads.get(reader, ()) if id not in near)
        order = [*far, *near, target]
        documents = [_document(read.papers[id]) | {"sources": [{"id": source, "kind": "cites"} for source in reads.get(id, ())]} for id in order]
        return SegmentGraph.from_documents(documents)

    def _chosen(self, read: Papers, id: str) -> list[str]:
        """At most `neighbours` of a paper's neighbours, the best last."""
        from graphkv_retrieval.bm25 import score_documents

        around = read.neighbours[id]
        if not around or not self.neighbours:
            return []
        if self.choose == "id":
            return sorted(around, key=lambda other: (len(other), other))[: self.neighbours]
        paper = read.papers[id]
        scored = score_documents([_document(read.papers[other]) for other in around], f"{paper.title or ''} {paper.text}")
        scores = {segment.id: segment.score or 0.0 for segment in scored}
        return sorted(around, key=lambda other: -scores[other])[: self.neighbours][::-1]


def _document(paper: Paper) -> dict[str, Any]:
    return {"id": paper.id, "title": paper.title, "text": paper.text}

