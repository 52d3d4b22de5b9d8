"""An episode: one world and many questions about it, packed into one row with its own positions, mask and targets.

The blocks come from the library's own layouts; behind them stand the questions with their answers, all at the same positions. Every
question reads what the layout exposes to a question, and no other question::

             P b0 a1 q0 q1
        P    1
        b0   0 1
        a1   0 1  1
        q0   1 1  1  1
        q1   1 1  1  0  1
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from graphkv.graph import SegmentGraph
from graphkv.layouts import make_layout
from graphkv.segments import Segment

from ..citation_world import Question, World
from .net import Blocks, Probe


@dataclass(frozen=True)
class Reading:
    """How a world is read: a layout of the library, its options, and whether the citations are its edges."""

    layout: str
    options: Mapping[str, Any] = field(default_factory=dict)
    edges: bool = True

    @property
    def resolves_bare(self) -> bool:
        """Whether a citation that only the edge tells can be followed."""
        return self.layout == "graph" and self.edges


@dataclass
class Episode:
    """Tensors of one row of T tokens.

    ``answer_at`` are the rows whose next token is ``answer_ids``; ``answer_question`` says of which question. ``text_at`` and
    ``text_ids`` are the same for the documents' own text.
    """

    ids: Tensor
    positions: Tensor
    blocks: Blocks
    answer_at: Tensor
    answer_ids: Tensor
    answer_question: Tensor
    text_at: Tensor
    text_ids: Tensor
    probes: dict[int, Probe]
    questions: list[Question]


@dataclass
class Coded:
    """Token ids and where everything stands, for the attention targets.

    ``documents`` and ``asked`` are encodings with character offsets; ``starts`` maps (paper, round) to the first row of its block,
    latest round first in ``copies``; ``question_starts`` are the first rows of the questions, ``answers`` their answers' ids.
    """

    documents: dict[str, Any]
    asked: list[Any]
    answers: list[list[int]]
    starts: dict[tuple[str, int], int]
    question_starts: list[int]

    def copies(self, paper: str) -> list[int]:
        """First rows of the paper's blocks, the latest round first."""
        return [self.starts[key] for key in sorted((k for k in self.starts if k[0] == paper), key=lambda k: -k[1])]


def edges_of(world: World) -> list[tuple[str, str]]:
    """(cited, citing) of every citation."""
    return [(cited, paper.id) for paper in world.papers for cited in paper.sources]


def build(
    world: World, questions: Sequence[Question], reading: Reading, tokenizer: PreTrainedTokenizerFast, with_probes: bool = True
) -> Episode:
    """Pack ``world`` and ``questions`` as ``reading`` says.

    Args:
        with_probes: also collect the auxiliary attention targets.

    Raises:
        LayoutError: for an unknown layout or option, or one that is no packed forward.
    """
    core = tokenizer.backend_tokenizer
    documents = {p.id: core.encode(p.segment, add_special_tokens=False) for p in world.papers}
    asked = [core.encode(f"Question: {q.question}\nAnswer:", add_special_tokens=False) for q in questions]
    answers = [core.encode(f" {q.answer}", add_special_tokens=False).ids for q in questions]
    bos, eos = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)

    graph = SegmentGraph.from_segments((Segment.from_tokens(n, c.ids) for n, c in documents.items()), edges_of(world) if reading.edges else ())
    layout = make_layout(reading.layout, graph, {n: len(c.ids) for n, c in documents.items()}, prefix=1, question=1, **reading.options)
    layout.require_packable("training")

    ids: list[int] = []
    reads: list[tuple[int, ...]] = []
    starts: list[int] = []
    positions: list[int] = []
    for block in layout.blocks[:-1]:
        starts.append(len(ids))
        reads.append(block.reads)
        positions.append(block.position)
        ids += [bos] if block.segment is None else documents[block.segment].ids
    context, count = len(ids), len(starts)
    for question, answer in zip(asked, answers, strict=True):
        starts.append(len(ids))
        reads.append(layout.exposed)
        positions.append(layout.question.position)
        ids += question.ids + answer
    allowed = torch.zeros(len(starts), len(starts), dtype=torch.bool)
    for index, read in enumerate(reads):
        allowed[index, list(read)] = True
    blocks = Blocks([*starts, len(ids)], allowed)
    owner = blocks.owner
    inside = torch.arange(len(ids)) - torch.tensor(starts)[owner]

    answer_at: list[int] = []
    answer_ids: list[int] = []
    answer_question: list[int] = []
    for index, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        first = starts[count + index] + len(question.ids) - 1
        answer_at += range(first, first + len(answer) + 1)
        answer_ids += [*answer, eos]
        answer_question += [index] * (len(answer) + 1)
    probes: dict[int, Probe] = {}
    if with_probes:
        from .targets import attention_targets

        named = {(b.segment, b.round): s for b, s in zip(layout.blocks[:-1], starts, strict=False) if b.segment is not None}
        coded = Coded(documents, asked, answers, named, starts[count:])
        probes = attention_targets(world, questions, coded, reading, answer_at, answer_question)
    packed = torch.tensor(ids)
    # Every row of a document but its last predicts the next token.
    text_at = (owner[1:context] == owner[: context - 1]).nonzero()[:, 0]
    return Episode(
        packed, inside + torch.tensor(positions)[owner], blocks, torch.tensor(answer_at), torch.tensor(answer_ids),
        torch.tensor(answer_question), text_at, packed[text_at + 1], probes, list(questions),
    )  # fmt: skip


def shortened(episode: Episode, room: int) -> Episode:
    """The episode without the last questions, so that at most ``room`` tokens are left; without any, if its documents alone are longer."""
    ends = [int(episode.answer_at[episode.answer_question == i][-1]) + 1 for i in range(len(episode.questions))]
    count = sum(end <= room for end in ends)
    size = ends[count - 1] if count else 0
    blocks = episode.blocks.shortened(episode.blocks.starts.index(size))
    kept = episode.answer_question < count
    text = episode.text_at < size
    probes = {}
    for layer, p in episode.probes.items():
        inside = p.query < size
        if bool(inside.any()):
            probes[layer] = Probe(p.head[inside], p.query[inside], p.first[inside], p.second[inside])
    return Episode(
        episode.ids[:size], episode.positions[:size], blocks, episode.answer_at[kept], episode.answer_ids[kept],
        episode.answer_question[kept], episode.text_at[text], episode.text_ids[text], probes, episode.questions[:count],
    )  # fmt: skip


def induction_episode(rng: random.Random, vocab: int, chunk: int = 32, chunks: int = 4) -> Episode:
    """Random chunks, then the same chunks in another order; only the second copies are predicted."""
    parts = [[rng.randrange(3, vocab) for _ in range(chunk)] for _ in range(chunks)]
    again = rng.sample(range(chunks), chunks)
    ids = torch.tensor([t for p in parts for t in p] + [t for i in again for t in parts[i]])
    size = len(ids)
    # The first token of each copy cannot be known.
    at = torch.tensor([i for i in range(chunk * chunks, size - 1) if (i + 1) % chunk])
    none = torch.zeros(0, dtype=torch.long)
    positions = torch.arange(size) + rng.randrange(200)
    return Episode(ids, positions, Blocks([0, size], torch.zeros(1, 1, dtype=torch.bool)), at, ids[at + 1], torch.zeros_like(at), none, none, {}, [])
