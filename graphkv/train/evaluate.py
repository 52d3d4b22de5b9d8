"""Held-out rows: loss and answers under every layout of the mixture."""

from __future__ import annotations

from collections.abc import Callable

import torch

from graphkv.tokens import TokenReader
from graphkv.train.loss import episode_loss
from graphkv.train.metrics import Meter
from graphkv.train.mixture import Mixture
from graphkv.train.reading import reading_episode
from graphkv.train.rows import Rows


@torch.no_grad()
def evaluate(reader: TokenReader, rows: Rows, mixture: Mixture, limit: int, *, kernel: str = "gather", stop: Callable[[], bool] = lambda: False) -> dict[str, dict[str, float]]:
    """Means over the first `limit` rows with all their questions, by layout: `loss` and `accuracy` by answer token, `exact` by answer.

    The answers are those of the file, read by the model token by token as in training; nothing is generated.

    Args:
        stop: asked before every row; what has been measured by then is thrown away if it says yes.

    Returns:
        ``{"graph": {"loss": 1.2, "accuracy": 0.8, "exact": 0.6}, ...}``; empty if it was stopped.
    """
    reader.model.model.eval()
    result = {}
    for layout in mixture.weights:
        meter = Meter()
        for index in range(min(limit, len(rows))):
            if stop():
                return {}
            row = rows[index]
            _, counts = episode_loss(reader.model, reading_episode(reader, row.graph, row.questions, layout, mixture.options[layout]), kernel=kernel)
            meter.add("loss", counts.loss * counts.tokens, counts.tokens)
            meter.add("accuracy", counts.right, counts.tokens)
            meter.add("exact", counts.exact, counts.answers)
        result[layout] = meter.means()
    return result
