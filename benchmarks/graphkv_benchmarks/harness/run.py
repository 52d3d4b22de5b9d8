"""A run of lm_eval over an engine of ours: tasks → lm_eval's results, and the files that are kept of them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2

from graphkv.errors import GraphKVError, InputError

from . import parts_of_lm_eval
from .lm import GraphKVLM
from .tasks import load_tasks

with parts_of_lm_eval():
    from lm_eval import simple_evaluate  # type: ignore[import-untyped]
    from lm_eval.utils import handle_non_serializable, make_table  # type: ignore[import-untyped]


def run(
    names: Sequence[str],
    make: Callable[[], GraphKVLM],
    *,
    include_path: Path | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    apply_chat_template: bool = False,
    log_samples: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """lm_eval's results; with `log_samples` its samples among them.

    Args:
        names, include_path: as in :func:`load_tasks`. make: the model; called when the tasks are there.
        limit: the first rows of each task. num_fewshot: in place of the tasks' own number. say: is told what a reader of the results should know.

    Raises:
        InputError: a task that cannot be loaded, or a row that cannot be read (task and row are named).
    """
    with contextlib.redirect_stdout(sys.stderr):  # lm_eval and its metrics print on the way
        tasks, manager = load_tasks(names, include_path)
        lm = make()
        keys = [key for key in (lm.rows.documents_key, lm.rows.graph_key) if key is not None]
        shown, plain = [], []
        for task in _leaves(tasks):
            if not _has_documents(task, keys, limit):
                plain.append(task.task_name)
            elif task.config.num_fewshot if num_fewshot is None else num_fewshot:
                shown.append(task.task_name)
        if shown:
            say(f"{', '.join(shown)}: few-shot examples are shown in front of the question, without their documents")
        if plain and keys:
            say(f"{', '.join(plain)}: no row has anything under {' or '.join(map(repr, keys))}: all are read without documents, as lm_eval's hf reads them")
        try:
            results = simple_evaluate(
                lm, tasks=tasks, task_manager=manager, limit=limit, num_fewshot=num_fewshot, apply_chat_template=apply_chat_template, log_samples=log_samples,
                batch_size=lm.batch_size,
            )  # fmt: skip
        except jinja2.TemplateError as error:
            raise InputError(f"a row does not fit the task's doc_to_text, doc_to_target or doc_to_choice: {error}") from error
    if results is None:
        raise GraphKVError("lm_eval gave no results: this process is not the first of its group (LOCAL_RANK)")
    results["config"]["model"] = "graphkv"
    found: dict[str, Any] = results
    return found


def table(results: Mapping[str, Any]) -> str:
    """lm_eval's own tables: tasks, and groups if there are any."""
    parts = [make_table(results), *([make_table(results, "groups")] if results.get("groups") else [])]
    return "\n".join(str(part).strip("\n") for part in parts)


def as_json(results: Mapping[str, Any]) -> dict[str, Any]:
    """Results without samples, as plain JSON values."""
    plain: dict[str, Any] = json.loads(_dumped({key: value for key, value in results.items() if key != "samples"}))
    return plain


def write(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """``results.json``, and a ``samples_TASK.jsonl`` for each task whose samples are there; a file is replaced as a whole."""
    files = {"results.json": json.dumps(as_json(results), indent=2, ensure_ascii=False) + "\n"}
    for name, samples in (results.get("samples") or {}).items():
        files[f"samples_{name.replace('/', '_')}.jsonl"] = "".join(f"{_dumped(sample)}\n" for sample in samples)
    for name, text in files.items():
        part = folder / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, folder / name)
    return [folder / name for name in files]


def _dumped(value: Any) -> str:
    return json.dumps(value, default=handle_non_serializable, ensure_ascii=False)


def _leaves(tasks: Sequence[Any]) -> list[Any]:
    return [leaf for task in tasks for leaf in (task.get_all_tasks() if hasattr(task, "get_all_tasks") else [task])]


def _has_documents(task: Any, keys: Sequence[str], limit: int | None) -> bool:
    """Whether any of the rows that are asked about has something under one of the keys."""
    return bool(keys) and any(isinstance(row, Mapping) and any(row.get(key) is not None for key in keys) for row in islice(task.eval_docs, limit))
