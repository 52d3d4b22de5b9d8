"""The benchmarks, one file each; a task is made anew from a run's config.yaml by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from graphkv.errors import InputError, one_of

if TYPE_CHECKING:
    from ..runner.case import Task

KINDS = {"arxiv-qa": ("arxiv_qa", "ArxivQA"), "rag": ("rag", "RagQA"), "topic": ("topic", "TopicTask")}
"""kind → (module, class)."""


def task_from(settings: Mapping[str, Any]) -> Task:
    """The task whose ``settings()`` these are.

    Raises:
        InputError: an unknown kind, or settings that are not of one.

    Example:
        >>> task_from({"kind": "tic-tac-toe"})
        Traceback (most recent call last):
            ...
        graphkv.errors.InputError: unknown kind of task 'tic-tac-toe'; valid: arxiv-qa, rag, topic
    """
    kind = settings.get("kind")
    if kind not in KINDS:
        raise InputError(one_of("kind of task", kind, KINDS))
    module, name = KINDS[kind]
    return cast("Task", getattr(import_module(f"{__name__}.{module}"), name).from_settings(dict(settings)))
