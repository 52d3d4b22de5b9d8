"""Any sentence-transformers model as an embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphkv.errors import InputError, ModelError
from graphkv_retrieval.embedders import NAMES


class SentenceTransformerModel:
    """A model by folder or hub id, run by the sentence-transformers library with the model's own pooling and window.

    Only safetensors are read, and no code of the model's. Prompts that some models want in front of questions or documents are not
    added, unless the model's settings name one as its default.

    Raises:
        InputError: sentence-transformers is missing. ModelError: the model cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        try:
            import sentence_transformers
        except ImportError as error:
            raise InputError(
                f"the embedder {name!r} is neither of {', '.join(NAMES)}, so it must be a sentence-transformers model, which needs pip install 'graphkv[dense]' ({error})"
            ) from None
        try:
            self._model = sentence_transformers.SentenceTransformer(name, trust_remote_code=False, model_kwargs={"use_safetensors": True})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ModelError(f"the sentence-transformers model {name!r} could not be loaded: {error}") from error
        self._model.eval()
        self.name = name
        self.identity = f"{name}@{_weights_digest(self._model)}"
        self.dimension = self.encode(["dimension"]).shape[1]  # the library has renamed the method that tells it

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 ``[N, D]``, each row of length 1."""
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        # The library sorts by length itself.
        vectors = self._model.encode(list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)


def _weights_digest(model: Any) -> str:
    import torch
    from xxhash import xxh3_128

    digest = xxh3_128()
    for name, weight in model.state_dict().items():
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
