"""The MoreHopQA reader, the score, and BM25 ranks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_engine

from graphkv import DocumentError, GraphKV, InputError, Segment, SegmentGraph
from graphkv.layouts import ranking
from graphkv.model import EMBEDDED
from graphkv_benchmarks.readers import read_morehopqa, recognise, titled_passages
from graphkv_benchmarks.scoring import best_subspan_em, normalise
from graphkv_retrieval import score_documents

REAL = Path(__file__).parents[2] / "shared" / "data" / "morehopqa_100.json"


def row(**changes: Any) -> dict[str, Any]:
    whole = {
        "_id": "r1",
        "question": "How many letters has the river of the town?",
        "answer": "5",
        "context": [["Rhine", ["The Rhine is a river.", " It is long."]], ["Town", ["The town lies on the Rhine."]]],
        "question_decomposition": [
            {"paragraph_support_title": "Town"},
            {"paragraph_support_title": "Rhine"},
            {"paragraph_support_title": "", "details": []},
        ],
        "no_of_hops": 3,
        "answer_type": "number",
    }
    return {**whole, **changes}


def write(path: Path, rows: Any) -> Path:
    file = path / "rows.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def test_a_row_becomes_a_question_and_a_graph(tmp_path: Path) -> None:
    (found,) = read_morehopqa(write(tmp_path, [row()]))
    assert (found.id, found.answers, found.hops) == ("r1", ("5",), 3)
    assert found.graph.ids == ("Rhine", "Town") and found.graph.edges == ()
    assert found.graph["Rhine"].text == "The Rhine is a river. It is long."
    assert found.metadata["answer_type"] == "number"


def test_sentences_are_parted_by_one_space(tmp_path: Path) -> None:
    """With the space in front, as HotpotQA has it, without, as most of MoreHopQA, behind the sentence before, and with line ends or nothing between."""
    sentences = {
        ("One.", " Two.", "  Three."): "One. Two.  Three.",
        ("One.", "Two.", "Three."): "One. Two. Three.",
        ("One. ", "Two.\n", "Three."): "One. Two.\nThree.",
        ("One.", "", "Two.", " ", "Three.", ""): "One. Two. Three.",
        ("", "One."): "One.",
        ("One.\u00a0", "Two."): "One.\u00a0Two.",
    }
    for given, text in sentences.items():
        assert titled_passages([["Rhine", list(given)]], "row 0") == [("Rhine", text)]
        (found,) = read_morehopqa(write(tmp_path, [row(context=[["Rhine", list(given)]])]))
        assert found.graph["Rhine"].text == text


def test_decomposition_edges_lead_from_hop_to_hop(tmp_path: Path) -> None:
    (found,) = read_morehopqa(write(tmp_path, [row()]), edges="decomposition")
    assert found.graph.edges == (("Town", "Rhine"),)
    assert found.graph.sources("Rhine") == ("Town",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "expected a JSON list"),
        ([], "an empty list"),
        ([row(), 3], "row 1: expected an object, got int"),
        ([row(), row(answer="", context=[])], "row 1: missing answer, context"),
        ([row(context=[["Rhine", "text"]])], r"row 0, passage 0: expected \[title"),
        ([row(context=[["Rhine", ["a"]], ["Rhine", ["b"]]])], "duplicate id 'Rhine'"),
        ([row(context=[["Rhine", [" "]]])], "'Rhine' is empty"),
        ([row(question_decomposition=[{"paragraph_support_title": "Elbe"}])], "names 'Elbe', which is not among"),
        ([row(question_decomposition=None)], "needs question_decomposition"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(DocumentError, match=message) as error:
        read_morehopqa(write(tmp_path, rows), edges="decomposition")
    assert "rows.json" in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such file"):
        read_morehopqa(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("[{")
    with pytest.raises(DocumentError, match=r"not valid JSON .* at line 1"):
        read_morehopqa(tmp_path / "broken.json")
    with pytest.raises(InputError, match="valid: decomposition, none"):
        read_morehopqa(tmp_path / "none.json", edges="gold")  # type: ignore[arg-type]


def test_recognise(tmp_path: Path) -> None:
    assert recognise(write(tmp_path, [row()])) is read_morehopqa
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "x"}\n')
    assert recognise(tmp_path / "docs.jsonl") is None
    assert recognise(tmp_path / "none") is None


@pytest.mark.skipif(not REAL.exists(), reason=f"the released rows are not part of the project; looked for {REAL}")
def test_the_released_rows() -> None:
    rows = read_morehopqa(REAL, edges="decomposition")
    assert len(rows) == 100 and all(len(r.graph) == 2 and len(r.graph.edges) == 1 for r in rows)
    assert rows[2].graph.edges == (("The Cup (1999 film)", "Khyentse Norbu"),)
    assert all(not r.graph.edges for r in read_morehopqa(REAL))
    assert "is a Swedish film director. He is the son of Ingmar Bergman" in rows[28].graph["Daniel Bergman"].text
    assert not [passage.text for row in rows for passage in row.graph if re.search(r"[a-z]{3}\.[A-Z][a-z]", passage.text)]


@pytest.mark.parametrize(
    ("prediction", "gold", "score"),
    [
        ("It was the Night  Maple.", "night maple", 1.0),
        ("An answer: U.S.A.", ["Canada", "the USA"], 1.0),
        ("no idea", ["Canada"], 0.0),
        ("wrong<|im_end|>Canada", "Canada", 0.0),
        ("Canada<|eot_id|>wrong", "Canada", 1.0),
        ("anything", "the", 0.0),
        ("", "x", 0.0),
    ],
)
def test_best_subspan_em(prediction: str, gold: str | list[str], score: float) -> None:
    assert best_subspan_em(prediction, gold) == score


def test_best_subspan_em_needs_gold() -> None:
    assert normalise("A theatre, an Analogy") == "theatre analogy"
    with pytest.raises(ValueError, match="at least one gold answer"):
        best_subspan_em("x", [])


def test_bm25_ranks_what_matches_first() -> None:
    graph = SegmentGraph.from_documents(
        [
            {"id": "a", "text": "Maples grow at night.", "sources": ["b"]},
            {"id": "b", "text": "A river flows.", "title": "The Rhine"},
            {"id": "c", "text": "Another river.", "score": 9},
        ]
    )
    scored = score_documents(graph, "Which river is the Rhine?")
    assert ranking(scored) == ("b", "c", "a")
    assert scored.edges == graph.edges and scored.ids == graph.ids
    assert graph["a"].score is None


def test_bm25_without_anything_in_common() -> None:
    graph = SegmentGraph.from_documents([{"id": "a", "text": "!!!"}, {"id": "b", "text": "night"}])
    assert [s.score for s in score_documents(graph, "zebra").segments] == [0.0, 0.0]
    assert [s.score for s in score_documents([{"id": "a", "text": "!!!"}], "?!").segments] == [0.0]


def test_bm25_refuses_what_it_cannot_rank() -> None:
    with pytest.raises(InputError, match="question is empty"):
        score_documents([{"id": "a", "text": "x"}], " ")
    with pytest.raises(InputError, match="'t' is made of token ids"):
        score_documents(SegmentGraph.from_segments([Segment.from_tokens("t", [1])]), "x")


@pytest.mark.skipif(not REAL.exists(), reason=f"the released rows are not part of the project; looked for {REAL}")
@pytest.mark.parametrize("model", ["embedded", "qwen2"])
def test_twenty_released_rows_end_to_end(model: str) -> None:
    """From the released file to a scored answer; what a random or a fictional model says is nobody's concern here."""
    if model == "embedded" and not (EMBEDDED / "model.safetensors").is_file():
        pytest.skip("the embedded model is not there: make train-embedded")
    engine = tiny_engine("qwen2") if model == "qwen2" else GraphKV.from_pretrained()
    for found in read_morehopqa(REAL)[:20]:
        answer = engine.ask(found.graph, found.question, layout="graph_full", max_new_tokens=4)
        assert {use.id for use in answer.segments} == set(found.graph.ids)
        assert best_subspan_em(answer.text, found.answers) in (0.0, 1.0)
