"""Questions about a small held-out citation world whose papers are scattered among thousands of others.

The others come from the training side of the names, so that no title, person or method of theirs is one of the world's; they cite
each other as papers do, and every citation is an edge.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

from graphkv.errors import InputError, LengthError

from ..citation_bench.cells import kind_of
from ..citation_world import World, make_world, one_style
from .cases import Case, Context, Documents
from .haystack import Meter

TASKS = {"citation_1_hop": "1 hop", "citation_2_hops": "2 hops"}
"""Name of the task, kind of question: one paper, or one that a paper cites."""

PAPERS = 8
"""Of the world that is asked about."""
MAX_NEW_TOKENS = 24
MOST_OTHERS = 9_000
_WORLD = 40
_SPARE = 128
_PATIENCE = 200


def citation_contexts(meter: Meter, length: int, *, contexts: int, each: int = 5, seed: int = 1) -> list[Context]:
    """Contexts with up to `each` questions of either task.

    Raises:
        LengthError: no room for the world itself. InputError: more other papers would be needed than there are titles.
    """
    found: list[Context] = []
    number = -1
    while len(found) < contexts:
        number += 1
        if number > _PATIENCE * contexts:
            raise InputError(f"no world of {PAPERS} papers has {each} questions of both kinds: ask for fewer")
        world = make_world(seed * 1_000_003 + number, PAPERS, True, one_style("named"))
        asked = {task: [q for q in world.questions if kind_of(q, "named") == kind][:each] for task, kind in TASKS.items()}
        if any(len(questions) < each for questions in asked.values()):
            continue
        name = f"citation-{length}-{len(found)}"
        cases = [Case(f"{name}-{task}-{i}", task, q.question, (q.answer,)) for task, questions in asked.items() for i, q in enumerate(questions)]
        around = meter.around([case.question for case in cases], MAX_NEW_TOKENS)
        room = length - around - sum(tokens_of(meter, world.to_row()["documents"]))
        if room < 0:
            raise LengthError(f"a length of {length} tokens has no room for {PAPERS} papers and a question: they take {length - room}; choose a greater one")
        others = _others(meter, _enough(room))
        if (left := room - sum(tokens for _, tokens in others)) > _SPARE:
            raise InputError(f"a length of {length} tokens is too much for citation worlds: there are titles for {len(others)} other papers, which leave {left} tokens empty")
        found.append(Context(name, length, tuple(cases), partial(scattered, meter, world, room, seed + number), "exact", MAX_NEW_TOKENS))
    return found


def tokens_of(meter: Meter, documents: Sequence[dict[str, Any]]) -> list[int]:
    """Tokens of each document as the model reads it."""
    texts = ["".join(text for text, _ in meter.template.pieces(str(d["title"]), str(d["text"]))) for d in documents]
    return meter.counts(texts, "")


def scattered(meter: Meter, world: World, room: int, seed: int) -> Documents:
    """The world's papers in random order among as many others as there is room for."""
    rng = random.Random(f"scattered {seed}")
    chosen: Documents = []
    kept: set[str] = set()
    for paper, tokens in _others(meter, _enough(room)):
        if tokens > room:
            break
        room -= tokens
        chosen.append(paper)
        kept.add(str(paper["id"]))
    others = [paper | {"sources": [source for source in paper["sources"] if source in kept]} for paper in chosen]
    documents = [*world.to_row()["documents"], *others]
    rng.shuffle(documents)
    return documents


def _enough(room: int) -> int:
    """More papers than `room` tokens hold, in few sizes, since all of a size are made once."""
    return max(1024, 1 << (room // 24).bit_length())


@cache
def _others(meter: Meter, count: int) -> list[tuple[dict[str, Any], int]]:
    """Papers that cite each other, at least `count` if the titles suffice, with their tokens; no two with one title."""
    papers: list[dict[str, Any]] = []
    titles: set[str] = set()
    for number in range(2 * min(count, MOST_OTHERS) // _WORLD + 2):
        for paper in make_world(number, _WORLD, False, one_style("named")).to_row()["documents"]:
            if paper["title"].lower() not in titles:
                titles.add(paper["title"].lower())
                papers.append(paper | {"id": f"w{number}{paper['id']}", "sources": [f"w{number}{source}" for source in paper["sources"]]})
    papers = papers[: min(count, MOST_OTHERS)]
    return list(zip(papers, tokens_of(meter, papers), strict=True))
