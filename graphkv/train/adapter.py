"""LoRA: small matrices beside the model's own, trained in their place. peft makes them; it is an extra."""

from __future__ import annotations

from typing import Any

import torch

from graphkv.errors import InputError
from graphkv.model import GraphModel


def add_lora(model: GraphModel, rank: int, seed: int) -> Any:
    """Put an adapter of `rank` (alpha twice that) on every linear layer but the output, in place; the model's own weights are frozen.

    Returns:
        peft's model around it: ``save_pretrained`` writes the adapter, ``merge_and_unload`` makes it part of the weights.

    Raises:
        InputError: peft is missing.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InputError("lora needs peft, which is not installed: pip install graphkv[lora]") from None
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model.model, config)
