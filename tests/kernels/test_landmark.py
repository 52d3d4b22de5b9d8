"""Landmark attention at once against the paper's definition written out in float64: values, gradients, and what may not be put in."""

import pytest
import torch

from graphkv_kernels import LandmarkGroups, PatternError, ShapeError, grouped_softmax_reference, landmark_dense_attention


def context(tokens, block, closed=True):
    """Flags of so many tokens, landmarks among them; the last block is closed if asked for."""
    flags = [(i + 1) % block == 0 for i in range(tokens)]
    flags[-1] = flags[-1] or (closed and tokens > 1 and not flags[-2])
    return flags


CASES = {
    "one token": LandmarkGroups.over([False]),
    "one open block": LandmarkGroups.over([False] * 5),
    "one closed block": LandmarkGroups.over([False, False, True]),
    "questions only behind one block": LandmarkGroups.over([False, True], [1, 3]),
    "63 tokens": LandmarkGroups.over(context(63, 8)),
    "128 tokens": LandmarkGroups.over(context(128, 32)),
    "odd last block": LandmarkGroups.over(context(45, 8), [5, 9, 1]),
    "an open last block": LandmarkGroups.over(context(29, 8, closed=False)),
    "blocks of many lengths": LandmarkGroups.over([False, True, False, False, False, True, False, False, True], [2, 2]),
}


def draw(groups, *, rows=None, batch=2, heads=4, kv_heads=2, dim=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = ((heads, rows or groups.tokens), (kv_heads, groups.tokens), (kv_heads, groups.tokens))
    return [(2 * torch.randn(batch, h, t, dim, generator=generator, dtype=torch.float64)).to(dtype) for h, t in shapes]


def weights(query, key, groups, scale=None, softcap=None):
    """The reference's weights ``[B, H, T, S]``."""
    rows, tokens = query.shape[2], groups.tokens
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    block = torch.tensor(groups.block)
    return grouped_softmax_reference(scores, block[tokens - rows :], block, torch.tensor(groups.landmark), groups.allowed(rows))


def reference(query, key, value, groups, **options):
    return weights(query, key, groups, **options) @ value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)


@pytest.mark.parametrize("options", [{}, {"scale": 0.2}, {"softcap": 2.0}], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_definition(name, options):
    groups = CASES[name]
    for rows in sorted({1, (groups.tokens + 1) // 2, groups.tokens}):
        inputs = [x.requires_grad_() for x in draw(groups, rows=rows)]
        got, expected = landmark_dense_attention(*inputs, groups, **options), reference(*inputs, groups, **options)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)
        upstream = torch.randn(got.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        for ours, theirs in zip(torch.autograd.grad(got, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("heads", [(4, 4), (4, 1), (6, 3)])
def test_grouped_heads(heads):
    groups = CASES["odd last block"]
    query, key, value = draw(groups, heads=heads[0], kv_heads=heads[1])
    torch.testing.assert_close(landmark_dense_attention(query, key, value, groups), reference(query, key, value, groups), rtol=0, atol=1e-13)


def test_the_definition_by_hand():
    """Two blocks of a token and its landmark, a question of two; scores 0 everywhere. The question's second token shares its attention among
    two landmarks, the first token and itself: a quarter each, and a landmark's quarter goes to its block."""
    groups = LandmarkGroups.over([False, True, False, True], [2])
    got = weights(torch.zeros(1, 1, 6, 4), torch.randn(1, 1, 6, 4), groups)[0, 0]
    expected = [
        [1, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [1 / 2, 0, 1 / 2, 0, 0, 0],
        [1 / 2, 0, 1 / 2, 0, 0, 0],
        [1 / 3, 0, 1 / 3, 0, 1 / 3, 0],
        [1 / 4, 0, 1 / 4, 0, 1 / 4, 1 / 4],
    ]
    torch.testing.assert_close(got, torch.tensor(expected))


def test_what_may_be_read_as_literal_rows():
    """A context of a token and its landmark, and two questions of which neither sees the other."""
    groups = LandmarkGroups.over([False, True], [2, 1])
    assert ["".join(str(int(entry)) for entry in row) for row in groups.allowed()] == ["10000", "11000", "11100", "11110", "11001"]
    assert torch.equal(groups.allowed(2), groups.allowed()[-2:])


@pytest.mark.parametrize("name", CASES)
def test_rows_sum_to_one_and_landmarks_and_other_questions_get_nothing(name):
    groups = CASES[name]
    query, key, _ = draw(groups)
    got = weights(query, key, groups)
    torch.testing.assert_close(got.sum(-1), torch.ones_like(got[..., 0]), rtol=0, atol=1e-14)
    assert not got[..., torch.tensor(groups.landmark)].any()
    branch = torch.tensor(groups.branch or [0] * groups.tokens)
    apart = (branch[:, None] != branch[None]) & (branch[None] > 0)
    assert not got[..., apart].any() and not got[..., ~groups.allowed()].any()
    # The same of the fast path: with the identity for values its output is the weights.
    identity = torch.eye(groups.tokens, dtype=torch.float64).expand(2, 2, -1, -1)
    wide = torch.cat((query, query.new_zeros(*query.shape[:3], groups.tokens - 8)), -1) if groups.tokens > 8 else None
    if wide is not None:
        padded = torch.cat((key, key.new_zeros(*key.shape[:3], groups.tokens - 8)), -1)
        torch.testing.assert_close(landmark_dense_attention(wide, padded, identity, groups, scale=8**-0.5), got, rtol=0, atol=1e-13)


def test_one_block_is_plain_attention():
    query, key, value = draw(CASES["one open block"])
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(landmark_dense_attention(query, key, value, CASES["one open block"]), expected)


def test_scores_far_apart_do_not_overflow():
    groups = CASES["odd last block"]
    query, key, value = (200 * x for x in draw(groups))
    got = landmark_dense_attention(query, key, value, groups)
    assert got.isfinite().all()
    torch.testing.assert_close(got, reference(query, key, value, groups))


@pytest.mark.parametrize(("dtype", "factor"), [(torch.float32, 2), (torch.bfloat16, 1)])
def test_lower_precision_is_as_good_as_the_definition_in_it(dtype, factor):
    """1. The definition in float64 on the rounded numbers. 2. The error of the definition carried out in the dtype. 3. Ours is no larger: in float32
    both are single roundings, in another order, and may be apart by a factor; bfloat16 is computed in float32."""
    groups = CASES["odd last block"]
    rounded = draw(groups, dtype=dtype)
    exact = reference(*(x.double() for x in rounded), groups)
    bound = factor * (reference(*rounded, groups).double() - exact).abs().max()
    got = landmark_dense_attention(*rounded, groups)
    assert got.dtype == dtype and (got.double() - exact).abs().max() <= bound


def test_autocast_changes_nothing():
    groups = CASES["odd last block"]
    inputs = [x.requires_grad_() for x in draw(groups, dtype=torch.float32)]
    plain = landmark_dense_attention(*inputs, groups)
    with torch.autocast("cpu", torch.bfloat16):
        got = landmark_dense_attention(*inputs, groups)
    got.sum().backward()
    assert torch.equal(got, plain)


@pytest.mark.parametrize("blend", [0.0, 0.3])
def test_blend_goes_from_plain_attention_to_landmarks(blend):
    """At 0 plain attention over all text; between, a block's logit among the blocks is the mean of its log-sum-exp and its landmark's score, with
    gradients that agree with finite differences."""
    groups = CASES["blocks of many lengths"]
    inputs = [x.requires_grad_() for x in draw(groups, batch=1, heads=2, kv_heads=1, dim=4)]
    assert torch.autograd.gradcheck(lambda *x: landmark_dense_attention(*x, groups, blend=blend), inputs)
    if blend == 0.0:
        mask = groups.allowed() & ~torch.tensor(groups.landmark)
        expected = torch.nn.functional.scaled_dot_product_attention(*inputs, attn_mask=mask, enable_gqa=True)
        torch.testing.assert_close(landmark_dense_attention(*inputs, groups, blend=0.0), expected)


@pytest.mark.parametrize("name", ["odd last block", "an open last block", "one closed block"])
def test_divergence_is_the_mean_of_the_rows(name):
    """1. KL of the masses that plain attention gives to own and other blocks from those that the landmarks give, row by row. 2. Its mean.
    3. It is 0 where every landmark scores its block's log-sum-exp, and the attention then is the plain one."""
    groups = CASES[name]
    query, key, value = draw(groups, batch=1, heads=2, kv_heads=1)
    found = []
    landmark_dense_attention(query, key, value, groups, divergences=found)
    scores = query @ key.transpose(-1, -2) * 8**-0.5
    block, landmark, allowed = torch.tensor(groups.block), torch.tensor(groups.landmark), groups.allowed()
    rows = []
    for i in range(groups.tokens):
        own = scores[0, :, i, (block == block[i]) & ~landmark & allowed[i]].logsumexp(-1)
        far = [int(j) for j in (landmark & allowed[i] & (block != block[i])).nonzero()[:, 0]]
        plain = torch.stack([own, *(scores[0, :, i, (block == block[j]) & ~landmark].logsumexp(-1) for j in far)], -1).log_softmax(-1)
        given = torch.stack([own, *(scores[0, :, i, j] for j in far)], -1).log_softmax(-1)
        rows.append((plain.exp() * (plain - given)).sum(-1))
    torch.testing.assert_close(found[0], torch.stack(rows).mean(), rtol=0, atol=1e-14)
    if len(set(groups.block)) == 1:
        assert abs(float(found[0])) < 1e-14


def test_divergence_has_a_gradient_for_landmarks_only():
    groups = CASES["an open last block"]
    query, key, value = (x.requires_grad_() for x in draw(groups))
    found = []
    landmark_dense_attention(query, key, value, groups, divergences=found)
    (slope,) = torch.autograd.grad(found[0], key)
    landmark = torch.tensor(groups.landmark)
    assert slope.isfinite().all() and slope[:, :, landmark].abs().sum() > 0 and not slope[:, :, ~landmark].any()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (((), ()), "at least one token"),
        (((0, 0), (False,)), "each token"),
        (((1, 0), (True, False)), "blocks in order"),
        (((0, 0), (True, False)), "not the last token"),
        (((0, 1), (False, False)), "no landmark"),
        (((0, 1), (False, False), (0, 1)), "no landmark"),
        (((0, 1, 2), (False, False, False), (1, 1, 2)), "no landmark"),
        (((0,), (True,)), "no text"),
        (((0, 0, 1), (False, True, True)), "no text"),
        (((0, 0), (False, False), (0, 1)), "two branches"),
        (((0, 1), (False, False), (2, 1)), "behind"),
    ],
)
def test_groups_that_cannot_be(fields, message):
    with pytest.raises(PatternError, match=message):
        LandmarkGroups(*fields)


def test_tensors_that_do_not_fit():
    groups = CASES["one closed block"]
    query, key, value = draw(groups)
    for bad in ((query[0], key, value), (query, key, value[..., :4]), (query[:, :3], key, value), (query, key[:, :, :2], value[:, :, :2]), (query[:, :, :0], key, value)):
        with pytest.raises(ShapeError, match="expected"):
            landmark_dense_attention(*bad, groups)
