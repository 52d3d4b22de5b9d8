"""The engine's own hidden states as an embedder: no further model is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from xxhash import xxh3_128

from graphkv.errors import InputError
from graphkv.prompt import tokenize
from graphkv_retrieval.embedders import token_batches

if TYPE_CHECKING:
    from torch import Tensor

    from graphkv.model import GraphModel

_BATCH_TOKENS = 4096


class HiddenStates:
    """Mean of a middle layer's hidden states, later tokens weighing more.

    The weights grow with the position, 1, 2, 3 ..., as in SGPT (Muennighoff 2022, arXiv 2202.08904): in a causal decoder only the later
    tokens have seen the text. The layer is a middle one: the last ones turn to the next token (Skean et al. 2025, arXiv 2502.02013).
    Every token's state is scaled to length 1 first, because some decoders give their first token a state hundreds of times longer than
    the rest. A decoder that was not trained for retrieval stays a weak embedder: BM25 or MiniLM find more.

    Args:
        model: the engine's model, ``engine.model``.
        layer: after so many layers the states are taken; half of them by default.

    Raises:
        InputError: no :class:`~graphkv.model.GraphModel`, or a layer that the model does not have.

    Example:
        >>> HiddenStates(engine.model).encode(["Maples at night."]).shape  # doctest: +SKIP
        (1, 256)
    """

    name = "engine"

    def __init__(self, model: GraphModel, *, layer: int | None = None) -> None:
        from graphkv.model import GraphModel

        if not isinstance(model, GraphModel):
            raise InputError(f"expected the engine's model (engine.model), got {type(model).__name__}")
        layers = list(getattr(model.decoder, "layers", ()))
        if layer is None:
            layer = max(1, len(layers) // 2)
        if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= len(layers):
            raise InputError(f"layer must be a whole number from 1 to {len(layers)}, the layers of the model, got {layer!r}")
        self.model, self.layer, self._module = model, layer, layers[layer - 1]
        self.dimension = int(model.config.hidden_size)
        self.identity = f"engine@{xxh3_128(model.identity.encode()).hexdigest()[:16]}/{layer}"

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 ``[N, D]``, each row of length 1; texts are cut at the model's window. Raises InputError for a text without tokens."""
        import torch

        out = np.empty((len(texts), self.dimension), np.float32)
        ids = [tokenize(self.model.tokenizer, text, plain=True)[: self.model.window] for text in texts]
        for text, row in zip(texts, ids, strict=True):
            if not row:
                raise InputError(f"the tokenizer makes nothing of the text {text[:80]!r}: it cannot be embedded")
        for batch in token_batches([len(row) for row in ids], _BATCH_TOKENS):
            longest = len(ids[batch[0]])
            padded = torch.full((len(batch), longest), self.model.pad_token_id)
            mask = torch.zeros((len(batch), longest), dtype=torch.long)
            for i, index in enumerate(batch):
                padded[i, : len(ids[index])] = torch.tensor(ids[index])
                mask[i, : len(ids[index])] = 1
            states = torch.nn.functional.normalize(self._states(padded, mask), dim=-1)
            weights = (mask * torch.arange(1, longest + 1)).float()
            out[batch] = torch.nn.functional.normalize((states * weights[..., None]).sum(1), dim=1).numpy()
        return out

    def _states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """float32 ``[B, T, D]`` after the layer, on the CPU."""
        import torch

        device = self.model.device
        with self.model.lock, torch.no_grad(), self._caught() as caught:
            self.model.decoder(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
        return caught[0].float().cpu()

    @contextmanager
    def _caught(self) -> Iterator[list[Tensor]]:
        """What the layer puts out meanwhile. Asking the model for all hidden states would keep those of every layer."""
        caught: list[Tensor] = []
        handle = self._module.register_forward_hook(lambda module, args, output: caught.append(output[0] if isinstance(output, tuple) else output))
        try:
            yield caught
        finally:
            handle.remove()
