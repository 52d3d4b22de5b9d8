"""The oracle itself: its mask as literal rows, its numbers against a softmax written row by row in float64."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from graphkv_kernels import BlockPattern, ContextWeight, dense_mask, graph_attention

SMALL = BlockPattern(lengths=(1, 2, 1, 2), reads=((), (0,), (), (0, 2)))


def rows(mask):
    return ["".join(str(int(entry)) for entry in row) for row in mask]


def test_mask_as_literal_rows():
    # P A A B C C: A reads P, C reads P and B
    assert rows(dense_mask(SMALL)) == [
        "100000",
        "110000",
        "111000",
        "000100",
        "100110",
        "100111",
    ]


def test_mask_of_the_trailing_blocks_has_their_rows_only():
    assert rows(dense_mask(SMALL, query_length=3)) == ["000100", "100110", "100111"]


@pytest.mark.parametrize("query_length", [6, 3, 2])
@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"softcap": 2.0}])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
def test_dense_equals_a_softmax_written_row_by_row(tensors, check, query_length, options, heads):
    q, k, v = tensors(SMALL, query_length=query_length, batch=2, heads=heads[0], kv_heads=heads[1], dtype=torch.float64)
    check(graph_attention(q, k, v, SMALL, impl="dense", **options), q, k, v, SMALL, **options)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_dense_weighs_contexts_as_ape_does(tensors, check, softcap):
    weighted = BlockPattern(SMALL.lengths, SMALL.reads, (None, ContextWeight((0,), 0.5, 1.3), None, ContextWeight((2,), 0.9, 0.8)))
    q, k, v = tensors(weighted, dtype=torch.float64)
    check(graph_attention(q, k, v, weighted, impl="dense", softcap=softcap), q, k, v, weighted, softcap=softcap)
    plain = graph_attention(q, k, v, SMALL, impl="dense", softcap=softcap)
    assert not torch.allclose(graph_attention(q, k, v, weighted, impl="dense", softcap=softcap), plain)


def test_temperature_and_scale_of_one_change_nothing(tensors):
    neutral = BlockPattern(SMALL.lengths, SMALL.reads, (None, ContextWeight((0,)), None, ContextWeight((0, 2))))
    q, k, v = tensors(SMALL, dtype=torch.float64)
    for impl in ("dense", "gather"):
        torch.testing.assert_close(graph_attention(q, k, v, neutral, impl=impl), graph_attention(q, k, v, SMALL, impl="dense"))


@pytest.mark.parametrize("impl", ["dense", "gather"])
def test_a_chain_is_plain_causal_attention(tensors, impl):
    chain = BlockPattern((300, 1, 40, 259), ((), (0,), (0, 1), (0, 1, 2)))
    q, k, v = tensors(chain, kv_heads=4)
    torch.testing.assert_close(
        graph_attention(q, k, v, chain, impl=impl), scaled_dot_product_attention(q, k, v, is_causal=True), rtol=0, atol=1e-5
    )
