"""Reading with landmarks: chunk by chunk with everything chosen is the uncached forward; what is chosen, and where it stands, is what is said.

The path that it is compared with is the training forward (one dense grouped softmax over the whole text, tests/kernels/test_landmark.py), at
the text's true positions. What both round differently is the angle of a position, which is float32 as in the models: the bound is the error
that the same dense forward makes when all positions are moved by as many tokens as there are.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import ARCHITECTURES, landmark_engine, random_ids
from torch import Tensor

from graphkv import GraphKV
from graphkv.kv import Rope, SegmentKV, rotate
from graphkv.landmark import insert_landmarks, landmark_groups, landmark_of
from graphkv.landmark_reading import LandmarkReading, landmark_attention, positions_needed, reading_blocks
from graphkv.model import GraphModel
from graphkv_kernels import grouped_softmax_reference
from graphkv_retrieval.landmark_documents import LandmarkSettings, read_documents
from graphkv_retrieval.landmark_memory import LandmarkMemory

EXACT_ANGLES = {"rope_parameters": {"rope_type": "default", "rope_theta": 256.0}}
"""Frequencies that are powers of two (heads of 16): angles are exact in float32, at any position."""


def read(engine: GraphKV, ids: list[int], k: int | None = None, chunk: int = 32, **options: Any) -> LandmarkReading:
    """Memory of a text, every block chosen by default, ready for a question."""
    model, config = engine.model, landmark_of(engine.model)
    blocks = -(-len(ids) // (config.block - 1))
    settings = LandmarkSettings.of(model, config, len(ids), blocks if k is None else k, chunk, *({"granularity": "token", "index": "torch", "offload": "none"} | options).values())
    return replace(read_documents(model, engine.store, ids, settings).reading, chunk=False)


def question_logits(model: GraphModel, reading: LandmarkReading, question: list[int]) -> Tensor:
    with model.landmark_reading(reading), torch.no_grad():
        logits: Tensor = model.model(torch.tensor([question])).logits[0]
    return logits


def dense_logits(model: GraphModel, ids: list[int], question: list[int], shift: int = 0) -> Tensor:
    config = landmark_of(model)
    text = [*insert_landmarks(ids, config), *question]
    with torch.no_grad():
        return model.packed_logits(text, range(shift, shift + len(text)), landmark_groups(len(ids), [len(question)], config), keep=len(question))


def check(model: GraphModel, got: Tensor, ids: list[int], question: list[int]) -> None:
    expected = dense_logits(model, ids, question)
    rounding = {torch.float32: 2e-6, torch.bfloat16: 2e-2, torch.float64: 1e-12}[got.dtype]
    moved = (dense_logits(model, ids, question, shift=len(ids)) - expected).abs().max()
    assert (got - expected).abs().max() <= 4 * moved + rounding * expected.abs().max()


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("tokens", [1, 63, 128])
def test_with_all_blocks_it_is_the_uncached_forward(arch: str, tokens: int) -> None:
    engine, ids, question = landmark_engine(arch), random_ids(tokens, seed=1), random_ids(9, seed=2)
    for granularity in ("token", "head"):
        check(engine.model, question_logits(engine.model, read(engine, ids, granularity=granularity), question), ids, question)


@pytest.mark.parametrize(("tokens", "block", "chunk"), [(1000, 32, 256), (333, 8, 8), (100, 3, 9), (7, 8, 64), (6, 8, 8), (21, 2, 2)])
@pytest.mark.parametrize("offload", ["none", "store"])
def test_chunks_of_any_size(tokens: int, block: int, chunk: int, offload: str) -> None:
    engine, ids, question = landmark_engine(block=block), random_ids(tokens, seed=1), random_ids(1, seed=2)
    check(engine.model, question_logits(engine.model, read(engine, ids, chunk=chunk, offload=offload), question), ids, question)


def test_in_float64_with_exact_angles_it_is_exact() -> None:
    """Only cos and sin, which are float32 as in the models, differ between a sum of two rotations and the rotation by the sum."""
    engine = landmark_engine(dtype=torch.float64, **EXACT_ANGLES)
    ids, question = random_ids(500, seed=1), random_ids(20, seed=2)
    got, expected = question_logits(engine.model, read(engine, ids), question), dense_logits(engine.model, ids, question)
    assert (got - expected).abs().max() <= 3e-6 * expected.abs().max()
    assert (dense_logits(engine.model, ids, question, shift=4096) - expected).abs().max() > 0  # and so does the dense forward itself


def test_bfloat16() -> None:
    engine = landmark_engine(dtype=torch.bfloat16)
    ids, question = random_ids(200, seed=1), random_ids(9, seed=2)
    check(engine.model, question_logits(engine.model, read(engine, ids), question), ids, question)


@pytest.mark.parametrize("granularity", ["token", "head"])
def test_decoding_step_by_step_is_the_uncached_forward_at_each_step(granularity: str) -> None:
    """1. ask() decodes greedily over the memory. 2. The dense forward over text, question and the answer so far says the next token."""
    engine = landmark_engine()
    documents = [{"id": "a", "text": "It was written by Ada Lund."}, {"id": "b", "text": "It has a score of 17."}]
    tokens = engine.reader.read(documents, ["Who wrote it?"], None)
    ids, landmark = [*tokens.prefix, *(t for part in tokens.segments.values() for t in part)], landmark_of(engine.model).token_id
    answer = engine.ask(documents, "Who wrote it?", strategy="landmark", max_new_tokens=12, k=-(-len(ids) // 7), chunk=16, granularity=granularity)
    so_far, own = list(tokens.questions[0]), []
    for _ in range(12):
        logits = dense_logits(engine.model, ids, so_far)[-1]
        logits[landmark] = -torch.inf
        own.append(int(logits.argmax()))
        so_far.append(own[-1])
        if own[-1] == 257:
            break
    assert list(answer.token_ids) == [t for t in own if t != 257]


def test_a_batch_padded_on_the_left_is_each_question_alone() -> None:
    engine, questions = landmark_engine(), [random_ids(n, seed=n) for n in (3, 11, 7)]
    for granularity in ("token", "head"):
        reading = read(engine, random_ids(200, seed=1), k=3, granularity=granularity)
        ids, mask = torch.full((3, 11), 258), torch.zeros(3, 11, dtype=torch.long)
        positions = torch.zeros(3, 11, dtype=torch.long)
        for row, question in enumerate(questions):
            ids[row, 11 - len(question) :], mask[row, 11 - len(question) :] = torch.tensor(question), 1
            positions[row, 11 - len(question) :] = torch.arange(len(question))
        with engine.model.landmark_reading(reading), torch.no_grad():
            together = engine.model.model(ids, attention_mask=mask, position_ids=positions).logits
        for row, question in enumerate(questions):
            alone = question_logits(engine.model, reading, question)
            torch.testing.assert_close(together[row, -len(question) :], alone, rtol=0, atol=1e-5)


def stingy(query: Tensor, keys: Tensor, values: Tensor, own: tuple[Tensor, Tensor], block: int, k: int, rope: Rope, layer: int, per_token: bool) -> Tensor:
    """The reading of a chunk written out, for one head: keys before rotation ``[T, D]``, every key rotated to where it is said to stand.

    1. Older blocks at the first place, the last k where they are: scores of all landmarks, the best k for each token (in the first layer
       the last ones of the older blocks), or for all tokens those with the largest weight.
    2. The chosen older ones packed from the left in order; the paper's softmax over them and the chunk.
    """
    many, size, scale = len(keys) // block, len(query), query.shape[-1] ** -0.5
    older = many - min(k, many)
    room = min(k, older)
    turn = lambda x, at: rotate(x, *rope.table(torch.tensor(at)))  # noqa: E731
    places = [(i - many) * block for i in range(older, many)]
    first = places[0] - room * block
    turned = turn(query, list(range(size)))
    own_keys = turn(own[0], list(range(size)))
    scores = torch.empty(size, many, dtype=query.dtype)
    for n in range(many):
        start = first if n < older else places[n - older]
        scores[:, n] = turned @ turn(keys[n * block + block - 1 : (n + 1) * block], [start + block - 1])[0]
    if layer == 0 and older:
        scores[:, :older] = scores[:, :1]  # to the last bit
        scores[:, : max(0, older - k)] = -torch.inf
    chosen = [sorted(range(many), key=lambda n: (-float(scores[t, n]), -n))[:k] for t in range(size)]
    own_blocks = torch.arange(size) // block
    is_landmark = torch.arange(size) % block == block - 1
    if not per_token:
        weight = torch.zeros(many, dtype=query.dtype)
        for t in range(size):
            mine = (own_blocks == own_blocks[t]) & ~is_landmark | (own_blocks < own_blocks[t]) & is_landmark
            shared = torch.cat(((turned[t] @ own_keys.T)[mine & (torch.arange(size) <= t)] * scale, scores[t, chosen[t]] * scale)).softmax(-1)
            for place, n in enumerate(chosen[t]):
                weight[n] = max(weight[n], shared[len(shared) - len(chosen[t]) + place])
        chosen = [weight.topk(min(k, many)).indices.tolist()] * size
    rows = []
    for t in range(size):
        read_keys, read_values, numbers = [], [], []
        for rank, n in enumerate(sorted(chosen[t])):
            start = first + rank * block if n < older else places[n - older]
            read_keys.append(turn(keys[n * block : (n + 1) * block], list(range(start, start + block))))
            read_values.append(values[n * block : (n + 1) * block])
            numbers += [n] * block
        row = turned[t] @ torch.cat([*read_keys, own_keys]).T * scale
        landmark = torch.arange(len(numbers) + size) % block == block - 1
        allowed = torch.arange(len(numbers) + size) <= len(numbers) + t
        weights = grouped_softmax_reference(row[None], own_blocks[t : t + 1] + many, torch.cat((torch.tensor(numbers), own_blocks + many)), landmark, allowed[None])
        rows.append((weights @ torch.cat([*read_values, own[1]]))[0])
    return torch.stack(rows)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize(("many", "k"), [(3, 4), (5, 3), (12, 3), (40, 2), (9, 1)])
def test_choice_and_places_are_what_is_said(many: int, k: int, per_token: bool, layer: int) -> None:
    draw = lambda *shape, seed: torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)  # noqa: E731
    block, rope = 4, Rope(torch.tensor([1.0, 0.25]), scaling=1.5)  # two of four pairs of dimensions turn
    keys, values = draw(2, many * block, 8, seed=1), draw(2, many * block, 8, seed=2)
    if layer == 0:
        keys[:, block - 1 :: block] = keys[:, block - 1 : block]  # as in every model
    query, own_keys, own_values = draw(1, 4, 8, 8, seed=3), draw(1, 2, 8, 8, seed=4), draw(1, 2, 8, 8, seed=5)
    memory = LandmarkMemory(block, many, many * block, [torch.device("cpu")] * 2)
    memory.add(SegmentKV("x", tuple(range(many * block)), (keys, keys), (values, values)))
    reading = LandmarkReading(memory, block, k, per_token, [rope, rope])
    with reading_blocks(reading):
        out, _ = landmark_attention(SimpleNamespace(layer_idx=layer), query, own_keys, own_values, None)  # type: ignore[arg-type]
    for head in range(4):
        kv = head // 2
        expected = stingy(query[0, head], keys[kv], values[kv], (own_keys[0, kv], own_values[0, kv]), block, k, rope, layer, per_token)
        torch.testing.assert_close(out[0, :, head], expected, rtol=0, atol=1e-6)


def test_positions_do_not_grow_with_the_text() -> None:
    reading = LandmarkReading(LandmarkMemory(8, 500, 80, []), 8, 3, True, [])
    for blocks, tokens in ((1, 8), (3, 23), (6, 48), (500, 3999)):
        reading.memory.blocks, reading.memory.tokens = blocks, tokens  # type: ignore[misc]
        starts = reading.places().starts.tolist()
        assert -positions_needed(3, 8, blocks) <= min(starts) and max(starts) < 0 and len(set(starts)) == len(starts) == min(6, blocks)
        assert starts[-1] == 8 * (blocks - 1) - tokens  # the last block at its true distance


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_faiss_reads_what_torch_reads(index: str) -> None:
    """Over 60 blocks a graph of neighbours finds all of them, too."""
    engine, question = landmark_engine(), random_ids(9, seed=2)
    ids = random_ids(400, seed=1)
    torch.testing.assert_close(
        question_logits(engine.model, read(engine, ids, k=3, index=index), question), question_logits(engine.model, read(engine, ids, k=3), question), rtol=0, atol=1e-5
    )
