"""The trainer's own decoder: its attention against plain softmax, its logits against transformers, its packing against one by one."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from graphkv_benchmarks.citation_world import Recipe, make_needles, make_world
from graphkv_benchmarks.embedded.episodes import Episode, Reading, build, shortened
from graphkv_benchmarks.embedded.init import initialise
from graphkv_benchmarks.embedded.net import Blocks, Net, Shape, attend, pack, row_chunks
from graphkv_benchmarks.embedded.targets import CITING_WORDS
from graphkv_benchmarks.embedded.vocabulary import build_tokenizer

SHAPE = Shape(vocab=64, width=32, layers=3, heads=4, kv_heads=2, head_dim=8, ffn=24)


@pytest.fixture(scope="module", autouse=True)
def one_thread():  # type: ignore[no-untyped-def]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    return build_tokenizer()


def some_net(vocab: int = 64) -> Net:
    shape = Shape(**{**vars(SHAPE), "vocab": vocab})
    net = Net(shape)
    initialise(net, 3)
    return net


def random_blocks(tokens: int) -> Blocks:
    """Blocks of odd lengths; each reads some of those before it."""
    starts = [s for s in (0, 1, 30, 67, 110, 199) if s < tokens]
    reads = torch.rand(len(starts), len(starts), generator=torch.Generator().manual_seed(1)) < 0.5
    return Blocks([*starts, tokens], reads.tril(-1))


def test_blocks_say_who_reads_whom() -> None:
    """Literal rows: prefix, a, b reads a, a question reads all but the prefix."""
    reads = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)
    blocks = Blocks([0, 1, 3, 4, 6], reads)
    assert blocks.mask().int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 1],
    ]
    found = [(first, last, columns.tolist()) for first, last, columns in blocks.runs(3)]
    assert found == [(0, 3, [0, 1, 2]), (3, 6, [1, 2, 3, 4, 5])]
    assert torch.equal(blocks.shortened(3).mask(), blocks.mask()[:4, :4])


@pytest.mark.parametrize("most", [1, 40, 500])
def test_chunks_together_are_the_mask(most: int) -> None:
    blocks = random_blocks(200)
    whole = torch.zeros(200, 200, dtype=torch.bool)
    for chunk in row_chunks(blocks, 0, torch.float32, most):
        whole[chunk.rows, chunk.columns] = chunk.bias == 0
    assert torch.equal(whole, blocks.mask())


@pytest.mark.parametrize("tokens", [1, 63, 200])
def test_attention_and_its_gradients_equal_plain_softmax(tokens: int) -> None:
    """1. Chunks with the hand-written backward. 2. One softmax over the whole masked matrix, differentiated by autograd."""
    g = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(s, generator=g, requires_grad=True) for s in ((4, tokens, 8), (tokens, 2, 8), (tokens, 2, 8)))
    blocks, weight = random_blocks(tokens), torch.randn(tokens, 32, generator=g)
    ours = attend(query, key, value, row_chunks(blocks, 0, torch.float32, most=48))
    scores = query @ key.repeat_interleave(2, 1).permute(1, 2, 0)
    plain = scores.masked_fill(~blocks.mask(), float("-inf")).softmax(-1) @ value.repeat_interleave(2, 1).transpose(0, 1)
    plain = plain.transpose(0, 1).reshape(tokens, 32)
    assert torch.allclose(ours, plain, atol=1e-5)
    for a, b in zip(torch.autograd.grad((ours * weight).sum(), (query, key, value)), torch.autograd.grad((plain * weight).sum(), (query, key, value)), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_logits_are_those_of_transformers() -> None:
    net, ids = some_net(), torch.randint(3, 64, (70,), generator=torch.Generator().manual_seed(2))
    model = LlamaForCausalLM(LlamaConfig(**SHAPE.config(1, 2, 0))).eval()  # type: ignore[arg-type]
    model.load_state_dict(dict(net.state_dict()), strict=False)
    model.tie_weights()
    none = torch.zeros(0, dtype=torch.long)
    episode = Episode(ids, torch.arange(70), Blocks([0, 70], torch.zeros(1, 1, dtype=torch.bool)), none, none, none, none, none, {}, [])
    with torch.no_grad():
        ours = net.logits(net(pack([episode], 70))[0])
        theirs = model(ids[None]).logits[0]
    assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))


def test_a_row_of_several_episodes_is_each_by_itself(tokenizer) -> None:  # type: ignore[no-untyped-def]
    """Hidden states, the auxiliary loss and padding."""
    net = some_net(len(tokenizer))
    episodes = []
    for seed, reading in enumerate((Reading("graph"), Reading("sequential"), Reading("graph", {"rounds": 2}))):
        world = make_world(seed, 3, recipe=Recipe(facts=(1, 2)))
        episode = build(world, world.questions[:3], reading, tokenizer)
        # One layer's targets: the loss is a mean over layers of means over targets, which several would weigh differently.
        episodes.append(replace(episode, probes={1: episode.probes[1]}))
    row = pack(episodes, 1500)
    assert len(row.ids) == 1500 and row.tokens == sum(len(e.ids) for e in episodes)
    with torch.no_grad():
        together, aux = net(row, with_probes=True)
        apart = [net(pack([e], 0), with_probes=True) for e in episodes]
    for start, episode, (hidden, _) in zip(row.starts, episodes, apart, strict=True):
        assert torch.allclose(together[start : start + len(episode.ids)], hidden, atol=1e-5)
    counts = [len(e.probes[1].query) for e in episodes]
    mean = sum(count * float(loss) for count, (_, loss) in zip(counts, apart, strict=True)) / sum(counts)
    assert float(aux) == pytest.approx(mean, rel=1e-4)


def test_a_shortened_episode_keeps_whole_questions(tokenizer) -> None:  # type: ignore[no-untyped-def]
    world = make_world(5, 4)
    episode = build(world, world.questions[:8], Reading("graph"), tokenizer)
    for room in range(0, len(episode.ids) + 1, 37):
        short = shortened(episode, room)
        assert len(short.ids) <= room
        assert short.questions == episode.questions[: len(short.questions)]
        assert torch.equal(short.ids, episode.ids[: len(short.ids)])
        if short.questions:
            assert int(short.answer_at[-1]) == len(short.ids) - 1
            assert len(short.answer_ids) == len(short.answer_at) == len(short.answer_question)
        for probe in short.probes.values():
            assert int(probe.query.max()) < len(short.ids)


@pytest.mark.parametrize("reading", [Reading("graph"), Reading("graph", {"rounds": 3}), Reading("sequential"), Reading("block"), Reading("pcw")])
def test_attention_targets_are_allowed_and_hold_what_is_meant(tokenizer, reading: Reading) -> None:  # type: ignore[no-untyped-def]
    """Every target is a row that its query may read, and the last step's tokens are the answer's own."""
    rng = random.Random(0)
    for seed in range(12):
        world = make_needles(seed, 30) if seed % 4 == 3 else make_world(seed, 6, recipe=Recipe(styles=(0.3, 0.3, 0.4 * reading.resolves_bare)))
        questions = rng.sample(world.questions, min(12, len(world.questions)))
        episode = build(world, questions, reading, tokenizer)
        mask = episode.blocks.mask()
        for layer, probe in episode.probes.items():
            assert bool(mask[probe.query, probe.first].all()) and bool(mask[probe.query, probe.second].all()), layer
        for index, question in enumerate(questions):
            listed = any(world.paper(name).style == "numbered" for name in question.path[:-1])
            if question.type not in ("attribute", "needle") or listed:
                continue
            at = episode.answer_at[episode.answer_question == index]
            ids = episode.ids[at[1:]]
            probe = episode.probes[4 if question.type == "attribute" else 3]
            found = [episode.ids[probe.first[probe.query == row]][0] for row in at[:-1]]
            # A value that opens a sentence is written without the space before it: compare the letters.
            assert [tokenizer.decode(t).strip() for t in found] == [tokenizer.decode(t).strip() for t in ids]


@pytest.mark.parametrize("reading", [Reading("graph"), Reading("sequential")])
def test_missing_answers_look_at_the_prefix_and_citations_at_their_verb(tokenizer, reading: Reading) -> None:  # type: ignore[no-untyped-def]
    """Where the chain of a question without an answer breaks, its answer row looks at the prefix; there is no such row elsewhere."""
    broken = 0
    for seed in range(12):
        world = make_world(seed, 6, recipe=Recipe(styles=(0.3, 0.3, 0.4 * reading.resolves_bare), missing=seed % 3))
        questions = [q for q in world.questions if q.subject is not None]
        episode = build(world, questions, reading, tokenizer)
        said = {tokenizer.decode(episode.ids[row]).strip().lower() for row in episode.probes[0].first} if 0 in episode.probes else set()
        assert all(CITING_WORDS.fullmatch(word) for word in said)
        for index, question in enumerate(questions):
            row = int(episode.answer_at[episode.answer_question == index][0])
            # The last step stands in layer 5 where the chain goes through a reference list, else in layer 4.
            steps = [probe.first[probe.query == row].tolist() for probe in (episode.probes.get(5), episode.probes[4]) if probe is not None]
            last = next(rows for rows in steps if rows)
            assert (set(last) == {0}) == (question.type == "unanswerable") == (0 in last)
            broken += 0 in last
    assert broken > 20 and int(episode.ids[0]) == tokenizer.bos_token_id
