"""A fictional world of papers that cite each other, for testing how a model reads a graph of documents.

Every name is invented, so nothing can be answered from memory. A paper is a document with a few facts (author, method, dataset, lab,
score, year) and up to two citations: *named* ("builds on Night Maple"), *numbered* ("builds on [2]", with a reference list), or *bare*
("builds on earlier work": the edge of the graph is the only trace). Questions ask for a fact of a paper, for the title of a cited
paper, for a fact at the end of a chain of citations (two or three hops), for the higher of two values, or for something that no
document says.

From the shell::

    python -m graphkv_benchmarks.citation_world --seed 1 --worlds 100 --documents 8 --held-out --out worlds.jsonl
"""

from .names import FIRST_NAMES, SYLLABLES, TITLE_WORDS, is_held_out
from .needles import make_needles
from .phrases import NOT_FOUND, RELATIONS
from .rows import entities, place_gold, rows
from .world import STYLES, Mark, Paper, Question, Recipe, World, make_world, one_style

__all__ = [
    "FIRST_NAMES", "NOT_FOUND", "RELATIONS", "STYLES", "SYLLABLES", "TITLE_WORDS", "Mark", "Paper", "Question", "Recipe", "World",
    "entities", "is_held_out", "make_needles", "make_world", "one_style", "place_gold", "rows",
]  # fmt: skip
