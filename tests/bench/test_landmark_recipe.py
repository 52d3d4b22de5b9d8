"""The landmark model's recipe: its rows, the two arms, and the perplexity that compares them."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from helpers import byte_tokenizer, tiny_model

from graphkv import GraphKV, SegmentGraph
from graphkv.errors import UnsupportedModelError
from graphkv.landmark import LandmarkConfig, add_landmarks, landmark_of
from graphkv.model import GraphModel
from graphkv.train.rows import Rows
from graphkv_benchmarks.citation_world import NOT_FOUND, is_held_out
from graphkv_benchmarks.landmark import held_out, perplexity, rows, train
from graphkv_benchmarks.landmark.export import export


@pytest.fixture(scope="module")
def made() -> list[dict[str, Any]]:
    return list(rows.make_rows(5, 60))


def text_of(row: dict[str, Any]) -> str:
    return "".join(f"Title: {d['title']}. {d['text']}\n" if d.get("title") else f"{d['text']}\n" for d in row["documents"])


def test_rows_are_a_function_of_their_number(made: list[dict[str, Any]]) -> None:
    assert list(rows.make_rows(5, 8)) == made[:8] and list(rows.make_rows(6, 2)) != made[:2]
    assert {row["kind"] for row in made} == set(rows.KINDS)
    assert {len(row["documents"]) == 1 for row in made} == {True, False}


def test_contexts_fit_and_hold_the_answers(made: list[dict[str, Any]]) -> None:
    """At most 512 tokens; every answer that is not "not in the documents" stands in the text, a list name by name."""
    counter = rows._Counter()
    for row in made:
        text = text_of(row)
        assert counter(text) <= 512 + len(row["documents"]) and row["questions"], row["kind"]
        for question in row["questions"]:
            if question["answer"] == NOT_FOUND:
                continue
            assert all(part in text for part in question["answer"].split(", ")), (row["kind"], question)


def test_chains_are_answered_in_their_order(made: list[dict[str, Any]]) -> None:
    for row in (row for row in made if row["kind"] == "variables"):
        text = text_of(row)
        for question in row["questions"]:
            value = re.findall(r"\d+", question["question"])[0]
            names = question["answer"].split(", ")
            assert f"VAR {names[0]} = {value}" in text and 3 <= len(names) <= 5
            places = [text.index(f"VAR {b} = VAR {a}") for a, b in pairwise(names)]
            assert places == sorted(places)


def test_values_of_a_key_are_asked_for_all_at_once(made: list[dict[str, Any]]) -> None:
    asked = [(row, q) for row in made if row["kind"] == "values" for q in row["questions"] if ", " in q["answer"]]
    assert asked
    for row, question in asked:
        key = re.findall(r"numbers for (.*) mentioned", question["question"])[0]
        assert question["question"].startswith("What are all")
        assert re.findall(re.escape(f"for {key} is: ") + r"(\d+)\.", text_of(row)) == question["answer"].split(", ")


def test_held_out_names() -> None:
    for row in rows.make_rows(5, 6, held_out=True, kinds=["world"]):
        assert all(is_held_out(title) for title in re.findall(r"Title: (.*?)\.", text_of(row)))


def test_what_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="at least 256 tokens"):
        next(rows.make_rows(0, 1, tokens=100))
    with pytest.raises(ValueError, match="unknown kind 'neddle'"):
        next(rows.make_rows(0, 1, kinds=["neddle"]))
    with pytest.raises(SystemExit):
        rows.main(["--rows", "0", "--out", str(tmp_path / "x.jsonl")])
    assert "--rows must be at least 1" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_command_writes_what_the_trainer_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "rows.jsonl"
    rows.main(["--rows", "4", "--seed", "5", "--out", str(out)])
    assert json.loads(capsys.readouterr().out)["rows"] == 4 and len(Rows(out)) == 4 and [p.name for p in out.parent.iterdir()] == ["rows.jsonl"]


def byte_model(landmark: bool) -> GraphKV:
    model = GraphModel(tiny_model(), byte_tokenizer())
    if landmark:
        add_landmarks(model, 16)
    return GraphKV.from_pretrained((model.model, model.tokenizer))


def test_both_arms_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. Both arms, each stage cut to a step of a tiny model and to rows of a few words. 2. They read the same rows; only one has landmarks. 3. A second
    call changes nothing."""
    start = tmp_path / "start"
    tiny_model().save_pretrained(start)
    byte_tokenizer().save_pretrained(start)

    def few_words(path: Path, seed: int, count: int, **options: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"documents": [{"id": "a", "text": f"It is {seed}."}], "question": "Is it?", "answer": str(seed)}) + "\n")
        return path

    small = [train.Stage(s.name, s.rows, s.seed, s.layouts, s.plain_layouts, {**s.settings, "steps": 1}, s.landmark) for s in train.STAGES]
    monkeypatch.setattr(train, "STAGES", tuple(small))
    monkeypatch.setattr(train, "COMMON", {**train.COMMON, "batch_tokens": 1})
    monkeypatch.setattr(train, "START", start)
    monkeypatch.setattr(train, "write_rows", few_words)
    first = train.run(tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "landmark" / "second" / "settings.json").read_text())
    assert first["done"] and landmark_of(GraphModel.load(first["model"])) == LandmarkConfig(32, 259)
    plain = train.run(tmp_path / "out", plain=True)
    other = json.loads((tmp_path / "out" / "plain" / "second" / "settings.json").read_text())
    differ = {key for key in settings if settings[key] != other[key]}
    assert differ == {"layouts", "landmark_weight", "model"} and not hasattr(GraphModel.load(plain["model"]).config, "graphkv_landmark")
    weights = Path(first["model"], "model.safetensors").read_bytes()
    assert train.run(tmp_path / "out")["done"] and Path(first["model"], "model.safetensors").read_bytes() == weights


def test_perplexity_of_an_arm_beside_itself() -> None:
    """The same weights, and landmarks: read plainly both are nearly equal (an output row more); the ratio is that of the two readings."""
    landmark, plain = byte_model(True), byte_model(False)
    result = perplexity.compare({"ours": landmark}, plain, worlds=3, seed=1)
    arm = result["arms"]["ours"]
    assert result["plain"] == pytest.approx(arm["read_plainly"], rel=0.2)
    assert arm["ratio"] == pytest.approx(arm["perplexity"] / result["plain"], abs=1e-3) and arm["perplexity"] != result["plain"]
    low, high = arm["interval"]
    assert low <= arm["ratio"] <= high and arm["block"] == 16 and arm["met"] == (arm["ratio"] <= 1.02)
    graph = SegmentGraph.from_documents([{"id": "a", "text": "rain"}])
    ((loss, count),) = perplexity.text_losses(plain.reader, [graph], "sequential")
    assert count == len(plain.reader.read(graph, ["?"], None).segments["a"]) - 1 and loss > 0
    with pytest.raises(UnsupportedModelError, match="was not trained with landmarks"):
        perplexity.compare({"plain": plain}, plain, worlds=2, seed=1)


def test_held_out_answers_are_counted_by_kind() -> None:
    result = held_out.measure(byte_model(True), rows=3, seed=2)
    expected: dict[str, int] = {}
    for row in rows.make_rows(2, 3, held_out=True):
        for q in row["questions"]:
            name = held_out.kind_of(row["kind"], q["question"], q["answer"])
            expected[name] = expected.get(name, 0) + 1
    for reading in ("landmark", "sequential"):
        assert {kind: cell["questions"] for kind, cell in result[reading].items()} == expected
        assert all(cell["right"] == 0 and cell["low"] == 0 < cell["high"] for cell in result[reading].values())
    assert len(held_out.table(result)) == 2 + len(expected)


def test_the_interval() -> None:
    ones, others = [(3.0, 2), (2.0, 2), (4.0, 2)] * 20, [(2.0, 2), (2.0, 2), (3.0, 2)] * 20
    low, high = perplexity.ratio_interval(ones, others, seed=3)
    assert low < math.exp(2 / 6) < high and perplexity.ratio_interval(ones, others, seed=3) == (low, high)


def test_export(tmp_path: Path) -> None:
    engine = byte_model(True)
    engine.model.model.save_pretrained(tmp_path / "model")
    engine.model.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("card")
    size = export(tmp_path / "model", tmp_path / "out")
    shipped = GraphModel.load(tmp_path / "out")
    assert size == (tmp_path / "out" / "model.safetensors").stat().st_size < (tmp_path / "model" / "model.safetensors").stat().st_size * 0.6
    assert landmark_of(shipped) == LandmarkConfig(16, 259) and str(shipped.dtype) == "torch.float32"
    assert (tmp_path / "out" / "README.md").read_text() == "card"
    with pytest.raises(UnsupportedModelError):
        plain = byte_model(False)
        plain.model.model.save_pretrained(tmp_path / "plain")
        plain.model.tokenizer.save_pretrained(tmp_path / "plain")
        export(tmp_path / "plain", tmp_path / "not")
    assert not (tmp_path / "not").exists()


ROOT = Path(__file__).parents[2]
SHIPPED, RESULTS = ROOT / "graphkv" / "embedded_landmark", ROOT / "benchmarks" / "results"


def test_the_card_says_what_was_measured_of_the_shipped_weights() -> None:
    """1. The results are those of the weights in the folder. 2. Every row of the card's tables stands in a result. 3. Steps and tokens are the curve's."""
    measured, parent, text = (json.loads((RESULTS / f"landmark_{name}.json").read_text()) for name in ("held_out", "parent_held_out", "perplexity"))
    shipped = GraphModel.load("embedded-landmark")
    assert measured["settings"]["weights"] == text["arms"]["shipped"]["weights"] == shipped.fingerprint
    assert parent["settings"]["weights"] == GraphModel.load("embedded").fingerprint and shipped.name == "embedded-landmark"
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert [line for line in card.splitlines() if line.startswith("|")] == [*held_out.table(measured, parent), *perplexity.table(text)]
    lines = [json.loads(line) for line in (RESULTS / "training" / "landmark.jsonl").read_text().splitlines()]
    ends = [line for line in lines if line["step"] == 600]
    assert f"{sum(line['tokens'] for line in ends) / 1e6:.1f} million tokens" in card and f"{sum(line['seconds'] for line in ends) / 60:.0f} minutes" in card
    assert [line["phase"] for line in ends] == [1, 2] == list(range(1, len(train.STAGES) + 1)) and {s.settings["steps"] for s in train.STAGES} == {600}


def test_the_shipped_model_is_small_and_safe() -> None:
    files = [path for path in SHIPPED.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25e6
    assert {path.name for path in files} == {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert landmark_of(GraphModel.load("embedded-landmark")) == LandmarkConfig(32, 1583)
