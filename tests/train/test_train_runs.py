"""Whole runs: one seed gives one curve, whatever a run is stopped by; what is left in the folder can be used."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, tiny_model
from typer.testing import CliRunner

from graphkv import GraphKV, InputError
from graphkv.cli import app
from graphkv.train import TrainSettings, loop, train
from graphkv.train.checkpoint import load
from graphkv.train.metrics import read_metrics

STEPS = 12
OPTIONS: dict[str, Any] = {"layouts": "graph=2,block=1,sequential=1", "steps": STEPS, "batch_tokens": 300, "lr": 3e-3, "warmup": 3, "log_every": 1, "seed": 3}


def write_rows(path: Path, count: int, answer: str = "") -> Path:
    """Rows of two or three short documents, some with one question and some with two."""
    lines = []
    for i in range(count):
        documents = [{"id": "a", "title": f"T{i}", "text": f"It is {i * 7 % 10}.", "sources": ["b"]}, {"id": "b", "text": f"Old {i}."}, {"id": "c", "text": "No."}]
        asked = [{"question": f"Is it {j}?", "answer": answer or f"{i * 7 % 10}"} for j in range(1 + i % 2)]
        row = {"documents": documents[: 2 + i % 2]}
        lines.append({**row, "questions": asked} if i % 3 else {**row, **asked[0]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def curve(folder: Path) -> list[dict[str, Any]]:
    """The metrics without what the clock decides."""
    return [{k: v for k, v in line.items() if k not in ("tokens_per_second", "seconds")} for line in read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    # initializer_range as models have it: from far off, a loss of 30 hides what is learned
    tiny_model(initializer_range=0.02).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 7)


@pytest.fixture(scope="module")
def straight(base: str, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    summary = train(TrainSettings(rows, out, base, eval=rows, eval_every=5, eval_rows=2, **OPTIONS))
    assert summary["done"] and summary["step"] == STEPS and json.loads(json.dumps(summary)) == summary
    return out


def settings(base: str, rows: Path, out: Path, **changes: Any) -> TrainSettings:
    return TrainSettings(rows, out, base, **{"eval": rows, "eval_every": 5, "eval_rows": 2, **OPTIONS, **changes})


def test_a_run_and_what_it_leaves(base: str, straight: Path) -> None:
    lines = curve(straight)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.5
    assert {"loss", "accuracy", "exact", "grad_norm", "lr", "tokens", "epoch"} <= set(lines[0])
    assert [line["step"] for line in lines if "eval" in line] == [5, 10, 12] and set(lines[4]["eval"]) == {"graph", "block", "sequential"}
    assert [line["lr"] for line in lines[:4]] == pytest.approx([1e-3, 2e-3, 3e-3, 3e-3]) and lines[-1]["lr"] < 3e-3
    assert (straight / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    before, after = GraphKV.from_pretrained(base), GraphKV.from_pretrained(straight / "model")
    saved = load(straight)
    assert saved is not None
    for name, weight in after.model.model.named_parameters():
        torch.testing.assert_close(weight, saved.tensors["model"][name], rtol=0, atol=0)
    assert not torch.equal(before.model.model.lm_head.weight, after.model.model.lm_head.weight)
    assert after.ask([{"id": "a", "text": "It is 1."}], "Is it?", max_new_tokens=2).text is not None


def test_one_seed_one_curve(base: str, rows: Path, straight: Path, tmp_path: Path) -> None:
    """1. The same settings in another folder, no held-out rows, saving all the time: the same curve to the last bit. 2. Another seed: another."""
    train(settings(base, rows, tmp_path / "again", eval=None, save_every=0.0))
    assert [{k: v for k, v in line.items() if k != "eval"} for line in curve(straight)] == curve(tmp_path / "again")
    train(settings(base, rows, tmp_path / "other", seed=4, steps=3))
    assert curve(tmp_path / "other")[0]["loss"] != curve(straight)[0]["loss"]


KILLED = """
import os, signal, sys
from graphkv.cli import app
from graphkv.train import loop

real = loop._Run._train_step

def step(run):
    if run.step + 1 == int(os.environ["KILL_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(run)

loop._Run._train_step = step
app()
"""


def test_killed_at_a_random_step_and_resumed(base: str, rows: Path, straight: Path, tmp_path: Path) -> None:
    """1. The command in a process of its own, which dies by SIGKILL at a random step. 2. The folder has a whole checkpoint of the
    step before. 3. The same settings again: the curve of the undisturbed run."""
    out, at = tmp_path / "run", random.randint(2, STEPS)
    options = [f"--{k.replace('_', '-')}={v}" for k, v in OPTIONS.items()]
    command = [sys.executable, "-c", KILLED, "train", str(rows), "--out", str(out), "--model", base, "--eval", str(rows), "--eval-every", "5", "--eval-rows", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KILL_AT": str(at)}
    done = subprocess.run([*command, "--save-every", "0", "--threads", "1", *options], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    saved = load(out)
    assert saved is not None and saved.state["step"] == at - 1 and not (out / "model").exists()
    assert train(settings(base, rows, out))["done"]
    assert curve(out) == curve(straight)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("during", ["_train_step", "evaluate"])
def test_a_signal_saves_and_leaves(base: str, rows: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, during: str) -> None:
    """1. The signal comes during the fifth step, or while held-out rows are read behind it. 2. The checkpoint stands at that
    step, and the handlers are the old ones. 3. Resumed, the curve is that of the undisturbed run: the held-out numbers are not lost."""
    before = signal.getsignal(number)
    calls = [0]
    owner: Any = loop._Run if during == "_train_step" else loop
    real = getattr(owner, during)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == (5 if during == "_train_step" else 1):
            signal.raise_signal(number)
        return real(*args, **kwargs)

    with monkeypatch.context() as m:
        m.setattr(owner, during, wrapped)
        summary = train(settings(base, rows, tmp_path / "run"))
    assert (summary["done"], summary["step"], summary["stopped_by"]) == (False, 5, number.name)
    assert signal.getsignal(number) is before
    saved = load(tmp_path / "run")
    assert saved is not None and saved.state["step"] == 5 and not (tmp_path / "run" / "model").exists()
    assert train(settings(base, rows, tmp_path / "run"))["done"]
    assert curve(tmp_path / "run") == curve(straight)


def test_means_between_two_lines_survive_a_stop(base: str, rows: Path, tmp_path: Path) -> None:
    """With a line every 4 steps, a run of 6 that is extended to 8 reports the mean of steps 5 to 8. The rate is constant: it knows the end otherwise."""
    change: dict[str, Any] = {"log_every": 4, "eval": None, "decay": 0.0}
    train(settings(base, rows, tmp_path / "long", steps=8, **change))
    original = loop._Run.go

    def until_six(run: Any, display: Any) -> None:
        run.settings = settings(base, rows, tmp_path / "short", steps=9, **change)
        real = run._train_step

        def counted() -> Any:
            numbers = real()
            if run.step == 6:
                run.interrupt.by = signal.SIGINT
            return numbers

        run._train_step = counted
        original(run, display)

    with pytest.MonkeyPatch.context() as m:
        m.setattr(loop._Run, "go", until_six)
        assert train(settings(base, rows, tmp_path / "short", steps=9, **change))["step"] == 6
    train(settings(base, rows, tmp_path / "short", steps=8, **change))
    assert curve(tmp_path / "short") == curve(tmp_path / "long")
    assert [line["step"] for line in curve(tmp_path / "long")] == [4, 8]


def test_a_short_fine_tune_of_the_embedded_model_lowers_the_loss(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 4, answer="nobody knows")
    train(TrainSettings(rows, tmp_path / "run", steps=6, batch_tokens=100, lr=5e-4, warmup=1, decay=0.0, log_every=1, layouts="graph=1,block=1"))
    losses = [line["loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert losses[-1] < losses[0] / 2


def test_from_scratch(base: str, rows: Path, tmp_path: Path) -> None:
    """A folder with a config and a tokenizer is enough; the seed decides the weights."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (bare / name).write_bytes((Path(base) / name).read_bytes())
    first = {}
    for name, seed in (("one", 1), ("same", 1), ("two", 2)):
        train(TrainSettings(rows, tmp_path / name, bare, init="scratch", seed=seed, steps=1, batch_tokens=50, log_every=1))
        first[name] = curve(tmp_path / name)[0]["loss"]
    assert first["one"] == first["same"] != first["two"]
    assert GraphKV.from_pretrained(tmp_path / "one" / "model").model.model.generation_config.eos_token_id == 257


def test_lora(base: str, rows: Path, tmp_path: Path) -> None:
    """1. Only the adapter is in the checkpoints, and a stopped run goes on to the same curve. 2. `model` is base + adapter: peft's
    own loading of the adapter gives its logits."""
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install -e '.[lora]'")
    options = {**OPTIONS, "steps": 4, "lora": 4, "lr": 1e-2}
    summary = train(TrainSettings(rows, tmp_path / "run", base, **options))
    saved = load(tmp_path / "run")
    assert saved is not None and all("lora_" in name for name in saved.tensors["model"]) and saved.tensors["model"]

    real = loop._Run._train_step
    with pytest.MonkeyPatch.context() as m:
        m.setattr(loop._Run, "_train_step", lambda run: (real(run), setattr(run.interrupt, "by", signal.SIGINT) if run.step == 2 else None)[0])
        assert not train(TrainSettings(rows, tmp_path / "again", base, **options))["done"]
    train(TrainSettings(rows, tmp_path / "again", base, **options))
    assert curve(tmp_path / "again") == curve(tmp_path / "run")

    merged = GraphKV.from_pretrained(summary["model"]).model.model
    ids = torch.arange(20)[None]
    plain = GraphKV.from_pretrained(base).model.model
    with torch.no_grad():
        untrained = plain(ids).logits
        adapted = peft.PeftModel.from_pretrained(plain, summary["adapter"])(ids).logits
        torch.testing.assert_close(merged(ids).logits, adapted, rtol=1e-4, atol=1e-4)
    assert float((adapted - untrained).abs().max()) > 1e-2


def test_without_matplotlib_training_goes_on(base: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    summary = train(settings(base, rows, tmp_path / "run", steps=1, eval=None))
    assert summary["done"] and summary["loss_png"] is None and "graphkv[viz]" in summary["note"]


def test_command_line(base: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line is JSON; the same command goes on; a signal is an exit code; an error is one line."""
    command = ["train", str(rows), "--out", str(tmp_path / "run"), "-m", base, "-l", "graph=1,block", "-o", "rounds=2", "--batch-tokens", "50"]
    runner = CliRunner()
    real = loop._Run._train_step
    with monkeypatch.context() as m:
        m.setattr(loop._Run, "_train_step", lambda run: (real(run), signal.raise_signal(signal.SIGTERM))[0])
        stopped = runner.invoke(app, [*command, "--steps", "2"])
    assert stopped.exit_code == 128 + signal.SIGTERM and json.loads(stopped.stdout.splitlines()[-1])["step"] == 1
    done = runner.invoke(app, [*command, "--steps", "2"])
    assert done.exit_code == 0 and json.loads(done.stdout.splitlines()[-1])["model"] == str(tmp_path / "run" / "model")
    wrong = runner.invoke(app, [*command, "--steps", "2", "--lr", "0.5"])
    assert wrong.exit_code == 2 and "lr was 0.0001 and is now 0.5" in wrong.stderr and wrong.stderr.count("\n") == 1


def test_a_gradient_that_is_not_finite_stops_the_run(base: str, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gradient is not finite at step \d"):
        train(settings(base, rows, tmp_path / "run", lr=1e30, warmup=0, clip=0.0, eval=None))
