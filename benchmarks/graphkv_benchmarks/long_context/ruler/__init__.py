"""RULER (Hsieh et al., arXiv 2404.06654): the 11 of its 13 tasks that need no download, in its own wording and with its own scores.

What differs from NVIDIA's generator, each for want of a download: the essays are sentences about nothing, or the text you give
(``haystack.py``); words come from the citation world (``words.py``). The two tasks from SQuAD and HotpotQA are left out. Where the text is
cut into documents, a line end stands at each border. Where a tokenizer takes so many tokens a word that RULER's list of common words for 4,096
tokens and more has no room, its list for shorter texts is taken. Read ``setting.py`` first; then one file a family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from graphkv.errors import InputError, one_of

from ..cases import Context
from .common_words import common_words
from .frequent_words import frequent_words
from .niah import NIAH, niah
from .setting import Setting
from .variable_tracking import variable_tracking

Maker = Callable[[Setting, str, int, int], Context]
"""From a setting, the task's name, a length in tokens and the case's number: the case."""

TASKS: Mapping[str, Maker] = {
    **{name: partial(niah, kind) for name, kind in NIAH.items()},
    "vt": variable_tracking,
    "cwe": common_words,
    "fwe": frequent_words,
}
"""Every task by RULER's name for it."""


def check_tasks(tasks: Sequence[str]) -> None:
    """Raises InputError for a name that is no task."""
    for task in tasks:
        if task not in TASKS:
            raise InputError(one_of("RULER task", task, TASKS))


def ruler_contexts(setting: Setting, tasks: Sequence[str], lengths: Sequence[int], cases: int) -> list[Context]:
    """`cases` contexts of every task at every length, one question each.

    Raises:
        InputError: an unknown task. LengthError: a length without room for a task's text.

    Example:
        >>> ruler_contexts(setting, ["niah_single_1"], [4096], 1)[0].cases[0].golds  # doctest: +SKIP
        ('4821357',)
    """
    check_tasks(tasks)
    return [TASKS[task](setting, task, length, number) for task in tasks for length in lengths for number in range(cases)]


__all__ = ["TASKS", "Setting", "check_tasks", "ruler_contexts"]
