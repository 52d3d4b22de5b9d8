"""flex_attention here: the numbers of the oracle, one compilation per bucket, and clear refusals.

Where no C++ compiler is found, the refusal is what is tested.
"""

import pytest
import torch
from torch._dynamo.utils import counters

from graphkv_kernels import BlockPattern, KernelUnavailable, available_kernels, graph_attention
from graphkv_kernels import flex as kernel
from graphkv_kernels.flex import bucket

MISSING = available_kernels()["flex"]
# 450, 453 and 420 tokens: one bucket of 512.
FIRST = BlockPattern((100, 200, 150), ((), (0,), (0, 1)))
OTHERS = (BlockPattern((90, 220, 140, 3), ((), (), (0, 1), (0,))), BlockPattern((10,) * 12 + (300,), ((),) * 12 + ((1, 3, 5),)))


def flex(tensors, pattern, **options):
    """Flex's answer and its inputs, or None where it must refuse because nothing can compile it."""
    softcap = options.pop("softcap", None)
    q, k, v = tensors(pattern, **options)
    if MISSING is not None:
        with pytest.raises(KernelUnavailable, match="compiler"):
            graph_attention(q, k, v, pattern, impl="flex", softcap=softcap)
        return None
    with torch.no_grad():
        return graph_attention(q, k, v, pattern, impl="flex", softcap=softcap), q, k, v


@pytest.mark.parametrize(
    ("lengths", "reads", "options"),
    [
        (FIRST.lengths, FIRST.reads, {}),
        (FIRST.lengths, FIRST.reads, {"dtype": torch.bfloat16}),
        (FIRST.lengths, FIRST.reads, {"softcap": 3.0}),
        ((100, 200, 150), ((), (0,), (0, 1)), {"query_length": 350}),
        ((1, 63, 128, 1000), ((), (0,), (), (1, 2)), {"heads": 2, "kv_heads": 2}),
    ],
)
def test_flex_equals_the_reference(tensors, check, lengths, reads, options):
    pattern = BlockPattern(lengths, reads)
    answer = flex(tensors, pattern, **options)
    if answer is not None:
        check(*answer, pattern, softcap=options.get("softcap"))


def test_a_new_graph_of_the_same_bucket_does_not_recompile(tensors, check):
    if flex(tensors, FIRST) is None:
        return
    before = counters["stats"]["unique_graphs"]
    assert before > 0
    with torch._dynamo.config.patch(error_on_recompile=True):
        for pattern in OTHERS:
            check(*flex(tensors, pattern), pattern)
    assert counters["stats"]["unique_graphs"] == before


def test_more_buckets_than_torch_keeps_by_default_are_still_compiled(tensors, monkeypatch):
    # Past torch's recompile limit of 8 the call would run uncompiled, with every logit in memory, and only warn.
    compiled = []

    def backend(graph, example_inputs):
        compiled.append(graph)
        return graph.forward

    from torch.nn.attention.flex_attention import flex_attention

    torch._dynamo.reset()
    monkeypatch.setattr(kernel, "_compiled", lambda: torch.compile(flex_attention, dynamic=False, fullgraph=True, backend=backend))
    monkeypatch.setattr(kernel, "unavailable", lambda: None)
    with torch.no_grad():
        for count in range(1, 11):
            pattern = BlockPattern((count, count), ((), (0,)))
            # The tokens stay within one bucket; the head counts make the variants.
            q, k, v = tensors(pattern, heads=2 * count, kv_heads=2)
            graph_attention(q, k, v, pattern, impl="flex")
    torch._dynamo.reset()
    assert len(compiled) == 10


def test_a_backward_on_the_cpu_is_refused_and_not_wrong(tensors):
    if MISSING is not None:
        return
    q, k, v = tensors(FIRST)
    with pytest.raises(KernelUnavailable, match="no backward on the CPU"):
        graph_attention(q.requires_grad_(), k, v, FIRST, impl="flex")


def test_float64_is_refused(tensors):
    if MISSING is not None:
        return
    with pytest.raises(KernelUnavailable, match="float64"):
        graph_attention(*tensors(FIRST, dtype=torch.float64), FIRST, impl="flex")


def test_without_a_compiler_the_reason_is_given(tensors, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(KernelUnavailable, match=r"'flex' cannot run here: .* install g\+\+"):
        graph_attention(*tensors(FIRST), FIRST, impl="flex")


def test_buckets_waste_less_than_a_quarter_and_are_few():
    sizes = [bucket(count, 128) for count in range(1, 50_000)]
    assert all(count <= size < count + max(128, count / 4 + 1) for count, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 40
