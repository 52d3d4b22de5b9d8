"""What a run does, in plain values that every worker process gets, and the models it is done with."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers

import graphkv
from graphkv.engine import GraphKV
from graphkv.errors import InputError
from graphkv.store import MemoryStore

from ..machine import machine
from .arms import Arm, make_arms
from .case import Task

EMBEDDED = (None, "embedded")
"""What the embedded model is called."""

EMBEDDED_LANDMARK = "embedded-landmark"
"""The model of arm landmark where everything else is asked of the embedded model."""


@dataclass(frozen=True)
class Plan:
    """A run before it begins.

    Attributes:
        arms: as :func:`graphkv_benchmarks.runner.arms.make_arms` takes them. model, dtype, max_segment_tokens: as ``GraphKV.from_pretrained`` takes them.
        landmark_model: the model of arm `landmark`; None for the embedded one beside the embedded model, else `model`.
        max_new_tokens: in place of the task's own cap. max_memory: bytes of keys and values a question may need; None for 40% of what is free.
        store: place of the KV, as ``graphkv.store.open_store`` takes it; None for memory, up to `max_memory` of it, emptied after each unit.
        device: cpu, cuda, cuda:1, auto; None for cuda where there is one.
        limit: so many units from the first. shard: (i, n), the i-th of n parts, counted from 1. command: what was typed.
    """

    task: Task
    arms: tuple[str, ...]
    model: str | None = None
    dtype: str | None = None
    landmark_model: str | None = None
    max_segment_tokens: int | None = None
    max_new_tokens: int | None = None
    max_memory: int | None = None
    store: str | None = None
    device: str | None = None
    limit: int | None = None
    shard: tuple[int, int] = (1, 1)
    command: str = ""

    def units(self) -> list[str]:
        """The units of this run: the first `limit`, and of these every n-th. Raises DocumentError as :meth:`Task.units` does."""
        index, count = self.shard
        return list(self.task.units())[: self.limit][index - 1 :: count]

    @property
    def landmark_name(self) -> str | None:
        """What the model of arm `landmark` is loaded from."""
        if self.landmark_model is not None:
            return self.landmark_model
        return EMBEDDED_LANDMARK if self.model in EMBEDDED else self.model

    def made_arms(self) -> list[Arm]:
        """The arms. Raises InputError for a name that there is not."""
        return make_arms(self.arms)


class Engines:
    """The models of a run, each loaded when it is first needed, with the prompt of the task.

    Args:
        memory: bytes of keys and values that a question may need; None where :attr:`max_memory` is set before anything is asked.

    Attributes:
        main: answers for every arm but `landmark`. max_memory: as given.

    Raises:
        ModelError: a model cannot be loaded.
    """

    def __init__(self, plan: Plan, memory: int | None = None) -> None:
        self.plan = plan
        self.max_memory = memory or 0
        self.main = self._load(plan.model)
        self._landmark: GraphKV | None = None

    def of(self, arm: Arm) -> GraphKV:
        """The engine that answers for an arm."""
        if arm.strategy != "landmark" or self.plan.landmark_name == self.plan.model:
            return self.main
        if self._landmark is None:
            self._landmark = self._load(self.plan.landmark_name)
            self.empty_stores()
        return self._landmark

    def empty_stores(self) -> None:
        """Forget what was encoded, where it is kept in memory: what a unit computes depends on nothing but the unit.

        All stores together may take as much as the cache that is made of them.
        """
        there = [engine for engine in (self.main, self._landmark) if engine is not None]
        for engine in there:
            if self.plan.store is None:
                engine.store = MemoryStore(max_bytes=self.max_memory // len(there))

    def unload(self) -> None:
        """Give the models' memory back."""
        del self.main
        self._landmark = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self, model: str | None) -> GraphKV:
        settings: dict[str, Any] = {"store": self.plan.store or "memory", "max_segment_tokens": self.plan.max_segment_tokens}
        device = self.plan.device or ("cuda" if torch.cuda.is_available() else None)
        if device is not None and device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(f"device {device!r}: this torch finds no GPU; leave it out for the CPU")
        engine = GraphKV.from_pretrained(model, dtype=self.plan.dtype, device_map=device, **settings)
        return GraphKV(engine.model, template=self.plan.task.template(engine.template), **settings)


def memory_for(engine: GraphKV, workers: int = 1, loaded: bool = True) -> int:
    """Bytes of keys and values that a question may need where nobody says: 40% of what is free, a share for each process.

    The store may take as much again as the cache that is made of it.

    Args:
        loaded: whether this engine's weights stand in memory already; those of the other processes do not yet.

    Raises:
        InputError: the machine does not tell what is free.
    """
    weights = sum(p.numel() for p in engine.model.model.parameters()) * engine.model.dtype.itemsize
    return int(max(0, free_bytes(engine) - (workers - loaded) * weights) * 2 // 5 // workers)


def free_bytes(engine: GraphKV) -> int:
    """Memory that is free where the model stands: of the GPU, or of the machine, within the limit that a container has.

    Raises:
        InputError: the machine does not tell.
    """
    device = torch.device(engine.model.layer_devices[0])
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            raise InputError("this machine does not tell how much memory is free: say how much a question may take, with --max-memory") from None
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no group of its own, or one without a limit
        return free
    return max(0, min(free, limit - used))


def config_of(plan: Plan, engines: Engines, workers: int, threads: int) -> dict[str, Any]:
    """What config.yaml holds: first everything that decides over the numbers, then who made them, with what and where."""
    main, template = engines.main, engines.main.template
    arms = [
        {"name": arm.name, "strategy": arm.strategy, "options": {k: list(v) if isinstance(v, tuple) else v for k, v in arm.options.items()}, "query_aware": arm.query_aware, "about": arm.about}
        for arm in plan.made_arms()
    ]
    landmark = next((arm for arm in plan.made_arms() if arm.strategy == "landmark"), None)
    config = {
        "task": plan.task.settings(),
        "arms": arms,
        "weights": main.model.fingerprint,
        "tokenizer": main.model.identity.rpartition("-")[2],
        "generation": _digest(main.model.generation_config(None, {}).to_dict()),
        "landmark_weights": None if landmark is None else engines.of(landmark).model.fingerprint,
        "dtype": str(main.model.dtype).removeprefix("torch."),
        "device": torch.device(main.model.layer_devices[0]).type,
        "window": main.model.window,
        "prompt": {"prefix": template.prefix, "document": template.document, "untitled": template.untitled, "question": template.question},
        "max_segment_tokens": plan.max_segment_tokens,
        "max_new_tokens": plan.max_new_tokens,
        "max_memory": plan.max_memory,
        "limit": plan.limit,
        "versions": {"graphkv": graphkv.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
        "shard": "{}/{}".format(*plan.shard),
        "model": plan.model or "embedded",
        "landmark_model": None if landmark is None else plan.landmark_name,
        "units": len(plan.units()),
        "memory": engines.max_memory,
        "workers": workers,
        "threads": threads,
        "store": plan.store or "memory",
        "command": plan.command,
        "machine": machine(),
    }
    return cast("dict[str, Any]", json.loads(json.dumps(config)))  # as it will be read back: tuples are lists


def _digest(settings: dict[str, Any]) -> str:
    text = json.dumps({key: value for key, value in settings.items() if key != "transformers_version"}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
