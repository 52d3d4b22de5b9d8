"""The benchmark of retrieval at scale, at a small scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graphkv import InputError
from graphkv.cli import app
from graphkv_benchmarks import retrieval_scale
from graphkv_benchmarks.retrieval_scale import corpus, run_retrieval_scale


def test_the_corpus_is_the_same_every_time() -> None:
    graph, questions = corpus(1500, 40)
    assert len(graph) == 1500 == len({segment.text for segment in graph}) and len(questions) == 40 == len(set(questions))
    again, asked = corpus(1500, 40)
    assert again.segments == graph.segments and again.edges == graph.edges and asked == questions
    assert len(graph.edges) > 700 and all(source.rpartition("-")[0] == target.rpartition("-")[0] for source, target in graph.edges)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages that load torch run in this process, because each would take seconds to start; BM25's, and the build that is killed, in their own."""
    apart = retrieval_scale._stage

    def stage(name: str, common: dict[str, Any], *, watch: Any = None, **arguments: Any) -> dict[str, Any]:
        if str(arguments.get("folder")).endswith("bm25"):
            return apart(name, common, **arguments)
        result: dict[str, Any] = json.loads(json.dumps(getattr(retrieval_scale, name)(**common, **arguments)))
        return result

    monkeypatch.setattr(retrieval_scale, "_stage", stage)
    out = tmp_path / "scale.json"
    done = CliRunner().invoke(app, ["bench", "retrieval-scale", "--segments", "1100", "--queries", "10", "--embedder", "engine", "--output", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads(out.read_text())
    assert result["settings"]["segments"] == 1100 and result["recall"]["n"] == 10 and result["recall"]["mean"] > 0.9
    assert result["killed"]["kept"] >= 512 and result["killed"]["kept"] + result["killed"]["embedded"] == 1100
    assert result["build"]["flat"]["embedded"] == 0, "flat is made of the vectors that HNSW's build left"
    assert result["search"]["bm25"]["search"]["median"] < 50 and result["ratio"] > 0
    assert f"recall@10 {result['recall']['mean']:.4f}" in done.stdout.splitlines()[-1]


def test_a_corpus_needs_a_segment() -> None:
    with pytest.raises(InputError, match="segments must be a whole number"):
        run_retrieval_scale(segments=0)
