"""An episode under any reading that a mixture can name: a layout, or landmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphkv.graph import SegmentGraph
from graphkv.tokens import TokenReader
from graphkv.train.episode import Episode, make_episode
from graphkv.train.landmark import landmark_episode
from graphkv.train.mixture import LANDMARK


def reading_episode(reader: TokenReader, graph: SegmentGraph, questions: Sequence[tuple[str, str]], reading: str, options: Mapping[str, Any]) -> Episode:
    """Pack `questions`, pairs (question, answer), over a graph.

    Raises:
        LengthError: it does not fit into the model's window. InputError: whatever the engine refuses.
    """
    if reading == LANDMARK:
        return landmark_episode(reader, graph, questions)
    return make_episode(reader, graph, questions, reading, options)
