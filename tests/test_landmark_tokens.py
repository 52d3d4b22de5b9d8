"""The landmark token of a model, and where it stands in a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, tiny_engine, tiny_model

from graphkv import GraphKV, InputError
from graphkv.errors import UnsupportedModelError
from graphkv.landmark import (
    TOKEN,
    LandmarkConfig,
    add_landmarks,
    has_landmarks,
    insert_landmarks,
    landmark_flags,
    landmark_groups,
    landmark_of,
)
from graphkv.model import GraphModel
from graphkv.prompt import tokenize


def marked(block: int = 4, **overrides: Any) -> GraphModel:
    model = GraphModel(tiny_model(**overrides), byte_tokenizer())
    add_landmarks(model, block)
    return model


@pytest.mark.parametrize("tokens", [0, 1, 2, 3, 4, 6, 7, 62, 63, 64])
@pytest.mark.parametrize("block", [2, 4, 32])
def test_a_landmark_ends_every_block(tokens: int, block: int) -> None:
    config = LandmarkConfig(block, 999)
    made = insert_landmarks(range(tokens), config)
    flags = landmark_flags(tokens, config)
    assert [t for t in made if t != 999] == list(range(tokens)) and [t == 999 for t in made] == flags
    assert sum(flags) == -(-tokens // (block - 1)) and (not flags or flags[-1])
    assert all(flags[i] for i in range(block - 1, len(flags), block))


def test_groups_of_a_context_and_its_questions() -> None:
    groups = landmark_groups(4, [2, 1], LandmarkConfig(3, 999))
    assert groups.block == (0, 0, 0, 1, 1, 1, 2, 2, 3)
    assert groups.branch == (0, 0, 0, 0, 0, 0, 1, 1, 2)
    assert [i for i, flag in enumerate(groups.landmark) if flag] == [2, 5]


@pytest.mark.parametrize("tied", [True, False])
def test_the_token_is_added(tied: bool) -> None:
    """Tokenizer, embeddings, output and config have it; the new rows are the mean of the others; tied stays tied."""
    model = GraphModel(tiny_model(tie_word_embeddings=tied), byte_tokenizer())
    before = model.model.get_input_embeddings().weight.detach().clone()
    assert not has_landmarks(model)
    config = add_landmarks(model, 8)
    table, output = model.model.get_input_embeddings().weight, model.model.get_output_embeddings().weight
    assert config == landmark_of(model) == LandmarkConfig(8, 259) and model.config.vocab_size == 260
    assert (table is output) == tied and len(table) == len(output) == 260
    torch.testing.assert_close(table[:259], before)
    for weight in (table, output):
        torch.testing.assert_close(weight[259], weight[:259].mean(0))
    assert tokenize(model.tokenizer, f"a{TOKEN}b") == (64, 259, 65)


def test_room_in_the_embeddings_is_used() -> None:
    model = marked(vocab_size=300)
    assert landmark_of(model).token_id == 259 and model.model.get_input_embeddings().num_embeddings == 300


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = marked(8)
    model.model.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    again = GraphModel.load(tmp_path)
    assert landmark_of(again) == LandmarkConfig(8, 259)
    assert again.tokenizer.convert_tokens_to_ids(TOKEN) == 259


def test_a_document_cannot_spell_a_landmark() -> None:
    engine = GraphKV.from_pretrained((lambda m: (m.model, m.tokenizer))(marked()))
    tokens = engine.reader.read([{"id": "a", "text": f"one {TOKEN} two"}], [f"{TOKEN}?"], None)
    assert 259 not in tokens.segments["a"] and 259 not in tokens.questions[0]


def test_a_model_without_landmarks_is_refused_by_name(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModelError, match=rf"{tmp_path.name}.*was not trained with landmarks.*graphkv train"):
        landmark_of(GraphModel.load(tmp_path))
    model = tiny_engine().model
    model.model.config.graphkv_landmark = {"block": 4}
    with pytest.raises(UnsupportedModelError, match="an object of block and token_id"):
        landmark_of(model)
    for found, message in (({"block": 1, "token_id": 9}, "landmark block must be a whole number of at least 2, got 1"), ({"block": 4, "token_id": 259}, "names token 259, but .* 259 tokens")):
        model.model.config.graphkv_landmark = found
        with pytest.raises(UnsupportedModelError, match=message):
            landmark_of(model)


def test_what_cannot_be_added() -> None:
    with pytest.raises(InputError, match="has landmarks already"):
        add_landmarks(marked(), 4)
    for block in (1, 0, -3, 2.0, True):
        model = tiny_engine().model
        with pytest.raises(InputError, match="landmark block must be a whole number of at least 2"):
            add_landmarks(model, block)  # type: ignore[arg-type]
        assert not has_landmarks(model) and TOKEN not in model.tokenizer.get_vocab()
