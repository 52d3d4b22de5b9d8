"""Write a trained landmark model as it is shipped: ``python -m graphkv_benchmarks.landmark.export MODEL OUT``.

As the embedded model: float16 in the file only, the model is meant to be run in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from graphkv.landmark import landmark_of
from graphkv.model import GraphModel

from ..embedded.export import edit_json


def export(folder: Path, out: Path) -> int:
    """Save the model of `folder` and its tokenizer in `out`; the size of the weights file in bytes. Other files in `out` stay.

    Raises:
        ModelError: there is no model. UnsupportedModelError: it has no landmarks.
    """
    model = GraphModel.load(folder, dtype=torch.float32)
    landmark_of(model)
    model.model.to(torch.float16).save_pretrained(out)
    model.tokenizer.save_pretrained(out, save_jinja_files=False)
    # Loaded without a dtype the model shall run in float32, whatever the file holds.
    edit_json(out / "config.json", {"dtype": "float32"})
    edit_json(out / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "is_local": None, "local_files_only": None})
    weights = out / "model.safetensors"
    weights.chmod(0o644)
    return weights.stat().st_size


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m graphkv_benchmarks.landmark.export", description="Write a trained landmark model as it is shipped.")
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args(argv)
    print(f"{args.out}: {export(args.model, args.out) / 2**20:.1f} MiB of weights")


if __name__ == "__main__":
    main()
