"""AdamW and Muon, the learning rate by step, and the optimizer's state as a flat dict of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from graphkv.errors import ModelError

_SLOTS = ("exp_avg", "exp_avg_sq", "step", "momentum_buffer")


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


class Optimizer:
    """AdamW over named parameters, weight decay on matrices only; or Muon for the matrices inside the layers, and AdamW for the rest.

    Muon (Jordan et al., 2024) makes the singular values of each matrix's update nearly equal; torch has it. Its rate is another than AdamW's, some
    ten times larger.

    Args:
        parameters: by name. lr, muon: peak rates; muon 0 for AdamW alone. weight_decay: of AdamW.
        apart: parameters that AdamW keeps in any case: embeddings and output.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], lr: float, weight_decay: float, muon: float = 0.0, apart: Iterable[Tensor] = ()) -> None:
        self.parameters = dict(parameters)
        kept = {id(p) for p in apart}
        inner = [p for p in self.parameters.values() if muon and p.dim() == 2 and id(p) not in kept]
        rest = [p for p in self.parameters.values() if not any(p is q for q in inner)]
        groups = [{"params": [p for p in rest if p.dim() > 1], "weight_decay": weight_decay}, {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0}]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        if rest:
            self._parts.append((torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, betas=(0.9, 0.95)), lr))
        if inner:
            self._parts.append((torch.optim.Muon(inner, lr=0.0, weight_decay=0.0), muon))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters.values():
            p.grad = None

    def step(self, rate: float) -> None:
        """One step at `rate` times the peak rates."""
        for optimizer, peak in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """The state as ``{"name.exp_avg": tensor, ...}``; empty before the first step."""
        return {
            f"{name}.{slot}": optimizer.state[p][slot]
            for optimizer, _ in self._parts
            for name, p in self.parameters.items()
            if p in optimizer.state
            for slot in _SLOTS
            if slot in optimizer.state[p]
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`tensors` gave. Raises ModelError if it is another model's."""
        stray = {name.rpartition(".")[0] for name in tensors} - set(self.parameters)
        if stray:
            raise ModelError(f"the checkpoint has optimizer state for {min(stray)!r}, which this model does not train: it is another model's")
        for optimizer, _ in self._parts:
            ours = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for name, parameter in self.parameters.items():
                found = {slot: tensors[key] for slot in _SLOTS if id(parameter) in ours and (key := f"{name}.{slot}") in tensors}
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
