"""Train the landmark model from the embedded one: ``python -m graphkv_benchmarks.landmark.train --out runs/landmark`` (``make train-landmark``).

Two runs of ``graphkv train``, each with rows of its own: in the first landmarks take over from plain attention, in the second they are used. ``--plain``
makes the arm that it is compared with: the same rows, seeds, steps and rates, read plainly. A run that was killed goes on where it stood.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphkv.train import TrainSettings, train

from .rows import write_rows

BLOCK = 32
START: Path | None = None
"""What is trained; None is the embedded model."""


@dataclass(frozen=True)
class Stage:
    """One run: its rows (how many, and their seed), and settings of the trainer; `landmark` is left out for the plain arm."""

    name: str
    rows: int
    seed: int
    layouts: str
    plain_layouts: str
    settings: dict[str, Any]
    landmark: dict[str, Any]


STAGES = (
    Stage(
        "first", 8000, 1, "landmark=6,sequential=1,graph=1", "sequential=7,graph=1",
        {"steps": 600, "lr": 7e-4, "warmup": 20, "decay": 0.5},
        {"landmark_block": BLOCK, "landmark_weight": 0.3, "landmark_ramp": 0.35},
    ),
    Stage(
        "second", 12000, 2, "landmark=7,sequential=1", "sequential=1",
        {"steps": 600, "lr": 5e-4, "muon": 0.002, "warmup": 30, "decay": 0.7},
        {"landmark_weight": 0.1},
    ),
)  # fmt: skip
COMMON: dict[str, Any] = {"batch_tokens": 4096, "text_weight": 0.3, "threads": 1, "eval_every": 50, "eval_rows": 24, "save_every": 3.0}
HELD_OUT_ROWS, HELD_OUT_SEED = 200, 900


def run(out: Path, *, plain: bool = False) -> dict[str, Any]:
    """Both stages, in folders of `out`; the summary of the last, whose `model` is the result.

    Raises:
        InputError: `out` holds runs with other settings.
    """
    held_out = write_rows(out / "held_out.jsonl", HELD_OUT_SEED, HELD_OUT_ROWS, held_out=True)
    model = START
    summary: dict[str, Any] = {}
    for stage in STAGES:
        folder = out / ("plain" if plain else "landmark") / stage.name
        rows = write_rows(out / f"{stage.name}.jsonl", stage.seed, stage.rows)
        reading = {"layouts": stage.plain_layouts} if plain else {"layouts": stage.layouts, **stage.landmark}
        settings = TrainSettings(rows, folder, model, eval=held_out, seed=stage.seed, **COMMON, **stage.settings, **reading)
        summary = train(settings)
        if not summary["done"]:
            return summary
        model = folder / "model"
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m graphkv_benchmarks.landmark.train", description="Train the landmark model from the embedded one.")
    parser.add_argument("--out", type=Path, default=Path("runs/landmark"))
    parser.add_argument("--plain", action="store_true", help="the arm without landmarks: the same rows, seeds and steps")
    args = parser.parse_args(argv)
    summary = run(args.out, plain=args.plain)
    print(json.dumps(summary))
    return 0 if summary["done"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
