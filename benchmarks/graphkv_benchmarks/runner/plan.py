"""What a run does, in plain values that every worker process gets, and the models it is done with."""

from __future__ import annotations

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
        workers: how many processes share the memory that is free.

    Attributes:
        main: answers for every arm but `landmark`. max_memory: bytes of keys and values that a question may need.

    Raises:
        ModelError: a model cannot be loaded. InputError: as :func:`free_bytes`.
    """

    def __init__(self, plan: Plan, workers: int = 1) -> None:
        self.plan = plan
        self.main = self._load(plan.model)
        # The store may take as much again as the cache that is made of it.
        self.max_memory = plan.max_memory if plan.max_memory is not None else free_bytes(self.main) * 2 // 5 // workers
        self._landmark: GraphKV | None = None
        self.empty_stores()

    def of(self, arm: Arm) -> GraphKV:
        """The engine that answers for an arm."""
        if arm.strategy != "landmark" or self.plan.landmark_name == self.plan.model:
            return self.main
        if self._landmark is None:
            self._landmark = self._load(self.plan.landmark_name)
            self.empty_stores()
        return self._landmark

    def empty_stores(self) -> None:
        """Forget what was encoded, where it is kept in memory: what a unit computes depends on nothing but the unit."""
        for engine in (self.main, self._landmark):
            if engine is not None and self.plan.store is None:
                engine.store = MemoryStore(max_bytes=self.max_memory)

    def _load(self, model: str | None) -> GraphKV:
        settings: dict[str, Any] = {"store": self.plan.store or "memory", "max_segment_tokens": self.plan.max_segment_tokens}
        engine = GraphKV.from_pretrained(model, dtype=self.plan.dtype, **settings)
        return GraphKV(engine.model, template=self.plan.task.template(engine.template), **settings)


def free_bytes(engine: GraphKV) -> int:
    """Memory that is free where the model stands: of the GPU, or of the machine.

    Raises:
        InputError: the machine does not tell.
    """
    device = torch.device(engine.model.layer_devices[0])
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        raise InputError("this machine does not tell how much memory is free: say how much a question may take, with --max-memory") from None


def config_of(plan: Plan, engines: Engines, workers: int) -> dict[str, Any]:
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
        "landmark_weights": None if landmark is None else engines.of(landmark).model.fingerprint,
        "dtype": str(main.model.dtype).removeprefix("torch."),
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
        "workers": workers,
        "store": plan.store or "memory",
        "command": plan.command,
        "machine": machine(),
    }
    return cast("dict[str, Any]", json.loads(json.dumps(config)))  # as it will be read back: tuples are lists
