"""Train the embedded model: ``python -m graphkv_benchmarks.embedded.train --out runs/embedded`` (``make train-embedded``).

Data-parallel over ``--workers`` single-threaded processes (on a two-core machine two of them are faster than one with two threads).
Everything that happens at a step depends on the seed and the step alone, never on the clock, so the same command gives the same curve,
and a run that was killed goes on from its last checkpoint as if nothing had been. ``metrics.jsonl`` has one line per ``--log-every``
steps, with the share of questions answered exactly by reading and kind; ``loss.png`` is drawn at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn import functional as F

from graphkv.errors import InputError
from graphkv.train import checkpoint
from graphkv.train.curve import draw_metrics
from graphkv.train.display import Display
from graphkv.train.metrics import MetricsLog

from .init import initialise
from .mixture import STAGES, draw_row, kinds
from .net import Net, Shape, pack
from .optim import Optimizer
from .vocabulary import load_tokenizer

TEXT_WEIGHT = 0.3
TEXT_ROWS = 512
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def learning_rate(step: int, steps: int, warm_up: int = 60) -> float:
    """Warm-up, then linear down to nearly nothing; a factor of the peak.

    A rate that stays at its peak learns the easy stages as fast but stands still in the hard ones: a cut to less than a half brought the
    loss from 0.28 to 0.23 within 40 steps.
    """
    return min(1.0, (step + 1) / warm_up) * max(0.01, 1 - step / steps)


def probe_weight(progress: float, until: float = 0.6, gone: float = 0.8) -> float:
    """The auxiliary attention targets stay for some time and are faded out."""
    return min(1.0, max(0.0, (gone - progress) / (gone - until)))


class Meter:
    """Sums of named numbers since the last report, equal on every worker after ``gather``."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, name: str, value: float, count: float = 1.0) -> None:
        self.sums[name][0] += value
        self.sums[name][1] += count

    def gather(self, workers: int) -> dict[str, tuple[float, float]]:
        parts: list[dict[str, list[float]] | None] = [dict(self.sums)]
        if workers > 1:
            parts = [None] * workers
            dist.all_gather_object(parts, dict(self.sums))
        total: dict[str, tuple[float, float]] = {}
        for part in parts:
            for name, (value, count) in (part or {}).items():
                before = total.get(name, (0.0, 0.0))
                total[name] = (before[0] + value, before[1] + count)
        self.sums.clear()
        return total


class Trainer:
    """One process of a run."""

    def __init__(self, args: argparse.Namespace, rank: int) -> None:
        self.args, self.rank = args, rank
        self.tokenizer = load_tokenizer(args.out)
        self.net = Net(Shape(vocab=len(self.tokenizer), layers=args.layers), DTYPES[args.dtype], args.compile)
        initialise(self.net, args.seed, seeded=not args.unaided)
        self.parameters = list(self.net.parameters())
        self.optimizer = Optimizer(self.net)
        self.state: dict[str, Any] = {"step": 0, "stage": 0, "stage_step": 0, "tokens": 0, "seconds": 0.0}
        self.meter = Meter()

    def settings(self) -> dict[str, Any]:
        """What a resumed run must share with the one before."""
        names = ("steps", "seed", "workers", "room", "muon_lr", "adam_lr", "aux", "layers", "unaided", "dtype", "log_every")
        return {name: getattr(self.args, name) for name in names}

    def resume(self) -> None:
        """Go on from the checkpoint in the folder, if there is one.

        Raises:
            SystemExit: it was made with other settings.
        """
        found = checkpoint.load(self.args.out)
        if found is None:
            return
        other = {k: (found.state["settings"][k], v) for k, v in self.settings().items() if found.state["settings"].get(k) != v}
        if other:
            raise SystemExit(f"{self.args.out} holds a run with other settings (there, here): {other}; use the same or another --out")
        self.net.load_state_dict(found.tensors["model"])
        self.optimizer.state = found.tensors["optimizer"]
        self.state = {k: v for k, v in found.state.items() if k != "settings"}

    def save(self) -> None:
        tensors = {"model": dict(self.net.state_dict()), "optimizer": self.optimizer.state}
        checkpoint.save(self.args.out, tensors, {**self.state, "settings": self.settings()})

    def step(self) -> None:
        """One update from ``rows`` packed rows on each worker."""
        args, step = self.args, int(self.state["step"])
        stage = STAGES[int(self.state["stage"])]
        aux_weight = 0.0 if args.unaided else probe_weight(step / args.steps)
        self.net.zero_grad(set_to_none=True)
        room = args.room // 2 if stage.name in ("induction", "one fact") else args.room
        seed = (args.seed * 1_000_003 + step) * 64 + self.rank
        drawn = draw_row(stage, seed, room, self.tokenizer, aux_weight > 0)
        row = pack([episode for _, episode in drawn], room, self.net.dtype)
        hidden, aux = self.net(row, aux_weight > 0)
        starts = list(zip(row.starts, drawn, strict=True))
        answers = self.net.logits(hidden[torch.cat([e.answer_at + at for at, (_, e) in starts])])
        wanted = torch.cat([e.answer_ids for _, e in drawn])
        loss = answer_loss = F.cross_entropy(answers, wanted)
        text_at = torch.cat([e.text_at + at for at, (_, e) in starts])
        if len(text_at):
            # A sample of the documents' own tokens is enough, and spares the wide output layer.
            some = torch.randperm(len(text_at), generator=torch.Generator().manual_seed(seed))[:TEXT_ROWS]
            text_ids = torch.cat([e.text_ids for _, e in drawn])
            loss = loss + TEXT_WEIGHT * F.cross_entropy(self.net.logits(hidden[text_at[some]]), text_ids[some])
        (loss + args.aux * aux_weight * aux).backward()
        self._measure(drawn, answers.argmax(-1) == wanted, {"loss": float(answer_loss), "aux": float(aux)}, row.tokens)
        self._update(learning_rate(step, args.steps))
        self.state["step"], self.state["stage_step"] = step + 1, self.state["stage_step"] + 1

    def _measure(self, drawn: Sequence[tuple[str, Any]], right: Tensor, losses: dict[str, float], tokens: int) -> None:
        for name, value in losses.items():
            self.meter.add(name, value)
        self.meter.add("tokens", tokens)
        self.meter.add("right", float(right.float().sum()), len(right))
        at = 0
        for label, episode in drawn:
            mine = right[at : at + len(episode.answer_at)]
            at += len(episode.answer_at)
            for index, kind in enumerate(kinds(episode.questions, label)):
                part = mine[episode.answer_question == index]
                self.meter.add("first", float(part[0]))
                self.meter.add("exact", float(part.all()))
                self.meter.add(f"exact.{kind}", float(part.all()))

    def _update(self, factor: float) -> None:
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in self.parameters])
        if self.args.workers > 1:
            dist.all_reduce(flat)
            flat /= self.args.workers
        norm = float(flat.norm())
        flat *= min(1.0, 1.0 / (norm + 1e-6))
        for parameter, grad in zip(self.parameters, flat.split([p.numel() for p in self.parameters]), strict=True):
            parameter.grad = grad.view_as(parameter)
        self.optimizer.step(self.args.muon_lr * factor, self.args.adam_lr * factor)
        self.meter.add("grad", norm)

    def report(self, seconds: float) -> dict[str, Any]:
        """The line of metrics for the steps since the last; enters the next stage when it is time."""
        stage, total = STAGES[int(self.state["stage"])], self.meter.gather(self.args.workers)
        self.state["tokens"] += int(total["tokens"][0])
        self.state["seconds"] += seconds
        progress = self.state["step"] / self.args.steps
        means = {k: round(v / max(n, 1e-9), 5) for k, (v, n) in sorted(total.items()) if k != "tokens"}
        accuracy = means.get("first", means["right"])
        line = {"step": self.state["step"], "stage": stage.name, "tokens": self.state["tokens"], "loss": means.pop("loss")}
        line |= {"accuracy": means.pop("right"), "lr": round(learning_rate(self.state["step"], self.args.steps), 4)}
        line |= {"aux_weight": 0.0 if self.args.unaided else round(probe_weight(progress), 3), **means}
        line |= {"minutes": round(self.state["seconds"] / 60, 2), "tokens_per_second": round(total["tokens"][0] / seconds)}
        if (accuracy > stage.leave_at and self.state["stage_step"] >= 60) or progress > stage.latest:
            self.state["stage"], self.state["stage_step"] = min(int(self.state["stage"]) + 1, len(STAGES) - 1), 0
        return line


def worker(rank: int, args: argparse.Namespace, port: int) -> None:
    """The training loop of one process."""
    torch.set_num_threads(args.threads)
    if args.workers > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=args.workers)
    trainer = Trainer(args, rank)
    trainer.resume()
    metrics = MetricsLog(args.out / "metrics.jsonl", int(trainer.state["step"])) if rank == 0 else None
    logged = saved = time.monotonic()
    until = min(args.steps, args.stop_at or args.steps)
    with Display(args.steps, int(trainer.state["step"])) as display:
        while trainer.state["step"] < until:
            trainer.step()
            if trainer.state["step"] % args.log_every and trainer.state["step"] != until:
                continue
            now = time.monotonic()
            line, logged = trainer.report(now - logged), now
            if metrics is None:
                continue
            metrics.write(line)
            display.step(int(trainer.state["step"]), f"{line['stage']}  loss {line['loss']:.3f}  first {line.get('first', 0):.3f}  {line['tokens_per_second']} tokens/s")
            if now - saved > args.save_every * 60:
                trainer.save()
                saved = time.monotonic()
    if rank == 0:
        trainer.save()
    if args.workers > 1:
        dist.destroy_process_group()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m graphkv_benchmarks.embedded.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint; an existing one is resumed")
    parser.add_argument("--steps", type=int, default=3600, help="the schedule is stretched over them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes; each adds a row to every step")
    parser.add_argument("--threads", type=int, default=1, help="threads a worker")
    parser.add_argument("--room", type=int, default=4096, help="tokens a row")
    parser.add_argument("--layers", type=int, default=Shape.layers)
    parser.add_argument("--unaided", action="store_true", help="the arm without attention targets and seeded weights")
    parser.add_argument("--muon-lr", type=float, default=0.008)
    parser.add_argument("--adam-lr", type=float, default=0.002)
    parser.add_argument("--aux", type=float, default=0.5, help="weight of the auxiliary attention targets")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16", help="of matrix products")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="torch.compile; needs a C++ compiler")
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-every", type=float, default=2.0, help="minutes; a kill loses no more")
    parser.add_argument("--stop-at", type=int, default=None, help="leave after this step of the same schedule (to look, to go on later)")
    args = parser.parse_args(argv)
    for name in ("steps", "workers", "threads", "room", "layers", "log_every"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    if args.layers < 3 and not args.unaided:
        parser.error(f"--layers must be at least 3, because seeded weights stand in the first three, got {args.layers}; or add --unaided")
    if args.stop_at and args.stop_at % args.log_every:
        parser.error(f"--stop-at must be a multiple of --log-every ({args.log_every}), so that the run goes on as if it had not stopped, got {args.stop_at}")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    load_tokenizer(args.out)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Keep freed memory: the sizes of episodes vary, and page faults would cost a third of the time. Naming one of these freezes
    # glibc's limit above which it maps memory afresh at 128 KiB, so that one is named too, at its maximum.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))
    os.environ.setdefault("MALLOC_TOP_PAD_", str(2**28))
    # Also with one worker: the settings above are read when a process starts.
    mp.spawn(worker, (args, port), nprocs=args.workers)  # type: ignore[attr-defined]
    try:
        draw_metrics(args.out / "metrics.jsonl", args.out / "loss.png")
    except InputError as error:  # a picture is no reason to lose the last line
        print(error, file=sys.stderr)
    found = checkpoint.load(args.out)
    print(json.dumps({"out": str(args.out), **({k: v for k, v in found.state.items() if k != "settings"} if found else {})}))


if __name__ == "__main__":
    main()
