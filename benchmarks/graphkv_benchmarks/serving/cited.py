"""Whether citations name the segment that an answer stands in: held-out citation worlds, whose gold segments are known but not shown to anybody who cites.

    python -m graphkv_benchmarks.serving.cited benchmarks/results/citations.json
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from graphkv.chat import chat_prompt
from graphkv.engine import GraphKV
from graphkv.graph import SegmentGraph
from graphkv.scheduler import Question, Scheduler

from ..citation_world import rows
from ..machine import machine
from ..result_file import write_result
from ..scoring import wilson


def measure(engine: GraphKV, *, seed: int = 23, worlds: int = 60, documents: int = 8, questions: int = 8) -> dict[str, Any]:
    """Counts over the questions of held-out worlds, under layout ``graph``, greedy.

    Returns:
        `right` answers to questions that have a gold segment, and of these `cited` at all and `gold_first`, the first segment of the first citation; and
        right answers to questions `unanswerable` from the documents, and how many of these were `unanswerable_cited` although there is nothing to cite.
    """
    counts: Counter[str] = Counter()
    with Scheduler(engine) as scheduler:
        for row in rows(seed, worlds, documents, True, questions):
            graph = SegmentGraph.from_documents(row["documents"])
            asked = [(one, chat_prompt(engine, [("user", one["question"])], documents=True)) for one in row["questions"]]
            for one, answer in [(one, scheduler.submit(Question(prompt, graph)).future) for one, prompt in asked]:
                found = answer.result()
                counts["asked"] += 1
                if found.text.rstrip(".") != one["answer"]:
                    continue
                if one["gold"] is None:
                    counts["unanswerable"] += 1
                    counts["unanswerable_cited"] += bool(found.citations)
                    continue
                counts["right"] += 1
                counts["cited"] += bool(found.citations)
                counts["gold_first"] += bool(found.citations) and found.citations[0].segments[0][0] == one["gold"]
    interval = [round(end, 4) for end in wilson(counts["gold_first"], counts["right"])] if counts["right"] else None
    settings = {"model": engine.model.name, "weights": engine.model.fingerprint, "seed": seed, "worlds": worlds, "documents": documents, "questions": questions, "layout": "graph"}
    names = ("asked", "right", "cited", "gold_first", "unanswerable", "unanswerable_cited")
    return {"machine": machine(), "settings": settings, **{name: counts[name] for name in names}, "gold_first_interval": interval}


if __name__ == "__main__":
    result = measure(GraphKV.from_pretrained(store="memory"))
    write_result(Path(sys.argv[1]), result)
    print(result)
