"""Invented rows for all seven RAG sets in exactly the released files, for machines without a network."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphkv.errors import InputError, check_count
from graphkv_retrieval.bm25 import score_documents

from ..citation_world import Paper, Question, Recipe, World, make_world
from .made_set import make_set
from .rag_prompts import PREFIX, TEMPLATES

FOLDER = Path("datahub/rag")
"""The sets' folder inside the one that is given, as released."""
DOCUMENTS = 10
"""Documents of a row, as retrieved for the released ones."""
LONGBENCH_WORDS = 320
"""LongBench-v2's papers have at least so many words each, so that the context is longer than one passage."""

_STYLES = (0.75, 0.25, 0.0)
"""Named, numbered and bare citations: what a bare one cites is known from the edge alone, and these rows have no edges."""


@dataclass(frozen=True)
class _Made:
    """A world, one of its questions, and its papers in descending order of score."""

    world: World
    question: Question
    ranked: list[tuple[Paper, float]]


def write_offline_rag(folder: str | Path, *, rows: int = 100, seed: int = 1, words: int = 0) -> dict[str, Any]:
    """Write ``datahub/rag/nq_eval/dataset`` and so on, whole or not at all; ``offline.json`` beside them says how they were made.

    Each row is a world of ten invented papers with names that no training saw, scored by BM25 against one question that they answer. If the
    same rows are there already, nothing is written; anything else in `folder` is left alone.

    Args:
        folder: made if it is not there. rows: of each set. seed: same seed, same bytes. words: least words of a paper; 0: facts only, some 40.

    Returns:
        What offline.json holds.

    Raises:
        InputError: counts that make no sense, or a ``datahub/rag`` that holds something else.

    Example:
        >>> write_offline_rag("data", rows=20)["rows"]  # doctest: +SKIP
        20
    """
    check_count("rows", rows)
    if isinstance(words, bool) or not isinstance(words, int) or words < 0:
        raise InputError(f"words must be a whole number of at least 0, got {words!r}")
    made = {"made_by": "graphkv bench offline rag", "version": 1, "rows": rows, "seed": seed, "words": words}

    def write(place: Path) -> dict[str, Any]:
        _write(place, rows, seed, words)
        return {}

    return make_set(Path(folder) / FOLDER, made, write)


def _write(place: Path, rows: int, seed: int, words: int) -> None:
    for name, (file, make) in _SETS.items():
        least = max(words, LONGBENCH_WORDS) if name == "longbench-v2" else words
        found = [make(one) for one in _worlds(f"{seed} {name}", rows, least)]
        path = place / file
        path.parent.mkdir(parents=True)
        if path.suffix == ".json":
            text = json.dumps(found, ensure_ascii=False, indent=1) + "\n"
        else:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        path.write_text(text, encoding="utf-8", newline="\n")


def _worlds(seed: str, rows: int, words: int) -> Iterator[_Made]:
    rng = random.Random(f"offline rag {seed}")
    while rows:
        world = make_world(rng.randrange(2**31), DOCUMENTS, held_out=True, recipe=Recipe(words=words, styles=_STYLES))
        answerable = [question for question in world.questions if question.gold is not None]
        if not answerable:
            continue
        rows -= 1
        question = rng.choice(answerable)
        graph = score_documents([{"id": paper.id, "title": paper.title, "text": paper.text} for paper in world.papers], question.question)
        scores = {segment.id: round(segment.score or 0.0, 6) for segment in graph}
        yield _Made(world, question, sorted(((paper, scores[paper.id]) for paper in world.papers), key=lambda pair: -pair[1]))


def _block_row(made: _Made, answers: Any, **further: str) -> dict[str, Any]:
    documents = [{"title": paper.title, "text": paper.text, "score": score} for paper, score in made.ranked]
    shown = "".join(f"- Title: {paper.title}\n{paper.text}\n" for paper, _ in reversed(made.ranked))
    prompt = PREFIX + shown + TEMPLATES["nq"].ask(made.question.question)
    inputs: dict[str, list[int]] = {"input_ids": [], "labels": []}
    return {"prompt": prompt, "question": made.question.question, "answers": answers, "generated": "", "inputs": inputs, "documents": documents} | further


def _plain(made: _Made) -> dict[str, Any]:
    return _block_row(made, [made.question.answer])


def _nq(made: _Made) -> dict[str, Any]:
    return _block_row(made, [[made.question.answer]])


def _hotpotqa(made: _Made) -> dict[str, Any]:
    return _block_row(made, [made.question.answer], type="comparison" if made.question.type == "comparison" else "bridge")


def _2wiki(made: _Made) -> dict[str, Any]:
    kind = "comparison" if made.question.type == "comparison" else "compositional" if made.question.hops > 1 else "inference"
    return _block_row(made, [made.question.answer], type=kind)


def _multihop_rag(made: _Made) -> dict[str, Any]:
    texts = [f"[Excerpt from document]\ntitle: {paper.title}\nExcerpt:\n-----\n{paper.text}\n-----" for paper, _ in made.ranked]
    retrieved = [{"text": text, "score": score} for text, (_, score) in zip(texts, made.ranked, strict=True)]
    kind = "comparison_query" if made.question.type == "comparison" else "inference_query"
    return {"query": made.question.question, "retrieval_list": retrieved, "answer": made.question.answer, "question_type": kind}


def _morehopqa(made: _Made) -> dict[str, Any]:
    documents = [f"Title: {paper.title}\n{paper.text}" for paper, _ in reversed(made.ranked)]
    return {"question": made.question.question, "answers": made.question.answer, "documents": documents, "no_of_hops": made.question.hops}


def _longbench(made: _Made) -> dict[str, Any]:
    """One of four values of the kind that is asked for; the letter of the right one follows from its place in the alphabet."""
    question = made.question
    others = [value for value in _values(made.world, question) if value != question.answer]
    further = 0
    while len(others) < 3:  # the world itself has fewer
        world = make_world(further, DOCUMENTS, held_out=True)
        others += [value for value in _values(world, question) if value not in (question.answer, *others)]
        further += 1
    choices = sorted([question.answer, *others[:3]])
    context = "\n\n".join(f"{paper.title}\n{paper.text}" for paper in made.world.papers)
    return {
        "_id": f"offline-{zlib.crc32(context.encode()):08x}",
        "domain": "Single-Document QA",
        "sub_domain": "Academic",
        "difficulty": "hard" if question.hops > 1 else "easy",
        "length": "short",
        "question": question.question,
        **{f"choice_{letter}": choice for letter, choice in zip("ABCD", choices, strict=True)},
        "answer": "ABCD"[choices.index(question.answer)],
        "context": context,
    }


def _values(world: World, question: Question) -> list[str]:
    """What the papers of a world have for the kind that is asked for, in order, each once."""
    named = question.type in ("title", "comparison")
    return list(dict.fromkeys(paper.title if named else paper.facts[question.kind] for paper in world.papers if named or question.kind in paper.facts))


_SETS: dict[str, tuple[str, Callable[[_Made], dict[str, Any]]]] = {
    "nq": ("nq_eval/dataset", _nq),
    "2wiki": ("2wiki_dev/dataset", _2wiki),
    "tqa": ("tqa_eval/dataset", _plain),
    "hotpotqa": ("hqa_eval/dataset", _hotpotqa),
    "multihop-rag": ("multihopqa/GIST-large-Embedding-v0_retrieval_test.json", _multihop_rag),
    "morehopqa": ("morehopqa/with_human_verification_ascend.jsonl", _morehopqa),
    "longbench-v2": ("longbench-v2/data.json", _longbench),
}
"""File and row of each set."""
