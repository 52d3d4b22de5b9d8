"""The trained model as a folder that transformers, and `graphkv ask --model`, can load."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from graphkv.model import GraphModel


def write_model(model: GraphModel, folder: Path, dtype: torch.dtype, adapter: Any = None) -> list[Path]:
    """Write model and tokenizer into `folder`, replacing what was there. The model is not to be used afterwards: its weights are cast, an adapter merged.

    Args:
        adapter: what `add_lora` returned: it is written beside, into ``adapter``, and its sum with the weights into `folder`.

    Returns:
        The folders written.
    """
    written = []
    if adapter is not None:
        written.append(_replace(folder.with_name("adapter"), adapter.save_pretrained))
    trained = model.model if adapter is None else adapter.merge_and_unload()
    trained.to(dtype)

    def save(new: Path) -> None:
        trained.save_pretrained(new)
        model.tokenizer.save_pretrained(new)

    return [_replace(folder, save), *written]


def _replace(folder: Path, save: Any) -> Path:
    """Write beside, then swap: a folder under its own name is whole."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    save(new)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder
