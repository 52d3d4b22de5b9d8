"""Landmark attention read in pieces against the same read at once, and against the paper's definition row by row."""

import pytest
import torch

from graphkv_kernels import (
    LandmarkGroups,
    ShapeError,
    causal_attention,
    chunk_attention,
    gather_blocks,
    grouped_softmax_reference,
    landmark_dense_attention,
    merge_blocks,
    top_landmarks,
)

HEADS = [(4, 2), (2, 2), (6, 1), (14, 2)]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def flags(tokens, block):
    """Landmarks of a text of so many tokens, landmarks included; the last block is closed."""
    return [i % block == block - 1 or i == tokens - 1 for i in range(tokens)]


def as_blocks(x, block):
    """[1, K, T, D] as [K, N, W, D], zeros behind a short block."""
    x = torch.nn.functional.pad(x[0], (0, 0, 0, -x.shape[2] % block))
    return x.view(x.shape[0], -1, block, x.shape[-1])


def memory_of(key, value, block):
    """`fetch` over keys and values [1, K, T, D]."""
    tokens, keys, values = key.shape[2], as_blocks(key, block), as_blocks(value, block)

    def fetch(head, number):
        assert (head * 10**6 + number).diff().gt(0).all()
        return keys[head, number], values[head, number], torch.where(number == keys.shape[1] - 1, tokens - (keys.shape[1] - 1) * block, block)

    return fetch


def read(query, key, value, memory, block, chosen, question, **options):
    """The last rows over `memory` tokens: own part, gathered part, merged."""
    own_key, own_value = key[:, :, memory:], value[:, :, memory:]
    out, mass = causal_attention(query, own_key, own_value, **options) if question else chunk_attention(query, own_key, own_value, block, **options)
    if not memory:
        return out
    fetch = memory_of(key[:, :, :memory], value[:, :, :memory], block)
    blocks, landmark = gather_blocks(query[None], torch.zeros_like(chosen), chosen, key.shape[1], fetch, **options)
    return merge_blocks(out, mass, blocks, landmark)[0]


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize(("memory", "tokens", "block"), [(0, 63, 8), (64, 63, 8), (64, 128, 32), (30, 2, 5), (1024, 31, 32), (99, 98, 3), (4, 2, 2), (128, 2, 64)])
@pytest.mark.parametrize("options", [{}, {"scale": 0.4, "softcap": 1.5}], ids=["plain", "capped"])
def test_a_chunk_behind_all_blocks_is_the_whole_text_at_once(heads, memory, tokens, block, options):
    """1. The dense kernel over memory and chunk. 2. The chunk by itself and every block gathered for every token."""
    key, value = draw(1, heads[1], memory + tokens, 16, seed=1), draw(1, heads[1], memory + tokens, 16, seed=2)
    query = draw(1, heads[0], tokens, 16, seed=3)
    expected = landmark_dense_attention(query, key, value, LandmarkGroups.over(flags(memory + tokens, block)), **options)
    chosen = torch.arange(memory // block).expand(1, heads[0], tokens, -1)
    torch.testing.assert_close(read(query, key, value, memory, block, chosen, False, **options), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize(("memory", "tokens"), [(63, 7), (2, 1), (128, 1), (1000, 63)])
def test_a_question_behind_all_blocks_is_the_whole_text_at_once(heads, memory, tokens):
    key, value, query = draw(1, heads[1], memory + tokens, 16, seed=1), draw(1, heads[1], memory + tokens, 16, seed=2), draw(1, heads[0], tokens, 16, seed=3)
    expected = landmark_dense_attention(query, key, value, LandmarkGroups.over(flags(memory, 8), questions=[tokens]))
    chosen = torch.arange(-(-memory // 8)).expand(1, heads[0], tokens, -1)
    torch.testing.assert_close(read(query, key, value, memory, 8, chosen, True), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("block", [2, 7, 16])
def test_chosen_blocks_are_the_definition_without_the_others(block):
    """Each row of each head may read its own two blocks only: the paper's definition with all the others not allowed."""
    memory, tokens, many = block * 9, block * 3 - 1 if block > 2 else 6, 9
    key, value, query = draw(1, 2, memory + tokens, 8, seed=1), draw(1, 2, memory + tokens, 8, seed=2), draw(1, 4, tokens, 8, seed=3)
    chosen = torch.rand(1, 4, tokens, many, generator=torch.Generator().manual_seed(4)).topk(2).indices
    got = read(query, key, value, memory, block, chosen, False)
    number = torch.arange(memory + tokens) // block
    landmark = torch.tensor(flags(memory + tokens, block))
    for head in range(4):
        allowed = torch.ones(memory + tokens, memory + tokens, dtype=torch.bool).tril()[memory:]
        for row in range(tokens):
            allowed[row, :memory] = torch.isin(number[:memory], chosen[0, head, row])
        scores = query[0, head] @ key[0, head // 2].T * 8**-0.5
        weights = grouped_softmax_reference(scores, number[memory:], number, landmark, allowed)
        torch.testing.assert_close(got[0, head], weights @ value[0, head // 2], rtol=0, atol=1e-13)


@pytest.mark.parametrize(("rows", "many", "chosen"), [(1, 5000, 4), (40, 3000, 7), (500, 90, 4), (300, 3, 3)])
def test_any_number_of_blocks_and_of_queries_a_block(rows, many, chosen):
    """Tiles of every size, half full ones, one query a block, one block for all: against each query by itself."""
    generator = torch.Generator().manual_seed(0)
    key, value = draw(1, 2, many * 4, 8, seed=1), draw(1, 2, many * 4, 8, seed=2)
    queries, place = draw(3, 2, 4, rows, 8, seed=3), torch.randint(0, 3, (2, 4, rows, chosen), generator=generator)
    block = torch.rand(2, 4, rows, many, generator=generator).pow(3).topk(chosen).indices
    block = torch.where(torch.rand(block.shape, generator=generator) < 0.5, block % 3, block)
    out, landmark = gather_blocks(queries, place, block, 2, memory_of(key, value, 4))
    head = torch.arange(4)[None, :, None, None] // 2
    seen = queries.permute(1, 2, 3, 0, 4).gather(3, place[..., None].expand(*place.shape, 8))
    scores = (as_blocks(key, 4)[head, block] @ seen[..., None])[..., 0] * 8**-0.5
    torch.testing.assert_close(landmark, scores[..., 3], rtol=0, atol=1e-13)
    torch.testing.assert_close(out, (scores[..., None, :3].softmax(-1) @ as_blocks(value, 4)[head, block][..., :3, :])[..., 0, :], rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_narrow_numbers(dtype):
    """No further from float64 than the dense kernel is with the same inputs; the result of narrow inputs is float32."""
    key, value, query = (draw(1, heads, tokens, 16, seed=seed, dtype=dtype) for heads, tokens, seed in ((2, 160, 1), (2, 160, 2), (4, 32, 3)))
    groups = LandmarkGroups.over(flags(160, 16))
    exact = landmark_dense_attention(query.double(), key.double(), value.double(), groups)
    bound = (landmark_dense_attention(query, key, value, groups).double() - exact).abs().max()
    got = read(query, key, value, 128, 16, torch.arange(8).expand(1, 4, 32, 8), False)
    assert got.dtype == torch.float32
    assert (got.double() - exact).abs().max() <= 2 * bound


def test_weights_of_blocks_leave_the_rest_to_the_own_part():
    key, value, query = draw(1, 1, 40, 8, seed=1), torch.ones(1, 1, 40, 8, dtype=torch.float64), draw(1, 2, 8, 8, seed=3)
    out, mass = chunk_attention(query, key[:, :, 32:], value[:, :, 32:], 8)
    blocks, landmark = gather_blocks(query[None], torch.zeros(1, 2, 8, 4, dtype=torch.long), torch.arange(4).expand(1, 2, 8, 4), 1, memory_of(key[:, :, :32], value[:, :, :32], 8))
    merged, weights = merge_blocks(out, mass, blocks, landmark)
    torch.testing.assert_close(merged, torch.ones_like(merged))
    assert (weights > 0).all() and (weights.sum(-1) < 1).all()


def test_rows_of_padding_read_nothing():
    query, key, value = draw(2, 4, 5, 8, seed=1), draw(2, 2, 5, 8, seed=2), draw(2, 2, 5, 8, seed=3)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    mask[1, ..., :2] = False
    out, mass = causal_attention(query, key, value, mask)
    assert (out[1, :, :2] == 0).all() and (mass[1, :, :2] == -torch.inf).all()
    alone, alone_mass = causal_attention(query[1:, :, 2:], key[1:, :, 2:], value[1:, :, 2:])
    torch.testing.assert_close(out[1:, :, 2:], alone)
    torch.testing.assert_close(mass[1:, :, 2:], alone_mass)
    merged, weights = merge_blocks(out, mass, draw(2, 4, 5, 3, 8), draw(2, 4, 5, 3))
    assert merged.isfinite().all() and weights.isfinite().all()


@pytest.mark.parametrize("many", [5, 64, 1000])
def test_top_landmarks_are_the_largest_and_the_later_of_two_that_are_equal(many):
    query = draw(2, 30, 8, seed=1)
    plain = draw(2, many, 8, seed=2)
    best, chosen = top_landmarks(query, plain, 4)
    expected = (query @ plain.transpose(1, 2)).sort(-1, descending=True)
    assert torch.equal(chosen, expected.indices[..., :4])
    torch.testing.assert_close(best, expected.values[..., :4])

    whole = torch.randint(-1, 2, (2, many, 2), generator=torch.Generator().manual_seed(3)).double()  # sums are exact, and many are equal
    asked = torch.randint(-1, 2, (2, 30, 2), generator=torch.Generator().manual_seed(4)).double()
    best, chosen = top_landmarks(asked, whole, 4)
    scores = (asked @ whole.transpose(1, 2)).tolist()
    for head in range(2):
        for row in range(30):
            assert chosen[head, row].tolist() == sorted(range(many), key=lambda n: (-scores[head][row][n], -n))[:4]
            assert best[head, row].tolist() == [scores[head][row][n] for n in chosen[head, row].tolist()]


def test_many_landmarks_are_compared_with_a_few_queries_at_a_time(monkeypatch):
    query, landmarks = draw(2, 31, 8, seed=1), draw(2, 200, 8, seed=2)
    expected, compared = top_landmarks(query, landmarks, 4), []
    monkeypatch.setattr("graphkv_kernels.landmark_gather._MOST_SCORES", 2 * 200 * 5 + 7)
    topk = torch.Tensor.topk
    monkeypatch.setattr(torch.Tensor, "topk", lambda scores, *args, **options: compared.append(tuple(scores.shape)) or topk(scores, *args, **options))
    best, chosen = top_landmarks(query, landmarks, 4)
    assert compared == [(2, 5, 200)] * 6 + [(2, 1, 200)]
    assert torch.equal(chosen, expected[1])
    torch.testing.assert_close(best, expected[0], rtol=0, atol=1e-13)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="cut into blocks of 8"):
        chunk_attention(draw(1, 2, 9, 4), draw(1, 2, 9, 4), draw(1, 2, 9, 4), 8)
    with pytest.raises(ShapeError, match="cut into blocks of 8"):
        chunk_attention(draw(1, 2, 7, 4), draw(1, 2, 8, 4), draw(1, 2, 8, 4), 8)
    with pytest.raises(ShapeError, match="K a divisor of H"):
        causal_attention(draw(1, 3, 8, 4), draw(1, 2, 8, 4), draw(1, 2, 8, 4))
    with pytest.raises(ShapeError, match="key heads that divide H"):
        gather_blocks(draw(1, 1, 3, 8, 4), torch.zeros(1, 3, 8, 1, dtype=torch.long), torch.zeros(1, 3, 8, 1, dtype=torch.long), 2, memory_of(draw(1, 2, 8, 4), draw(1, 2, 8, 4), 4))
    with pytest.raises(ShapeError, match="of 3, got 4"):
        top_landmarks(draw(1, 1, 4), draw(1, 3, 4), 4)
