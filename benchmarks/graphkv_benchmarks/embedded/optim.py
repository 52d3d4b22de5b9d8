"""Muon for the matrices inside the layers, AdamW for embeddings and norms."""

from __future__ import annotations

from collections import defaultdict

import torch
import torch.distributed as dist
from torch import Tensor, nn


def orthogonalise(update: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz: push the singular values of each matrix in ``update`` [n, rows, columns] towards one."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = update.shape[-2] > update.shape[-1]
    x: Tensor = (update.mT if tall else update).to(torch.bfloat16)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(update.dtype)


def _grad(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


class Optimizer:
    """Both optimizers in one object whose state is a flat dict of tensors, so that it can be kept in safetensors."""

    def __init__(self, net: nn.Module, momentum: float = 0.95, betas: tuple[float, float] = (0.9, 0.95), decay: float = 0.01) -> None:
        self.momentum, self.betas, self.decay = momentum, betas, decay
        named = dict(net.named_parameters())
        self.matrices = {n: p for n, p in named.items() if p.ndim == 2 and "embed" not in n}
        self.others = {n: p for n, p in named.items() if n not in self.matrices}
        self.state: dict[str, Tensor] = {"count": torch.zeros(())}
        for name, parameter in named.items():
            self.state[f"{name}.first"] = torch.zeros_like(parameter)
            if name in self.others:
                self.state[f"{name}.second"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, muon_lr: float, adam_lr: float) -> None:
        """One update from the gradients in place. Each worker orthogonalises its share of the matrices; a sum puts them together."""
        rank, workers = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        by_shape: dict[torch.Size, list[str]] = defaultdict(list)
        for name, parameter in self.matrices.items():
            if parameter.grad is not None:
                self.state[f"{name}.first"].lerp_(parameter.grad, 1 - self.momentum)
                by_shape[parameter.shape].append(name)
        for shape, names in by_shape.items():
            nesterov = torch.stack([_grad(self.matrices[n]).lerp(self.state[f"{n}.first"], self.momentum) for n in names])
            if workers > 1:
                share = slice(rank * len(names) // workers, (rank + 1) * len(names) // workers)
                updates = torch.zeros_like(nesterov)
                updates[share] = orthogonalise(nesterov[share])
                dist.all_reduce(updates)
            else:
                updates = orthogonalise(nesterov)
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for name, update in zip(names, updates, strict=True):
                self.matrices[name].mul_(1 - muon_lr * self.decay).add_(update, alpha=-muon_lr * scale)
        self.state["count"] += 1
        count = float(self.state["count"])
        for name, parameter in self.others.items():
            if parameter.grad is None:
                continue
            first, second = self.state[f"{name}.first"], self.state[f"{name}.second"]
            first.lerp_(parameter.grad, 1 - self.betas[0])
            second.lerp_(parameter.grad.square(), 1 - self.betas[1])
            size = (second / (1 - self.betas[1] ** count)).sqrt_().add_(1e-8)
            parameter.addcdiv_(first / (1 - self.betas[0] ** count), size, value=-adam_lr)
