"""Landmark attention's text side: the landmark token of a model, and where it stands in a text.

Landmark Attention (Mohtashami and Jaggi, 2023, arXiv 2305.16300): a text is cut into blocks, and each ends with the same extra token, the
landmark, through which later tokens read the block; :mod:`graphkv_kernels.landmark` has the softmax. A model that was trained so says it in
its config, as ``graphkv_landmark = {"block": 32, "token_id": 1583}``; ``graphkv train`` puts it there.

Deviations from the paper in text and training (those of reading are in :mod:`graphkv.landmark_reading`):

* The last block of a context, which may be shorter, is closed with a landmark where the context ends, so a question always begins a block of
  its own. That block grows while the question and its answer are read, and has no landmark, however long it is. So the context's blocks
  do not depend on the question, and many questions can be asked of one context.
* In training a landmark neither predicts nor is predicted: the first token of a block is predicted by the last token of text before it.
* Training can be helped, which the paper does not do: by a term that pulls landmarks towards the blocks that they stand for, and by a way from
  plain attention to landmarks (``landmark_weight`` and ``landmark_ramp``, both off by default).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from graphkv.errors import InputError, UnsupportedModelError
from graphkv.model import GraphModel
from graphkv_kernels import LandmarkGroups

TOKEN = "<landmark>"
"""What the landmark is called in a tokenizer's vocabulary."""

_ATTRIBUTE = "graphkv_landmark"


@dataclass(frozen=True)
class LandmarkConfig:
    """The landmarks that a model was trained with.

    Attributes:
        block: tokens a block, the landmark included; at least 2.
        token_id: the landmark's id.

    Raises:
        InputError: a block that has no room for text, an id that is none.
    """

    block: int
    token_id: int

    def __post_init__(self) -> None:
        for name, least in (("block", 2), ("token_id", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"landmark {name} must be a whole number of at least {least}, got {value!r}")


def landmark_of(model: GraphModel) -> LandmarkConfig:
    """The landmarks of a model.

    Raises:
        UnsupportedModelError: it was not trained with any, or its config says something about them that cannot be meant.

    Example:
        >>> landmark_of(GraphModel.load("embedded-landmark"))  # doctest: +SKIP
        LandmarkConfig(block=32, token_id=1583)
    """
    found: Any = getattr(model.model.config, _ATTRIBUTE, None)
    if found is None:
        raise UnsupportedModelError(
            f"the model {model.name or type(model.model).__name__!r} was not trained with landmarks (its config has no {_ATTRIBUTE}): take the model "
            "embedded-landmark, or train yours: graphkv train ROWS --out RUN --layouts landmark=1 --landmark-block 32"
        )
    if not isinstance(found, dict) or set(found) != {"block", "token_id"}:
        raise UnsupportedModelError(f"the config's {_ATTRIBUTE} must be an object of block and token_id, got {found!r}")
    try:
        config = LandmarkConfig(**found)
    except InputError as error:
        raise UnsupportedModelError(f"the config's {_ATTRIBUTE} cannot be meant: {error}") from error
    size = model.model.get_input_embeddings().num_embeddings
    if config.token_id >= size:
        raise UnsupportedModelError(f"the config's {_ATTRIBUTE} names token {config.token_id}, but the model has embeddings of {size} tokens: it is not the config of this model")
    return config


def has_landmarks(model: GraphModel) -> bool:
    """Whether the model was trained with landmarks."""
    return getattr(model.model.config, _ATTRIBUTE, None) is not None


def add_landmarks(model: GraphModel, block: int) -> LandmarkConfig:
    """Give a model the landmark token, in place: in its tokenizer, its embeddings and its config. What is left to do is to train it.

    The new row of the embeddings is the mean of the others, and so is that of the output layer where it has weights of its own.

    Args:
        block: tokens a block, the landmark included.

    Raises:
        InputError: `block` is below 2, or the model has landmarks already.
    """
    if has_landmarks(model):
        raise InputError(f"the model has landmarks already: {landmark_of(model)}")
    LandmarkConfig(block, 0)
    net, tokenizer = model.model, model.tokenizer
    # An extra special token, so that a document in which it is written cannot make a landmark.
    tokenizer.add_special_tokens({"extra_special_tokens": [TOKEN]}, replace_extra_special_tokens=False)
    token_id = int(tokenizer.convert_tokens_to_ids(TOKEN))
    size = net.get_input_embeddings().num_embeddings
    if token_id >= size:
        net.resize_token_embeddings(token_id + 1, mean_resizing=False)
    layers = [net.get_input_embeddings(), net.get_output_embeddings()]
    with torch.no_grad():
        for weight in {id(layer.weight): layer.weight for layer in layers if layer is not None}.values():
            others = torch.arange(len(weight), device=weight.device) != token_id
            weight[token_id] = weight[others].float().mean(0).to(weight.dtype)
    config = LandmarkConfig(block, token_id)
    setattr(net.config, _ATTRIBUTE, asdict(config))
    return config


def insert_landmarks(token_ids: Sequence[int], config: LandmarkConfig) -> list[int]:
    """The ids with a landmark behind every ``block - 1`` of them, and one at the end; nothing for nothing.

    Example:
        >>> insert_landmarks([5, 6, 7], LandmarkConfig(block=3, token_id=99))
        [5, 6, 99, 7, 99]
    """
    step = config.block - 1
    return [t for start in range(0, len(token_ids), step) for t in (*token_ids[start : start + step], config.token_id)]


def landmark_flags(tokens: int, config: LandmarkConfig) -> list[bool]:
    """Which of the ids that :func:`insert_landmarks` makes of so many `tokens` are landmarks.

    Example:
        >>> landmark_flags(3, LandmarkConfig(block=3, token_id=99))
        [False, False, True, False, True]
    """
    step = config.block - 1
    return [flag for start in range(0, tokens, step) for flag in (*[False] * min(step, tokens - start), True)]


def landmark_groups(tokens: int, questions: Sequence[int], config: LandmarkConfig) -> LandmarkGroups:
    """The groups of a context of so many `tokens`, landmarks not counted, and of questions of so many tokens behind it."""
    return LandmarkGroups.over(landmark_flags(tokens, config), questions)
