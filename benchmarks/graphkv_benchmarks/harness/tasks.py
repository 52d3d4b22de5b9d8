"""Tasks by name: those of lm_eval, of a folder of the user's, or a YAML file; files that a YAML names are found beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphkv.errors import GraphKVError, InputError

from . import parts_of_lm_eval

with parts_of_lm_eval():
    from lm_eval.tasks import TaskManager  # type: ignore[import-untyped]
    from lm_eval.tasks._index import Entry, Kind, TaskIndex  # type: ignore[import-untyped]
    from lm_eval.tasks._yaml_loader import load_yaml  # type: ignore[import-untyped]


def load_tasks(names: Sequence[str], include_path: Path | None = None) -> tuple[list[Any], TaskManager]:
    """The tasks and groups of these names, loaded, and the manager that knows them.

    Args:
        names: names of tasks, groups or tags, patterns (``mmlu_*``), or YAML files.
        include_path: a folder with more tasks as YAML files; relative ``data_files`` in them are looked for beside the YAML first.

    Raises:
        InputError: a name that is not known, a task that cannot be loaded, or one that runs code of a model or wants pictures.
    """
    if include_path is not None and not include_path.is_dir():
        raise InputError(f"--include-path: there is no folder {include_path}")
    manager, wanted = _manager(names, include_path)
    index: dict[str, Entry] = manager.task_index
    root = None if include_path is None else include_path.resolve()
    for name, entry in list(index.items()):
        if root is not None and entry.kind is Kind.TASK and entry.yaml_path and root in Path(entry.yaml_path).resolve().parents:
            index[name] = _beside(entry)
    loaded: list[Any] = []
    for name in dict.fromkeys(wanted):
        try:
            found = manager.load([name])
        except GraphKVError:
            raise
        except Exception as error:  # whatever a task's own code, its YAML or the library that fetches its data raises
            raise InputError(f"task {name!r} cannot be loaded: {type(error).__name__}: {error}") from error
        for task_name, task in found["tasks"].items():
            if getattr(task, "UNSAFE_CODE", False):
                raise InputError(f"task {task_name!r} runs code that a model wrote, which is not done here: use lm_eval's own command, in a sandbox")
            if getattr(task, "MULTIMODAL", False):
                raise InputError(f"task {task_name!r} shows pictures or sound, which a text model cannot read")
        loaded += [found["groups"][name]] if name in found.get("groups", {}) else list(found["tasks"].values())
    return loaded, manager


def _manager(names: Sequence[str], include_path: Path | None) -> tuple[TaskManager, list[str]]:
    """A manager that knows all of the names, and the names themselves, patterns resolved.

    lm_eval's own index of 14,000 files takes ten seconds to be read: it is left out if every name is the whole name of a task of the user's,
    or of a group of such tasks.
    """
    folder = None if include_path is None else str(include_path.resolve())
    manager = TaskManager(include_path=folder, include_defaults=False)
    known = _found(names, manager)
    if any(set("*?[") & set(name) or not found or not _is_whole(found[0], manager.task_index) for name, found in known.items()):
        manager = TaskManager(include_path=folder)
        known = _found(names, manager)
    for name, found in known.items():
        if not found:
            where = "" if include_path is None else f" and those under {include_path}"
            raise InputError(
                f"unknown task {name!r}, among the tasks of lm_eval{where} (`lm_eval ls tasks` lists lm_eval's); a task of your own is a YAML file: "
                "give its name with --include-path FOLDER, or the file itself"
            )
    return manager, [name for found in known.values() for name in found]


def _is_whole(name: Any, index: Mapping[str, Entry]) -> bool:
    """Whether the index knows all that a task or group consists of; a tag may have more tasks elsewhere."""
    entry = index.get(name) if isinstance(name, str) else None
    if entry is None or entry.kind is not Kind.GROUP:
        return entry is not None and entry.kind is Kind.TASK
    members = (load_yaml(entry.yaml_path, resolve_func=False) if entry.yaml_path else entry.cfg or {}).get("task")
    return isinstance(members, list) and all(_is_whole(m.get("task", m.get("group")) if isinstance(m, Mapping) else m, index) for m in members)


def _found(names: Sequence[str], manager: TaskManager) -> dict[str, list[str]]:
    return {name: [_from_file(Path(name), manager.task_index)] if name.endswith((".yaml", ".yml")) else sorted(manager.match_tasks([name])) for name in names}


def _from_file(path: Path, index: dict[str, Entry]) -> str:
    """A task in a file; it is put into the index under its name."""
    if not path.is_file():
        raise InputError(f"no such file: {path}; expected a task as YAML, or the name of one")
    try:
        entry = TaskIndex.entry_from_path(path)
    except Exception as error:  # YAML's own errors, and lm_eval's about what is in it
        raise InputError(f"{path} is no task: {type(error).__name__}: {error}") from error
    if entry is None or not isinstance(entry.name, str):
        raise InputError(f"{path} is no task: expected a YAML file with the name of one under 'task'")
    entry.yaml_path = path.resolve()
    index[entry.name] = _beside(entry) if entry.kind is Kind.TASK else entry
    return entry.name


def _beside(entry: Entry) -> Entry:
    """The same task, its relative data files as whole paths where they lie beside its YAML; lm_eval itself looks in the working folder."""
    folder = Path(entry.yaml_path).parent
    kwargs = load_yaml(entry.yaml_path, resolve_func=False).get("dataset_kwargs")
    if not isinstance(kwargs, Mapping):
        return entry
    whole = {key: _whole(value, folder) if key in ("data_files", "data_dir") else value for key, value in kwargs.items()}
    if whole == kwargs:
        return entry
    config = {**load_yaml(entry.yaml_path), "dataset_kwargs": whole}
    return Entry(name=entry.name, kind=entry.kind, yaml_path=None, cfg=config, tags=entry.tags)


def _whole(value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return {key: _whole(part, folder) for key, part in value.items()}
    if isinstance(value, list):
        return [_whole(part, folder) for part in value]
    if not isinstance(value, str) or "://" in value or Path(value).is_absolute():
        return value
    there = (folder / value).exists() or any(folder.glob(value))
    return str(folder / value) if there else value
