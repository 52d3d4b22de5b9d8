"""How fast each attention kernel is on packed graphs, beside what the machine could do.

Every time stands beside the same run's causal SDPA over the same tokens and beside the same run's matrix product. Kernels
take turns within each repeat, so a busy machine slows all of them; medians are reported. Equality is checked before timing.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from graphkv_kernels import BlockPattern, available_kernels, block_mask, default_kernel, dense_mask, graph_attention
from graphkv_kernels.masked import attend_masked

from .machine import machine
from .memory import peak_mb

HOW = {
    "time": "median seconds over the repeats, kernels taking turns in each repeat, after one warm-up call",
    "heads_measured": "a call whose floating-point operations are beyond the budget (10e9) runs on the heads of one key head, and its time "
    "is multiplied by the number of key heads; all sparse kernels of a shape do so together; causal runs on one query head then; peak_mb is that of the reduced call",
    "efficiency": "4 * D * heads * allowed pairs / (seconds * matmul peak); the peak is the fastest of this dtype's and float32's product",
    "efficiency_over_causal": "that efficiency over the one causal SDPA reaches on its own, larger, number of pairs",
    "peak_mb": "rise of the resident set's high-water mark (VmHWM, reset through /proc/self/clear_refs after malloc_trim) over the "
    "resident set just before the warm-up call; None where Linux does not offer it",
    "masked": "what `gather` does when gradients are needed: one masked call for each block, no merge",
    "sdpa_bool": "torch's SDPA with the whole boolean mask",
    "causal": "torch's causal SDPA over the same packed tokens: another answer, the price of reading everything in one sequence",
}
GRAPHS: dict[str, tuple[tuple[int, int], ...]] = {"star": ((16, 256), (16, 512), (64, 256)), "nearest": ((16, 256), (16, 512), (64, 256))}
HEADS = ((14, 2, 64), (32, 8, 128))
DTYPES = (torch.float32, torch.bfloat16)
# Beyond this many operations a call runs on one key head (see HOW).
_BUDGET = 10e9
# Tokens up to which a whole mask, and the oracle's logits of one key head, are affordable.
_DENSE_TOKENS = 4096

Call = Callable[[], Tensor]
Clock = Callable[[], float]


class Shape(NamedTuple):
    """One row of the benchmark."""

    graph: str
    segments: int
    tokens_each: int
    heads: int
    kv_heads: int
    dim: int
    dtype: torch.dtype
    pattern: BlockPattern
    queries: int


class _Runner(NamedTuple):
    call: Call
    heads: int  # how many of the query heads the call covers
    pairs: int


def star(segments: int, tokens: int) -> BlockPattern:
    """One centre, the last segment, reads all the others: an ego graph."""
    return BlockPattern((tokens,) * segments, ((),) * (segments - 1) + (tuple(range(segments - 1)),))


def nearest(segments: int, tokens: int, neighbours: int = 4) -> BlockPattern:
    """Every segment is encoded alone, then again reading its nearest segments on a ring: two blocks a segment."""
    steps = [step for distance in range(1, neighbours // 2 + 1) for step in (-distance, distance)]
    reads = tuple(tuple(sorted({(segment + step) % segments for step in steps})) for segment in range(segments))
    return BlockPattern((tokens,) * (2 * segments), ((),) * segments + reads)


def question(tokens: int, keys: int) -> BlockPattern:
    """A short question reads a long cached context."""
    return BlockPattern((keys, tokens), ((), (0,)))


def grid(*, quick: bool = False) -> list[Shape]:
    """The shapes measured; `quick` keeps one small one of each kind."""
    build = {"star": star, "nearest": nearest}
    rows = []
    for dtype in DTYPES:
        for heads, kv_heads, dim in HEADS[:1] if quick else HEADS:
            for graph, sizes in GRAPHS.items():
                for segments, tokens in ((4, 256),) if quick else sizes:
                    pattern = build[graph](segments, tokens)
                    rows.append(Shape(graph, segments, tokens, heads, kv_heads, dim, dtype, pattern, pattern.tokens))
            keys = 2_000 if quick else 30_000
            rows.append(Shape("question", 1, keys, heads, kv_heads, dim, dtype, question(20, keys), 20))
    return rows


def run_attention_bench(
    *, quick: bool = False, repeats: int = 5, threads: int | None = None, cpu_time: bool = False, output: str | Path | None = None
) -> dict[str, Any]:
    """Measures every kernel that runs here on every shape of the grid.

    Args:
        quick: one small shape of each kind, for a look or a test.
        repeats: timed calls of each kernel.
        threads: torch's threads; as they are by default.
        cpu_time: count the process's seconds on the CPU and not those on the wall: for a machine that others use. Takes one thread.
        output: a file to write the result to, as JSON.

    Returns:
        The machine, how each number was taken, one entry a shape, the block mask's cost, and the targets with whether they were met.

    Raises:
        ArithmeticError: a kernel's numbers differ from the oracle's, so its speed means nothing.

    Example:
        >>> run_attention_bench(quick=True, repeats=1)["shapes"][0]["graph"]  # doctest: +SKIP
        'star'
    """
    clock = time.process_time if cpu_time else time.perf_counter
    before = torch.get_num_threads()
    if cpu_time:
        threads = 1  # waiting for another thread would count as work
    if threads is not None:
        torch.set_num_threads(threads)
    if output is not None:  # before the minutes of measuring, not after
        Path(output).parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    try:
        with torch.inference_mode():
            shapes = [_measure(shape, repeats, clock) for shape in grid(quick=quick)]
            mask = _measure_block_mask(repeats, clock)
        result: dict[str, Any] = {
            "machine": machine(),
            "how": HOW,
            "clock": "cpu" if cpu_time else "wall",
            "repeats": repeats,
            "shapes": shapes,
            "block_mask": mask,
            "targets": _targets(shapes),
        }
        result["seconds"] = round(time.perf_counter() - started, 1)
    finally:
        torch.set_num_threads(before)
    if output is not None:
        Path(output).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _runners(shape: Shape, q: Tensor, k: Tensor, v: Tensor) -> dict[str, _Runner]:
    """What can be measured on a shape, the default kernel first."""
    pattern, group = shape.pattern, shape.heads // shape.kv_heads
    pairs = pattern.allowed_pairs(shape.queries)
    offset = pattern.tokens - shape.queries
    one = (q[:, :group], k[:, :1], v[:, :1])
    whole = 4 * shape.dim * shape.heads * pairs <= _BUDGET
    sparse, covered = ((q, k, v), shape.heads) if whole else (one, group)
    missing = available_kernels()
    runners = {
        name: _Runner(partial(graph_attention, *sparse, pattern, impl=name), covered, pairs)
        for name in ("gather", "flex")
        if missing[name] is None
    }
    runners["masked"] = _Runner(lambda: attend_masked(*sparse, pattern, shape.dim**-0.5, None), covered, pairs)
    if shape.queries * pattern.tokens <= _DENSE_TOKENS**2:
        mask = dense_mask(pattern, shape.queries)
        runners["dense"] = _Runner(lambda: graph_attention(*one, pattern, impl="dense"), group, pairs)
        runners["sdpa_bool"] = _Runner(lambda: scaled_dot_product_attention(*one, attn_mask=mask, enable_gqa=True), group, pairs)
    if offset == 0:
        causal_pairs = pattern.tokens * (pattern.tokens + 1) // 2
        whole = 4 * shape.dim * shape.heads * causal_pairs <= _BUDGET
        inputs = (q, k, v) if whole else (q[:, :1], k[:, :1], v[:, :1])
        causal = partial(scaled_dot_product_attention, *inputs, is_causal=True, enable_gqa=True)
        runners["causal"] = _Runner(causal, inputs[0].shape[1], causal_pairs)
    else:
        # One call over all keys; the few pairs of the question's own triangle do not matter here.
        runners["causal"] = _Runner(
            lambda: scaled_dot_product_attention(q, k, v, enable_gqa=True), shape.heads, shape.queries * pattern.tokens
        )
    return runners


def _measure(shape: Shape, repeats: int, clock: Clock) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def draw(heads: int, tokens: int) -> Tensor:
        return torch.randn(1, tokens, heads, shape.dim, generator=generator).to(shape.dtype).transpose(1, 2)

    q, k, v = draw(shape.heads, shape.queries), draw(shape.kv_heads, shape.pattern.tokens), draw(shape.kv_heads, shape.pattern.tokens)
    runners = _runners(shape, q, k, v)
    peaks, errors = _warm_up(shape, runners)
    # Without bfloat16 units its product is emulated and very slow, so a small one will do.
    products = [torch.randn(1024, 1024), torch.randn(256, 256).to(shape.dtype)]
    times: dict[str, list[float]] = {name: [] for name in runners}
    flops: list[float] = []
    for _ in range(repeats):
        for name, runner in runners.items():
            times[name].append(_seconds(runner.call, clock))
        flops += [2 * x.shape[0] ** 3 / _seconds(partial(torch.matmul, x, x), clock) for x in products for _ in range(3)]
    peak = max(flops)
    kernels = {name: _entry(shape, runner, statistics.median(times[name]), peak, peaks[name]) for name, runner in runners.items()}
    default, causal = kernels[default_kernel()], kernels["causal"]
    for name, entry in kernels.items():
        entry["over_default"] = round(entry["seconds"] / default["seconds"], 3)
        entry["over_causal"] = round(entry["seconds"] / causal["seconds"], 3)
        entry["efficiency_over_causal"] = round(entry["efficiency"] / causal["efficiency"], 3)
        if name in errors:
            entry["relative_error"], entry["compared_with"] = errors[name]
    return {
        "graph": shape.graph,
        "segments": shape.segments,
        "tokens_each": shape.tokens_each,
        "queries": shape.queries,
        "keys": shape.pattern.tokens,
        "heads": [shape.heads, shape.kv_heads, shape.dim],
        "dtype": str(shape.dtype).removeprefix("torch."),
        "allowed_pairs": shape.pattern.allowed_pairs(shape.queries),
        "matmul_gflops": round(peak / 1e9, 1),
        "load": [round(x, 2) for x in os.getloadavg()],
        "kernels": kernels,
    }


def _entry(shape: Shape, runner: _Runner, seconds: float, peak: float, peak_mb: float | None) -> dict[str, Any]:
    share = shape.heads / runner.heads
    work = 4 * shape.dim * shape.heads * runner.pairs
    return {
        "seconds": round(seconds * share, 5),
        "heads_measured": runner.heads,
        "efficiency": round(work / (seconds * share * peak), 4),
        "peak_mb": peak_mb,
    }


def _warm_up(shape: Shape, runners: dict[str, _Runner]) -> tuple[dict[str, float | None], dict[str, tuple[float, str]]]:
    """Each kernel once: its memory, and its distance from the oracle (from the default kernel where the oracle is too large)."""
    peaks, outputs = {}, {}
    for name, runner in runners.items():
        if name == "flex":
            runner.call()  # the compiler's memory is not the kernel's
        peaks[name], outputs[name] = peak_mb(runner.call)
    del outputs["causal"]
    reference = "dense" if "dense" in outputs else default_kernel()
    bound = 1e-5 if shape.dtype == torch.float32 else 2**-7  # one unit in the last place of bfloat16's largest output
    errors = {}
    for name, out in outputs.items():
        heads = min(out.shape[1], outputs[reference].shape[1])
        expected = outputs[reference][:, :heads].float()
        error = ((out[:, :heads].float() - expected).abs().max() / expected.abs().max()).item()
        if not error <= bound:
            raise ArithmeticError(f"{name} differs from {reference} by {error:.1e} on {shape.graph} {shape.dtype}, more than {bound:.1e}")
        errors[name] = (float(f"{error:.2g}"), reference)
    return peaks, errors


def _seconds(call: Callable[[], object], clock: Clock) -> float:
    started = clock()
    call()
    return clock() - started


def _measure_block_mask(repeats: int, clock: Clock) -> dict[str, Any]:
    """A hundred thousand tokens in four hundred segments."""
    rows = {}
    for name, pattern in (("star", star(400, 250)), ("nearest", nearest(400, 125))):
        block_mask(pattern)
        peak, times = _mask_peak(pattern), [_seconds(partial(block_mask, pattern), clock) for _ in range(max(repeats, 5))]
        rows[name] = {
            "tokens": pattern.tokens,
            "blocks": len(pattern.lengths),
            "median_ms": round(statistics.median(times) * 1e3, 1),
            "best_ms": round(min(times) * 1e3, 1),
            "peak_mb": peak,
        }
    return rows


def _mask_peak(pattern: BlockPattern) -> float | None:
    return peak_mb(lambda: block_mask(pattern).kv_num_blocks)[0]


def _targets(shapes: list[dict[str, Any]]) -> dict[str, Any]:
    """The two promises of the default kernel, over all shapes."""
    ratios, fastest = [], []
    for shape in shapes:
        ratios.append(shape["kernels"][default_kernel()]["efficiency_over_causal"])
        others = {name: entry["over_default"] for name, entry in shape["kernels"].items() if name not in (default_kernel(), "causal")}
        fastest.append(min(others.values()))
    return {
        "default_efficiency_over_causal": {"target": 0.8, "worst": min(ratios), "met": min(ratios) >= 0.8},
        "another_kernel_over_default": {"target": 0.9, "worst": min(fastest), "met": min(fastest) >= 0.9},
    }
