"""Training with landmarks: what an episode holds, whose gradients it has, and whole runs through the trainer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, tiny_engine, tiny_model
from torch.nn import functional as F
from typer.testing import CliRunner

from graphkv import GraphKV, InputError, LengthError, SegmentGraph
from graphkv.cli import app
from graphkv.errors import LayoutError, UnsupportedModelError
from graphkv.landmark import LandmarkConfig, add_landmarks, landmark_of
from graphkv.train import TrainSettings, loop, train
from graphkv.train.checkpoint import load
from graphkv.train.episode import make_episode
from graphkv.train.landmark import landmark_episode
from graphkv.train.loss import episode_loss
from graphkv.train.metrics import read_metrics
from graphkv.train.mixture import Mixture
from graphkv.train.optim import Optimizer
from graphkv_kernels import LandmarkGroups, grouped_softmax_reference

GRAPH = SegmentGraph.from_documents([{"id": "a", "title": "Alpha", "text": "It rains."}, {"id": "b", "text": "The second one says more."}])
QUESTIONS = [("Which?", "Beta"), ("What does it say?", "more rain"), ("Where?", "x")]
BLOCK = 6


def marked_engine(arch: str = "llama", **overrides: Any) -> GraphKV:
    engine = tiny_engine(arch, **overrides)
    add_landmarks(engine.model, BLOCK)
    return engine


def test_an_episode_is_the_sequential_one_with_landmarks() -> None:
    """1. The sequential episode. 2. Without its landmarks the landmark one has the same tokens, answers and text in the same order.
    3. What is predicted is the next token of text, past a landmark where there is one; landmarks predict nothing. 4. Questions begin where the context ends."""
    engine = marked_engine()
    plain = make_episode(engine.reader, GRAPH, QUESTIONS, "sequential", {})
    episode = landmark_episode(engine.reader, GRAPH, QUESTIONS)
    groups = episode.pattern
    assert isinstance(groups, LandmarkGroups)
    mark = landmark_of(engine.model).token_id
    assert [t for t in episode.token_ids if t != mark] == plain.token_ids
    assert [t == mark for t in episode.token_ids] == list(groups.landmark)
    for name in ("answer_ids", "answer_question", "text_ids"):
        assert torch.equal(getattr(episode, name), getattr(plain, name))
    behind = [next(t for t in episode.token_ids[i + 1 :] if t != mark) for i in episode.text_at.tolist()]
    assert behind == episode.text_ids.tolist() and not any(groups.landmark[i] for i in episode.text_at.tolist())
    assert any(groups.landmark[i + 1] for i in episode.text_at.tolist())
    for at, wanted in zip(episode.answer_at.tolist(), episode.answer_ids.tolist(), strict=True):
        assert wanted == 257 or episode.token_ids[at + 1] == wanted
    size = sum(b == 0 for b in groups.branch)
    assert episode.positions[:size] == list(range(size))
    assert [p for p, b in zip(episode.positions, groups.branch, strict=True) if b == 2] == list(range(size, size + groups.branch.count(2)))
    assert groups.landmark[size - 1] and not any(groups.landmark[size:]) and len(set(groups.block[size:])) == len(QUESTIONS)


def reference_attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, scaling: float, groups: LandmarkGroups, **_: Any) -> Any:
    """transformers' eager attention, its softmax replaced by the definition."""
    shared = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(shared, 1).transpose(-1, -2) * scaling
    block = torch.tensor(groups.block)
    weights = grouped_softmax_reference(scores, block, block, torch.tensor(groups.landmark), groups.allowed())
    return (weights @ value.repeat_interleave(shared, 1)).transpose(1, 2).contiguous(), None


@pytest.mark.parametrize("arch", ["llama", "qwen3"])
def test_gradients_are_those_of_the_definition(arch: str) -> None:
    """1. The episode's loss and its gradient in every weight. 2. The model's own forward with its rotary embedding, the softmax of the definition and
    the loss written out: they agree to float32 rounding."""
    from transformers import AttentionInterface

    engine = marked_engine(arch)
    episode = landmark_episode(engine.reader, GRAPH, QUESTIONS)
    loss, counts = episode_loss(engine.model, episode, text_weight=0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    ours = {name: p.grad.clone() for name, p in engine.model.model.named_parameters()}
    net = engine.model.model
    net.zero_grad()
    AttentionInterface.register("landmark_reference", reference_attention)
    net.set_attn_implementation("landmark_reference")
    logits = net(input_ids=torch.tensor([episode.token_ids]), position_ids=torch.tensor([episode.positions]), groups=episode.pattern).logits[0]
    answers = F.cross_entropy(logits[episode.answer_at], episode.answer_ids)
    text = F.cross_entropy(logits[episode.text_at], episode.text_ids)
    (answers + 0.5 * text).backward()  # type: ignore[no-untyped-call]
    assert counts.loss == pytest.approx(float(answers.detach()), rel=1e-5) and counts.text_loss == pytest.approx(float(text.detach()), rel=1e-5)
    for weight, parameter in net.named_parameters():
        assert float((ours[weight] - parameter.grad).norm() / parameter.grad.norm()) < 1e-4, weight


def test_questions_do_not_see_one_another() -> None:
    engine = marked_engine()
    with torch.no_grad():
        every = landmark_episode(engine.reader, GRAPH, QUESTIONS)
        many = engine.model.packed_logits(every.token_ids, every.positions, every.pattern, keep=every.answer_at)
        for i, question in enumerate(QUESTIONS):
            one = landmark_episode(engine.reader, GRAPH, [question])
            alone = engine.model.packed_logits(one.token_ids, one.positions, one.pattern, keep=one.answer_at)
            torch.testing.assert_close(many[every.answer_question == i], alone, rtol=0, atol=1e-4)


def test_the_window_counts_landmarks() -> None:
    """The sequential episode fits a window that the one with landmarks does not."""
    engine = marked_engine(max_position_embeddings=96)
    question = [("Which?", "a" * 13)]
    assert len(make_episode(engine.reader, GRAPH, question, "sequential", {}).token_ids) < 96
    with pytest.raises(LengthError, match="with its landmarks the context has"):
        landmark_episode(engine.reader, GRAPH, question)
    sliding = marked_engine("mistral", sliding_window=96)
    assert len(make_episode(sliding.reader, GRAPH, question, "sequential", {}).token_ids) < 96
    with pytest.raises(LengthError, match=r"with its landmarks .* the model's window is 96"):
        landmark_episode(sliding.reader, GRAPH, question)


def test_second_derivatives_are_refused() -> None:
    engine = marked_engine()
    loss, _ = episode_loss(engine.model, landmark_episode(engine.reader, GRAPH, QUESTIONS))
    weight = engine.model.model.model.layers[0].self_attn.q_proj.weight
    first = torch.autograd.grad(loss, weight, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_helps_of_the_loss() -> None:
    """1. With a weight the divergence is added and counted. 2. At blend 0 landmarks change nothing: the loss is that of the same ids with landmarks
    hidden, and at blend 1 it is another. 3. Neither touches another layout's episode."""
    engine = marked_engine()
    episode = landmark_episode(engine.reader, GRAPH, QUESTIONS)
    with torch.no_grad():
        plain, _ = episode_loss(engine.model, episode)
        helped, counts = episode_loss(engine.model, episode, landmark_weight=0.5)
        assert counts.divergence > 0 and float(helped) == pytest.approx(float(plain) + 0.5 * counts.divergence, rel=1e-5)
        blended = [float(episode_loss(engine.model, episode, blend=b)[0]) for b in (0.0, 1.0)]
        engine.model.model.get_input_embeddings().weight[landmark_of(engine.model).token_id] *= -3
        again = [float(episode_loss(engine.model, episode, blend=b)[0]) for b in (0.0, 1.0)]
        assert again[0] == pytest.approx(blended[0], abs=1e-5) and abs(again[1] - blended[1]) > 1e-4
        other = make_episode(engine.reader, GRAPH, QUESTIONS, "graph", {})
        losses = [float(episode_loss(engine.model, other, landmark_weight=w, blend=b)[0]) for w, b in ((0.0, 1.0), (9.0, 0.2))]
        assert losses[0] == losses[1]


def test_mixture_and_settings() -> None:
    mixture = Mixture.parse("landmark=3,graph=1", {"rounds": 2})
    assert mixture.options == {"landmark": {}, "graph": {"rounds": 2}}
    with pytest.raises(LayoutError, match=r"valid: .*landmark"):
        Mixture.parse("landmarks")
    with pytest.raises(LayoutError, match="unknown option of landmark: 'rounds'"):
        Mixture.parse("landmark", {"rounds": 2})
    for changes, message in (
        ({"landmark_block": 1}, "landmark_block must be at least 2"),
        ({"landmark_block": 0}, "landmark_block must be a whole number"),
        ({"landmark_weight": -1.0}, "landmark_weight must be a number"),
        ({"landmark_ramp": 1.5}, "landmark_ramp must be a number from 0 to 1"),
        ({"muon": -0.1}, "muon must be a number"),
    ):
        with pytest.raises(InputError, match=message):
            TrainSettings("rows.jsonl", "out", **changes)  # type: ignore[arg-type]


def test_muon_takes_the_matrices_inside_the_layers() -> None:
    net = tiny_model(tie_word_embeddings=False)
    named = dict(net.named_parameters())
    optimizer = Optimizer(named, 1e-3, 0.0, 0.01, [net.get_input_embeddings().weight, net.get_output_embeddings().weight])
    for p in named.values():
        p.grad = torch.randn_like(p)
    optimizer.step(1.0)
    slots = {name: {key.rpartition(".")[2] for key in optimizer.tensors() if key.rpartition(".")[0] == name} for name in named}
    assert {name for name, kept in slots.items() if kept == {"momentum_buffer"}} == {name for name in named if "_proj" in name}
    assert slots["lm_head.weight"] == slots["model.norm.weight"] == {"exp_avg", "exp_avg_sq", "step"}


STEPS = 8
OPTIONS: dict[str, Any] = {
    "layouts": "landmark=3,sequential=1",
    "landmark_block": 8,
    "landmark_weight": 0.3,
    "landmark_ramp": 0.5,
    "muon": 0.01,
    "steps": STEPS,
    "batch_tokens": 200,
    "lr": 3e-3,
    "warmup": 2,
    "log_every": 1,
    "text_weight": 0.1,
    "seed": 3,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    tiny_model(initializer_range=0.02).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [{"documents": [{"id": "a", "text": f"It is {i}."}, {"id": "b", "text": "Old."}], "question": "Is it?", "answer": str(i)} for i in range(5)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def curve(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in ("tokens_per_second", "seconds")} for line in read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def straight(base: str, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "straight"
    assert train(TrainSettings(rows, out, base, eval=rows, eval_every=4, eval_rows=2, **OPTIONS))["done"]
    return out


def test_a_run_and_the_model_it_leaves(base: str, rows: Path, straight: Path, tmp_path: Path) -> None:
    lines = curve(straight)
    assert lines[-1]["loss"] < lines[0]["loss"] and set(lines[3]["eval"]) == {"landmark", "sequential"}
    assert lines[0]["landmark_divergence"] > 0
    model = GraphKV.from_pretrained(straight / "model").model
    assert landmark_of(model) == LandmarkConfig(8, 259)
    # It goes on from there without being told the block, and not with another.
    more = {**OPTIONS, "landmark_block": None, "steps": 1}
    assert train(TrainSettings(rows, tmp_path / "more", straight / "model", **more))["done"]
    with pytest.raises(InputError, match="landmark blocks of 8 tokens, landmark_block is 4"):
        train(TrainSettings(rows, tmp_path / "other", straight / "model", **{**more, "landmark_block": 4}))


def test_stopped_and_resumed(base: str, rows: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. A run that dies at a random step, with a checkpoint of the step before. 2. The same settings again: the curve and weights of the undisturbed run."""
    at, real = random.randint(2, STEPS), loop._Run._train_step

    def dying(run: Any) -> Any:
        if run.step + 1 == at:
            raise KeyboardInterrupt
        return real(run)

    settings = TrainSettings(rows, tmp_path / "run", base, eval=rows, eval_every=4, eval_rows=2, save_every=0.0, **OPTIONS)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(loop._Run, "_train_step", dying)
        train(settings)
    saved = load(tmp_path / "run")
    assert saved is not None and saved.state["step"] == at - 1
    assert train(settings)["done"]
    assert curve(tmp_path / "run") == curve(straight)
    ours, theirs = load(tmp_path / "run"), load(straight)
    assert ours is not None and theirs is not None
    assert all(torch.equal(ours.tensors["model"][name], theirs.tensors["model"][name]) for name in theirs.tensors["model"])


def test_what_does_not_go_together(base: str, rows: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"layouts": "graph", "landmark_block": 8}, "layouts='graph' has no landmark"),
        ({"layouts": "graph", "landmark_weight": 0.1}, "landmark_weight helps the landmark reading, but layouts='graph'"),
        ({"layouts": "sequential", "landmark_ramp": 0.1}, "landmark_ramp helps the landmark reading"),
        ({"layouts": "landmark"}, "has no landmarks yet: say with landmark_block"),
        ({"layouts": "landmark", "landmark_block": 8, "lora": 2}, "lora leaves the embeddings alone"),
    ):
        with pytest.raises(InputError, match=message):
            train(TrainSettings(rows, tmp_path / "run", base, steps=1, **changes))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModelError, match="was not trained with landmarks"):
        landmark_episode(tiny_engine().reader, GRAPH, QUESTIONS)


def test_the_command(base: str, rows: Path, tmp_path: Path) -> None:
    options = ["--layouts", "landmark", "--landmark-block", "8", "--landmark-weight", "0.1", "--landmark-ramp", "0.5", "--muon", "0.01", "--steps", "1", "--batch-tokens", "50"]
    done = CliRunner().invoke(app, ["train", str(rows), "--out", str(tmp_path / "run"), "--model", base, *options])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["graphkv_landmark"] == {"block": 8, "token_id": 259}
    refused = CliRunner().invoke(app, ["train", str(rows), "--out", str(tmp_path / "not"), "--model", base, "--landmark-block", "8"])
    assert refused.exit_code != 0
