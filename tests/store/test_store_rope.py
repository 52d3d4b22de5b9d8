"""Keys that were stored without position, put anywhere: the numbers of encoding there.

1. A segment is encoded at position 0, written to a file, read back, and rotated to position p.
2. The model's own forward encodes the same segment at p, and its cache is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ARCHITECTURES, byte_tokenizer, random_ids, tiny_model

from graphkv import GraphKV, Segment, SegmentGraph
from graphkv.kv import rotate

PLACES = (0, 1, 63, 1000, 4096)
YARN = {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 2048}}


def moved(model: Any, ids: list[int], place: int, folder: Path) -> list[torch.Tensor]:
    graph = SegmentGraph.from_segments([Segment.from_tokens("a", ids)], [])
    for _ in range(2):  # the second time from the file
        engine = GraphKV.from_pretrained((model, byte_tokenizer()), store=folder)
        encoded = engine.encode(graph, layout="block", prefix=())
    assert encoded.tokens_computed == 0
    positions = torch.arange(place, place + len(ids))
    return [rotate(keys, *rope.table(positions)) for keys, rope in zip(encoded.blocks[0].keys, engine.model.ropes, strict=True)]


def own(model: Any, ids: list[int], place: int) -> list[torch.Tensor]:
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), position_ids=torch.arange(place, place + len(ids))[None], use_cache=True)
    return [layer.keys[0] for layer in out.past_key_values.layers]


def apart(ours: list[torch.Tensor], reference: list[torch.Tensor]) -> list[float]:
    return [float((a.double() - b.double()).norm() / b.double().norm()) for a, b in zip(ours, reference, strict=True)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("arch", [*ARCHITECTURES, "yarn"])
def test_moved_keys_are_those_of_encoding_there(arch: str, place: int, tmp_path: Path) -> None:
    model = tiny_model(**YARN) if arch == "yarn" else tiny_model(arch)
    ids = random_ids(63)
    # where it encodes at p, the model's own float32 angles are off by up to p · 2^-24; those between tokens of one segment too
    assert max(apart(moved(model, ids, place, tmp_path / "kv"), own(model, ids, place))) < 1.5e-5 + place * 2**-24


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("arch", ["llama", "qwen2", "gemma3_text"])
def test_in_bfloat16_moving_is_no_worse_than_encoding_there(arch: str, place: int, tmp_path: Path) -> None:
    """Both are measured against float64; a tenth is allowed for luck."""
    ids = random_ids(63)
    true = own(tiny_model(arch, dtype=torch.float64), ids, place)
    low = tiny_model(arch, dtype=torch.bfloat16)
    ours, theirs = apart(moved(low, ids, place, tmp_path / "kv"), true), apart(own(low, ids, place), true)
    assert all(a <= 1.1 * b for a, b in zip(ours, theirs, strict=True)), (ours, theirs)
