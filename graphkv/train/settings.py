"""What a training run is told, checked once, and which of it may change when the run goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from graphkv.errors import InputError, check_count, one_of

_CHOICES = {"init": ("pretrained", "scratch"), "dtype": ("float32", "bfloat16")}
_COUNTS = ("steps", "batch_tokens", "log_every", "eval_every", "eval_rows")
_OPTIONAL_COUNTS = ("lora", "questions", "max_segment_tokens", "threads", "landmark_block")
_MAY_CHANGE = ("rows", "out", "steps", "eval", "eval_every", "eval_rows", "log_every", "save_every", "device", "threads")
"""Settings that a run may be resumed with when they are different: they change no step that was made. (Rows are told by their content.)"""


@dataclass(frozen=True)
class TrainSettings:
    """Everything a run is told.

    Attributes:
        rows: the training rows, JSON Lines (see `rows.py`). out: the run's folder; an existing run in it goes on.
        model: a folder or a hub id; None for the embedded model.
        init: ``pretrained``, or ``scratch``: the model's config with random weights.
        lora: rank of a LoRA adapter that is trained in place of the weights; needs peft.
        layouts: the mixture, ``name`` or ``name=weight``, with commas between them.
        landmark_block: where `landmark` is in the mixture and the model has no landmarks yet: tokens a block, the landmark included.
        landmark_weight: weight of the landmarks' divergence from their blocks (see `loss.py`), beside 1 for the answers: a help that plain training
            does without, fading out once landmarks have taken over. landmark_ramp: the first share of the steps, over which landmarks take over from
            plain attention; 0 for at once.
        options: options of the layouts (`rounds`, `positions`, `view`, `m`, ...); each layout gets those that it has.
        eval: held-out rows. eval_every: in steps. eval_rows: the first so many of them, each under every layout.
        steps: optimizer steps of the whole run. batch_tokens: episodes are added up until a step has so many tokens.
        lr: peak learning rate of AdamW. muon: that of Muon for the matrices inside the layers, 0 for AdamW alone. warmup: steps of linear rise. decay: the last share of the steps, in which it falls to 0.
        weight_decay: on matrices only. clip: the largest norm of the gradient; 0 for none.
        text_weight: weight of the language-model loss on the documents' own tokens, beside 1 for the answers.
        questions: at most so many questions an episode, drawn anew every time; all by default.
        skip_long: pass over rows that do not fit into the model's window, instead of stopping.
        dtype: ``bfloat16`` computes in autocast; the weights that are trained stay float32.
        device: ``cpu``, ``cuda``, ``cuda:1``; cuda if there is one by default. kernel: the attention kernel.
        save_every: minutes between checkpoints.

    Raises:
        InputError: a value that cannot be meant; the message names it.

    Example:
        >>> TrainSettings("worlds.jsonl", "run", layouts="graph=2,block=1", steps=500).lr
        0.0001
    """

    rows: str | Path
    out: str | Path
    model: str | Path | None = None
    init: str = "pretrained"
    lora: int | None = None
    layouts: str = "graph"
    landmark_block: int | None = None
    landmark_weight: float = 0.0
    landmark_ramp: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    eval: str | Path | None = None
    eval_every: int = 100
    eval_rows: int = 50
    steps: int = 200
    batch_tokens: int = 4096
    lr: float = 1e-4
    muon: float = 0.0
    warmup: int = 20
    decay: float = 0.2
    weight_decay: float = 0.0
    clip: float = 1.0
    text_weight: float = 0.0
    questions: int | None = None
    max_segment_tokens: int | None = None
    skip_long: bool = False
    seed: int = 0
    dtype: str = "float32"
    device: str | None = None
    threads: int | None = None
    kernel: str = "gather"
    save_every: float = 5.0
    log_every: int = 10

    def __post_init__(self) -> None:
        for name, valid in _CHOICES.items():
            if getattr(self, name) not in valid:
                raise InputError(one_of(name, getattr(self, name), valid))
        for name in _COUNTS:
            check_count(name, getattr(self, name))
        for name in _OPTIONAL_COUNTS:
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        for name, high in (("lr", math.inf), ("muon", math.inf), ("decay", 1.0), ("weight_decay", math.inf), ("clip", math.inf), ("text_weight", math.inf), ("landmark_weight", math.inf), ("landmark_ramp", 1.0), ("save_every", math.inf)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high or math.isinf(value):
                raise InputError(f"{name} must be a number from 0" + (f" to {high:g}" if high < math.inf else " on") + f", got {value!r}")
        for name in ("warmup", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"{name} must be a whole number of at least 0, got {value!r}")
        if self.landmark_block == 1:
            raise InputError("landmark_block must be at least 2: some text and its landmark")
        if self.lr == 0:
            raise InputError("lr must be above 0")
        if self.lora is not None and self.init == "scratch":
            raise InputError("lora trains an adapter of given weights: it does not go with init='scratch'")

    def lasting(self) -> dict[str, Any]:
        """The settings that a run keeps for its whole life, as JSON has them."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _MAY_CHANGE}
        kept["model"] = None if self.model is None else str(self.model)
        kept["options"] = {key: list(value) if isinstance(value, tuple) else value for key, value in sorted(self.options.items())}
        return kept
