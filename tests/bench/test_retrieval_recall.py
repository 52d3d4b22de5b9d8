"""The retrieval benchmark: recall against numbers counted by hand, gold used for scoring only, and edges that must matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graphkv.cli import app
from graphkv.errors import DocumentError
from graphkv_benchmarks.readers import read_morehopqa
from graphkv_benchmarks.retrieval_recall import EXPANSIONS, bootstrap, corpus_of, first, linked_graphs, run_retrieval, table


def rows(path: Path, count: int = 6) -> Path:
    """Question i names a band; the passage on the band names a drummer; the passage on the drummer shares no word with the question."""
    data = []
    for i in range(count):
        steps = [{"paragraph_support_title": f"Band Number{i}"}, {"paragraph_support_title": f"Drummer Named{i}"}, {"paragraph_support_title": ""}]
        context = [[f"Band Number{i}", [f"Number{i} plays. ", f"Its member is Drummer Named{i}."]], [f"Drummer Named{i}", [f"Born in town{i}."]]]
        data.append({"_id": str(i), "question": f"Where was whoever hits things for number{i} from?", "answer": "x", "context": context, "question_decomposition": steps})
    data[1]["context"].append(data[0]["context"][0])  # twice in the corpus' rows, once in the corpus
    path.write_text(json.dumps(data))
    return path


def test_the_corpus_has_each_passage_once(tmp_path: Path) -> None:
    graph, gold = corpus_of(read_morehopqa(rows(tmp_path / "rows.json")))
    assert len(graph) == 12 and not graph.edges
    assert gold[3] == {"Band Number3", "Drummer Named3"}
    linked = linked_graphs(graph, seed=1)
    assert set(linked["mentions"].edges) == {(f"Drummer Named{i}", f"Band Number{i}") for i in range(6)}  # the band's passage names the drummer
    assert len(linked["shuffled"].edges) <= 6 and set(linked["shuffled"].edges) != set(linked["mentions"].edges)


def test_recall_by_hand(tmp_path: Path) -> None:
    """BM25 finds the band, never the drummer; a mention leads to the drummer; shuffled mentions do not."""
    result = run_retrieval(read_morehopqa(rows(tmp_path / "rows.json")), depths=(2, 5))
    arms = result["arms"]
    assert list(arms) == [f"BM25 {name}".strip() for name in EXPANSIONS]
    assert arms["BM25"]["recall"][2][0] == 0.5 and arms["BM25"]["all"][2][0] == 0.0
    assert arms["BM25 + mentions, PPR"]["all"][2][0] == 1.0 and arms["BM25 + mentions, 1 hop"]["all"][2][0] == 1.0
    assert arms["BM25 + mentions, PPR"]["difference"][2][0] == 1.0
    assert arms["BM25 + shuffled mentions, PPR"]["all"][2][0] < 0.5
    assert result["settings"]["questions"] == 6 and result["settings"]["embedder"] is None
    again = json.loads(json.dumps(result))
    assert table(again) == table(result) and len(table(result)) == 2 + len(EXPANSIONS)


def test_expansion_takes_half_of_k_as_hits(tmp_path: Path) -> None:
    graph, _ = corpus_of(read_morehopqa(rows(tmp_path / "rows.json")))
    linked = linked_graphs(graph, seed=1)
    scores = {"Band Number0": 3.0, "Band Number1": 2.0, "Band Number2": 1.0}
    assert first(linked, scores, 2, None) == {"Band Number0", "Band Number1"}
    assert first(linked, scores, 2, ("mentions", "hops")) == {"Band Number0", "Drummer Named0"}
    assert first(linked, scores, 6, ("mentions", "hops")) == {*scores, "Drummer Named0", "Drummer Named1", "Drummer Named2"}
    assert first(linked, {"Band Number0": 3.0}, 5, ("mentions", "ppr")) == {"Band Number0", "Drummer Named0"}
    assert first(linked, {}, 5, ("mentions", "ppr")) == set()


def test_rows_without_gold_are_refused(tmp_path: Path) -> None:
    path = rows(tmp_path / "rows.json")
    data: list[dict[str, Any]] = json.loads(path.read_text())
    data[2]["question_decomposition"] = []
    path.write_text(json.dumps(data))
    with pytest.raises(DocumentError, match="row 2: its question_decomposition names no passage"):
        corpus_of(read_morehopqa(path))
    with pytest.raises(DocumentError, match="no rows"):
        run_retrieval([])


def test_the_interval() -> None:
    low, high = bootstrap([0.0] * 50 + [1.0] * 50, seed=3)
    assert 0.39 <= low <= 0.42 and 0.58 <= high <= 0.61  # normal approximation: 0.402 to 0.598


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "new" / "retrieval.json"
    done = CliRunner().invoke(app, ["bench", "retrieval", str(rows(tmp_path / "rows.json")), "--limit", "4", "--output", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())["settings"]["questions"] == 4 and "| BM25 + mentions, PPR |" in done.output
