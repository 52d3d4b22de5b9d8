"""Helpers of the kernel tests: tensors for a pattern, the reference written row by row, and tolerances taken from it."""

import pytest
import torch


def make_tensors(pattern, *, query_length=None, batch=1, heads=4, kv_heads=2, dim=16, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(heads, tokens):
        # Laid out [B, T, H, D] and transposed, as a model's projections are.
        return torch.randn(batch, tokens, heads, dim, generator=generator, dtype=torch.float64).to(dtype).transpose(1, 2)

    queries = pattern.tokens if query_length is None else query_length
    return draw(heads, queries), draw(kv_heads, pattern.tokens), draw(kv_heads, pattern.tokens)


def attend_row_by_row(*inputs, **options):
    # On one thread: thousands of small operations that wait for a second thread take minutes on a busy machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _attend_row_by_row(*inputs, **options)
    finally:
        torch.set_num_threads(threads)


def _attend_row_by_row(query, key, value, pattern, *, scale=None, softcap=None):
    """Each query token on its own: the keys it may read, their logits, a softmax written out. In the tensors' dtype."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
    owner = [(block, i) for block, length in enumerate(pattern.lengths) for i in range(length)]
    offset = len(owner) - query.shape[2]
    rows = []
    for row in range(query.shape[2]):
        block, place = owner[offset + row]
        weight = pattern.context[block] if pattern.context else None
        seen = [t for t, (b, i) in enumerate(owner) if b in pattern.reads[block] or (b == block and i <= place)]
        logit = (query[:, :, row, None, :] * key[:, :, seen]).sum(-1) * scale
        if softcap is not None:
            logit = softcap * torch.tanh(logit / softcap)
        if weight is not None:
            inside = torch.tensor([owner[t][0] in weight.blocks for t in seen])
            group = logit[..., inside] / weight.temperature
            mass = (group - group.amax(-1, keepdim=True)).exp().sum(-1, keepdim=True).log() + group.amax(-1, keepdim=True)
            logit = logit.clone()
            logit[..., inside] = group + (weight.scale - 1) * mass
        power = (logit - logit.amax(-1, keepdim=True)).exp()
        rows.append(((power / power.sum(-1, keepdim=True)).unsqueeze(-1) * value[:, :, seen]).sum(-2))
    return torch.stack(rows, dim=2)


def relative_error(got, expected):
    return ((got.double() - expected.double()).abs().max() / expected.double().abs().max()).item()


@pytest.fixture(scope="session")
def tensors():
    return make_tensors


@pytest.fixture(scope="session")
def row_by_row():
    return attend_row_by_row


@pytest.fixture(scope="session")
def check():
    """Compares a kernel's output with the float64 row-by-row reference on the same numbers.

    float32 must be within 1e-5 of the largest value. For bfloat16 and float16 the bound is measured: the error that the same
    row-by-row arithmetic makes when it is carried out in that dtype.
    """

    def compare(got, query, key, value, pattern, **options):
        outputs = got if isinstance(got, list) else [got]
        expected = attend_row_by_row(query.double(), key.double(), value.double(), pattern, **options)
        if query.dtype in (torch.float32, torch.float64):
            bound = 1e-5 if query.dtype == torch.float32 else 1e-13
        else:
            bound = relative_error(attend_row_by_row(query, key, value, pattern, **options), expected)
        for out in outputs:
            assert out.dtype == query.dtype
            assert out.shape == query.shape
            assert relative_error(out, expected) <= bound

    return compare
