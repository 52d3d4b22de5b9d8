"""Codecs: bytes, bounds on what they lose, and that a lossy block is the same block wherever it is read from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import byte_tokenizer, random_graph, random_ids, tiny_model

from graphkv import FileStore, GraphKV, MemoryStore, StoreError
from graphkv.kv import SegmentKV
from graphkv.store import CODECS
from graphkv_benchmarks.codecs import bytes_over_exact

LOSSY = ("int8", "fp8", "int4")


def made(keys: torch.Tensor, values: torch.Tensor) -> SegmentKV:
    return SegmentKV("a" * 64, tuple(range(keys.shape[1])), (keys,), (values,))


def through(codec: str, one: SegmentKV) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = CODECS[codec].unpack(CODECS[codec].pack(one), str(one.keys[0].dtype).removeprefix("torch."))
    assert keys[0].dtype == one.keys[0].dtype and keys[0].shape == one.keys[0].shape and values[0].shape == one.values[0].shape
    return keys[0], values[0]


@pytest.mark.parametrize(("codec", "share"), [("int8", 0.5), ("fp8", 0.5), ("int4", 0.25)])
def test_bytes(codec: str, share: float) -> None:
    assert bytes_over_exact(codec, 512) == pytest.approx(share, rel=0.03)


def test_the_exact_file_is_hardly_more_than_its_tensors(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "kv")
    one = SegmentKV("a" * 64, tuple(range(64)), *(tuple(torch.randn(2, 64, 64).bfloat16() for _ in range(24)) for _ in range(2)))
    store.put(one)
    assert store.nbytes / one.nbytes < 1.01


@pytest.mark.parametrize(("codec", "steps"), [("int8", 255), ("int4", 15)])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_keys_are_off_by_half_a_step_of_their_channel(codec: str, steps: int, offset: float) -> None:
    keys = torch.randn(2, 100, 8) * torch.logspace(-2, 1, 8) + offset * torch.arange(8)  # channels of all sizes, some far from zero
    got, _ = through(codec, made(keys, keys))
    reach = keys.amax(1, keepdim=True) - keys.amin(1, keepdim=True)
    # half a step, and what float16 rounds off a channel's middle and step
    bound = reach / steps / 2 + keys.abs().amax(1, keepdim=True) * 2**-11 + reach * 2**-11
    assert bool(((got - keys).abs() <= bound * 1.0001).all())


@pytest.mark.parametrize(("codec", "steps"), [("int8", 127), ("int4", 7)])
def test_values_are_off_by_half_a_step_of_their_token(codec: str, steps: int) -> None:
    values = torch.randn(2, 100, 8) * torch.logspace(-3, 1, 100)[:, None]
    _, got = through(codec, made(values, values))
    largest = values.abs().amax(-1, keepdim=True)
    bound = largest * 2 ** (1 / 16) / steps / 2  # the scale is rounded up to a sixteenth of an octave
    assert bool(((got - values).abs() <= bound * 1.0001).all())


def test_fp8_keeps_relative_size() -> None:
    x = torch.randn(2, 100, 8)
    keys, values = through("fp8", made(x, x))
    assert float((keys - x).norm() / x.norm()) < 0.04 and float((values - x).norm() / x.norm()) < 0.04


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize("x", [torch.zeros(2, 5, 4), torch.full((2, 5, 4), 3.0), torch.zeros(2, 5, 4).index_fill(1, torch.tensor([2]), 7.0)], ids=["zero", "constant", "one token"])
def test_flat_channels_and_empty_tokens(codec: str, x: torch.Tensor) -> None:
    keys, values = through(codec, made(x, x))
    assert torch.allclose(keys, x, rtol=0.02, atol=0.25 if codec == "int4" else 0.05) and torch.allclose(values, x, rtol=0.05)


@pytest.mark.parametrize("codec", LOSSY)
def test_keys_beyond_half_precision_are_refused(codec: str) -> None:
    with pytest.raises(StoreError, match=r"keys reach 1e\+06.*use codec 'exact'"):
        CODECS[codec].pack(made(torch.tensor([[[1e6, 0.0], [9e5, 1.0]]]), torch.zeros(1, 2, 2)))


@pytest.mark.parametrize("codec", LOSSY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_cold_and_warm_give_the_same_numbers(codec: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """What reads a lossy block reads it as it was stored, on the first call too: cold = memory = disk = another process's view of the disk."""
    model = (tiny_model(dtype=dtype), byte_tokenizer())
    graph, question = random_graph({"a": 63, "b": 9, "c": 1, "d": 30}, [("a", "b"), ("a", "c"), ("b", "d")]), random_ids(5)
    stores = [MemoryStore(codec=codec), FileStore(tmp_path / "kv", codec=codec)]
    results = []
    for store in (stores[0], stores[0], stores[1], stores[1], FileStore(tmp_path / "kv", codec=codec)):
        results.append(GraphKV.from_pretrained(model, store=store).logits(graph, question, layout="graph", rounds=2))
    assert all(torch.equal(result, results[0]) for result in results)
    exact = GraphKV.from_pretrained(model, store="memory").logits(graph, question, layout="graph", rounds=2)
    true = GraphKV.from_pretrained((tiny_model(dtype=torch.float64), byte_tokenizer()), store="memory").logits(graph, question, layout="graph", rounds=2)
    own = float((exact - true).norm() / true.norm())  # what the model's dtype loses by itself
    assert 0 < float((results[0] - true).norm() / true.norm()) < own + {"int8": 0.03, "fp8": 0.12, "int4": 0.4}[codec]


def test_codecs_never_hit_one_another(tmp_path: Path) -> None:
    model, graph = (tiny_model(), byte_tokenizer()), random_graph({"a": 5, "b": 7}, [("a", "b")])
    for codec in CODECS:
        assert GraphKV.from_pretrained(model, store=FileStore(tmp_path / "kv", codec=codec)).encode(graph, prefix=()).tokens_reused == 0
    for codec in CODECS:
        assert GraphKV.from_pretrained(model, store=FileStore(tmp_path / "kv", codec=codec)).encode(graph, prefix=()).tokens_computed == 0
    assert sorted(entry.codec for entry in FileStore(tmp_path / "kv").entries()) == sorted([*CODECS] * 2)
