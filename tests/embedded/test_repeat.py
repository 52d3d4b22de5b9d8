"""The same seed gives the same curve; so does a run that was killed and went on.

``GRAPHKV_REPEAT_STEPS=200 pytest tests/embedded/test_repeat.py`` does it at length.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphkv.train.metrics import read_metrics

STEPS = int(os.environ.get("GRAPHKV_REPEAT_STEPS", "8"))
CLOCK = ("minutes", "tokens_per_second")


def command(out: Path, *more: str) -> list[str]:
    args = ["--out", str(out), "--steps", str(STEPS), "--workers", "1", "--room", "1024", "--layers", "3", "--dtype", "float32", "--no-compile"]
    return [sys.executable, "-m", "graphkv_benchmarks.embedded.train", *args, "--log-every", "1", "--save-every", "0", "--seed", "5", *more]


def curve(out: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_metrics(out / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    subprocess.run(command(out), check=True, capture_output=True)
    return out


def test_same_seed_same_curve(whole: Path, tmp_path: Path) -> None:
    subprocess.run(command(tmp_path), check=True, capture_output=True)
    assert [line["step"] for line in curve(whole)] == list(range(1, STEPS + 1))
    assert curve(tmp_path) == curve(whole)


def test_killed_and_resumed_the_curve_is_the_same(whole: Path, tmp_path: Path) -> None:
    until = random.randint(2, STEPS - 1)
    run = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 600
    while len(read_metrics(tmp_path / "metrics.jsonl")) < until:
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    subprocess.run(command(tmp_path), check=True, capture_output=True)
    assert curve(tmp_path) == curve(whole), f"killed after {until} steps"


def test_other_settings_are_refused(whole: Path) -> None:
    run = subprocess.run(command(whole, "--muon-lr", "0.1"), capture_output=True, text=True)
    assert run.returncode != 0 and "other settings" in run.stderr and "muon_lr" in run.stderr
