"""Which landmarks a query is nearest to: by torch, or by FAISS, which no implementation of landmark attention had.

One index for each key head of a layer. It holds keys before rotation: under stingy positions all older blocks have the same distance
from a query, so the query is rotated by it and the keys stay as they are, however long the text becomes.

    torch   every landmark compared, in one matrix product
    flat    FAISS, exact: what torch returns
    hnsw    FAISS, a graph of neighbours (Malkov and Yashunin 2018): approximate, `graphkv bench landmark-index` says how near
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphkv.errors import InputError, one_of
from graphkv_kernels import top_landmarks

KINDS = ("torch", "flat", "hnsw")

_NEIGHBOURS, _BUILDING, _SEARCHING = 16, 80, 96
"""Of HNSW: edges a node, candidates while building, candidates while searching."""


def check_index(kind: object) -> None:
    """Raises InputError for a kind of index that does not exist, or whose library is not installed."""
    if kind not in KINDS:
        raise InputError(one_of("index", kind, KINDS))
    if kind != "torch":
        try:
            import faiss  # noqa: F401
        except ImportError as error:
            raise InputError(f"index {kind!r} needs FAISS: pip install faiss-cpu, or take index='torch'") from error


class FaissLandmarks:
    """Landmark keys of one layer in FAISS, one index a key head; they can be added to.

    Args:
        kind: ``flat`` or ``hnsw``.

    Example:
        >>> index = FaissLandmarks("flat")
        >>> index.add(torch.tensor([[[2.0], [3.0], [1.0]]]))
        >>> index.search(torch.tensor([[[1.0]]]), 2)[1].tolist()
        [[[1, 0]]]
    """

    def __init__(self, kind: str) -> None:
        check_index(kind)
        self.kind = kind
        self._heads: list[Any] = []
        self._centre = torch.zeros(1, 1)

    def __len__(self) -> int:
        return int(self._heads[0].ntotal) if self._heads else 0

    def add(self, keys: Tensor) -> None:
        """Append landmark keys ``[K, n, D]``."""
        keys = keys.detach().float().cpu()
        if not self._heads:
            self._heads = [self._empty(keys.shape[-1]) for _ in keys]
            # What all keys have in common adds the same to every product of a query: no order changes, and a graph's neighbours are nearer.
            self._centre = keys.mean(1) if self.kind == "hnsw" else torch.zeros(len(keys), keys.shape[-1])
        for index, rows in zip(self._heads, (keys - self._centre[:, None]).numpy(), strict=True):
            index.add(rows)

    def search(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """As :func:`graphkv_kernels.top_landmarks`; of two that are equal `flat` gives the later one too."""
        many, wanted = len(self), min(k + 1, len(self))
        best, found, rows_KND = [], [], query.detach().float().cpu().contiguous()
        for index, rows in zip(self._heads, rows_KND.numpy(), strict=True):
            scores, numbers = index.search(rows, wanted)
            best.append(torch.from_numpy(scores))
            found.append(torch.from_numpy(numbers))
        scores_KNC, chosen_KNC = torch.stack(best), torch.stack(found)
        # A tie may go on beyond what was asked for, and a graph may end before it: those rows are compared with all.
        open_KN = (scores_KNC[..., 1:] == scores_KNC[..., :-1]).any(-1) if self.kind == "flat" else (chosen_KNC[..., :k] < 0).any(-1)
        scores_KNC, chosen_KNC = scores_KNC[..., :k].contiguous(), chosen_KNC[..., :k].contiguous()
        for head, rows in enumerate(open_KN):
            if rows.any():
                keys = torch.from_numpy(self._heads[head].reconstruct_n(0, many))
                scores, numbers = top_landmarks(rows_KND[head : head + 1, rows], keys[None], k)
                scores_KNC[head, rows], chosen_KNC[head, rows] = scores[0], numbers[0]
        scores_KNC += rows_KND @ self._centre.unsqueeze(-1)
        return scores_KNC.to(query), chosen_KNC.to(query.device)

    def _empty(self, dimension: int) -> Any:
        import faiss

        if self.kind == "flat":
            return faiss.IndexFlatIP(dimension)
        index = faiss.IndexHNSWFlat(dimension, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = _BUILDING, _SEARCHING
        return index
