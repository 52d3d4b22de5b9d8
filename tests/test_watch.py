"""Reading attention while the model runs SDPA: the rows are the eager model's, nothing above is computed, and nothing is left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import ARCHITECTURES, byte_tokenizer, random_ids, tiny_model
from torch import Tensor

from graphkv import ModelError
from graphkv.model import GraphModel
from graphkv.watch import Watch, watch_attention, watching

ROWS = torch.tensor([[3, 17, 39], [0, 5, 38]])


def two_rows(length: int = 40) -> Tensor:
    return torch.tensor([random_ids(length), random_ids(length, seed=3)])


def watched(model: GraphModel, ids: Tensor, rows: Tensor, heads: dict[int, Any], block: int = 2**24) -> dict[int, Tensor]:
    """layer → weights ``[B, H, R, T]``, put together from the blocks."""
    found: dict[int, list[Tensor]] = {layer: [] for layer in heads}
    model.watch(ids, Watch(heads, rows, lambda layer, part, weights: found[layer].append(weights.clone()), block=block))
    return {layer: torch.cat(parts, dim=2) for layer, parts in found.items()}


def eager(model: Any, ids: Tensor, rows: Tensor) -> list[Tensor]:
    with torch.no_grad():
        attentions = model(input_ids=ids, output_attentions=True).attentions
    return [a.gather(2, rows[:, None, :, None].expand(-1, a.shape[1], -1, a.shape[3])) for a in attentions]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("block", [2**24, 300])
def test_rows_are_the_eager_models(arch: str, block: int) -> None:
    """1. The eager model's attentions, all of them, and three rows of each. 2. The same rows while it runs SDPA, in one block and in several."""
    model = tiny_model(arch, num_hidden_layers=3) if arch != "gemma3_text" else tiny_model(arch)
    want = eager(model, two_rows(), ROWS)
    got = watched(GraphModel(model, byte_tokenizer()), two_rows(), ROWS, {0: None, len(want) - 1: (1, 2)}, block)
    torch.testing.assert_close(got[0], want[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got[len(want) - 1], want[-1][:, [1, 2]], atol=1e-5, rtol=1e-4)


def test_a_sliding_window_is_seen() -> None:
    model = tiny_model("mistral", sliding_window=8)
    want = eager(model, two_rows(), ROWS)
    got = watched(GraphModel(model, byte_tokenizer()), two_rows(), ROWS, {0: None, 1: None})
    assert float(want[1][0, 0, 2, :30].sum()) == 0.0  # the eager model has the window too
    for layer in (0, 1):
        torch.testing.assert_close(got[layer], want[layer], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("arch", ["llama", "gemma2"])
def test_bfloat16_is_as_near_to_float64_as_the_eager_model(arch: str) -> None:
    """1. Weights rounded to bfloat16, run in float64: the truth. 2. Eager in bfloat16: how far off one may be. 3. Ours, not further."""
    low = tiny_model(arch, dtype=torch.bfloat16)
    exact = tiny_model(arch)
    exact.load_state_dict({k: v.float() for k, v in low.state_dict().items()})
    truth, apart = eager(exact.double(), two_rows(), ROWS)[1], eager(low, two_rows(), ROWS)[1].double()
    bound = float((apart - truth).abs().max())
    got = watched(GraphModel(low, byte_tokenizer()), two_rows(), ROWS, {1: None})[1].double()
    assert float((got - truth).abs().max()) <= 1.5 * bound


def test_padding_behind_a_row_changes_nothing() -> None:
    model = GraphModel(tiny_model(), byte_tokenizer())
    short = torch.tensor([random_ids(25)])
    alone = watched(model, short, torch.tensor([[7, 24]]), {1: None})[1]
    padded = torch.tensor([random_ids(25) + [258] * 15, random_ids(40, seed=3)])
    together = watched(model, padded, torch.tensor([[7, 24], [30, 39]]), {1: None})[1]
    torch.testing.assert_close(together[:1, :, :, :25], alone, atol=1e-6, rtol=1e-5)
    assert float(together[0, :, :, 25:].abs().max()) == 0.0


def test_the_forward_ends_in_the_last_layer_that_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = tiny_model(num_hidden_layers=3)
    model = GraphModel(tiny, byte_tokenizer())
    ran: list[str] = []
    for i, layer in enumerate(tiny.model.layers):
        layer.mlp.register_forward_hook(lambda *a, i=i: ran.append(f"mlp {i}"))
        layer.self_attn.o_proj.register_forward_hook(lambda *a, i=i: ran.append(f"o {i}"))
    tiny.lm_head.register_forward_hook(lambda *a: ran.append("logits"))
    watched(model, two_rows(), ROWS, {1: None})
    assert ran == ["o 0", "mlp 0"]


def test_nothing_stays_behind() -> None:
    tiny = tiny_model()
    model = GraphModel(tiny, byte_tokenizer())
    before = tiny(torch.tensor([[5, 6, 7]])).logits

    def fail(*args: Any) -> None:
        raise RuntimeError("power cut")

    for visit in (lambda *a: None, fail):
        try:
            model.watch(two_rows(), Watch({0: None}, ROWS, visit))
        except RuntimeError as error:
            assert str(error) == "power cut"
        assert tiny.config._attn_implementation == "eager"
        assert torch.equal(tiny(torch.tensor([[5, 6, 7]])).logits, before)
        with pytest.raises(ModelError, match="only while graphkv reads attention"):
            watch_attention(tiny.model.layers[0].self_attn, *(torch.zeros(1, 4, 2, 16),) * 3, None)


def test_a_layer_that_is_never_reached_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"its layers \[7\] did not call the attention function"):
        GraphModel(tiny_model(), byte_tokenizer()).watch(two_rows(), Watch({7: None}, ROWS, lambda *a: None))
    seen_before = Watch({0: None}, ROWS, lambda *a: None)
    GraphModel(tiny_model(), byte_tokenizer()).watch(two_rows(), seen_before)
    with pytest.raises(ModelError, match=r"its layers \[0\] did not"), watching(seen_before):
        pass
    with pytest.raises(RuntimeError, match="other"), watching(Watch({0: None}, ROWS, lambda *a: None)):
        raise RuntimeError("other")


def test_a_layer_that_does_not_say_which_it_is() -> None:
    with pytest.raises(ModelError, match="Linear does not say which layer it is"), watching(Watch({0: None}, ROWS, lambda *a: None)):
        watch_attention(torch.nn.Linear(1, 1), *(torch.zeros(1, 4, 2, 16),) * 3, None)
