"""What can be served: kernels that run here, and models whose features are understood. Refusals are by name, before any work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

import graphkv_kernels
from graphkv.errors import KernelError, ModelError, UnsupportedModelError, one_of
from graphkv.kv import Rope
from graphkv_kernels import BlockPattern

_NOT_NUMBERS = frozenset({"architectures", "transformers_version", "dtype", "use_cache", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range"})
"""Settings of a config that change no key and no value (the dtype is told by the weights)."""


def check_kernel(kernel: str | None) -> None:
    """Raises KernelError if `kernel` is not the name of a kernel that can run here."""
    if kernel is None:
        return
    kernels = graphkv_kernels.available_kernels()
    if kernel not in kernels:
        raise KernelError(one_of("kernel", kernel, kernels))
    if kernels[kernel] is not None:
        raise KernelError(f"kernel {kernel!r} cannot run here: {kernels[kernel]}")


def check_config(config: Any) -> None:
    """Refuse by name what cannot be served, before any work is done. Raises UnsupportedModelError."""
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError(f"{kind!r} is an encoder-decoder model: graphkv needs a decoder")
    if getattr(config, "kv_lora_rank", None):
        raise UnsupportedModelError(f"{kind!r} uses multi-head latent attention (MLA): its compressed KV is not supported")
    odd = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"})
    if odd:
        raise UnsupportedModelError(f"{kind!r} has layers of type {', '.join(odd)}: only full and sliding attention are supported")
    if getattr(config, "use_bidirectional_attention", False):
        raise UnsupportedModelError(f"{kind!r} is set to bidirectional attention: graphkv needs a causal decoder")
    parameters = getattr(config, "rope_parameters", None)
    if not parameters:
        raise UnsupportedModelError(f"{kind!r} has no rotary position embedding (rope): its keys cannot be placed anew")
    nested = [p for p in parameters.values() if isinstance(p, dict)] or [parameters]
    for rope_type in {p.get("rope_type", "default") for p in nested}:
        if rope_type not in ("default", "linear", "llama3", "yarn"):
            raise UnsupportedModelError(
                f"{kind!r} has rope type {rope_type!r}, whose frequencies depend on the length of the input: keys cannot be moved; movable: default, linear, llama3, yarn"
            )


def ropes_of(decoder: torch.nn.Module, config: Any) -> list[Rope]:
    """One rope a layer; layers of the same kind share one. Raises UnsupportedModelError where there is none, or it was cast."""
    module = getattr(decoder, "rotary_emb", None)
    if module is None:
        raise UnsupportedModelError(f"{config.model_type!r} has no rotary position embedding (rope) of its own: its keys cannot be placed anew")
    types: Sequence[str] = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    made: dict[str, Rope] = {}
    for kind in set(types):
        prefix = f"{kind}_" if hasattr(module, f"{kind}_inv_freq") else ""
        frequencies = getattr(module, f"{prefix}inv_freq", None)
        if frequencies is None:
            raise UnsupportedModelError(f"{config.model_type!r}: its rope shows no inv_freq for {kind} layers")
        if frequencies.dtype != torch.float32:
            raise UnsupportedModelError(
                f"the rope frequencies were cast to {frequencies.dtype}: .to(dtype) on a loaded model does that and ruins long contexts; load with dtype=... instead"
            )
        made[kind] = Rope(frequencies.detach(), float(getattr(module, f"{prefix}attention_scaling", 1.0)))
    return [made[kind] for kind in types]


def compare_with_own_forward(model: Any, known: Iterable[str]) -> None:
    """Encode 12 tokens as three segments with a :class:`graphkv.model.GraphModel` and compare the logits with the model's own forward.

    Raises:
        UnsupportedModelError: they differ, so graphkv does not understand this architecture; `known` are those it does.
    """
    config = model.config
    ids = [(7 * i + 3) % int(config.vocab_size) for i in range(12)]
    pattern = BlockPattern((4, 5, 3), ((), (0,), (0, 1)))
    with torch.no_grad():
        try:
            ours = model.packed_logits(ids, range(12), pattern, impl="dense").double()
        except (ModelError, TypeError, RuntimeError, AttributeError, ValueError) as error:
            raise UnsupportedModelError(f"{config.model_type!r} cannot run under graphkv's attention: {error}") from error
        own = model.model(torch.tensor([ids], device=model.device)).logits[0].double()
    bound = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1
    apart = float((ours - own).norm() / own.norm())
    if not apart < bound:
        raise UnsupportedModelError(
            f"{config.model_type!r} is not supported: encoded by segments its logits differ from its own forward by {apart:.1e} (relative); "
            f"architectures known to work: {', '.join(sorted(known))}"
        )


def tokenizer_digest(tokenizer: Any) -> str:
    """Digest of how a tokenizer makes ids of text: vocabulary, merges, normalisation. Padding and truncation, which a call may set, do not count."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        about = json.loads(backend.to_str())
        about.pop("truncation", None)
        about.pop("padding", None)
    else:
        about = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab(), "added": tokenizer.get_added_vocab()}
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:32]


def weights_digest(model: torch.nn.Module, config: Any) -> str:
    """Digest of every setting that changes numbers, and of every weight with its dtype; about a second a GB."""
    settings = {k: v for k, v in config.to_dict().items() if k[0] != "_" and k not in _NOT_NUMBERS}
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True, default=str).encode(), digest_size=32)
    for name, weight in model.named_parameters():
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def place_of(name: str | Path | None, embedded: Path) -> str:
    """The folder or hub id to load from.

    Two names are those of models that ship with the package: ``embedded``, which is None too, and ``embedded-landmark``. A folder of such a
    name is ``./embedded``.

    Raises:
        ModelError: it is meant as a folder and is none.
    """
    if name is not None and not isinstance(name, str | Path):
        raise ModelError(f"expected a folder, a hub id, a (model, tokenizer) pair or nothing, got {type(name).__name__}")
    shipped = {None: embedded, "embedded": embedded, "embedded-landmark": embedded.with_name("embedded_landmark")}
    place = name if isinstance(name, Path) else shipped.get(name) or str(name)
    path, looks_local = Path(place), isinstance(place, Path) or place.startswith((".", "/", "~")) or place.count("/") > 1
    path = path.expanduser()
    if path.exists() and not (path / "config.json").is_file():
        raise ModelError(f"{path} is not a model folder: expected config.json, model.safetensors and a tokenizer in it")
    if looks_local and not path.exists():
        raise ModelError(f"no such model folder: {path}; give a folder with config.json, a hub id such as Qwen/Qwen2.5-0.5B, or nothing for the embedded model")
    return str(path) if path.exists() else str(place)
