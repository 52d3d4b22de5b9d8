"""Every kernel that runs here against the reference, on lengths around the tile sizes and on random patterns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv_kernels import BlockPattern, ContextWeight, graph_attention
from graphkv_kernels.gather import _CHUNK, _KEYS
from graphkv_kernels.tiles import GROUP, TILE

PATTERNS = {
    "one token": BlockPattern((1,), ((),)),
    "one block": BlockPattern((63,), ((),)),
    "uneven lengths": BlockPattern((1, 63, 128, 1000, 1), ((), (0,), (0,), (1, 2), (0, 3))),
    "nobody reads": BlockPattern((63, 63, 63, 128, 128), ((),) * 5),
    "star": BlockPattern((64,) * 9, ((),) * 8 + (tuple(range(8)),)),
    "shared sources": BlockPattern((20, 30, 40, 40, 40, 41), ((), (), (0, 1), (0, 1), (0, 1), (0, 1))),
    "two rounds": BlockPattern((50,) * 8, ((),) * 4 + ((1, 3), (0, 2), (0, 1, 2), (1,))),
    "chains apart": BlockPattern((10, 20, 30, 40, 50), ((), (0,), (), (2,), (0, 1, 2, 3))),
    "around a tile": BlockPattern((TILE - 1, TILE, TILE + 1, 2 * TILE + _CHUNK), ((), (0,), (1,), (0, 2))),
    "full group": BlockPattern((5,) + (GROUP // 4,) * 6, ((),) + ((0,),) * 6),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in PATTERNS for dtype in (torch.float32, torch.bfloat16)]
    + [(name, dtype) for name in ("two rounds", "shared sources") for dtype in (torch.float16, torch.float64)],
)
def test_patterns(tensors, check, name, dtype):
    q, k, v = tensors(PATTERNS[name], dtype=dtype)
    check([graph_attention(q, k, v, PATTERNS[name], impl=impl) for impl in ("dense", "gather")], q, k, v, PATTERNS[name])


@pytest.mark.parametrize("options", [{"scale": 0.4}, {"softcap": 3.0}, {"scale": 0.2, "softcap": 1.5}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("impl", ["dense", "gather"])
def test_scale_and_softcap(tensors, check, impl, dtype, options):
    pattern = PATTERNS["two rounds"]
    q, k, v = tensors(pattern, batch=2, dtype=dtype)
    check(graph_attention(q, k, v, pattern, impl=impl, **options), q, k, v, pattern, **options)


@pytest.mark.parametrize("heads", [(2, 2), (6, 2), (7, 1), (14, 2)], ids=str)
@pytest.mark.parametrize("name", ["uneven lengths", "shared sources"])
def test_grouped_heads(tensors, check, name, heads):
    q, k, v = tensors(PATTERNS[name], heads=heads[0], kv_heads=heads[1])
    check(graph_attention(q, k, v, PATTERNS[name], impl="gather"), q, k, v, PATTERNS[name])


def test_a_question_reads_more_keys_than_are_gathered_at_once(tensors):
    pattern = BlockPattern((_KEYS - 3, 2000, 1, 5000, 7), ((), (), (), (), (0, 1, 3)))
    q, k, v = tensors(pattern, query_length=7)
    expected = graph_attention(q.double(), k.double(), v.double(), pattern, impl="dense")
    torch.testing.assert_close(graph_attention(q, k, v, pattern, impl="gather").double(), expected, rtol=0, atol=1e-6)


def random_pattern(draw, max_length):
    lengths = draw(st.lists(st.integers(1, max_length), min_size=1, max_size=6))
    reads = [sorted(draw(st.sets(st.integers(0, block - 1)))) if block else [] for block in range(len(lengths))]
    return tuple(lengths), tuple(map(tuple, reads))


@st.composite
def patterns(draw, max_length=20):
    return BlockPattern(*random_pattern(draw, max_length))


@st.composite
def weighted_patterns(draw):
    lengths, reads = random_pattern(draw, 12)
    factor = st.floats(0.25, 1.75)
    context = [
        ContextWeight(tuple(sorted(draw(st.sets(st.sampled_from(sources), min_size=1)))), draw(factor), draw(factor))
        if sources and draw(st.booleans())
        else None
        for sources in reads
    ]
    return BlockPattern(lengths, reads, tuple(context))


@settings(max_examples=30, deadline=None)
@given(pattern=patterns(), data=st.data(), dtype=st.sampled_from([torch.float32, torch.bfloat16]), heads=st.sampled_from([(2, 2), (6, 2)]))
def test_random_patterns(tensors, check, pattern, data, dtype, heads):
    first = data.draw(st.integers(0, len(pattern.lengths) - 1))
    q, k, v = tensors(pattern, query_length=pattern.tokens - pattern.starts[first], heads=heads[0], kv_heads=heads[1], dtype=dtype)
    check([graph_attention(q, k, v, pattern, impl=impl) for impl in ("dense", "gather")], q, k, v, pattern)


@settings(max_examples=30, deadline=None)
@given(pattern=weighted_patterns(), softcap=st.sampled_from([None, 2.0]))
def test_random_context_weights(tensors, check, pattern, softcap):
    q, k, v = tensors(pattern)
    check(
        [graph_attention(q, k, v, pattern, impl=impl, softcap=softcap) for impl in ("dense", "gather")], q, k, v, pattern, softcap=softcap
    )


def gradients(impl, pattern, inputs, **options):
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = graph_attention(*leaves, pattern, impl=impl, **options)
    out.backward(torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out))
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("name", ["uneven lengths", "two rounds", "chains apart", "weighted"])
def test_gradients_of_gather_are_those_of_dense(tensors, name, softcap, dtype):
    small = PATTERNS["two rounds"]
    context = (None,) * 5 + (ContextWeight((0, 2), 0.7, 1.2), ContextWeight((1,), 1.4, 0.6), None)
    weighted = BlockPattern(small.lengths, small.reads, context)
    pattern = weighted if name == "weighted" else PATTERNS[name]
    query_length = pattern.tokens - pattern.starts[1]
    inputs = tensors(pattern, query_length=query_length, dtype=dtype)
    for got, expected in zip(
        gradients("gather", pattern, inputs, softcap=softcap), gradients("dense", pattern, inputs, softcap=softcap), strict=True
    ):
        bound = 1e-12 if dtype == torch.float64 else 1e-5
        assert (got - expected).abs().max() <= bound * expected.abs().max()


def test_only_a_key_that_needs_a_gradient_gets_the_right_one(tensors):
    # With the query frozen, as when a soft prompt is trained, the fused call must still not be taken.
    pattern = PATTERNS["two rounds"]
    q, k, v = tensors(pattern, dtype=torch.float64)
    grads = []
    for impl in ("gather", "dense"):
        leaf = k.clone().requires_grad_()
        graph_attention(q, leaf, v, pattern, impl=impl).square().sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads)
