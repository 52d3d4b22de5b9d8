"""The demo's papers, and one scheduler over the embedded model for all adapters."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

import pytest

import graphkv
from graphkv import GraphKV, Scheduler

DEMO = Path(graphkv.__file__).parent / "demo"


@pytest.fixture(scope="session")
def papers() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DEMO / "papers.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def asked() -> list[tuple[str, str]]:
    """Questions and answers of the demo."""
    return [(row["question"], row["answer"]) for row in json.loads((DEMO / "questions.json").read_text(encoding="utf-8"))]


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    with Scheduler(GraphKV.from_pretrained()) as scheduler:
        yield scheduler
