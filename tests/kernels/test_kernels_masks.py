"""Block masks built from the edges are those that torch builds from every pair, at a fraction of the memory."""

import random
import time
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_block_mask

from graphkv_kernels import BlockPattern, ShapeError, block_mask, dense_mask
from graphkv_kernels.masks import token_mask


def lists(count, index):
    return [sorted(index[0, 0, row, :n].tolist()) for row, n in enumerate(count[0, 0].tolist())]


def assert_same(got, expected):
    assert got.seq_lengths == expected.seq_lengths
    assert got.BLOCK_SIZE == expected.BLOCK_SIZE
    assert lists(got.kv_num_blocks, got.kv_indices) == lists(expected.kv_num_blocks, expected.kv_indices)
    assert lists(got.full_kv_num_blocks, got.full_kv_indices) == lists(expected.full_kv_num_blocks, expected.full_kv_indices)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), size=st.sampled_from([8, 16]))
def test_block_mask_is_that_of_torch(data, size):
    lengths = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=7))
    reads = tuple(tuple(sorted(data.draw(st.sets(st.integers(0, block - 1))))) if block else () for block in range(len(lengths)))
    pattern = BlockPattern(tuple(lengths), reads)
    queries = pattern.tokens - pattern.starts[data.draw(st.integers(0, len(lengths) - 1))]
    pairs = dense_mask(pattern, queries)
    shape = (1, 1, queries, pattern.tokens)
    got = block_mask(pattern, size, queries)
    assert_same(got, create_block_mask(lambda b, h, q, k: pairs[q, k], *shape, device="cpu", BLOCK_SIZE=size))
    # Its own mask function says the same, token by token.
    assert_same(got, create_block_mask(got.mask_mod, *shape, device="cpu", BLOCK_SIZE=size))


def test_padding_reads_nothing_and_is_not_read():
    pattern = BlockPattern((5, 6), ((), (0,)))
    mask_mod = token_mask(pattern, tokens=(16, 24), blocks=8)
    q, k = torch.arange(16)[:, None], torch.arange(24)[None, :]
    table = mask_mod(None, None, q, k)
    assert torch.equal(table[:11, :11], dense_mask(pattern))
    assert not table[11:].any()
    assert not table[:, 11:].any()


def test_query_length_that_is_no_trailing_block():
    with pytest.raises(ShapeError, match="expected as many query tokens"):
        block_mask(BlockPattern((5, 6), ((), ())), 8, 7)


def large(shape):
    draw = random.Random(0)
    if shape == "nearest":
        reads = ((),) * 200 + tuple(tuple(sorted(draw.sample(range(200), 4))) for _ in range(200))
    elif shape == "star":
        reads = ((),) * 399 + (tuple(range(399)),)
    else:
        reads = tuple(tuple(range(block)) for block in range(400))
    return BlockPattern((250,) * 400, reads)


@pytest.mark.parametrize("shape", ["nearest", "star", "chain"])
def test_a_hundred_thousand_tokens_stay_cheap(shape):
    # 36 ms and 5 MiB were measured; a mask of every pair would be 10 GB. The bounds leave room for a busy machine.
    pattern = large(shape)
    block_mask(pattern)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        tracemalloc.start()
        try:
            started = time.perf_counter()
            mask = block_mask(pattern)
            seconds = time.perf_counter() - started
            python_peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    # All that torch ever allocated on the way, freed or not: more than its peak.
    torch_total = sum(max(0, event.self_cpu_memory_usage) for event in profile.events())
    assert mask.seq_lengths == (100_000, 100_000)
    assert python_peak + torch_total < 100e6
    assert seconds < 2
