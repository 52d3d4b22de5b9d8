"""Tiny random models of every architecture, and a byte tokenizer: fast, and no network."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from graphkv import GraphKV, Segment, SegmentGraph

torch.set_num_threads(1)  # tiny tensors: a second thread costs more than it brings

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "phi3", "gemma2", "gemma3_text")
_CONFIGS = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "mistral": MistralConfig,
    "phi3": Phi3Config,
    "gemma2": Gemma2Config,
    "gemma3_text": Gemma3TextConfig,
}
_EXTRA: dict[str, dict[str, Any]] = {
    # phi3 turns only half of each head; gemma2 caps its logits hard enough to matter and scales them oddly.
    "phi3": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}, "pad_token_id": 0},
    "gemma2": {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 32},
    "mistral": {"sliding_window": None},
    # one layer of each kind, each with a rope of its own
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"]},
}
VOCABULARY = 259  # 256 bytes, <s>, </s>, <pad>


def tiny_model(arch: str = "llama", *, dtype: torch.dtype = torch.float32, seed: int = 0, **overrides: Any) -> Any:
    """A random two-layer decoder with grouped-query attention (4 query heads, 2 key heads of 16)."""
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 8192,
        "initializer_range": 0.2,  # large enough for attention to be far from uniform
        "bos_token_id": 256,
        "eos_token_id": 257,
        "pad_token_id": 258,
    }
    config = _CONFIGS[arch](**{**settings, **_EXTRA.get(arch, {}), **overrides})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    if dtype != torch.float32:
        frequencies = {name: buffer.clone() for name, buffer in model.named_buffers() if "inv_freq" in name}
        model = model.to(dtype)
        for name, buffer in frequencies.items():  # as from_pretrained(dtype=...) leaves them: in float32
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, buffer)
    return model


def byte_tokenizer(chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """One token a byte; ids 256, 257, 258 are <s>, </s>, <pad>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = chat_template
    return fast


def tiny_engine(arch: str = "llama", *, dtype: torch.dtype = torch.float32, chat_template: str | None = None, **overrides: Any) -> GraphKV:
    """An engine over :func:`tiny_model` and :func:`byte_tokenizer`."""
    return GraphKV.from_pretrained((tiny_model(arch, dtype=dtype, **overrides), byte_tokenizer(chat_template)))


def random_graph(lengths: dict[str, int], edges: list[tuple[str, str]], seed: int = 0) -> SegmentGraph:
    """Segments of random tokens with the given lengths."""
    generator = torch.Generator().manual_seed(seed)
    segments = [Segment.from_tokens(id, torch.randint(0, 256, (n,), generator=generator)) for id, n in lengths.items()]
    return SegmentGraph.from_segments(segments, edges)


def random_ids(n: int, seed: int = 99) -> list[int]:
    """`n` random token ids."""
    ids: list[int] = torch.randint(0, 256, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids


def landmark_engine(arch: str = "llama", *, block: int = 8, **overrides: Any) -> GraphKV:
    """An engine over a tiny random model that has the landmark token, as if it had been trained with landmarks."""
    from graphkv.landmark import add_landmarks

    engine = tiny_engine(arch, **overrides)
    add_landmarks(engine.model, block)
    return engine
