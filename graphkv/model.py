"""The only file that knows transformers: loading, rope, attention registration, caches, generate.

Two ways of running the model:

*Encoding.* The rotary module is hooked (and unhooked again) to turn nothing, so that the attention function registered
here as ``graphkv`` sees queries and keys before rotation; it rotates both to the block's positions and calls
:func:`graphkv_kernels.graph_attention`. What lands in the cache are keys without position.

*Answering.* The assembled cache holds rotated keys, and the question runs through the model's own forward and
``generate`` with its own attention. Only APE's re-weighing needs a function of ours (``graphkv_answer``).
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.generation.streamers import BaseStreamer
from transformers.masking_utils import sdpa_mask

import graphkv_kernels
from graphkv.attention import REWEIGH, Encoding, LandmarkHelp, Pattern, Reweigh, answer_attention, encode_attention
from graphkv.errors import InputError, KernelError, ModelError
from graphkv.landmark_reading import LandmarkReading, landmark_attention, reading_blocks
from graphkv.shared import SharedReading, shared_context_attention
from graphkv.support import check_config, check_kernel, compare_with_own_forward, place_of, ropes_of, tokenizer_digest, weights_digest
from graphkv.watch import Watch, watch_attention, watching
from graphkv_kernels import BlockPattern

EMBEDDED, EMBEDDED_LANDMARK = Path(__file__).parent / "embedded", Path(__file__).parent / "embedded_landmark"
"""The checkpoints that ship with the package."""

KNOWN_TYPES = frozenset({"llama", "qwen2", "qwen3", "mistral", "phi3", "gemma2", "gemma3_text"})
"""Architectures that the test suite covers; any other is compared with its own forward when it is loaded."""


for _name, _function, _mask in (
    ("graphkv", encode_attention, None),
    ("graphkv_shared", shared_context_attention, None),
    ("graphkv_answer", answer_attention, sdpa_mask),
    ("graphkv_landmark", landmark_attention, sdpa_mask),
    ("graphkv_watch", watch_attention, sdpa_mask),
):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, _mask or (lambda *args, **kwargs: None))

_NOT_OURS = ("num_beams", "num_return_sequences", "return_dict_in_generate", "cache_implementation")
"""Generation settings that need another cache than the shared one, or return something else than ids."""

_LOCKS: weakref.WeakKeyDictionary[PreTrainedModel, threading.RLock] = weakref.WeakKeyDictionary()  # type: ignore[valid-type]
"""One lock a model, shared by every engine over it: encoding changes the model's attention for a moment."""


class GraphModel:
    """A decoder and its tokenizer, checked, and able to encode blocks and to answer over an assembled cache.

    Args:
        model: a loaded transformers causal language model. tokenizer: its tokenizer.
        kernel: attention kernel for encoding; None takes the default for the device.

    Raises:
        UnsupportedModelError: the model has a feature that cannot be served; it is named.
        KernelError: an unknown kernel, or one that cannot run here.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, *, kernel: str | None = None) -> None:
        if not isinstance(model, PreTrainedModel):
            raise ModelError(f"expected a transformers model and its tokenizer, in this order, got a {type(model).__name__} first")
        check_kernel(kernel)
        self.model, self.tokenizer, self.kernel = model, tokenizer, kernel
        self.config = model.config.get_text_config()
        check_config(self.config)
        self.decoder: torch.nn.Module = model.get_decoder()
        self.ropes = ropes_of(self.decoder, self.config)
        self._cache_keyword = "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"  # renamed in 5.24
        self.lock = _LOCKS.setdefault(model, threading.RLock())
        self._fingerprint: tuple[tuple[Any, ...], str] | None = None
        self._tokenizer_digest: str | None = None
        model.eval()
        if self.config.model_type not in KNOWN_TYPES and model.device.type != "meta":  # without weights it can only be planned for
            compare_with_own_forward(self, KNOWN_TYPES)

    @classmethod
    def load(
        cls,
        name: str | Path | None,
        *,
        dtype: str | torch.dtype | None = None,
        device_map: Any = None,
        trust_remote_code: bool = False,
        kernel: str | None = None,
        **model_kwargs: Any,
    ) -> GraphModel:
        """Load a path, a hub id, or (None) the embedded model. Only safetensors are read.

        Raises:
            ModelError: no such folder, or no checkpoint in it.
        """
        check_kernel(kernel)
        where = place_of(name, EMBEDDED)
        if dtype is None and name is None:
            dtype = torch.float32  # stored in 16 bits to be small; a CPU is fastest in float32
        kwargs = {"device_map": device_map} if device_map is not None else {}
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                where,
                dtype=dtype or "auto",
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                output_loading_info=True,
                **kwargs,
                **model_kwargs,
            )
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=trust_remote_code)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the model {where!r} could not be loaded: {error}") from error
        if missing := sorted(info["missing_keys"]):
            raise ModelError(f"the checkpoint {where!r} lacks {len(missing)} of the weights that its config asks for ({missing[0]} ...): they would be random")
        return cls(model, tokenizer, kernel=kernel)

    @classmethod
    def with_random_weights(cls, name: str | Path | None, *, seed: int, kernel: str | None = None) -> GraphModel:
        """Config and tokenizer of a folder, a hub id or (None) the embedded model; float32 weights as its architecture draws them, the same for a seed.

        Raises:
            ModelError: no such folder, or no config or tokenizer in it.
        """
        check_kernel(kernel)
        where = place_of(name, EMBEDDED)
        try:
            config = AutoConfig.from_pretrained(where)
            tokenizer = AutoTokenizer.from_pretrained(where)
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            if tokenizer.eos_token_id is not None:
                model.generation_config.eos_token_id = tokenizer.eos_token_id  # what the answers are trained to end with
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ModelError(f"no model can be made from {where!r}: {error}") from error
        return cls(model, tokenizer, kernel=kernel)

    @property
    def device(self) -> torch.device:
        """Where the embeddings are; the question's tokens go there."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The model's dtype."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def window(self) -> int:
        """Positions that the model was made for."""
        return int(self.config.max_position_embeddings)

    @property
    def sliding_window(self) -> int | None:
        """Tokens that a sliding-window layer sees, None if no layer has a window."""
        types = getattr(self.config, "layer_types", None)
        width = getattr(self.config, "sliding_window", None)
        slides = "sliding_attention" in types if types else getattr(self.config, "use_sliding_window", True)
        return int(width) if width is not None and slides else None

    @property
    def fingerprint(self) -> str:
        """Digest of config, dtype and every weight; made anew when a weight has been written to (about a second a GB)."""
        state = tuple((p.data_ptr(), p._version) for p in self.model.parameters())
        if self._fingerprint is None or self._fingerprint[0] != state:
            self._fingerprint = (state, weights_digest(self.model, self.config))
        return self._fingerprint[1]

    @property
    def identity(self) -> str:
        """Digest of the model as :attr:`fingerprint` has it, and of its tokenizer: what names blocks in a store."""
        if self._tokenizer_digest is None:
            self._tokenizer_digest = tokenizer_digest(self.tokenizer)
        return f"{self.fingerprint}-{self._tokenizer_digest}"

    @property
    def name(self) -> str:
        """What the model was loaded from, for people; empty for one that was built in memory."""
        where = str(getattr(self.model.config, "name_or_path", "") or "")
        return {str(EMBEDDED): "embedded", str(EMBEDDED_LANDMARK): "embedded-landmark"}.get(where, where)

    @property
    def layer_devices(self) -> list[torch.device]:
        """The device of each layer's keys and values."""
        layers = getattr(self.decoder, "layers", None)
        if layers is None or len(layers) != len(self.ropes):
            return [self.device] * len(self.ropes)
        return [next(layer.parameters()).device for layer in layers]

    @torch.no_grad()
    def encode(
        self,
        token_ids: Sequence[int],
        positions: Sequence[int],
        pattern: BlockPattern,
        past: tuple[Sequence[Tensor], Sequence[Tensor], Sequence[int]] | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Encode blocks in one forward.

        Args:
            token_ids, positions: of the blocks to encode, ``[T]`` each, in packed order.
            pattern: all blocks, those of `past` first.
            past: keys before rotation and values of blocks that are only read, one ``[H_kv, S, D]`` a layer, and their positions ``[S]``.

        Returns:
            Keys before rotation and values of the new tokens, one ``[H_kv, T, D]`` a layer.
        """
        past_keys, past_values, past_positions = past or ((), (), ())
        cache = DynamicCache([(k[None], v[None]) for k, v in zip(past_keys, past_values, strict=True)]) if past_keys else DynamicCache()
        self._forward_blocks(token_ids, positions, [*past_positions, *positions], pattern, use_cache=True, logits_to_keep=1, **{self._cache_keyword: cache})
        seen = len(past_positions)
        return [layer.keys[0, :, seen:] for layer in cache.layers], [layer.values[0, :, seen:] for layer in cache.layers]

    @torch.no_grad()
    def encode_chunk(self, token_ids: Sequence[int], reading: LandmarkReading) -> tuple[list[Tensor], list[Tensor]]:
        """A chunk with landmarks behind the blocks of `reading`: keys before rotation and values, one ``[H_kv, T, D]`` a layer."""
        cache, ids = DynamicCache(), torch.tensor([list(token_ids)], device=self.device)
        with self.landmark_reading(reading), self._unrotated():
            self.model(input_ids=ids, use_cache=True, logits_to_keep=1, **{self._cache_keyword: cache})
        return [layer.keys[0] for layer in cache.layers], [layer.values[0] for layer in cache.layers]

    def packed_logits(
        self, token_ids: Sequence[int], positions: Sequence[int], pattern: Pattern, *, impl: str | None = None, keep: int | Tensor = 0, help: LandmarkHelp | None = None
    ) -> Tensor:
        """Logits ``[T, vocab]`` of one packed forward without a cache; differentiable. `keep` > 0: of the last tokens only; a tensor: of these rows."""
        out = self._forward_blocks(token_ids, positions, positions, pattern, impl=impl, help=help, use_cache=False, logits_to_keep=keep)
        logits: Tensor = out.logits[0]
        return logits

    def watch(self, token_ids: Tensor, watch: Watch) -> None:
        """One forward of ``[B, T]``, padded on the right, as far as the last layer of `watch`, which is told the attention it asks for."""
        with self.lock, self._attention("graphkv_watch"), torch.inference_mode(), watching(watch):
            self.decoder(input_ids=token_ids.to(self.device), use_cache=False)

    def answer_logits(self, cache: DynamicCache, token_ids: Tensor, positions: Tensor, mask: Tensor, reweigh: Reweigh | None, *, keep: int = 0) -> Tensor:
        """Logits ``[B, T or keep, vocab]`` of questions ``[B, T]`` over a cache of rotated keys; `mask` ``[B, N + T]`` is 0 on padding."""
        with self.lock, self._answering(reweigh), torch.no_grad():
            out = self.model(input_ids=token_ids, position_ids=positions, attention_mask=mask, use_cache=True, logits_to_keep=keep, **{self._cache_keyword: cache})
        logits: Tensor = out.logits
        return logits

    def step(self, reading: SharedReading, token_ids: Tensor, positions: Tensor, tails: Sequence[Any] = ()) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """New tokens ``[B, T]`` of several rows over one context: logits ``[B, vocab]`` behind the last, and the rows' own keys and values.

        Args:
            tails: the rows' own keys and values so far, one pair ``[B, H_kv, S, D]`` a layer.
        """
        cache = DynamicCache(list(tails)) if tails else DynamicCache()
        with self.lock, self._attention("graphkv_shared"), torch.no_grad():
            out = self.model(input_ids=token_ids, position_ids=positions, graphkv=reading, use_cache=True, logits_to_keep=1, **{self._cache_keyword: cache})
        return out.logits[:, -1], [(layer.keys, layer.values) for layer in cache.layers]

    def generate(
        self,
        cache: DynamicCache,
        token_ids: Tensor,
        positions: Tensor,
        mask: Tensor,
        config: GenerationConfig,
        *,
        reweigh: Reweigh | None = None,
        streamer: BaseStreamer | None = None,
        stopping: Sequence[Any] = (),
    ) -> Tensor:
        """New token ids ``[B, new]`` after questions ``[B, T]``, by transformers' own ``generate``."""
        with self.lock, self._answering(reweigh), self._own_settings_aside(), torch.no_grad():
            out: Tensor = self.model.generate(
                input_ids=token_ids,
                attention_mask=mask,
                position_ids=positions,
                **{self._cache_keyword: cache},
                generation_config=config,
                streamer=streamer,
                stopping_criteria=list(stopping),
                tokenizer=self.tokenizer,
            )
        return out[:, token_ids.shape[1] :]

    def cache(self, keys: Sequence[Tensor], values: Sequence[Tensor], batch: int = 1) -> DynamicCache:
        """A transformers cache of rotated keys and values, one ``[H_kv, N, D]`` a layer, seen by every row of a batch."""
        return DynamicCache([(k.expand(batch, *k.shape), v.expand(batch, *v.shape)) for k, v in zip(keys, values, strict=True)])

    def generation_config(self, config: GenerationConfig | None, overrides: dict[str, Any]) -> GenerationConfig:
        """The generation settings to use: the caller's; else greedy with the model's own end tokens.

        Raises:
            InputError: beams or several sequences a question, which share one cache and are not supported.
        """
        base = self.model.generation_config
        if config is not None and not isinstance(config, GenerationConfig):
            raise InputError(f"generation_config must be a transformers GenerationConfig, got {type(config).__name__}")
        if config is None:
            settings: dict[str, Any] = {"do_sample": False, "eos_token_id": base.eos_token_id, "pad_token_id": base.pad_token_id}
        else:  # as in transformers: what the caller leaves open is the model's own setting
            own = {k: v for k, v in base.to_diff_dict().items() if k not in _NOT_OURS and k not in ("max_length", "max_new_tokens")}
            settings = {**own, **config.to_diff_dict()}
        refused = [k for k in _NOT_OURS if settings.get(k) is True or settings.get(k) not in (None, False, 1)]
        if refused:
            raise InputError(f"{', '.join(refused)} not supported: the questions share one context and one cache, and ids come back; to take several sequences, ask several times")
        config = GenerationConfig.from_dict({**settings, **overrides})
        if config.eos_token_id is None:
            config.eos_token_id = base.eos_token_id if base.eos_token_id is not None else getattr(self.tokenizer, "eos_token_id", None)
        if config.pad_token_id is None:
            config.pad_token_id = self.pad_token_id
        config.use_cache = True
        return config

    @property
    def pad_token_id(self) -> int:
        """The id that fills up shorter questions of a batch."""
        size = self.model.get_input_embeddings().num_embeddings
        for owner in (self.tokenizer, self.model.generation_config):
            pad = getattr(owner, "pad_token_id", None)
            if pad is not None and 0 <= pad < size:  # a pad token may have been added without resizing the model
                return int(pad)
        return 0  # padding is masked: any id serves

    def _forward_blocks(
        self, token_ids: Sequence[int], positions: Sequence[int], key_positions: Sequence[int], pattern: Pattern, *, impl: str | None = None,
        help: LandmarkHelp | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        encoding = Encoding(pattern, torch.tensor(list(positions)), torch.tensor(list(key_positions)), self.ropes, impl or self.kernel, help)
        ids = torch.tensor([list(token_ids)], device=self.device)
        with self.lock, self._attention("graphkv"), self._unrotated():
            try:
                return self.model(input_ids=ids, position_ids=encoding.query_positions[None].to(self.device), graphkv=encoding, **kwargs)
            except graphkv_kernels.KernelError as error:
                raise KernelError(str(error)) from error

    @contextmanager
    def landmark_reading(self, reading: LandmarkReading) -> Iterator[None]:
        """As long as it lasts, forward and ``generate`` read the blocks of `reading` beside what they are given."""
        with self.lock, self._attention("graphkv_landmark"), reading_blocks(reading):
            yield

    @contextmanager
    def _attention(self, name: str) -> Iterator[None]:
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation(name)
        try:
            yield
        finally:
            self.model.set_attn_implementation(before)

    @contextmanager
    def _unrotated(self) -> Iterator[None]:
        def turn_nothing(module: torch.nn.Module, args: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            cos, sin = output
            return torch.ones_like(cos), torch.zeros_like(sin)

        handle = self.decoder.rotary_emb.register_forward_hook(turn_nothing)  # type: ignore[union-attr, operator]
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _own_settings_aside(self) -> Iterator[None]:
        """``generate`` fills what a config leaves open from the model's own (a repetition penalty, say): `config` is complete, so nothing is left to fill."""
        before = self.model.generation_config
        self.model.generation_config = GenerationConfig()
        try:
            yield
        finally:
            self.model.generation_config = before

    @contextmanager
    def _answering(self, reweigh: Reweigh | None) -> Iterator[None]:
        if reweigh is None:
            yield
            return
        token = REWEIGH.set(reweigh)
        try:
            with self._attention("graphkv_answer"):
                yield
        finally:
            REWEIGH.reset(token)
