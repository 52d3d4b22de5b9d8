"""Attention over a shared context against the same thing written out in float64: every row with a copy of the context in front of its own keys."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from graphkv_kernels import ShapeError, SharedPart, shared_attention, shared_weights

APE = (SharedPart(0, 5), SharedPart(5, 63, 0.7, 0.8))
"""A prefix as it is, and a context that is weighed."""
SHAPES = [(1, 1), (3, 1), (1, 17), (4, 9)]
"""Rows and new tokens of each."""


def draw(rows, tokens, shared, *, heads=4, kv_heads=2, dim=16, dtype=torch.float32, before=7, seed=0):
    """Random tensors; every row has had `before` own tokens less its number, the rest is padding in front."""
    generator = torch.Generator().manual_seed(seed)

    def some(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    own = before + tokens
    query = some(rows, tokens, heads, dim).transpose(1, 2)  # laid out as a model's projections are
    key, value = some(rows, own, kv_heads, dim).transpose(1, 2), some(rows, own, kv_heads, dim).transpose(1, 2)
    place = torch.arange(own)
    mask = torch.stack([(place[None] <= before + torch.arange(tokens)[:, None]) & (place >= min(row, before))[None] for row in range(rows)])
    return query, key, value, some(kv_heads, shared, dim), some(kv_heads, shared, dim), mask


def written_out(query, key, value, shared_key, shared_value, mask, *, parts=None, scale=None, softcap=None):
    """Output and weights, row by row and head by head, in the tensors' dtype."""
    rows, heads, tokens, dim = query.shape
    shared, group = shared_key.shape[1], heads // key.shape[1]
    out, weights = torch.zeros_like(query), query.new_zeros(rows, heads, tokens, shared + key.shape[2])
    for row in range(rows):
        for head in range(heads):
            keys = torch.cat((shared_key[head // group], key[row, head // group]))
            logit = (query[row, head][:, None] * keys[None]).sum(-1) * (dim**-0.5 if scale is None else scale)
            if softcap is not None:
                logit = softcap * torch.tanh(logit / softcap)
            for part in parts or ():
                cooled = logit[:, part.start : part.stop] / part.temperature
                top = cooled.amax(-1, keepdim=True)
                mass = (cooled - top).exp().sum(-1, keepdim=True).log() + top
                logit[:, part.start : part.stop] = cooled - mass + part.scale * mass
            logit[:, shared:].masked_fill_(~mask[row], -torch.inf)
            power = (logit - logit.amax(-1, keepdim=True)).exp()
            weights[row, head] = power / power.sum(-1, keepdim=True)
            out[row, head] = (weights[row, head][..., None] * torch.cat((shared_value[head // group], value[row, head // group]))).sum(-2)
    return out, weights


def relative(got, expected):
    return float((got.double() - expected).norm() / expected.norm())


def check(tensors, **options):
    """float64 and float32 to rounding; bfloat16 may be as wrong as the same written out in bfloat16, times 1.5: two roundings of one thing scatter."""
    *floats, mask = tensors
    exact = written_out(*(x.double() for x in floats), mask, **options)[0]
    got = shared_attention(*floats, mask, **options)
    assert got.shape == floats[0].shape and got.dtype == floats[0].dtype
    dtype = floats[0].dtype
    bound = {torch.float64: 1e-13, torch.float32: 1e-5}.get(dtype) or 1.5 * relative(written_out(*floats, mask, **options)[0], exact)
    assert relative(got, exact) <= bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shared", [0, 1, 63, 128, 1000])
@pytest.mark.parametrize("rows,tokens", SHAPES)
def test_equals_a_copy_of_the_context_in_front_of_every_row(rows, tokens, shared, dtype):
    check(draw(rows, tokens, shared, dtype=dtype))


@pytest.mark.parametrize("heads,kv_heads", [(4, 4), (6, 2), (5, 1), (1, 1)])
@pytest.mark.parametrize("options", [{}, {"scale": 0.9}, {"softcap": 2.0}, {"parts": APE}, {"parts": APE, "softcap": 2.0, "scale": 0.4}], ids=str)
def test_grouped_heads_and_what_models_do_to_logits(heads, kv_heads, options):
    for dtype in (torch.float64, torch.bfloat16):
        for rows, tokens in SHAPES:
            check(draw(rows, tokens, 63, heads=heads, kv_heads=kv_heads, dtype=dtype), **options)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_the_context_is_weighed_only_where_it_is_said(softcap):
    """A part with temperature and scale of 1 is no part at all, however the context is cut; one with others is."""
    tensors = draw(2, 3, 63, dtype=torch.float64)
    plain = shared_attention(*tensors, softcap=softcap)
    for cuts in ((0, 63), (0, 0, 63), (0, 1, 62, 63)):
        parts = [SharedPart(a, b) for a, b in pairwise(cuts)]
        torch.testing.assert_close(shared_attention(*tensors, parts=parts, softcap=softcap), plain)
    assert relative(shared_attention(*tensors, parts=APE, softcap=softcap), plain) > 1e-2


@pytest.mark.parametrize("weights", [1, 500, 2**24])
def test_the_explicit_softmax_may_be_cut_anywhere(monkeypatch, weights):
    monkeypatch.setattr("graphkv_kernels.shared._WEIGHTS", weights)
    check(draw(3, 9, 63, dtype=torch.float64), softcap=3.0, parts=APE)


def test_logits_beyond_what_an_exponential_can_hold():
    check(draw(2, 3, 63), scale=100.0)
    check(draw(2, 3, 63, dtype=torch.float64), scale=1e4)


def test_rows_do_not_see_each_other():
    """A row alone gives what it gives among others."""
    query, key, value, shared_key, shared_value, mask = draw(4, 3, 128)
    together = shared_attention(query, key, value, shared_key, shared_value, mask)
    for row in range(4):
        one = slice(row, row + 1)
        torch.testing.assert_close(shared_attention(query[one], key[one], value[one], shared_key, shared_value, mask[one]), together[one], rtol=0, atol=1e-6)


def test_padding_is_never_read():
    query, key, value, shared_key, shared_value, mask = draw(4, 1, 20)
    expected = shared_attention(query, key, value, shared_key, shared_value, mask)
    padding = ~mask.any(1)
    for x in (key, value):
        x.transpose(1, 2)[padding] = 1e4
    assert padding.sum() == 0 + 1 + 2 + 3
    assert torch.equal(shared_attention(query, key, value, shared_key, shared_value, mask), expected)


def test_there_is_no_gradient():
    """The log-sum-exp of the fused call carries none: half a gradient would be worse."""
    query, *rest = draw(1, 2, 9)
    assert not shared_attention(query.requires_grad_(), *rest).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("options", [{}, {"scale": 0.9}, {"softcap": 2.0}], ids=str)
@pytest.mark.parametrize("shared", [1, 63, 1000])
def test_weights_are_those_of_the_last_token(shared, options, dtype):
    """1. the softmax written out in float64, over the context and the row's own keys; 2. what is returned, its shared part."""
    for rows, tokens in SHAPES:
        query, key, value, shared_key, shared_value, mask = draw(rows, tokens, shared, dtype=dtype)
        expected = written_out(*(x.double() for x in (query, key, value, shared_key, shared_value)), mask, **options)[1][:, :, -1, :shared]
        got = shared_weights(query, key, shared_key, mask, **options)
        assert got.dtype == torch.float32 and got.shape == (rows, 4, shared)
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-6)


def test_weights_of_some_heads():
    query, key, _, shared_key, _, mask = draw(3, 2, 40)
    chosen = torch.tensor([3, 0])
    some = shared_weights(query[:, chosen], key[:, chosen // 2], shared_key[chosen // 2], mask)
    torch.testing.assert_close(some, shared_weights(query, key, shared_key, mask)[:, chosen])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v, sk, sv, m: (q[0], k, v, sk, sv, m), r"query \[B, H, T, D\]"),
        (lambda q, k, v, sk, sv, m: (q, k[:1], v, sk, sv, m), r"own keys and values of \[2, 2, 10, 16\] .*, got \[1, 2, 10, 16\] and \[2, 2, 10, 16\]"),
        (lambda q, k, v, sk, sv, m: (q, k, v[:, :, 1:], sk, sv, m), r"got \[2, 2, 10, 16\] and \[2, 2, 9, 16\]"),
        (lambda q, k, v, sk, sv, m: (q[..., :8], k, v, sk, sv, m), r"own keys and values of \[2, 2, 10, 8\] for this query"),
        (lambda q, k, v, sk, sv, m: (q[:, :3], k, v, sk, sv, m), "for 3 query heads"),
        (lambda q, k, v, sk, sv, m: (q, k, v, sk[:, 1:], sv, m), r"got \[2, 19, 16\] and \[2, 20, 16\]"),
        (lambda q, k, v, sk, sv, m: (q, k, v, sk[:1], sv[:1], m), r"expected shared keys and values of \[2, N, 16\], got \[1, 20, 16\]"),
        (lambda q, k, v, sk, sv, m: (q, k, v, sk[..., :8], sv[..., :8], m), r"expected shared keys and values of \[2, N, 16\]"),
        (lambda q, k, v, sk, sv, m: (q, k, v, sk[0], sv[0], m), r"expected shared keys and values of \[2, N, 16\], got \[20, 16\]"),
        (lambda q, k, v, sk, sv, m: (q, k, v, sk, sv, m[:, :1]), r"boolean mask of \[2, 3, 10\] .*, got torch.bool of \[2, 1, 10\]"),
        (lambda q, k, v, sk, sv, m: (q, k, v, sk, sv, m[:, :, 1:]), r"boolean mask of \[2, 3, 10\]"),
        (lambda q, k, v, sk, sv, m: (q, k, v, sk, sv, m.float()), r"boolean mask of \[2, 3, 10\] .*, got torch.float32"),
        (lambda q, k, v, sk, sv, m: (q, k, v, sk, sv, m & (torch.arange(3) != 1)[:, None]), "must see at least one of its row's own keys"),
    ],
)
def test_shapes_that_do_not_fit(change, message):
    with pytest.raises(ShapeError, match=message):
        shared_attention(*change(*draw(2, 3, 20)))


@pytest.mark.parametrize(
    "parts",
    [
        (SharedPart(0, 19),),
        (SharedPart(0, 21),),
        (SharedPart(0, 10), SharedPart(11, 20)),
        (SharedPart(0, 12), SharedPart(10, 20)),
        (SharedPart(10, 20), SharedPart(0, 10)),
        (SharedPart(0, 25), SharedPart(25, 20)),
        (),
    ],
)
def test_parts_that_leave_out_keys_or_read_them_twice(parts):
    with pytest.raises(ShapeError, match="parts must cover the 20 shared keys once, in order"):
        shared_attention(*draw(2, 3, 20), parts=parts)
