"""Training episodes against the general trainer's, which are held against the engine: same ids, positions, mask and targets."""

from __future__ import annotations

import pytest
import torch
from helpers import tiny_model

from graphkv.graph import SegmentGraph
from graphkv.model import GraphModel
from graphkv.prompt import template_of
from graphkv.tokens import TokenReader
from graphkv.train.episode import make_episode
from graphkv_benchmarks.citation_world import make_needles, make_world
from graphkv_benchmarks.embedded.episodes import Reading, build
from graphkv_benchmarks.embedded.vocabulary import build_tokenizer
from graphkv_kernels.masks import dense_mask


@pytest.fixture(scope="module")
def reader() -> TokenReader:
    tokenizer = build_tokenizer()
    model = GraphModel(tiny_model("llama", vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id), tokenizer)
    return TokenReader(model, template_of(tokenizer))


READINGS = [
    Reading("graph"), Reading("graph", {"rounds": 2}), Reading("graph", {"positions": "sequential"}), Reading("graph", edges=False),
    Reading("sequential"), Reading("block"), Reading("pcw"),
]  # fmt: skip


@pytest.mark.parametrize("reading", READINGS, ids=str)
@pytest.mark.parametrize("needles", [False, True])
def test_same_as_the_general_trainer(reader: TokenReader, reading: Reading, needles: bool) -> None:
    for seed in range(3):
        world = make_needles(seed, 30, documents=3) if needles else make_world(seed, 2 + 2 * seed)
        questions = world.questions[:5]
        ours = build(world, questions, reading, reader.model.tokenizer)
        documents = [d if reading.edges else d | {"sources": []} for d in world.to_row()["documents"]]
        theirs = make_episode(
            reader, SegmentGraph.from_documents(documents), [(q.question, q.answer) for q in questions], reading.layout, dict(reading.options)
        )
        assert ours.ids.tolist() == theirs.token_ids
        assert ours.positions.tolist() == theirs.positions
        assert torch.equal(ours.blocks.mask(), dense_mask(theirs.pattern))
        for name in ("answer_at", "answer_ids", "answer_question", "text_at", "text_ids"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
