"""The tables of a run in markdown, and what was asked for beside what was reached.

    python -m graphkv_benchmarks.ttft.tables benchmarks/results/ttft.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .row import QWEN

SHOWN = {
    "cold_nearest": "cold, nearest",
    "cold_ego": "cold, ego",
    "warm_disk": "warm, disk",
    "warm_disk_cached": "warm, page cache",
    "warm_memory": "warm, memory",
    "shuffled": "warm, shuffled",
}

BARS = (
    # what, tokens, way, at least
    ("warm from memory", 32768, "warm_memory", 100.0),
    ("warm from memory", 8192, "warm_memory", 25.0),
    ("warm from memory", 512, "warm_memory", 3.0),
    ("warm from local disk, pages dropped", 32768, "warm_disk", 60.0),
    ("cold, ego graph", 32768, "cold_ego", 2.0),
    ("cold, nearest neighbours", 32768, "cold_nearest", 1.2),
)


def markdown(result: Mapping[str, Any]) -> str:
    """Times and ratios, what they are made of, and the bars."""
    lines = ["# Time to the first token", "", f"Seconds (times faster than transformers' prefill); medians of {result['settings']['repeats']}.", ""]
    lines += [*times(result), "", "## Memory, decoding, reading", "", *details(result), "", "## What was asked for", "", *bars(result), ""]
    return "\n".join(lines)


def times(result: Mapping[str, Any]) -> list[str]:
    """A line for every row."""
    lines = ["| model | tokens | documents | transformers' prefill | " + " | ".join(SHOWN.values()) + " |", "|---|---|---|---|" + "---|" * len(SHOWN)]
    for row in result["rows"]:
        ways = row["ways"]
        cells = [f"{ways[way]['ttft']:.3g} ({ways[way]['over_sequential']:.3g}×)" for way in SHOWN]
        lines.append(f"| {row['model']}, {row['dtype']} | {row['tokens']:,} | {row['documents']} | {ways['sequential']['ttft']:.3g} | " + " | ".join(cells) + " |")
    return lines


def details(result: Mapping[str, Any]) -> list[str]:
    """Peak memory, decoding, and the store."""
    lines = [
        "| model | tokens | peak MiB: prefill | cold, ego | warm, memory | tokens/s after prefill | after warm | file over tensors "
        "| read GB/s: plain, cached | store, cached | plain, disk | store, disk |",
        "|---|---|" + "---|" * 10,
    ]
    for row in result["rows"]:
        ways, store = row["ways"], row["store"]
        peaks = [f"{ways[way]['peak_mb']:,.0f}" for way in ("sequential", "cold_ego", "warm_memory")]
        speeds = [f"{ways[way]['decode_tokens_s']:.3g}" for way in ("sequential", "warm_memory")]
        reads = [f"{store[f'{who}_{state}_gb_s']:.3g}" for state in ("cached", "dropped") for who in ("read", "store")]
        lines.append(f"| {row['model']} | {row['tokens']:,} | " + " | ".join([*peaks, *speeds, f"{store['over_raw']:.4f}", *reads]) + " |")
    return lines


def bars(result: Mapping[str, Any]) -> list[str]:
    """Asked and reached, by model."""
    lines = ["| asked for | model | at least | reached | |", "|---|---|---|---|---|"]
    rows = {(row["model"], row["tokens"]): row for row in result["rows"]}
    for model in sorted({row["model"] for row in result["rows"]}, key=lambda name: name != QWEN):
        for what, tokens, way, least in BARS:
            if (model, tokens) in rows:
                reached = rows[model, tokens]["ways"][way]["over_sequential"]
                lines.append(f"| {what}, {tokens:,} tokens | {model} | {least:g}× | {reached:.1f}× | {'met' if reached >= least else 'missed'} |")
        for (name, tokens), row in sorted(rows.items()):
            if name != model:
                continue
            apart = row["ways"]["shuffled"]["ttft"] / row["ways"]["warm_memory"]["ttft"] - 1
            lines.append(f"| shuffled against ordered, {tokens:,} tokens | {model} | within 10% | {100 * apart:+.1f}% | {'met' if abs(apart) <= 0.1 else 'missed'} |")
            for state, label in (("dropped", "from disk"), ("cached", "from the page cache")):
                ratio = row["store"][f"{state}_ratio"]
                each = tokens // row["documents"]
                lines.append(f"| reading {label}, segments of {each} tokens, over plain read | {model} | 70% | {100 * ratio:.0f}% | {'met' if ratio >= 0.7 else 'missed'} |")
            lines.append(f"| files over raw tensors, {tokens:,} tokens | {model} | ≤ 1.01 | {row['store']['over_raw']:.4f} | {'met' if row['store']['over_raw'] <= 1.01 else 'missed'} |")
    return lines


if __name__ == "__main__":
    source = Path(sys.argv[1])
    source.with_suffix(".md").write_text(markdown(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")
