"""A store with many blocks: how long listing, a look-up and a start take, and whether memory grows with what is on disk."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from graphkv.engine import GraphKV
from graphkv.errors import check_count
from graphkv.kv import SegmentKV
from graphkv.store import FileStore

from .machine import machine
from .memory import status_mb

HOW = {
    "ls_first": "`graphkv cache ls` as a process of its own, the first time: every header is read, the manifest is written",
    "ls_again": "the same with a manifest",
    "ls_interpreter": "`graphkv --version`, as a process: what the interpreter and the command line take of these",
    "start": "from FileStore(place) to a GraphKV over it, the model being loaded",
    "hit, miss": "one look-up in a store that was just opened: a block of 64 tokens read and verified; a key that is not there",
    "find_all": "look-ups of a hundred blocks, then of all, with the rise of the resident set that remains after each (MiB)",
    "seconds": "medians of the repeats; the first listing is measured once",
}


def run_store_size(engine: GraphKV, *, segments: int = 10_000, repeats: int = 5, report: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Fill a store in a temporary folder with `segments` blocks and measure it.

    Raises:
        InputError: a number below 1. StoreError: no room in the temporary folder (75 MB are needed for 10,000).
    """
    for name, value in (("segments", segments), ("repeats", repeats)):
        check_count(name, value)
    with tempfile.TemporaryDirectory(prefix="graphkv-size-") as folder:
        place = Path(folder) / "kv"
        keys = _fill(place, segments, report)
        first = _ls(place)
        seconds = {
            "ls_first": first,
            "ls_again": _median(lambda: _ls(place), repeats),
            "ls_interpreter": _median(lambda: _command("--version"), repeats),
            "start": _median(lambda: _timed(lambda: GraphKV(engine.model, store=FileStore(place), template=engine.template)), repeats),
            "hit": _median(lambda: _timed(lambda: FileStore(place).get(keys[-1], _IDS)), repeats),
            "miss": _median(lambda: _timed(lambda: FileStore(place).get("f" * 64, _IDS)), repeats),
        }
        memory = {"after_a_hundred_mb": _rise(place, keys[:100]), "after_all_mb": _rise(place, keys)}
    return {"machine": machine(), "how": HOW, "segments": segments, "seconds": {k: round(v, 5) for k, v in seconds.items()}, "memory": memory}


_IDS = tuple(range(64))


def _fill(place: Path, segments: int, report: Callable[[int, int], None] | None) -> list[str]:
    store = FileStore(place)
    layer = torch.randn(1, 64, 8).bfloat16()
    for number in range(segments):
        store.put(SegmentKV(f"{number * 2654435761 % 2**32:08x}{number:056x}", _IDS, (layer,) * 2, (layer,) * 2, f"doc{number}@0", "benchmark"))
        if report and number % 100 == 99:
            report(number + 1, segments)
    return sorted(store.keys())


def _ls(place: Path) -> float:
    return _command("cache", "ls", "--store", str(place), "--json")


def _command(*args: str) -> float:
    code = f"from graphkv.cli import app; app({list(args)!r})"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _rise(place: Path, keys: Sequence[str]) -> float | None:
    """In a process of its own: MiB that stay after every one of `keys` was looked up and let go."""
    code = "import sys, json; from graphkv_benchmarks.store_size import _look_up; print(json.dumps(_look_up(*json.load(sys.stdin))))"
    out = subprocess.run([sys.executable, "-c", code], input=json.dumps([str(place), list(keys)]), capture_output=True, text=True, check=True)
    rise: float | None = json.loads(out.stdout.splitlines()[-1])
    return rise


def _look_up(place: str, keys: list[str]) -> float | None:
    try:
        store = FileStore(place)
        store.get(keys[0], _IDS)
        gc.collect()
        before = status_mb("VmRSS")
        for key in keys:
            if store.get(key, _IDS) is None:
                raise LookupError(f"block {key} is not in the store")
        gc.collect()
        return round(status_mb("VmRSS") - before, 2)
    except OSError:
        return None


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _median(measure: Callable[[], float], repeats: int) -> float:
    return statistics.median(measure() for _ in range(repeats))
