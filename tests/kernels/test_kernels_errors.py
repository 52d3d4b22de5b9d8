"""Refusals say what was expected and what came; importing the package loads and probes nothing heavy."""

import subprocess
import sys

import pytest
import torch

import graphkv_kernels
from graphkv_kernels import (
    BlockPattern,
    ContextWeight,
    KernelError,
    KernelUnavailable,
    PatternError,
    ShapeError,
    UnknownKernel,
    available_kernels,
    default_kernel,
    graph_attention,
)

PATTERN = BlockPattern((2, 3), ((), (0,)))


def test_the_public_names():
    assert set(graphkv_kernels.__all__) == {
        *("BlockPattern", "ContextWeight", "available_kernels", "block_mask", "default_kernel", "dense_mask", "graph_attention"),
        *("LandmarkGroups", "causal_attention", "chunk_attention", "gather_blocks", "grouped_softmax_reference"),
        *("landmark_dense_attention", "merge_blocks", "top_landmarks"),
        *("SharedPart", "shared_attention", "shared_weights"),
        *("KernelError", "KernelUnavailable", "PatternError", "ShapeError", "UnknownKernel"),
    }
    assert all(hasattr(graphkv_kernels, name) for name in graphkv_kernels.__all__)
    for error in (KernelUnavailable, PatternError, ShapeError, UnknownKernel):
        assert issubclass(error, KernelError)
    assert issubclass(KernelError, ValueError)


def test_available_kernels_names_all_and_gives_reasons():
    found = available_kernels()
    assert list(found) == ["dense", "gather", "flex", "varlen"]
    assert found["dense"] is None
    assert found["gather"] is None
    assert all(reason is None or len(reason) > 10 for reason in found.values())


def test_the_default_depends_on_the_device_and_on_the_weights():
    assert default_kernel("cpu") == "gather"
    assert default_kernel("cuda") == "flex"
    assert default_kernel("cuda", weighted=True) == "gather"


def test_an_unknown_kernel_lists_the_names(tensors):
    with pytest.raises(UnknownKernel, match="no kernel is called 'sparse'; there are 'dense', 'gather', 'flex', 'varlen'"):
        graph_attention(*tensors(PATTERN), PATTERN, impl="sparse")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v: (q[0], k, v), r"expected query \[B, H, T, D\], got \(4, 5, 16\)"),
        (lambda q, k, v: (q, k[:, :, :4], v), r"expected key .* = \(1, 2, 5, 16\) .*, got \(1, 2, 4, 16\)"),
        (lambda q, k, v: (q, k, v[..., :8]), r"expected value .* = \(1, 2, 5, 16\) .*, got \(1, 2, 5, 8\)"),
        (lambda q, k, v: (q[:, :3], k, v), "multiple of the 2 key heads, got 3"),
        (lambda q, k, v: (q[:, :, :4], k, v), r"trailing blocks hold \(3, 5\), got 4"),
        (lambda q, k, v: (q[:, :, :0], k, v), "got 0"),
        (lambda q, k, v: (q, k.double(), v), "one dtype .*, got torch.float32 and for key torch.float64"),
        (lambda q, k, v: (q.int(), k.int(), v.int()), "one dtype of float32"),
        (lambda q, k, v: (q, k.to("meta"), v), "one device, got cpu and for key meta"),
    ],
)
def test_shapes(tensors, change, message):
    with pytest.raises(ShapeError, match=message):
        graph_attention(*change(*tensors(PATTERN)), PATTERN)


def test_a_softcap_below_zero(tensors):
    with pytest.raises(KernelError, match="softcap above 0"):
        graph_attention(*tensors(PATTERN), PATTERN, softcap=-1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (((2, 3), ((),)), "one tuple of reads for each of the 2 blocks, got 1"),
        (((2, 0), ((), ())), "at least 1 token, got 0 in block 1"),
        (((2, 3), ((), (1,))), r"block 1 may read blocks 0 to 0, got \(1,\)"),
        (((2, 3), ((), (-1,))), "block 1 may read"),
        (((2, 3), ((), (0, 0))), "block 1 reads a block twice"),
        (((2, 3), ((), (0,)), (None,)), "one entry for each of the 2 blocks, got 1"),
        (((2, 3), ((), ()), (None, ContextWeight((0,)))), "context of block 1"),
        (((2, 3), ((), (0,)), (None, ContextWeight((0,), temperature=0.0))), "temperature > 0"),
        (((2, 3), ((), (0,)), (None, ContextWeight((0,), scale=float("nan")))), "finite scale"),
    ],
)
def test_patterns_that_contradict_themselves(fields, message):
    with pytest.raises(PatternError, match=message):
        BlockPattern(*fields)


def test_patterns_are_values():
    one, same = BlockPattern((1, 2, 3), ((), (), (1, 0))), BlockPattern((1, 2, 3), ((), (), (0, 1)), (None, None, None))
    assert one == same
    assert hash(one) == hash(same)
    assert one != BlockPattern((1, 2, 3), ((), (), (0,)))
    assert one.allowed_pairs() == 1 + 3 + 9 + 6
    assert one.allowed_pairs(3) == 15


def test_a_fresh_import_brings_in_no_compiler_and_nothing_but_torch():
    code = (
        "import sys, torch; before = set(sys.modules); import graphkv_kernels as g; g.available_kernels(); import torch as t;"
        "p = g.BlockPattern((2, 3), ((), (0,))); x = t.randn(1, 2, 5, 8); g.graph_attention(x, x, x, p);"
        "new = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names);"
        "heavy = {'torch._inductor', 'torch.nn.attention.flex_attention'} & (set(sys.modules) - before);"
        "print(sorted(new - {'torch', 'graphkv_kernels'}), sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[] []"


def test_a_pattern_of_one_dtype_works_without_gradients_or_with_them(tensors):
    q, k, v = tensors(PATTERN)
    plain = graph_attention(q, k, v, PATTERN)
    torch.testing.assert_close(plain, graph_attention(q.clone().requires_grad_(), k, v, PATTERN).detach(), rtol=0, atol=1e-6)
