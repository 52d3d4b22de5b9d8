"""The RAG sets: a question over some ten retrieved passages, or over the passages of one long text.

What the official code does, and what is done here unless `as_published` is asked for:

====================================================================================================  ====================================================
official code (Graph-COM/GraphKV: inference.py, rag_eval.py, server/; MultiHop-RAG: qa_evaluate.py)   here
====================================================================================================  ====================================================
NQ's answers are lists of lists; only the first list counts, and a row whose first list is empty      every answer of every list counts
scores 0
a gold answer of nothing, or of nothing but punctuation and articles, is found in every prediction    never; empty ones are left out, and a row without
                                                                                                      another is a broken one
MoreHopQA: the last ``answer: ...`` is looked for behind an end mark too                              before the first end mark only
MultiHop-RAG: any word in common with the answer, parted by white space, is a hit; every miss counts  `best_subspan_em`, and word F1 beside it; precision,
as false positive, false negative and true negative at once, so that precision = recall = F1 and     recall, F1 and accuracy with "insufficient
accuracy is never below a third; rows without an answer are left out                                  information" as the answer that is none
LongBench-v2: only "The correct answer is (A)", with or without brackets, counts; a B is read off     shorter forms ("Answer: B", "B. ...") and the text of
"The correct answer is Berlin" (LongBench's pred.py)                                                  a choice count too; a letter must stand alone, and
                                                                                                      the first one counts
LongBench's pred.py cuts the middle out of a prompt that is longer than the model's window            such a row is skipped; the report says how many of
                                                                                                      all were answered (with `as_published` too)
LongBench's pred.py samples at temperature 0.1                                                        greedy (with `as_published` too)
only the server of Block-RAG stops at strings ("Question:" among them), the others at the             all arms stop at the end marks of chat models;
tokenizer's end; `as_published` follows the others for all arms                                       "Question:" ends nothing
====================================================================================================  ====================================================

Of equal scores the passage shown later ranks higher, as the official Top-m takes the last ones shown; see :func:`.rag_rows.told_apart`.

Where paper and code differ, or the paper says nothing: the column that the paper calls NarrativeQA is Natural Questions (folder ``nq_eval``). The
paper's one number for MultiHop-RAG can be any of the four of the code above; its ``extract_answer`` comes from a file that is not released
(``qa_evaluate2.py``), so MultiHop-RAG's own is used, which finds nothing in answers to the released prompt; rows without an answer, which that code
leaves out, are broken ones. The official code reads MoreHopQA sorted by hops, most first: an order of rows, which is not followed. It looks up the
types of HotpotQA and 2Wiki in the original files; here a row needs a ``type`` of its own. LongBench-v2 is not in the released code at all: that its
175 rows are those of the domain "Single-Document QA" (which has 175), the passages and their scores are our reading; prompt, cap and letters are
LongBench's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from graphkv.errors import DocumentError, InputError, check_count, one_of
from graphkv.prompt import PromptTemplate

from ..runner.case import Broken, Case, Line, Question, Task
from ..scoring import best_subspan_em
from .rag_file import FILES, digest, find_file, places, read_row
from .rag_prompts import END_MARKS, TEMPLATES
from .rag_rows import READERS, Wording
from .scores import (
    choice_letter,
    exact_match,
    last_answer,
    multihop_rag_as_published,
    multihop_rag_metrics,
    quoted_answer,
    shares_a_word,
    word_f1,
)

SETS = tuple(FILES)
DOMAIN = "Single-Document QA"
"""The domain of LongBench-v2 that has 175 rows."""
PASSAGE_WORDS = 512
CAP, LONGBENCH_CAP = 1024, 128
"""New tokens of an answer: as the official servers have them, and LongBench-v2's pred.py."""
NOT_FOLLOWED = {"long rows": "skipped and counted; pred.py cuts the prompt's middle out", "sampling": "greedy; pred.py samples at temperature 0.1"}
"""Of LongBench-v2's own code."""

_LONGBENCH = "longbench-v2"


@dataclass(frozen=True)
class RagQA(Task):
    """One of the seven RAG sets of the Graph-KV paper (arXiv 2506.07334).

    Documents stand in ascending order of their retrieval score, the best next to the question; layouts that rank see the score. There are no
    edges. LongBench-v2's passages stay in the order of their text and are scored by BM25. The module's docstring says what
    `as_published` changes.

    Attributes:
        set: one of :data:`SETS`.
        data: the set's file, or a folder above it, see :func:`~graphkv_benchmarks.tasks.rag_file.find_file`. ``morehopqa`` also reads the JSON
            list of its authors, whose passages have titles and no scores: BM25 gives them.
        prompt: ``paper`` for the released wording; ``model`` for the model's own, in which documents have titles where the rows do.
        as_published: scores, answers and ends as in the official code.
        domain: of LongBench-v2, all of them for an empty one. passage_words: words of one of its passages.

    Raises:
        InputError: an unknown set or prompt, a count that is none, or LongBench-v2's options for another set.

    Example:
        >>> task = RagQA("nq", "datahub")
        >>> task.name, task.max_new_tokens("graph"), task.metric
        ('rag-nq', 1024, 'best_subspan_em')
    """

    set: str
    data: str
    prompt: str = "paper"
    as_published: bool = False
    domain: str = DOMAIN
    passage_words: int = PASSAGE_WORDS

    def __post_init__(self) -> None:
        if self.set not in SETS:
            raise InputError(one_of("RAG set", self.set, SETS))
        if self.prompt not in ("paper", "model"):
            raise InputError(one_of("prompt", self.prompt, ("paper", "model")))
        check_count("passage_words", self.passage_words)
        if self.set != _LONGBENCH and (self.domain, self.passage_words) != (DOMAIN, PASSAGE_WORDS):
            raise InputError(f"domain and passage words are for {_LONGBENCH}, and the set is {self.set}: leave them out")
        object.__setattr__(self, "data", str(self.data))

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> RagQA:
        """The task that a config.yaml tells of."""
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})

    @property
    def name(self) -> str:
        return f"rag-{self.set}"

    @property
    def metric(self) -> str:
        """The name of :meth:`score` in results."""
        if self.set == _LONGBENCH:
            return "accuracy"
        return "word_intersection" if self.set == "multihop-rag" and self.as_published else "best_subspan_em"

    @property
    def file(self) -> Path:
        """The set's file. Raises DocumentError if it is not there."""
        return find_file(self.set, self.data)

    def settings(self) -> dict[str, Any]:
        path = self.file
        found: dict[str, Any] = {
            "kind": "rag",
            "set": self.set,
            "data": self.data,
            "prompt": self.prompt,
            "as_published": self.as_published,
            "file": path.name,
            "digest": digest(path),
            "order": "the text's" if self.set == _LONGBENCH else "ascending score",
            "cap": self.max_new_tokens(""),
            "stop": list(self.stop()),
            "oddities": self._oddities(),
        }
        if self.set == _LONGBENCH:
            found |= {"domain": self.domain, "passage_words": self.passage_words, "scores": "BM25 of the question over the passages"}
        return found

    def _oddities(self) -> dict[str, str]:
        """What `as_published` decides for this set, each by name with what is chosen; and what is never as in the official code."""
        chosen = {"gold of punctuation and articles only": ("always found", "never found"), "stop strings": ("none", "end marks of chat models")}
        if self.set == "nq":
            chosen["answers"] = ("the first list", "all lists")
        if self.set == "morehopqa":
            chosen["final answer"] = ("the last of the whole output", "the last before an end mark")
        if self.set == "multihop-rag":
            scores = ("a word in common; misses counted three times", "best_subspan_em; abstentions counted as such")
            chosen = {"stop strings": chosen["stop strings"], "score": scores}
        if self.set == _LONGBENCH:
            letters = ('"The correct answer is (A)" only', "also short forms and the text of a choice")
            chosen = {"stop strings": chosen["stop strings"], "letter": letters} | {name: (said, said) for name, said in NOT_FOLLOWED.items()}
        return {name: pair[0] if self.as_published else pair[1] for name, pair in sorted(chosen.items())}

    def units(self) -> Sequence[str]:
        """Ids of the rows in the file's order: the row's own, else its number from 0."""
        path = self.file
        found = places(path)
        if self.set != _LONGBENCH or not self.domain:
            return tuple(found)
        # a row that says no domain is a broken one here, and is reported as such
        chosen = tuple(id for id, place in found.items() if place.domain in (self.domain, None))
        if not chosen:
            domains = sorted({place.domain for place in found.values() if place.domain})
            raise DocumentError(f"{path}: no row of the domain {self.domain!r}; there are {', '.join(domains)}")
        return chosen

    def cases(self, unit: str) -> Iterator[Case | Broken]:
        path = self.file
        place = places(path).get(unit)
        if place is None:
            raise DocumentError(f"{path} has no row {unit!r}")
        wording = Wording(titles=self.prompt == "model", as_published=self.as_published, passage_words=self.passage_words, by_domain=bool(self.domain))
        try:
            row = READERS[self.set](read_row(path, place), wording)
        except DocumentError as error:
            said = str(error).replace(str(path), path.name)  # not where it lies: the same row is the same line wherever it was read
            yield Broken(unit, said if said.startswith(path.name) else f"{path.name}, line {place.line}: {said}")
            return
        yield Case(unit, {}, row.graph, (Question(unit, row.question, row.answers, row.type, row.choices),))

    def template(self, own: PromptTemplate) -> PromptTemplate:
        return TEMPLATES[self.set] if self.prompt == "paper" else own

    def max_new_tokens(self, arm: str) -> int:
        return LONGBENCH_CAP if self.set == _LONGBENCH else CAP

    def stop(self) -> tuple[str, ...]:
        return () if self.as_published else END_MARKS

    def score(self, prediction: str, question: Question) -> float:
        answers = question.answers
        if self.set == _LONGBENCH:
            return float(choice_letter(prediction, question.choices, as_published=self.as_published) == answers[0])
        if self.set == "multihop-rag" and self.as_published:
            given = quoted_answer(prediction) if "The answer" in prediction else prediction
            return float(any(shares_a_word(given, answer) for answer in answers))
        if self.as_published and not answers:
            return 0.0
        return best_subspan_em(self._final(prediction), answers, blank_counts=self.as_published)

    def further(self, lines: Sequence[Line]) -> dict[str, float]:
        """For LongBench-v2 the share of answers without a letter (the text of a choice is none); else word F1 and exact match, and MultiHop-RAG's four.

        As published: MultiHop-RAG's four as its own code counts them, and nothing for the others.
        """
        if not lines:
            return {}
        if self.set == _LONGBENCH:
            return {"no_letter": sum(choice_letter(line["answer"], as_published=self.as_published) is None for line in lines) / len(lines)}
        pairs = [(str(line["answer"]), str(line["gold"][0])) for line in lines] if self.set == "multihop-rag" else []
        if self.as_published:
            return multihop_rag_as_published(pairs) if pairs else {}
        finals = [(self._final(line["answer"]), line["gold"]) for line in lines]
        found = {"word_f1": sum(word_f1(*pair) for pair in finals) / len(lines), "exact_match": sum(exact_match(*pair) for pair in finals) / len(lines)}
        return found | (multihop_rag_metrics(pairs) if pairs else {})

    def _final(self, prediction: str) -> str:
        return last_answer(prediction, as_published=self.as_published) if self.set == "morehopqa" else prediction
