"""flash-attn cannot run here, so its bookkeeping is tested: the call's arguments, answered by plain torch.

1. The kernel gathers keys and offsets and calls a function with flash_attn_varlen_func's signature.
2. The stand-in cuts the sequences at the offsets and aligns its causal mask to the bottom right, as flash-attn 2.1 documents.
Both together must give the reference.
"""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from graphkv_kernels import BlockPattern, ContextWeight, KernelUnavailable, available_kernels, graph_attention, varlen

PATTERN = BlockPattern((1, 63, 20, 1, 40), ((), (0,), (0,), (), (0, 2, 3)))


def varlen_in_torch(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None, causal=False, softcap=0.0
):
    assert causal and dropout_p == 0.0 and softcap == 0.0
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert max_seqlen_q == cu_seqlens_q.diff().max() and max_seqlen_k == cu_seqlens_k.diff().max()
    assert cu_seqlens_q[-1] == len(q) and cu_seqlens_k[-1] == len(k) == len(v)
    out = torch.empty_like(q)
    for i in range(len(cu_seqlens_q) - 1):
        rows, keys = slice(*cu_seqlens_q[i : i + 2].tolist()), slice(*cu_seqlens_k[i : i + 2].tolist())
        one, its_keys, its_values = (x.transpose(0, 1) for x in (q[rows], k[keys], v[keys]))
        bottom_right = torch.ones(one.shape[1], its_keys.shape[1]).tril(its_keys.shape[1] - one.shape[1]).bool()
        out[rows] = scaled_dot_product_attention(
            one, its_keys, its_values, attn_mask=bottom_right, scale=softmax_scale, enable_gqa=True
        ).transpose(0, 1)
    return out


@pytest.mark.parametrize("query_length", [125, 61, 40])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("heads", [(2, 2), (6, 2)])
def test_bookkeeping(tensors, check, query_length, batch, heads):
    q, k, v = tensors(PATTERN, query_length=query_length, batch=batch, heads=heads[0], kv_heads=heads[1])
    check(varlen.attend_with(varlen_in_torch, q, k, v, PATTERN, 0.3, None), q, k, v, PATTERN, scale=0.3)


def test_softcap_is_passed_on_and_left_out_otherwise(tensors):
    # flash-attn takes `softcap` from 2.6 on; older versions must not be handed the name.
    seen = []

    def call(q, *arguments, **options):
        seen.append(options)
        return q

    q, k, v = tensors(PATTERN)
    varlen.attend_with(call, q, k, v, PATTERN, 1.0, None)
    varlen.attend_with(call, q, k, v, PATTERN, 1.0, 30.0)
    assert "softcap" not in seen[0]
    assert seen[1]["softcap"] == 30.0


@pytest.mark.skipif(available_kernels()["varlen"] is None, reason="flash-attn runs here")
def test_without_flash_attn_the_error_says_what_to_install(tensors):
    with pytest.raises(KernelUnavailable, match=r"'varlen' cannot run here: .*(graphkv\[flash\]|CUDA)"):
        graph_attention(*tensors(PATTERN), PATTERN, impl="varlen")


def test_an_old_flash_attn_is_refused(monkeypatch):
    monkeypatch.setattr(varlen, "find_spec", lambda name: object())
    monkeypatch.setattr(varlen, "version", lambda name: "2.0.9")
    assert "2.1 or later" in varlen.unavailable()


@pytest.mark.parametrize("impl", ["flex", "varlen"])
def test_context_weights_are_refused_by_the_kernels_that_lack_them(tensors, monkeypatch, impl):
    monkeypatch.setattr(f"graphkv_kernels.{impl}.unavailable", lambda: None)
    weighted = BlockPattern((3, 4), ((), (0,)), (None, ContextWeight((0,), 0.9, 0.9)))
    with pytest.raises(KernelUnavailable, match="these do: 'dense', 'gather'"):
        graph_attention(*tensors(weighted), weighted, impl=impl)
