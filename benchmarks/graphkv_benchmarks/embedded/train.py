"""Train the embedded model: ``python -m graphkv_benchmarks.embedded.train --out runs/embedded --minutes 70``.

Data-parallel over ``--workers`` single-threaded processes (on a two-core machine two of them are faster than one with two threads).
Every ``--save-every`` minutes the folder holds a whole checkpoint (safetensors and JSON, the JSON last); the same command resumes.
``metrics.jsonl`` has one line per ``--log-every`` steps, with first-token accuracy by layout, style, hops and attribute.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from .curriculum import STAGES, draw, kinds
from .init import initialise
from .net import Net, Shape
from .optim import Optimizer
from .vocabulary import load_tokenizer

TEXT_WEIGHT = 0.3


def learning_rate(progress: float, step: int, warm_up: int = 60, decay_from: float = 0.5) -> float:
    """Warm-up by steps, stable, then a long linear decay over the share of time used; a factor of the peak."""
    return min(1.0, (step + 1) / warm_up) * min(1.0, max(0.03, (1 - progress) / (1 - decay_from)))


def probe_weight(progress: float, until: float = 0.55, gone: float = 0.7) -> float:
    """The auxiliary attention targets stay for the first half and are faded out."""
    return min(1.0, max(0.0, (gone - progress) / (gone - until)))


def save(folder: Path, net: Net, optimizer: Optimizer, state: dict[str, float]) -> None:
    """Write a checkpoint; ``state.json`` comes last and tells that the rest is whole."""
    for name, tensors in (("model", dict(net.state_dict())), ("optimizer", optimizer.state)):
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{name}.tmp")
        os.replace(folder / f"{name}.tmp", folder / f"{name}.safetensors")
    (folder / "state.tmp").write_text(json.dumps(state))
    os.replace(folder / "state.tmp", folder / "state.json")


def resume(folder: Path, net: Net, optimizer: Optimizer) -> dict[str, float]:
    """The state of the checkpoint in ``folder``, loaded, or a fresh one."""
    if not (folder / "state.json").exists():
        return {"step": 0, "stage": 0, "tokens": 0, "seconds": 0.0, "stage_step": 0}
    net.load_state_dict(load_file(folder / "model.safetensors"))
    optimizer.state = load_file(folder / "optimizer.safetensors")
    state: dict[str, float] = json.loads((folder / "state.json").read_text())
    return state


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


def worker(rank: int, args: argparse.Namespace, port: int) -> None:
    """The training loop of one process."""
    torch.set_num_threads(args.threads)
    if args.workers > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=args.workers)
    tokenizer = load_tokenizer(args.out)
    net = Net(Shape(vocab=len(tokenizer)))
    initialise(net, args.seed)
    optimizer = Optimizer(net)
    state = resume(args.out, net, optimizer)
    parameters = list(net.parameters())
    meter, total, started, saved = Meter(), args.minutes * 60.0, time.monotonic() - state["seconds"], time.monotonic()
    logged = time.monotonic()
    while True:
        # One clock for all workers, or they would leave the loop at different steps.
        clock = torch.tensor([time.monotonic() - started])
        if args.workers > 1:
            dist.broadcast(clock, 0)
        state["seconds"], step = float(clock), int(state["step"])
        progress = state["seconds"] / total
        if progress >= 1:
            break
        stage, aux_weight = STAGES[int(state["stage"])], probe_weight(progress)
        budget, episodes, tokens = (2000 if stage.name in ("induction", "one fact") else args.tokens) // args.workers, 0, 0
        net.zero_grad(set_to_none=True)
        while tokens < budget:
            seed = ((args.seed * 1_000_003 + step) * 64 + rank) * 4096 + episodes
            layout, episode = draw(stage, seed, tokenizer, aux_weight > 0)
            hidden, aux = net(episode.ids, episode.positions, episode.mask, episode.probes if aux_weight > 0 else None)
            predicted = net.logits(hidden[episode.answer_at])
            loss = answer_loss = F.cross_entropy(predicted, episode.answer_ids)
            if len(episode.text_at):
                loss = loss + TEXT_WEIGHT * F.cross_entropy(net.logits(hidden[episode.text_at]), episode.text_ids)
            (loss + args.aux * aux_weight * aux).backward()
            tokens, episodes = tokens + len(episode.ids), episodes + 1
            right = predicted.argmax(-1) == episode.answer_ids
            meter.add("loss", float(answer_loss.detach()))
            meter.add("aux", float(aux.detach()))
            meter.add("tokens_right", float(right.float().sum()), len(right))
            for index, kind in enumerate(kinds(episode.questions, layout)):
                mine = right[episode.answer_question == index]
                meter.add(f"first.{kind}", float(mine[0]))
                meter.add(f"exact.{kind.rsplit('.', 1)[0]}", float(mine.all()))
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
        flat /= episodes
        if args.workers > 1:
            dist.all_reduce(flat)
            flat /= args.workers
        norm = float(flat.norm())
        flat *= min(1.0, 1.0 / (norm + 1e-6))
        for parameter, grad in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = grad.view_as(parameter)
        factor = learning_rate(progress, step)
        optimizer.step(args.muon_lr * factor, args.adam_lr * factor)
        meter.add("grad", norm)
        meter.add("tokens", tokens)
        state["step"], state["stage_step"] = step + 1, state["stage_step"] + 1
        if state["step"] % args.log_every == 0:
            total_meter = meter.gather(args.workers)
            seen = total_meter["tokens"][0]
            state["tokens"] += seen
            first = [v for k, v in total_meter.items() if k.startswith("first.")]
            accuracy = (
                sum(v for v, _ in first) / max(sum(n for _, n in first), 1)
                if first
                else total_meter["tokens_right"][0] / total_meter["tokens_right"][1]
            )
            now = time.monotonic()
            if rank == 0:
                line: dict[str, object] = {k: round(v / max(n, 1e-9), 4) for k, (v, n) in sorted(total_meter.items()) if k != "tokens"}
                head = {"step": state["step"], "stage": stage.name, "minutes": round(state["seconds"] / 60, 2), "first": round(accuracy, 4)}
                head |= {
                    "tokens": int(state["tokens"]),
                    "per_second": round(seen / (now - logged)),
                    "lr": round(factor, 3),
                    "aux_weight": aux_weight,
                }
                with (args.out / "metrics.jsonl").open("a") as file:
                    file.write(json.dumps(head | line) + "\n")
                print(json.dumps(head | {k: line[k] for k in ("loss", "aux", "grad")}), flush=True)
            logged = now
            if (accuracy > stage.leave_at and state["stage_step"] >= 60) or progress > stage.latest:
                state["stage"], state["stage_step"] = min(int(state["stage"]) + 1, len(STAGES) - 1), 0
            if rank == 0 and now - saved > args.save_every * 60:
                save(args.out, net, optimizer, state)
                saved = now
    if rank == 0:
        save(args.out, net, optimizer, state)
        print(json.dumps({"done": True, "step": state["step"], "tokens": int(state["tokens"]), "minutes": args.minutes}), flush=True)
    if args.workers > 1:
        dist.destroy_process_group()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="graphkv_benchmarks.embedded.train", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint; an existing one is resumed")
    parser.add_argument("--minutes", type=float, default=70.0, help="training time; the schedule is stretched over it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="threads a worker")
    parser.add_argument("--tokens", type=int, default=4000, help="tokens a step, over all workers")
    parser.add_argument("--muon-lr", type=float, default=0.006)
    parser.add_argument("--adam-lr", type=float, default=0.0015)
    parser.add_argument("--aux", type=float, default=0.5, help="weight of the auxiliary attention targets")
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-every", type=float, default=2.0, help="minutes")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    load_tokenizer(args.out)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Give freed memory back late: the sizes of episodes vary, and page faults would cost a tenth of the time.
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**30))
    os.environ.setdefault("MALLOC_TOP_PAD_", str(2**28))
    if args.workers == 1:
        worker(0, args, port)
    else:
        mp.spawn(worker, (args, port), nprocs=args.workers)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
