"""A training episode is what the engine reads, and its gradients are those of plain attention under a hand-made mask."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, tiny_engine, tiny_model
from torch.nn import functional as F

from graphkv import GraphKV, InputError, LengthError, SegmentGraph
from graphkv.train.episode import Episode, end_token, make_episode
from graphkv.train.loss import episode_loss

DOCUMENTS = [
    {"id": "a", "title": "Alpha", "text": "It rains.", "sources": ["b", "c"]},
    {"id": "b", "title": "Beta", "text": "The second one says more.", "sources": ["c"]},
    {"id": "c", "text": "No title </s> here."},
]
GRAPH = SegmentGraph.from_documents(DOCUMENTS)
QUESTIONS = [("Which?", "Beta"), ("What does it say?", "more rain"), ("Where?", "x")]
LAYOUTS: dict[str, dict[str, Any]] = {
    "graph": {},
    "graph rounds 2 final": {"rounds": 2, "view": "final", "positions": "paper", "prefix_visible": True},
    "graph_topk": {"m": 1},
    "block": {},
    "pcw": {},
    "ape": {"temperature": 0.8, "scale": 0.7},
    "sequential": {},
}
CHAT = "{{ bos_token }}{% for d in documents %}[{{ d.title }}] {{ d.text }}\n{% endfor %}{{ messages[-1].content + '\\n>\\n' }}"


def episode_of(engine: GraphKV, name: str, questions: list[tuple[str, str]] = QUESTIONS) -> Episode:
    return make_episode(engine.reader, GRAPH, questions, name.split()[0], LAYOUTS[name])


def mask_of(episode: Episode) -> torch.Tensor:
    """bool [T, T] from the blocks, pair by pair."""
    pattern = episode.pattern
    owner = torch.repeat_interleave(torch.arange(len(pattern.lengths)), torch.tensor(pattern.lengths))
    reads = torch.zeros(len(pattern.lengths), len(pattern.lengths), dtype=torch.bool)
    for i, sources in enumerate(pattern.reads):
        reads[i, list(sources)] = True
    causal = torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
    return reads[owner][:, owner] | ((owner[:, None] == owner[None]) & causal)


@pytest.mark.parametrize("template", [None, CHAT], ids=["plain", "chat"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_ids_positions_and_mask_are_the_engines(name: str, template: str | None) -> None:
    """1. The ids and positions that reach the model when the engine answers each question. 2. Those of the episode: the same
    context, and for each question its own block behind it. 3. Context and question i alone have the mask of the engine's plan;
    no question reads another."""
    engine = tiny_engine(chat_template=template)
    seen: list[Counter[tuple[int, int]]] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(Counter(zip(kwargs["input_ids"][0].tolist(), kwargs["position_ids"][0].tolist(), strict=True)))

    episode = episode_of(engine, name)
    split = episode.pattern.starts[-1 - len(QUESTIONS)]
    pairs = list(zip(episode.token_ids, episode.positions, strict=True))
    mask = mask_of(episode)
    for i, (question, answer) in enumerate(QUESTIONS):
        begin, stop = episode.pattern.span(len(episode.pattern.lengths) - len(QUESTIONS) + i)
        rows = [*range(split), *range(begin, stop)]
        engine.store.clear()
        seen.clear()
        handle = engine.model.model.register_forward_pre_hook(note, with_kwargs=True)
        engine.ask(DOCUMENTS, question, layout=name.split()[0], max_new_tokens=1, **LAYOUTS[name])
        handle.remove()
        assert sum(seen[:-1], Counter()) == Counter(pairs[:split])
        answered = (b"" if template else b" ") + answer.encode()
        assert [t for t, _ in pairs[begin:stop]][-len(answered) :] == list(answered_ids(answered))
        assert seen[-1] == Counter(pairs[begin : stop - len(answered)])
        plan = engine.plan(DOCUMENTS, episode.token_ids[begin:stop], layout=name.split()[0], **LAYOUTS[name])
        assert torch.equal(mask[rows][:, rows], plan.mask()) and [episode.positions[r] for r in rows] == plan.position_ids().tolist()
        for j in range(i):
            other = slice(*episode.pattern.span(len(episode.pattern.lengths) - len(QUESTIONS) + j))
            assert not mask[begin:stop, other].any() and not mask[other, begin:stop].any()


def answered_ids(text: bytes) -> list[int]:
    ids: list[int] = byte_tokenizer()(text.decode(), add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("name", LAYOUTS)
def test_likelihoods_are_those_of_the_engine(name: str) -> None:
    """Each answer's log-likelihood in the packed forward is what `engine.score` finds over its cache; the end token follows."""
    engine = tiny_engine()
    episode = episode_of(engine, name)
    with torch.no_grad():
        rows = engine.model.packed_logits(episode.token_ids, episode.positions, episode.pattern, impl="gather", keep=episode.answer_at)
    gained = rows.log_softmax(-1).gather(-1, episode.answer_ids[:, None])[:, 0]
    for i, (question, answer) in enumerate(QUESTIONS):
        mine = episode.answer_question == i
        assert int(episode.answer_ids[mine][-1]) == 257
        score = engine.score(DOCUMENTS, question, [f" {answer}"], layout=name.split()[0], **LAYOUTS[name])[0]
        assert float(gained[mine][:-1].sum()) == pytest.approx(float(score), abs=1e-3)


@pytest.mark.parametrize("name", ["graph", "sequential", "graph rounds 2 final"])
@pytest.mark.parametrize("arch", ["llama", "qwen2", "gemma2"])
def test_gradients_are_those_of_plain_attention(arch: str, name: str) -> None:
    """1. The episode's loss, and its gradient in every weight. 2. transformers' own eager forward over the same ids with a
    4-D mask, and the loss written out: gradients agree to float32 rounding."""
    engine = tiny_engine(arch)
    episode = episode_of(engine, name)
    loss, counts = episode_loss(engine.model, episode, text_weight=0.5)
    loss.backward()
    ours = {name: p.grad for name, p in engine.model.model.named_parameters()}

    plain = tiny_model(arch)
    mask = torch.zeros(1, 1, *mask_of(episode).shape).masked_fill(~mask_of(episode), torch.finfo(torch.float32).min)
    masks: Any = {"full_attention": mask, "sliding_attention": mask} if arch == "gemma2" else mask
    logits = plain(input_ids=torch.tensor([episode.token_ids]), position_ids=torch.tensor([episode.positions]), attention_mask=masks).logits[0]
    answers = F.cross_entropy(logits[episode.answer_at], episode.answer_ids)
    text = F.cross_entropy(logits[episode.text_at], episode.text_ids)
    (answers + 0.5 * text).backward()
    assert counts.loss == pytest.approx(float(answers.detach()), rel=1e-5) and counts.text_loss == pytest.approx(float(text.detach()), rel=1e-5)
    for weight, parameter in plain.named_parameters():
        assert parameter.grad is not None and ours[weight] is not None
        assert float((ours[weight] - parameter.grad).norm() / parameter.grad.norm()) < 1e-4, weight


def test_what_is_predicted_and_counted() -> None:
    engine = tiny_engine()
    episode = episode_of(engine, "graph")
    assert episode.answer_question.tolist() == [0] * 6 + [1] * 11 + [2] * 3
    for at, wanted, number in zip(episode.answer_at.tolist(), episode.answer_ids.tolist(), episode.answer_question.tolist(), strict=True):
        last = at + 1 == episode.pattern.span(len(episode.pattern.lengths) - 3 + number)[1]
        assert wanted == (257 if last else episode.token_ids[at + 1])
    starts = set(episode.pattern.starts)
    assert all(episode.token_ids[at + 1] == t and at + 1 not in starts for at, t in zip(episode.text_at.tolist(), episode.text_ids.tolist(), strict=True))
    assert len(episode.text_at) == sum(b.length - 1 for b in episode.layout.blocks if b.segment is not None)

    class Oracle:
        device = torch.device("cpu")

        def packed_logits(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            right = F.one_hot(episode.answer_ids, 300).float() * 50
            right[1] = right[1].roll(1)  # one wrong token in the first answer
            return right

    _, counts = episode_loss(Oracle(), episode)  # type: ignore[arg-type]
    assert (counts.right, counts.tokens, counts.exact, counts.answers) == (19, 20, 2, 3) and counts.loss == pytest.approx(50 / 20)


@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma3_text"])
def test_bfloat16_autocast(arch: str) -> None:
    """Weights stay float32; norms on queries and keys leave them in another dtype than values, which the kernel must not see."""
    engine = tiny_engine(arch)
    episode = episode_of(engine, "graph")
    with torch.no_grad():
        _, exact = episode_loss(engine.model, episode)
    with torch.autocast("cpu", torch.bfloat16):
        loss, counts = episode_loss(engine.model, episode)
    loss.backward()
    assert counts.loss == pytest.approx(exact.loss, rel=0.03)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in engine.model.model.parameters())


def test_end_token() -> None:
    engine = tiny_engine()
    generation = engine.model.model.generation_config
    generation.eos_token_id = [5, 257]
    assert end_token(engine.reader) == 257
    generation.eos_token_id = [5, 6]
    assert end_token(engine.reader) == 5  # generate would not stop at the tokenizer's
    generation.eos_token_id = None
    assert end_token(engine.reader) == 257
    engine.model.tokenizer.eos_token = None
    with pytest.raises(InputError, match="has an end token"):
        end_token(engine.reader)


def test_the_window_is_checked() -> None:
    engine = tiny_engine(max_position_embeddings=96)
    with pytest.raises(LengthError, match="window"):
        make_episode(engine.reader, GRAPH, [("Which?", "a" * 90)], "graph", {})
