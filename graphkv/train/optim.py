"""AdamW, the learning rate by step, and the optimizer's state as a flat dict of tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graphkv.errors import ModelError

_SLOTS = ("exp_avg", "exp_avg_sq", "step")


def rate(step: int, steps: int, warmup: int, decay: float) -> float:
    """Factor on the learning rate at `step` (the first is 0): a linear rise over `warmup` steps, then 1, then a linear fall over the last share.

    Example:
        >>> [round(rate(s, 10, 2, 0.4), 2) for s in range(10)]
        [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    rise = (step + 1) / warmup if warmup else 1.0
    fall = (steps - step) / (decay * steps) if decay else 1.0
    return max(0.0, min(1.0, rise, fall))


def fading(step: int, steps: int, begin: float) -> float:
    """1 until the share `begin` of the steps, then a linear fall to 0 at the end.

    Example:
        >>> [round(fading(s, 10, 0.6), 2) for s in range(0, 11, 2)]
        [1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    return 1.0 if begin == 1.0 else max(0.0, min(1.0, (steps - step) / ((1 - begin) * steps)))


def rising(step: int, steps: int, end: float) -> float:
    """A linear rise from 0 to 1, which is reached at the share `end` of the steps.

    Example:
        >>> [round(rising(s, 10, 0.4), 2) for s in range(0, 8, 2)], rising(0, 10, 0.0)
        ([0.0, 0.5, 1.0, 1.0], 1.0)
    """
    return min(1.0, step / (end * steps)) if end else 1.0


def make_optimizer(parameters: Mapping[str, torch.nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over named parameters; weight decay on matrices, not on norms and biases."""
    matrices = [p for p in parameters.values() if p.dim() > 1]
    others = [p for p in parameters.values() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, betas=(0.9, 0.95))


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """The state as ``{"name.exp_avg": tensor, ...}``; empty before the first step."""
    return {f"{name}.{slot}": optimizer.state[p][slot] for name, p in parameters.items() if p in optimizer.state for slot in _SLOTS}


def restore_optimizer(optimizer: torch.optim.Optimizer, parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    """Put back what :func:`optimizer_tensors` gave. Raises ModelError if it is another model's."""
    stray = {name.rpartition(".")[0] for name in tensors} - set(parameters)
    if stray:
        raise ModelError(f"the checkpoint has optimizer state for {min(stray)!r}, which this model does not train: it is another model's")
    for name, parameter in parameters.items():
        found = {slot: tensors[key] for slot in _SLOTS if (key := f"{name}.{slot}") in tensors}
        if found:  # the count of steps stays on the CPU, where AdamW made it
            optimizer.state[parameter] = {slot: t if slot == "step" else t.to(parameter.device) for slot, t in found.items()}


def restore_weights(parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    """Put weights back in place. Raises ModelError if names or shapes are another model's."""
    apart = set(parameters) ^ set(tensors) or {name for name, p in parameters.items() if p.shape != tensors[name].shape}
    if apart:
        raise ModelError(f"the checkpoint does not fit the model: {min(apart)!r} is missing in one of them, or has another shape")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
