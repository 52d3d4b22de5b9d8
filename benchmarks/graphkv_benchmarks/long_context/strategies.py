"""The table of all strategies: which tasks, how many cases at which length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphkv.errors import InputError, one_of

from .cases import Context
from .citation import citation_contexts
from .haystack import Haystack, Meter, filler_haystack
from .many_needles import many_needle_contexts, many_value_contexts
from .needle import needle_contexts, spread
from .ruler import Setting, ruler_contexts

LENGTHS = (4096, 16_384, 65_536, 131_072)
TASKS = ("citation", "needle", "multi_needle", "multi_value", "vt")
"""``citation`` counts in two rows, one hop and two; ``vt`` is RULER's variable tracking without its solved example (``--bare`` there)."""


@dataclass(frozen=True)
class Amount:
    """How many contexts a task has at a length, and how many questions (of either kind, in ``citation``) are asked together of each."""

    contexts: int
    questions: int


def amount(length: int) -> Amount:
    """Many short contexts, few long ones: the whole must not take hours on two cores.

    Example:
        >>> amount(4096), amount(131_072)
        (Amount(contexts=4, questions=10), Amount(contexts=1, questions=10))
    """
    return Amount(4 if length <= 4096 else 2 if length <= 16_384 else 1, 10)


def check_tasks(tasks: Sequence[str]) -> None:
    """Raises InputError for a name that is no task of the table."""
    for task in tasks:
        if task not in TASKS:
            raise InputError(one_of("task of the table", task, TASKS))


def table_contexts(meter: Meter, lengths: Sequence[int], tasks: Sequence[str], *, seed: int = 1, document_tokens: int = 512, scale: int = 1) -> list[Context]:
    """All contexts of the table, the shorter lengths first.

    Args:
        scale: so many times as many contexts as :func:`amount` says.

    Raises:
        InputError: an unknown task. LengthError: a length without room for a task's text.
    """
    check_tasks(tasks)
    haystack = filler_haystack(meter, max(lengths), seed)
    return [context for length in lengths for task in TASKS if task in tasks for context in _contexts(task, meter, haystack, length, seed, document_tokens, scale)]


def _contexts(task: str, meter: Meter, haystack: Haystack, length: int, seed: int, document_tokens: int, scale: int) -> list[Context]:
    some = amount(length)
    count, asked = some.contexts * scale, some.questions
    shared: dict[str, Any] = {"seed": seed, "document_tokens": document_tokens}
    if task == "citation":
        return citation_contexts(meter, length, contexts=count, each=asked // 2, seed=seed)
    if task == "needle":
        # Each of a context's needles at a depth of its own; over three contexts each depth has had every wording.
        repeats = -(-count // 3)
        return needle_contexts(meter, haystack, [length], spread(asked), phrasings=3, repeats=repeats, per_context=asked, **shared)[:count]
    if task == "multi_needle":
        return many_needle_contexts(meter, haystack, length, contexts=count, needles=asked, asked=asked, **shared)
    if task == "multi_value":
        return many_value_contexts(meter, haystack, length, contexts=count, **shared)
    return ruler_contexts(Setting(meter, haystack, bare=True, **shared), ["vt"], [length], 4 * count)


def markdown_page(result: Mapping[str, Any]) -> str:
    """The page beside the JSON: what it is, the tables."""
    from .tables import markdown

    models = {about["model"]: about["window"] for about in result["strategies"].values()}
    lines = [
        "Score in percent [95% Wilson interval]: exact match; for `vt` and `multi_value` the share of the gold strings that the answer names.",
        "Lengths are tokens of the model, the whole prompt; `tokens read` counts a token every time the model is shown it, `tokens kept` those that the answer could read.",
        "Query-aware: the documents were read with the question in sight, so a further question reads them again (unless it is asked in the same call).",
        "Models: " + ", ".join(f"`{name}` (window {window:,})" for name, window in models.items()) + f". Names are held out. Seed {result['settings'].get('seed')}.",
        "",
    ]
    return "\n".join(lines) + "\n" + markdown(result)
