"""An episode as the landmark reading has it: the sequential one with a landmark at the end of every block.

The context (prefix, then the segments one after the other) is cut into blocks whatever its segments are; each question with its answer
is a block of its own at the context's end, and reads no other. See :mod:`graphkv.landmark`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch

from graphkv.errors import LengthError
from graphkv.graph import SegmentGraph
from graphkv.landmark import insert_landmarks, landmark_groups, landmark_of
from graphkv.tokens import TokenReader
from graphkv.train.episode import Episode, make_episode
from graphkv_kernels import BlockPattern


def landmark_episode(reader: TokenReader, graph: SegmentGraph, questions: Sequence[tuple[str, str]]) -> Episode:
    """Pack `questions`, pairs (question, answer), over a graph that is read with landmarks.

    Landmarks neither predict nor are predicted: what follows a block's last token of text is predicted by that token. A reader knows where landmarks
    stand, and they have enough to do with standing for their blocks.

    Raises:
        UnsupportedModelError: the model has no landmarks. LengthError: it does not fit into the model's window.
        InputError: whatever the engine refuses.
    """
    config = landmark_of(reader.model)
    plain = make_episode(reader, graph, questions, "sequential", {})
    pattern = cast(BlockPattern, plain.pattern)  # what the sequential layout has
    blocks = len(plain.layout.context)
    size, lengths = pattern.starts[blocks], pattern.lengths[blocks:]
    context, asked = insert_landmarks(plain.token_ids[:size], config), plain.token_ids[size:]
    limit = min(reader.model.window, reader.model.sliding_window or reader.model.window)
    if len(context) + max(lengths) + 1 > limit:
        raise LengthError(
            f"with its landmarks the context has {len(context)} tokens, and the longest question with its answer {max(lengths)}: "
            f"the model's window is {limit}; use fewer or shorter documents"
        )
    positions = [*range(len(context)), *(len(context) + i for length in lengths for i in range(length))]
    added = len(context) - size
    # Row r of the text is row r + r // (block - 1) now; what is predicted keeps its row, so a landmark predicts nothing.
    moved = plain.text_at + torch.div(plain.text_at, config.block - 1, rounding_mode="floor")
    groups = landmark_groups(size, lengths, config)
    return replace(plain, token_ids=[*context, *asked], positions=positions, pattern=groups, answer_at=plain.answer_at + added, text_at=moved)
