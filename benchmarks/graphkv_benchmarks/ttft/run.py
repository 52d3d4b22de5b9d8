"""All rows of a run: one process each, the result file written after every row, ratios to transformers' own prefill."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from graphkv.errors import InputError, ModelError, check_count

from ..result_file import write_result
from .row import QUESTION, QWEN, Spec

SIZES: dict[int, int] = {512: 8, 2048: 8, 8192: 16, 32768: 64}
"""Context tokens → documents."""

MODELS = {QWEN: "bfloat16", "embedded": "float32"}
"""What is measured by default, and in which dtype."""

WAYS = {
    "sequential": "transformers alone: documents and question as one prompt through model.generate()",
    "cold_ego": "ask() with an empty store, layout graph: the first document reads all others; each is encoded once",
    "cold_nearest": "ask() with an empty store, layout graph: every document reads its four neighbours on a ring, so each is encoded twice",
    "warm_memory": "ask() with layout block, everything in a MemoryStore",
    "shuffled": "the same, the documents in another order at each repeat",
    "warm_disk": "the same from a FileStore whose pages were dropped from the system's cache before",
    "warm_disk_cached": "the same from a FileStore whose pages are in the system's cache",
}

HOW = {
    "ttft": f"seconds from the call to the first new token: lookup, checksums, rotation, assembly, and the question of {QUESTION} tokens; documents and question come "
    "as token ids. The median of the repeats; the ways take turns within each repeat, in one process a row, after a small warm-up row",
    "over_sequential": "the ttft of transformers' own prefill over this way's, same row",
    "decode_tokens_s": "tokens a second after the first one",
    "peak_mb": "the largest rise of the resident set over all repeats of a way (VmHWM); memory-mapped files count while they are mapped",
    "checked": "before timing: relative distance of sequential reading from the model's own forward, over so many tokens; and the logits over "
    "each store are, bit by bit, those of a cold encoding at full length",
    "store": "bytes of all files over raw tensors; reading every entry, checksums compared, against plain read of the same files",
    "documents": f"random token ids; the window is widened for timing. {QWEN}: the shape of that model with random weights",
}

Report = Callable[[str], None]


def run_ttft(
    models: Sequence[str] = tuple(MODELS),
    sizes: Iterable[int] = tuple(SIZES),
    *,
    dtype: str | None = None,
    repeats: int = 5,
    decode: int = 16,
    seed: int = 1,
    ways: Sequence[str] = tuple(WAYS),
    output: Path | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Measure every model at every context length.

    Args:
        models: names of :data:`MODELS`, folders or hub ids. sizes: context tokens; of 8 documents, of 16 from 8,192 tokens, of 64 from 32,768.
        dtype: for all models; else each has its own (bfloat16 for those not in :data:`MODELS`).
        output: rows that this file holds already, of the same settings, are not measured again; it is written after every row.

    Returns:
        ``{"how", "ways", "settings", "rows": [...]}``.

    Raises:
        InputError: unknown way, a number below 1, a size that its documents do not divide, or an output of other settings.
        ModelError: a row failed; its last line says why.
    """
    for name, value in (("repeats", repeats), ("decode", decode)):
        check_count(name, value)
    if unknown := [way for way in ways if way not in WAYS]:
        raise InputError(f"unknown way {unknown[0]!r}; valid: {', '.join(WAYS)}")
    if "sequential" not in ways:
        raise InputError("the way 'sequential' is what the others are compared with: it cannot be left out")
    settings = {"repeats": repeats, "decode": decode, "seed": seed, "question": QUESTION, "torch": torch.__version__, "transformers": transformers.__version__}
    rows, sizes = _done(output, settings), list(sizes)
    documents = {size: documents_for(size) for size in sizes}  # refuses a size before the first row is measured
    for size in sizes:
        for model in models:
            chosen = dtype or MODELS.get(model, "bfloat16")
            spec = Spec(model, chosen, size, documents[size], repeats, decode, seed, tuple(ways))
            if any((row["model"], row["dtype"], row["tokens"], set(row["ways"])) == (model, chosen, size, set(ways)) for row in rows):
                continue
            if report:
                report(f"{model}, {size:,} tokens")
            rows.append(_with_ratios(_in_a_process(spec, report)))
            rows.sort(key=lambda row: (row["model"], row["tokens"]))
            if output is not None:
                write_result(output, _result(settings, rows))
    return _result(settings, rows)


def documents_for(size: int) -> int:
    """8 documents, 16 from 8,192 tokens on, 64 from 32,768 on. Raises InputError if they do not divide the tokens evenly."""
    documents = max((d for s, d in SIZES.items() if s <= size), default=8)
    if size < 1 or size % documents:
        raise InputError(f"{size} tokens cannot be cut into {documents} equal documents: choose a multiple of {documents}")
    return documents


def _result(settings: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"how": HOW, "ways": WAYS, "settings": settings, "rows": rows}


def _done(output: Path | None, settings: dict[str, Any]) -> list[dict[str, Any]]:
    if output is None or not output.exists():
        return []
    try:
        before = json.loads(output.read_text(encoding="utf-8"))
        theirs, rows = before["settings"], list(before["rows"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{output} is not a result of this benchmark: choose another --output") from error
    if theirs != settings:
        apart = sorted(key for key in {*theirs, *settings} if theirs.get(key) != settings.get(key))
        raise InputError(f"{output} was measured with other settings ({', '.join(apart)}): delete it, or choose another --output")
    return rows


def _in_a_process(spec: Spec, report: Report | None) -> dict[str, Any]:
    command = [sys.executable, "-m", "graphkv_benchmarks.ttft.row", json.dumps(spec.__dict__)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        last = ""
        for line in process.stderr or ():
            last = line.strip() or last
            if report and line.startswith("repeat"):
                report(line.strip())
        out = (process.stdout.read() if process.stdout else "").strip()
    if process.returncode:
        raise ModelError(f"{spec.model} at {spec.tokens} tokens was not measured: {last or f'exit code {process.returncode}'}")
    row: dict[str, Any] = json.loads(out.splitlines()[-1])
    return row


def _with_ratios(row: dict[str, Any]) -> dict[str, Any]:
    base = row["ways"]["sequential"]["ttft"]
    for way in row["ways"].values():
        way["over_sequential"] = round(base / way["ttft"], 2)
    return row
