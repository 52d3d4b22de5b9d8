"""An Arxiv-QA set of invented papers in exactly the released layout, for machines without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..citation_world.ego import Ego, make_egos
from .made_set import make_set

FOLDER = "arxiv"
"""The set's folder inside the one that is given, as in ``datahub/arxiv``."""


def write_offline_arxiv(
    folder: str | Path, *, graphs: int = 60, references: tuple[int, int] = (6, 10), words: int = 0, seed: int = 1, missing: int = 1, held_out: bool = True
) -> dict[str, Any]:
    """Write ``arxiv/questions/1.txt``, ``arxiv/answers/1.txt``, ``arxiv/text_data/1.json`` and so on, whole or not at all.

    ``arxiv/types.json`` says what type each question is of, ``arxiv/offline.json`` how the set was made. A paper is named by its title. If the same
    set is there already, nothing is written; anything else in `folder` is left alone. As long as the released set, which has up to 88k tokens a question,
    it is with 22 references of 3350 words (88,000 tokens of the embedded model's tokenizer).

    Args:
        folder: made if it is not there. graphs, references, words, seed, missing, held_out: as :func:`graphkv_benchmarks.citation_world.ego.make_egos` takes them.

    Returns:
        What offline.json holds: the arguments, and under ``documents`` and ``longest_words`` the number of texts and the words of the longest question's texts.

    Raises:
        InputError: counts that make no sense, more papers than there are titles, or an ``arxiv`` folder that holds something else.

    Example:
        >>> write_offline_arxiv("data", graphs=60, words=3350, references=(22, 22))["documents"]  # doctest: +SKIP
        1380
    """
    made = {"made_by": "graphkv bench offline arxiv-qa", "version": 1, "graphs": graphs, "references": list(references), "words": words, "seed": seed}
    made |= {"missing": missing, "held_out": held_out}

    def write(place: Path) -> dict[str, int]:
        egos = make_egos(seed, graphs, references, words, missing, held_out)
        _write(place, egos)
        texts = [[ego.centre.text, *(paper.text for paper in ego.references.values() if paper is not None)] for ego in egos]
        return {"documents": sum(map(len, texts)), "longest_words": max(sum(len(text.split()) for text in group) for group in texts)}

    return make_set(Path(folder) / FOLDER, made, write)


def _write(place: Path, egos: list[Ego]) -> None:
    for part in ("questions", "answers", "text_data"):
        (place / part).mkdir(parents=True)
    for number, ego in enumerate(egos, start=1):
        row = {ego.centre.title: {"0": ego.centre.text, "1": {title: None if paper is None else paper.text for title, paper in ego.references.items()}}}
        (place / "questions" / f"{number}.txt").write_text(ego.question.question + "\n", encoding="utf-8")
        (place / "answers" / f"{number}.txt").write_text(ego.question.answer + "\n", encoding="utf-8")
        (place / "text_data" / f"{number}.json").write_text(json.dumps(row, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (place / "types.json").write_text(json.dumps({str(number): ego.type for number, ego in enumerate(egos, start=1)}, indent=1) + "\n", encoding="utf-8")
