"""Arxiv-QA: a question about a paper among the papers that it cites, alone or beside the ego graphs of other papers.

What the official code does, and what is done here unless `as_published` is asked for:

==============================================================================================  ==========================================================
official code (Graph-COM/GraphKV: arxiv_inference.py, arxiv_eval.py, pcw.py, pcw_parallel.py)   here
==============================================================================================  ==========================================================
a paper can be among its own distractors                                                        never
``first`` and ``last`` meet the same distractors only because both runs begin with one seed;    drawn for each paper by itself, first and last the same;
    those for 2 distractors are others than for 1                                               two distractors contain the one
arxiv_eval.py reads one seed three times, so its deviation is always 0                          seeds 42, 43 and 44
each arm has its own words between references and paper                                         one wording for all arms
answers end after 512 tokens (vanilla) or 256 (the others)                                      256
the line end of a question's file goes into the prompt                                          it does not
an empty reference stands in the prompt like any other, only null is left out                   empty ones are left out
a gold answer of nothing, or of nothing but punctuation and articles, is found in every answer  never; a paper without an answer is a broken row
==============================================================================================  ==========================================================

`as_published` is the released wording: the model's own prompt is refused with it. What it cannot follow stands in :data:`NOT_FOLLOWED`, and in
the config.yaml of such a run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, Literal

from graphkv.errors import DocumentError, InputError, one_of
from graphkv.graph import SegmentGraph
from graphkv.prompt import PromptTemplate
from graphkv.segments import Segment

from ..runner.case import Broken, Case, Question, Setting, Task
from ..scoring import best_subspan_em
from .arxiv_files import ArxivFiles, EgoTexts

ORDERS = ("first", "last")
PAPER = PromptTemplate(
    prefix="<|user|>\nYou are an intelligent AI assistant. You will first read the related works of a paper, then you will read the paper. Then answer the question.\n\n",
    document="- Title: {title}\n{text}",  # unused: with this prompt no document has a title
    untitled="{text}",
    question="\n Question: {question} \n<|assistant|>\n",
)
"""The released prompt. Its tags are those of the Tulu 3 models that the paper uses."""

MIDDLE = "\nNow you will read the center paper and answer a related question: \n"
MIDDLE_OF_SEVERAL = "\nNow you will read the center paper and answer a related question: : \n"
"""With distractors; the doubled colon is the official one."""
MIDDLE_SEQUENTIAL = " Now please read the paper:"
BETWEEN = "\n\n"

SCORES = "BM25 of the question over name and text of each document, best first; ties by id"
SEEDS, PUBLISHED_SEEDS = (42, 43, 44), (42,)
_CAP, _VANILLA_CAP, _VANILLA = 256, 512, ("sequential", "full_context")

ODDITIES: Mapping[str, tuple[str, str]] = {
    "cap": (f"{_VANILLA_CAP} for {' and '.join(_VANILLA)}, else {_CAP}", f"{_CAP}"),
    "draw": ("one generator for the whole run, the paper itself among those drawn", "for each paper by itself, never the paper, the first n of one draw"),
    "gold of punctuation and articles only": ("always found, also an empty one", "never found; an empty one is a broken row"),
    "empty references": ("in the text of sequential", "left out"),
    "line end of the question": ("kept", "left out"),
    "seeds": ("one, which the deviation is taken of three times", "each drawn"),
    "wording": ("of each arm its own between references and paper", "one for all arms"),
}
"""What `as_published` decides: with it, and without."""

NOT_FOLLOWED: Mapping[str, str] = {
    "positions of graph with distractors": (
        "the papers of all ego graphs start together behind the longest reference of all, the question behind the longest paper;"
        " officially each paper starts behind the longest of its own references, the question behind the ego graph that ends last"
    ),
    "middle sentence of block": "at the head of the paper, as for graph; officially a block of its own without distractors, and none at all with them",
    "empty references": "left out by all arms but sequential: a segment has a text",
    "seams of sequential": "prefix, documents and question are tokenised apart; officially the prompt is one text, so that tokens can reach across a seam",
    "special tokens": "one that a document spells is read as the letters it is written with; officially as the token",
    "rotations": "to the model's own type; officially to bfloat16, after each of two",
    "masked keys": "none; officially a mask by index hides real keys from the parallel arms where the attention is not flash-attention 2",
    "broken rows": "named and left out; officially the run ends there",
}
"""What the official code does otherwise, also where `as_published` is asked for."""


@dataclass(frozen=True)
class Group:
    """An ego graph in its place in a context: `id` is its id, with a mark if it stands there a second time."""

    id: str
    texts: EgoTexts


@dataclass(frozen=True)
class ArxivQA(Task):
    """Arxiv-QA of the Graph-KV paper (arXiv 2506.07334), 60 questions in the released set.

    The documents stand in the released order: of each ego graph the references, then the paper, which reads them (edge reference → paper). The paper
    that the question is about comes with its references ``first`` or ``last``, whole ego graphs of other papers beside it. Layouts that rank
    see :data:`SCORES`, everything else the data's own edges. References whose text is null or empty are left out.

    Attributes:
        data: the folder, see :class:`~graphkv_benchmarks.tasks.arxiv_files.ArxivFiles`.
        distractors: numbers of other ego graphs; with 0 there is one case. orders: ``first``, ``last``.
        seeds: of the draw of distractors. None given: 42, 43 and 44; as published 42, the only one that is taken then.
        prompt: ``paper`` for the released wording; ``model`` for the model's own, in which documents have titles.
        as_published: as the official code draws, words, caps and scores, see :data:`ODDITIES`; with prompt ``paper`` only.

    Raises:
        InputError: settings that cannot be meant.

    Example:
        >>> ArxivQA("datahub/arxiv", distractors=(0, 1), orders=("last",), seeds=(42,)).settings()["distractors"]
        [0, 1]
    """

    data: str
    distractors: tuple[int, ...] = (0, 1, 2)
    orders: tuple[str, ...] = ORDERS
    seeds: tuple[int, ...] = ()
    prompt: Literal["paper", "model"] = "paper"
    as_published: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", str(self.data))
        if not self.seeds:
            object.__setattr__(self, "seeds", PUBLISHED_SEEDS if self.as_published else SEEDS)
        for kind, got in (("distractors", self.distractors), ("orders", self.orders), ("seeds", self.seeds)):
            object.__setattr__(self, kind, tuple(got))
            if not got or len(set(got)) != len(got):
                raise InputError(f"{kind}: expected one or more, each once, got {list(got)}")
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in self.distractors):
            raise InputError(f"distractors are whole numbers from 0 up, got {list(self.distractors)}")
        if any(isinstance(seed, bool) or not isinstance(seed, int) for seed in self.seeds):
            raise InputError(f"seeds are whole numbers, got {list(self.seeds)}")
        for kind, name, valid in (*(("order", order, ORDERS) for order in self.orders), ("prompt", self.prompt, ("paper", "model"))):
            if name not in valid:
                raise InputError(one_of(kind, name, valid))
        if self.as_published and self.prompt != "paper":
            raise InputError(
                "as_published is the released wording, and the prompt is the model's own (the default of the embedded model): say --prompt paper, or leave --as-published out"
            )
        if self.as_published and self.seeds != PUBLISHED_SEEDS:
            raise InputError(f"as_published has the seed 42 and no other, got {list(self.seeds)}: leave the seeds out, or --as-published")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> ArxivQA:
        """The task whose :meth:`settings` these are."""
        lists = {name: tuple(settings[name]) for name in ("distractors", "orders", "seeds")}
        return cls(settings["data"], **lists, prompt=settings["prompt"], as_published=settings["as_published"])

    @property
    def name(self) -> str:
        return "arxiv-qa"

    def settings(self) -> dict[str, Any]:
        """As every task's; ``digest`` is None where there is no data, of which :meth:`units` says what is missing."""
        found: dict[str, Any] = {
            "kind": "arxiv-qa",
            "data": self.data,
            "digest": self._digest(),
            "distractors": list(self.distractors),
            "orders": list(self.orders),
            "seeds": list(self.seeds),
            "prompt": self.prompt,
            "as_published": self.as_published,
            "scores": SCORES,
            "oddities": {name: published if self.as_published else here for name, (published, here) in ODDITIES.items()},
        }
        return found | ({"not_followed": dict(NOT_FOLLOWED)} if self.as_published else {})

    def units(self) -> Sequence[str]:
        """Ids with any file, in the order of numbers; one that lacks a file is broken."""
        ids = self._files.ids
        if max(self.distractors) >= len(ids):
            raise InputError(f"{max(self.distractors)} distractors need more than {len(ids)} ego graphs, which is all there are in {self._files.folder}")
        return ids

    def cases(self, unit: str) -> Iterator[Case | Broken]:
        files = self._files  # that there is no data at all is no broken row
        try:
            own = Group(unit, files.ego(unit))
            questions = (self._question(unit),)
        except DocumentError as error:
            yield Broken(unit, str(error))
            return
        known: dict[str, EgoTexts | DocumentError] = {unit: own.texts}
        for count in self.distractors:
            for seed in self.seeds if count else self.seeds[:1]:
                others = self._drawn(unit, count, seed, known)
                if isinstance(others, Broken):
                    yield others
                    continue
                ranks = _ranks(questions[0].text, [own, *others])
                for order in self.orders if count else self.orders[:1]:
                    setting: Setting = {"distractors": count, "order": order, "seed": seed} if count else {"distractors": 0}
                    yield self._case(setting, [own, *others] if order == "first" else [*others, own], questions, ranks)

    def template(self, own: PromptTemplate) -> PromptTemplate:
        return PAPER if self.prompt == "paper" else own

    def max_new_tokens(self, arm: str) -> int:
        return _VANILLA_CAP if self.as_published and arm.split(":")[0] in _VANILLA else _CAP

    def score(self, prediction: str, question: Question) -> float:
        return best_subspan_em(prediction, question.answers, blank_counts=self.as_published)

    def _digest(self) -> str | None:
        try:
            return self._files.digest()
        except DocumentError:
            return None

    @cached_property
    def _files(self) -> ArxivFiles:
        return ArxivFiles(self.data)

    @cached_property
    def _types(self) -> Mapping[str, str]:
        return self._files.types()

    def _question(self, unit: str) -> Question:
        question, answer = self._files.question(unit), self._files.answer(unit, may_be_empty=self.as_published)
        if not self.as_published:
            question, answer = question.strip(), answer.strip()
        return Question(unit, question, (answer,), self._types.get(unit, ""))

    def _drawn(self, unit: str, count: int, seed: int, known: dict[str, EgoTexts | DocumentError]) -> list[Group] | Broken:
        """The distractors, in their order. What cannot be read is none of them, unless the official draw says so: then the case is broken."""
        if not count:
            return []
        where = f"{unit}, {count} distractor{'s' * (count > 1)}, seed {seed}"
        if self.as_published:
            ids = official_draw(self._files.ids, count, seed)[unit]
        else:
            others = [id for id in self._files.ids if id != unit]
            ids = tuple(random.Random(f"{seed} {unit}").sample(others, len(others)))
        found: list[Group] = []
        for id in ids:
            texts = self._texts(id, known)
            if isinstance(texts, EgoTexts):
                found.append(Group(f"{id} again" if id == unit else id, texts))
            elif self.as_published:
                return Broken(where, f"distractor {id} cannot be read: {texts}")
            if len(found) == count:
                return found
        return Broken(where, f"only {len(found)} other ego graphs can be read, and {count} distractors are asked for")

    def _texts(self, id: str, known: dict[str, EgoTexts | DocumentError]) -> EgoTexts | DocumentError:
        if id not in known:
            try:
                known[id] = self._files.ego(id)
            except DocumentError as error:
                known[id] = error
        return known[id]

    def _case(self, setting: Setting, groups: Sequence[Group], questions: tuple[Question, ...], ranks: Mapping[str, float]) -> Case:
        segments = list(chain.from_iterable(self._segments(group, several=len(groups) > 1) for group in groups))
        edges = [(source, _centre(group)) for group in groups for source in _references(group)]
        graph = SegmentGraph.from_segments([replace(segment, score=ranks[segment.id]) for segment in segments], edges)
        sequential = SegmentGraph.from_segments(chain.from_iterable(map(_vanilla, groups)), edges) if self.as_published else None
        return Case(questions[0].id, setting, graph, questions, sequential)

    def _segments(self, group: Group, several: bool) -> Iterator[Segment]:
        texts, titled = group.texts, self.prompt == "model"
        if titled:
            behind, middle = "", ""
        elif self.as_published:
            behind, middle = "", MIDDLE_OF_SEVERAL if several else MIDDLE
        else:
            behind, middle = BETWEEN, MIDDLE
        for id, (name, text) in _references(group).items():
            yield Segment.from_text(id, text + behind, title=name or None if titled else None)
        yield Segment.from_text(_centre(group), middle + texts.centre, title=texts.paper or None if titled else None)


def official_draw(ids: Sequence[str], count: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Which distractors the official code gives to each id: one generator for the whole run, the paper itself not left out.

    Example:
        >>> official_draw(["1", "2", "3"], 1, 42)
        {'1': ('3',), '2': ('1',), '3': ('1',)}
    """
    rng = random.Random(seed)
    return {id: tuple(rng.sample(list(ids), count)) for id in ids}


def _centre(group: Group) -> str:
    return f"{group.id}/centre"


def _references(group: Group) -> dict[str, tuple[str, str]]:
    """(name, text) of the references by the ids of their segments."""
    return {f"{group.id}/cited/{name}": (name, text) for name, text in group.texts.with_text}


def _vanilla(group: Group) -> Iterator[Segment]:
    """What the official ``vanilla`` reads of an ego graph: ``'\\n\\n'.join(references) + '\\n\\n Now please read the paper:' + paper``.

    The segments are those of the other arms; an empty reference stands at the head of what follows it.
    """
    head = "" if group.texts.references else BETWEEN
    for name, text in group.texts.references:
        head += text + BETWEEN
        if text.strip():
            yield Segment.from_text(f"{group.id}/cited/{name}", head)
            head = ""
    yield Segment.from_text(_centre(group), head + MIDDLE_SEQUENTIAL + group.texts.centre)


def _ranks(question: str, groups: Sequence[Group]) -> dict[str, float]:
    """Scores by id that do not depend on the order of the documents: as many as there are documents for the best one, 1 for the worst."""
    from graphkv_retrieval.bm25 import score_documents

    texts = {_centre(group): (group.texts.paper, group.texts.centre) for group in groups}
    for group in groups:
        texts |= _references(group)
    segments = [Segment.from_text(id, text, title=name or None) for id, (name, text) in texts.items()]
    scored = score_documents(SegmentGraph.from_segments(segments), question)
    best = sorted(scored.segments, key=lambda segment: (-(segment.score or 0.0), segment.id))
    return {segment.id: float(len(best) - place) for place, segment in enumerate(best)}
