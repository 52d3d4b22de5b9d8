"""The package and ours by turns, one process at a time: first whether they agree, then seconds and memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from graphkv.errors import InputError, ModelError, check_count

from ..machine import machine
from ..result_file import write_result
from .cases import ROWS, Row, job, make_cases, model_folder
from .compare import CAUSES, compare

HOW_TO_INSTALL = (
    "python3 -m venv peer && peer/bin/pip install -c constraints.txt torch transformers tiktoken scipy seaborn matplotlib "
    "&& peer/bin/pip install --no-deps infini-retri==0.0.3, then --peer peer/bin/python"
)

HOW = {
    "agreement.alone": "kept sentences after the last window, each side going its own way over the windows of the package, sentence by sentence as it cuts and tokenises them "
    "(the empty line that it puts behind every window counts to the last sentence there): shared = sum of the intersections over the sum of the unions, same = share of cases alike",
    "agreement.led": "share of windows in which the same sentences are chosen when ours reads exactly the tokens that the package read there",
    "agreement.differences": "for each case not alike the first window that differs, and why: up to there both kept the same. " + "; ".join(f"{k}: {v}" for k, v in CAUSES.items()),
    "seconds": "the whole public call of each, from text and question to the answer, ours with its own sentences and windows; a case's median over the repeats, summed over the cases; ratios "
    "of each repeat beside it",
    "scan_seconds": "of that, reading the windows and choosing",
    "peak_mb": "the largest rise of the resident set over any case (VmHWM) above what it was before the call: weights are not in it",
    "tokens": "tokens that the model was shown, all windows and all cases, with prompt and kept sentences",
    "process": "one process at a time, by turns in every repeat, the same number of threads, a short text first",
}

Report = Callable[[str], None]


def run_infini_retri_peer(
    peer: Path | str,
    rows: Sequence[Row] = ROWS,
    *,
    threads: int | None = None,
    seed: int = 1,
    max_new_tokens: int = 8,
    text: Path | None = None,
    output: Path | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Measure every row.

    Args:
        peer: the Python of the environment in which infini-retri is installed. threads: of both; all cores without it.
        text: a text of the user's own, instead of the invented ones. output: written after every row; rows that it holds already are not measured again.

    Raises:
        InputError: no such environment (says how to make it), no such text, or an output of something else. ModelError: a side failed; its last line says why.
    """
    check_count("max_new_tokens", max_new_tokens)
    if threads is not None:
        check_count("threads", threads)
    versions = peer_versions(peer)
    own_text = _read(text)
    threads = threads or torch.get_num_threads()
    common = {"threads": threads, "seed": seed, "max_new_tokens": max_new_tokens, "text": None if text is None else text.name, "peer": versions}
    done = _done(output)
    with tempfile.TemporaryDirectory(prefix="graphkv-peer-", dir=os.environ.get("GRAPHKV_BENCH_DIR")) as name:
        folder = Path(name)
        for row in rows:
            settings = {**asdict(row), **common}
            if any(r["settings"] == settings for r in done):
                continue
            if report:
                report(f"{row.model}, window {row.window:,}, {row.cases} cases")
            model = model_folder(row, folder, seed)
            told = job(row, make_cases(row.cases, row.tokens, seed, own_text), model, threads, max_new_tokens)
            measured = _measure(told, row.repeats, str(peer), folder, report)
            decode = AutoTokenizer.from_pretrained(model).decode
            done.append({"settings": settings, **summary(told, *measured, decode), "machine": machine() | {"threads": threads}})
            if output is not None:
                write_result(output, {"how": HOW, "rows": done})
    return {"how": HOW, "rows": done}


def peer_versions(peer: Path | str) -> dict[str, str]:
    """Versions in the peer's environment. Raises InputError if the package cannot be imported there."""
    script = "import json, infini_retri; from importlib.metadata import version; print(json.dumps({n: version(n) for n in ('infini-retri', 'torch', 'transformers')}))"
    try:
        ran = subprocess.run([str(peer), "-W", "ignore", "-c", script], capture_output=True, text=True, env=_environment(1))
    except OSError as error:
        raise InputError(f"{str(peer)!r} is no Python that can be run ({error.strerror}); infini-retri needs an environment of its own: {HOW_TO_INSTALL}") from error
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"infini-retri cannot be imported by {str(peer)!r} ({last}); it needs an environment of its own: {HOW_TO_INSTALL}")
    found: dict[str, str] = json.loads(ran.stdout.strip().splitlines()[-1])
    return found


def _read(text: Path | None) -> str | None:
    if text is None:
        return None
    try:
        return text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the text {str(text)!r} cannot be read: {error}") from error


def _done(output: Path | None) -> list[dict[str, Any]]:
    if output is None or not output.exists():
        return []
    try:
        rows = list(json.loads(output.read_text(encoding="utf-8"))["rows"])
        return [row for row in rows if row["settings"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{output} is not a result of this benchmark: choose another --output") from error


def _measure(told: dict[str, Any], repeats: int, peer: str, folder: Path, report: Report | None) -> tuple[list[Any], list[Any]]:
    """Results of the peer and of ours, one a repeat; ours is given what the peer read once, in the first."""
    place = folder / "job.json"
    place.write_text(json.dumps(told), encoding="utf-8")
    theirs: list[Any] = []
    ours: list[Any] = []
    script = str(Path(__file__).with_name("peer_runner.py"))
    for repeat in range(repeats):
        if report:
            report(f"repeat {repeat + 1} of {repeats}")
        out = [folder / f"{side}.json" for side in ("peer", "ours")]
        _run([peer, "-W", "ignore", script, str(place), str(out[0])], told["threads"], "infini-retri", report)
        known = () if repeat else (str(out[0]),)
        _run([sys.executable, "-m", "graphkv_benchmarks.infini_retri_peer.our_runner", str(place), str(out[1]), *known], told["threads"], "graphkv", report)
        for results, path in ((theirs, out[0]), (ours, out[1])):
            results.append(json.loads(path.read_text(encoding="utf-8"))["rows"])
    return theirs, ours


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _run(command: list[str], threads: int, name: str, report: Report | None) -> None:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=_environment(threads)) as process:
        last = ""
        for line in process.stderr or ():
            last = line.strip() or last
            if report and line.startswith(("peer: ", "ours: ")):
                report(line.strip())
    if process.returncode:
        raise ModelError(f"{name} did not get through: {last or f'exit code {process.returncode}'}" + (" (killed: it needs more memory)" if process.returncode == -9 else ""))


def summary(told: dict[str, Any], theirs: Sequence[Any], ours: Sequence[Any], decode: Callable[..., Any]) -> dict[str, Any]:
    """A row of the result from what the runners wrote, one list of cases a repeat."""
    expected = [case["answer"] for case in told["cases"]]
    shown = {"peer": sum(window["tokens"] for case in theirs[0] for window in case["windows"]), "ours": sum(case["tokens"] for case in ours[0])}
    sides = {"peer": theirs, "ours": ours}
    return {
        "agreement": compare(theirs[0], ours[0], decode),
        "seconds": _times(sides, "seconds"),
        "scan_seconds": _times(sides, "scan_seconds"),
        "peak_mb": _peaks(sides),
        "tokens": shown,
        "windows": sum(len(case["windows"]) for case in theirs[0]),
        "exact_answers": {side: sum(case["answer"].strip() == a for a, case in zip(expected, runs[0], strict=True)) for side, runs in sides.items()},
        "cases": [
            {"id": a["id"], **{side: [round(run[i]["seconds"], 3) for run in runs] for side, runs in sides.items()}, "answers": [a["answer"], ours[0][i]["answer"]]}
            for i, a in enumerate(theirs[0])
        ],
    }


def _times(sides: dict[str, Sequence[Any]], key: str) -> dict[str, Any]:
    """Sums over the cases of the medians over the repeats; how many times faster ours is, by them and in every repeat."""
    totals = {side: sum(statistics.median(run[i][key] for run in runs) for i in range(len(runs[0]))) for side, runs in sides.items()}
    each = [sum(c[key] for c in a) / sum(c[key] for c in b) for a, b in zip(sides["peer"], sides["ours"], strict=True)]
    return {**{side: round(total, 3) for side, total in totals.items()}, "times_faster": round(totals["peer"] / totals["ours"], 2), "each_repeat": [round(r, 2) for r in each]}


def _peaks(sides: dict[str, Sequence[Iterable[dict[str, Any]]]]) -> dict[str, float | None]:
    found = {side: [case["peak_mb"] for run in runs for case in run] for side, runs in sides.items()}
    if any(peak is None for peaks in found.values() for peak in peaks):
        return {"peer": None, "ours": None, "share": None}
    highest = {side: max(peaks) for side, peaks in found.items()}
    return {**highest, "share": round(highest["ours"] / highest["peer"], 4)}
