"""Write a training checkpoint as a Hugging Face folder: ``python -m graphkv_benchmarks.embedded.export CHECKPOINT OUT``.

The weights are cast to 16 bits for the file only; the model is meant to be run in float32 on a CPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from graphkv.train import checkpoint as checkpoints

from .net import Shape
from .vocabulary import load_tokenizer

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def export(checkpoint: Path, out: Path, dtype: str = "float16") -> int:
    """Save the model, its tokenizer and its generation settings in ``out``; the size of the weights file in bytes.

    Raises:
        ValueError: there is no checkpoint, its parameters are not those of the architecture, or ``dtype`` is unknown.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}, expected one of {sorted(DTYPES)}")
    found = checkpoints.load(checkpoint)
    if found is None:
        raise ValueError(f"{checkpoint} holds no whole checkpoint; train one with python -m graphkv_benchmarks.embedded.train --out {checkpoint}")
    tokenizer = load_tokenizer(checkpoint)
    bos, eos, pad = (int(i) for i in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id))
    model = LlamaForCausalLM(LlamaConfig(**Shape(vocab=len(tokenizer), layers=found.state["settings"]["layers"]).config(bos, eos, pad)))  # type: ignore[arg-type]
    missing, unexpected = model.load_state_dict(found.tensors["model"], strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise ValueError(f"the checkpoint does not fit: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    model.generation_config = GenerationConfig(bos_token_id=bos, eos_token_id=eos, pad_token_id=pad, max_new_tokens=16, do_sample=False)
    model.to(DTYPES[dtype]).save_pretrained(out)
    tokenizer.save_pretrained(out, save_jinja_files=False)
    # Loaded without a dtype the model shall run in float32, whatever the file holds.
    edit_json(out / "config.json", {"dtype": "float32"})
    edit_json(out / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "is_local": None, "local_files_only": None})
    weights = out / "model.safetensors"
    weights.chmod(0o644)
    return weights.stat().st_size


def edit_json(path: Path, changes: dict[str, str | None]) -> None:
    """Change keys of a JSON file; None removes one."""
    values = json.loads(path.read_text())
    values = {k: v for k, v in (values | changes).items() if v is not None}
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="graphkv_benchmarks.embedded.export", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", default="float16", choices=sorted(DTYPES))
    args = parser.parse_args(argv)
    print(f"{args.out}: {export(args.checkpoint, args.out, args.dtype) / 2**20:.1f} MiB of weights")


if __name__ == "__main__":
    main()
