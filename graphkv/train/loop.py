"""The trainer: rows → episodes → steps, with checkpoints on the way. Read :func:`train` first.

Everything a step does is a function of the settings, the rows and the step before it; the clock decides only when a checkpoint is
written. So a run that was killed and resumed makes the same steps as one that was not: to the last bit on one CPU with the same number of
threads; on CUDA some of torch's own backward kernels add in any order, and runs agree to rounding.
"""

from __future__ import annotations

import json
import random
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from graphkv.errors import InputError, LengthError
from graphkv.landmark import add_landmarks, has_landmarks, landmark_of
from graphkv.model import GraphModel
from graphkv.prompt import template_of
from graphkv.tokens import TokenReader
from graphkv.train.adapter import add_lora
from graphkv.train.checkpoint import Checkpoint, save
from graphkv.train.curve import draw_metrics
from graphkv.train.display import Display
from graphkv.train.episode import Episode
from graphkv.train.evaluate import evaluate
from graphkv.train.export import write_model
from graphkv.train.folder import open_run
from graphkv.train.interrupt import Interrupt
from graphkv.train.loss import episode_loss
from graphkv.train.metrics import Meter, MetricsLog, read_metrics
from graphkv.train.mixture import LANDMARK, Mixture
from graphkv.train.optim import Optimizer, fading, rate, restore_weights, rising
from graphkv.train.reading import reading_episode
from graphkv.train.rows import Order, Row, Rows
from graphkv.train.settings import TrainSettings

_SKIPS = 1000  # rows that do not fit, one after the other, before that is an error
_DRAW_SECONDS = 60.0  # between two drawings of the curves, at the least


def train(settings: TrainSettings) -> dict[str, Any]:
    """Train, or go on with the run in ``settings.out``; the same call after a kill, Ctrl-C or SIGTERM continues it.

    The folder then holds ``metrics.jsonl``, ``loss.png`` (where matplotlib is installed), two checkpoints, and when all steps are
    done ``model``, a Hugging Face folder (with LoRA: the weights with the adapter in them, and ``adapter`` by itself).

    Returns:
        A summary that JSON can hold: `done`, `step`, the last `loss`, `model` and so on; `stopped_by` names the signal.

    Raises:
        InputError: anything wrong with settings, rows or layouts; the folder holds something else, or a run with other settings.
        ModelError: the model cannot be loaded.

    Example:
        >>> train(TrainSettings("worlds.jsonl", "run", layouts="graph=2,block=1", steps=500))["model"]  # doctest: +SKIP
        'run/model'
    """
    mixture = Mixture.parse(settings.layouts, settings.options)
    if settings.landmark_block is not None and LANDMARK not in mixture.weights:
        raise InputError(f"landmark_block says how the landmark reading is trained, but layouts={settings.layouts!r} has no landmark: add landmark=1, say")
    for name in ("landmark_weight", "landmark_ramp"):
        if getattr(settings, name) and LANDMARK not in mixture.weights:
            raise InputError(f"{name} helps the landmark reading, but layouts={settings.layouts!r} has no landmark: add landmark=1, say, or leave it out")
    rows = Rows(settings.rows)
    held_out = Rows(settings.eval) if settings.eval is not None else None
    before, threads = torch.get_num_threads(), settings.threads
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with Interrupt() as interrupt:
            saved = open_run(Path(settings.out), {**settings.lasting(), "rows_digest": rows.digest}, settings.steps)
            run = _Run(settings, mixture, rows, held_out, saved, interrupt)
            with Display(settings.steps, run.step) as display:
                run.go(display)
            return run.finish()
    finally:
        torch.set_num_threads(before)


class _Run:
    """A run: the model, and all that a checkpoint keeps of it."""

    def __init__(
        self, settings: TrainSettings, mixture: Mixture, rows: Rows, held_out: Rows | None, saved: Checkpoint | None, interrupt: Interrupt
    ) -> None:
        self.settings, self.mixture, self.rows, self.held_out, self.interrupt = settings, mixture, rows, held_out, interrupt
        self.folder, self.order = Path(settings.out), Order(len(rows), settings.seed)
        self.model, self.adapter = _load(settings, LANDMARK in mixture.weights)
        self.reader = TokenReader(self.model, template_of(self.model.tokenizer), settings.max_segment_tokens)
        self.parameters = {name: p for name, p in self.model.model.named_parameters() if p.requires_grad}
        ends = [layer.weight for layer in (self.model.model.get_input_embeddings(), self.model.model.get_output_embeddings()) if layer is not None]
        self.optimizer = Optimizer(self.parameters, settings.lr, settings.weight_decay, settings.muon, ends)
        fresh: dict[str, Any] = {"step": 0, "episodes": 0, "skipped": 0, "tokens": 0, "seconds": 0.0, "sums": {}, "pending": False}
        state = saved.state if saved else fresh
        self.step, self.episodes, self.skipped, self.tokens = (int(state[key]) for key in ("step", "episodes", "skipped", "tokens"))
        self.seconds, self.meter = float(state["seconds"]), Meter(state["sums"])
        self.pending = bool(state["pending"])  # the step is made, its report is not
        self.speed_from = (self.tokens, self.seconds)
        if saved:
            restore_weights(self.parameters, saved.tensors["model"])
            self.optimizer.restore(saved.tensors["optimizer"])
        self.log = MetricsLog(self.folder / "metrics.jsonl", self.step)
        self.picture_missing: str | None = None
        self.drawn = -_DRAW_SECONDS

    def go(self, display: Display) -> None:
        """Steps until all are done or a signal came; then a checkpoint."""
        saved_at = time.monotonic()
        if self.pending:
            self._report(display)
        while self.step < self.settings.steps and self.interrupt.by is None:
            began = time.monotonic()
            numbers = self._train_step()
            self.seconds += time.monotonic() - began
            display.step(self.step, f"loss {numbers['loss']:.3f}, {numbers['accuracy']:.0%} right, {self._speed():,.0f} tokens/s")
            self._report(display)
            if time.monotonic() - saved_at >= self.settings.save_every * 60:
                self._save()
                saved_at = time.monotonic()
        self._save()

    def _train_step(self) -> dict[str, float]:
        """One optimizer step over episodes of `batch_tokens` tokens together; what it measured."""
        settings, model = self.settings, self.model.model
        torch.manual_seed(_seed(settings.seed, self.step))  # for dropout
        model.train()
        episodes, tokens, step = [], 0, Meter()
        while tokens < settings.batch_tokens:
            episodes.append(self._next_episode())
            tokens += len(episodes[-1].token_ids)
        self.optimizer.zero_grad()
        ramp = settings.landmark_ramp
        helps = {"landmark_weight": settings.landmark_weight * fading(self.step, settings.steps, ramp), "blend": rising(self.step, settings.steps, ramp)}
        for episode in episodes:
            with self._precision():
                loss, counts = episode_loss(self.model, episode, text_weight=settings.text_weight, kernel=settings.kernel, **helps)
            (loss / len(episodes)).backward()  # type: ignore[no-untyped-call]
            step.add("loss", counts.loss)
            step.add("accuracy", counts.right, counts.tokens)
            step.add("exact", counts.exact, counts.answers)
            if settings.text_weight:
                step.add("text_loss", counts.text_loss)
            if counts.divergence:
                step.add("landmark_divergence", counts.divergence)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), settings.clip or float("inf")))
        if norm != norm or norm == float("inf"):
            raise InputError(f"the gradient is not finite at step {self.step + 1}: lower lr, or train in float32; the last checkpoint stands")
        self.optimizer.step(rate(self.step, settings.steps, settings.warmup, settings.decay))
        self.step, self.tokens, self.pending = self.step + 1, self.tokens + tokens, True
        step.add("grad_norm", norm)
        for name, (value, count) in step.sums.items():
            self.meter.add(name, value, count)
        return step.means()

    def _next_episode(self) -> Episode:
        """The next row under the layout and with the questions that its place in the run draws."""
        for _ in range(_SKIPS):
            place, row = self.episodes, self.rows[self.order.row(self.episodes)]
            self.episodes += 1
            rng = random.Random(f"episode {self.settings.seed} {place}")
            layout = self.mixture.draw(rng)
            asked = list(row.questions)
            if self.settings.questions is not None and len(asked) > self.settings.questions:
                asked = rng.sample(asked, self.settings.questions)
            try:
                return self._episode(row, asked, layout)
            except LengthError:
                if not self.settings.skip_long:
                    raise
                self.skipped += 1
        raise InputError(f"{_SKIPS} rows of {self.rows.path} one after the other do not fit into the model's window: set max_segment_tokens or take shorter rows")

    def _episode(self, row: Row, asked: list[tuple[str, str]], layout: str) -> Episode:
        try:
            return reading_episode(self.reader, row.graph, asked, layout, self.mixture.options[layout])
        except InputError as error:
            raise type(error)(f"{row.where}: {error}") from error

    def _precision(self) -> Any:
        return torch.autocast(self.model.device.type, torch.bfloat16) if self.settings.dtype == "bfloat16" else nullcontext()

    def _report(self, display: Display) -> None:
        """Where it is due: held-out rows, and a line with the means since the last one. A signal during the former leaves it to the resumed run."""
        settings, measured = self.settings, {}
        last = self.step == settings.steps
        if self.held_out is not None and (last or self.step % settings.eval_every == 0):
            with self._precision():
                measured = evaluate(self.reader, self.held_out, self.mixture, settings.eval_rows, kernel=settings.kernel, stop=lambda: self.interrupt.by is not None)
            if not measured:
                return
            display.say(f"step {self.step}: " + "; ".join(f"{name} held-out loss {m['loss']:.3f}, {m['exact']:.0%} of answers" for name, m in measured.items()))
        self.pending = False
        if last or measured or self.step % settings.log_every == 0:
            line: dict[str, Any] = {"step": self.step, **self.meter.means(), "lr": self._rate(self.step - 1), "tokens": self.tokens}
            line |= {"epoch": self.episodes / len(self.rows), "tokens_per_second": round(self._speed(), 1), "seconds": round(self.seconds, 3)}
            line |= {"skipped": self.skipped} if self.skipped else {}
            self.log.write(line | ({"eval": measured} if measured else {}))
            self.meter.clear()
            self.speed_from = (self.tokens, self.seconds)

    def _rate(self, step: int) -> float:
        return self.settings.lr * rate(step, self.settings.steps, self.settings.warmup, self.settings.decay)

    def _speed(self) -> float:
        """Tokens a second since the last report."""
        tokens, seconds = self.speed_from
        return (self.tokens - tokens) / max(self.seconds - seconds, 1e-9)

    def _save(self) -> None:
        state = {key: getattr(self, key) for key in ("step", "episodes", "skipped", "tokens", "seconds", "pending")}
        tensors = {"model": dict(self.parameters), "optimizer": self.optimizer.tensors()}
        save(self.folder, tensors, {**state, "sums": self.meter.sums})
        if self.step < self.settings.steps and self.interrupt.by is None and time.monotonic() - self.drawn < _DRAW_SECONDS:
            return
        self.drawn = time.monotonic()
        try:
            draw_metrics(self.log.path, self.folder / "loss.png")
        except InputError as error:  # a picture is no reason to stop training
            self.picture_missing = str(error)

    def finish(self) -> dict[str, Any]:
        """Write the model if all steps are done; the summary."""
        done = self.step >= self.settings.steps and not self.pending
        lines = read_metrics(self.log.path)
        latest = lines[-1] if lines else {}
        summary: dict[str, Any] = {"done": done, "step": self.step, "steps": self.settings.steps, "out": str(self.folder), "metrics": str(self.log.path)}
        summary |= {key: latest[key] for key in ("loss", "accuracy", "exact", "tokens", "seconds", "eval") if key in latest}
        summary["loss_png"] = None if self.picture_missing else str(self.folder / "loss.png")
        if self.picture_missing:
            summary["note"] = self.picture_missing
        if self.skipped:
            summary["skipped"] = self.skipped
        if not done and self.interrupt.by is not None:
            summary["stopped_by"] = self.interrupt.by.name
        if done:
            written = write_model(self.model, self.folder / "model", getattr(torch, self.settings.dtype), self.adapter)
            summary |= {path.name: str(path) for path in written}
        return summary


def _load(settings: TrainSettings, landmarks: bool) -> tuple[GraphModel, Any]:
    """The model on its device, ready to be trained, and its adapter if it gets one."""
    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if settings.init == "scratch":
        model = GraphModel.with_random_weights(settings.model, seed=settings.seed, kernel=settings.kernel)
    else:
        # What is trained is float32; weights that LoRA leaves alone may be as small as the arithmetic.
        dtype = settings.dtype if settings.lora is not None else "float32"
        model = GraphModel.load(settings.model, dtype=dtype, kernel=settings.kernel)
    if landmarks:
        _with_landmarks(model, settings)
    adapter = add_lora(model, settings.lora, settings.seed) if settings.lora is not None else None
    try:
        model.model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch's answer to a device that is not there
        raise InputError(f"the model cannot be put on device {device!r}: {error}") from error
    return GraphModel(model.model, model.tokenizer, kernel=settings.kernel), adapter


def _with_landmarks(model: GraphModel, settings: TrainSettings) -> None:
    """See to it that a model that is to be read with landmarks has them, as long as the settings say."""
    block = settings.landmark_block
    if has_landmarks(model):
        if block not in (None, landmark_of(model).block):
            raise InputError(f"the model was trained with landmark blocks of {landmark_of(model).block} tokens, landmark_block is {block}: leave it out, or take another model")
    elif block is None:
        raise InputError("the model has no landmarks yet: say with landmark_block (--landmark-block 32) how many tokens a block is to have, its landmark included")
    elif settings.lora is not None:
        raise InputError("lora leaves the embeddings alone, so a landmark token could not be learned: train the weights first, or take a model that has landmarks")
    else:
        add_landmarks(model, block)


def _seed(seed: int, step: int) -> int:
    """One number for a seed and a step; steps of neighbouring seeds do not share any."""
    return random.Random(json.dumps([seed, step])).getrandbits(63)
