"""graphkv's InfiniRetri over the same job, in graphkv's environment.

    python -m graphkv_benchmarks.infini_retri_peer.our_runner job.json result.json [the peer's result.json]

Timed is the public call, from the text to the answer. With the peer's result the scan is also run over exactly the windows that the peer read,
sentence by sentence: once by itself, and once led: in each window it reads what the peer read there, whatever it would have kept itself.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from graphkv import GraphKV
from graphkv.store import MemoryStore
from graphkv_retrieval.scan import Asked, Kept, Settings, scan
from graphkv_retrieval.sentences import Sentences

from ..memory import peak_mb
from .cases import TEMPLATE


def sentences_of(parts: list[list[int]]) -> Sentences:
    """Ready sentences, all of one segment."""
    ids = np.array([token for part in parts for token in part], dtype=np.int64)
    starts = np.append(0, np.cumsum([len(part) for part in parts])).astype(np.int64)
    return Sentences(ids, starts, np.zeros(len(parts), dtype=np.int64), ("text",))


def alone(engine: GraphKV, windows: list[dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Our scan over the peer's windows: after each the numbers of the kept sentences, counted over all `fresh` ones; and its seconds."""
    text = sentences_of([sentence for window in windows for sentence in window["fresh"]])
    ends = np.cumsum([0, *(len(window["fresh"]) for window in windows)])
    numbers = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    steps: list[list[int]] = []

    def note(step: int, kept: list[Kept]) -> None:
        steps.append(kept[0].sentences.tolist())

    start = time.perf_counter()
    scan(engine.model, text, numbers, windows[0]["prefix"], [_asked(windows[0])], settings, watcher=note)
    return {"kept": steps, "seconds": time.perf_counter() - start}


def led(engine: GraphKV, windows: list[dict[str, Any]], settings: Settings) -> list[list[int]]:
    """Our choice in each window when it reads exactly the peer's ids there: the places of the kept sentences, as the peer numbers them."""
    text = sentences_of([sentence for window in windows for sentence in window["sentences"]])
    ends = np.cumsum([0, *(len(window["sentences"]) for window in windows)])
    numbers = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    steps: list[list[int]] = []

    def lead(step: int, kept: list[Kept]) -> None:
        steps.append((kept[0].sentences - ends[step - 1]).tolist())
        kept[0].sentences = np.empty(0, dtype=np.int64)  # the peer's next window holds what it kept itself

    scan(engine.model, text, numbers, windows[0]["prefix"], [_asked(windows[0])], settings, watcher=lead)
    return steps


def _asked(window: dict[str, Any]) -> Asked:
    return Asked((*window["between"], *window["question"]), len(window["between"]))


def main(job_path: str, result_path: str, peer_path: str | None = None) -> None:
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    transformers.utils.logging.set_verbosity_error()
    engine = GraphKV.from_pretrained(job["model"], dtype=job["dtype"], store=MemoryStore(), template=TEMPLATE)
    options = {**job["settings"], "layers": -1, "heads": "all"}
    last = engine.model.config.num_hidden_layers - 1

    def read(case: dict[str, str]) -> Any:
        return engine.ask([{"id": "text", "text": case["text"]}], case["question"], strategy="infini_retri", max_new_tokens=job["max_new_tokens"], **options)

    read(job["warm_up"])
    peer = {} if peer_path is None else {row["id"]: row for row in json.loads(Path(peer_path).read_text(encoding="utf-8"))["rows"]}
    settings = Settings({last: None}, top_tokens=job["settings"]["top_tokens"], phrase=job["settings"]["phrase"])
    rows = []
    for case in job["cases"]:
        start = time.perf_counter()
        peak, answer = peak_mb(partial(read, case))
        seconds = time.perf_counter() - start
        row: dict[str, Any] = {"id": case["id"], "seconds": seconds, "peak_mb": peak, "answer": answer.text, "scan_seconds": answer.timings.encode}
        row |= {"tokens": answer.tokens_computed, "tokens_kept": answer.tokens_kept, "notes": answer.notes}
        if case["id"] in peer:
            windows = peer[case["id"]]["windows"]
            row |= {"alone": alone(engine, windows, settings), "led": led(engine, windows, settings)}
        rows.append(row)
        print(f"ours: {case['id']} {seconds:.2f} s", file=sys.stderr, flush=True)
    Path(result_path).write_text(json.dumps({"versions": {"torch": torch.__version__, "transformers": transformers.__version__}, "rows": rows}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
