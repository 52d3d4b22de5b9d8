"""What README and docs say of the offline Arxiv-QA run is what its answers come to."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from graphkv import GraphKV
from graphkv_benchmarks.runner.case import Line
from graphkv_benchmarks.runner.folder import read_config
from graphkv_benchmarks.runner.metrics import metrics
from graphkv_benchmarks.runner.report import markdown
from graphkv_benchmarks.tasks import task_from

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results"
OFFLINE = RESULTS / "arxiv_offline"


@cache
def lines() -> list[Line]:
    return [json.loads(line) for line in gzip.decompress((OFFLINE / "predictions.jsonl.gz").read_bytes()).decode().splitlines()]


@cache
def result() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OFFLINE / "metrics.json").read_text(encoding="utf-8"))
    return found


def test_the_numbers_are_those_of_the_answers() -> None:
    config = read_config(OFFLINE)
    task = task_from(config["task"])
    assert metrics(task.name, task.metric, lines(), task.further, arms=[arm["name"] for arm in config["arms"]]) == result()
    assert config["weights"] == GraphKV.from_pretrained().model.fingerprint


def test_the_report_is_that_of_the_numbers() -> None:
    config = read_config(OFFLINE)
    written = (OFFLINE / "report.md").read_text(encoding="utf-8")
    assert written == markdown(task_from(config["task"]), result(), lines(), config, ["gap.png", "length.png"])


def test_the_whole_table_took_less_than_twenty_minutes_on_two_cores() -> None:
    config = read_config(OFFLINE)
    assert config["seconds"] < 20 * 60 and config["machine"]["cores"] == 2 and config["limit"] is None
    assert len({line["id"] for line in lines()}) == 60 and not any("skipped" in line for line in lines())


def test_graph_answers_the_same_first_and_last() -> None:
    gaps = {(gap["arm"], gap["setting"]["distractors"]): gap for gap in result()["gaps"]}
    for distractors in (1, 2):
        gap = gaps["graph", distractors]
        assert gap["gap"] == 0 and gap["same_answers"] == gap["pairs"] == 180
    assert gaps["sequential", 2]["low"] > 0  # the contrast that it is shown against


def test_the_readmes_rows_are_the_reports() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The paper's benchmarks")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    report = (OFFLINE / "report.md").read_text(encoding="utf-8").splitlines()
    assert len(rows) >= 5 and [row for row in rows if row not in report] == []


def test_what_sharing_saves_is_what_was_measured() -> None:
    shared = json.loads((RESULTS / "sharing.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for row in shared["rows"]:
        numbers = " | ".join(f"{row['together'][name]['ratio']:.2f}" for name in ("paper", "family", "all"))
        assert f"| {row['tokens']:,} | {numbers} |" in page
