"""The citation-world benchmark: when an answer is right, that a stopped run goes on, tables, pictures and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import random_graph, random_ids, tiny_engine
from typer.testing import CliRunner, Result

from graphkv import GraphKV
from graphkv.cli import app
from graphkv.encode import packed_logits, packed_rows
from graphkv.errors import InputError, LengthError
from graphkv.layouts import make_layout
from graphkv_benchmarks.citation_bench import answers as answers_module
from graphkv_benchmarks.citation_bench import measure as measure_module
from graphkv_benchmarks.citation_bench import run as run_module
from graphkv_benchmarks.citation_bench.answers import Outcome, outcomes
from graphkv_benchmarks.citation_bench.cells import KINDS, Batch
from graphkv_benchmarks.citation_bench.measure import measure
from graphkv_benchmarks.citation_bench.plots import document_panels, place_panels
from graphkv_benchmarks.citation_bench.presets import PRESETS, batches_of
from graphkv_benchmarks.citation_bench.run import run
from graphkv_benchmarks.citation_bench.tables import markdown
from graphkv_benchmarks.citation_world import NOT_FOUND, make_world, one_style
from graphkv_benchmarks.scoring import paired_difference, wilson

CHAT = "{% for m in messages %}<s>{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}assistant\n{% endif %}"
HOPS = KINDS[:3]
SMALL = Batch("graph", "named", 4, 0, ("1 hop", "2 hops"), 10)


@pytest.fixture(scope="module")
def embedded() -> GraphKV:
    return GraphKV.from_pretrained()


# Scores


@pytest.mark.parametrize(("right", "count", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)])
def test_wilson_gives_the_published_intervals(right: int, count: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert wilson(right, count) == pytest.approx((low, high), abs=6e-5)


def test_wilson_at_the_edges() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(7, 7)[1] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="from 0 to 3 successes"):
        wilson(4, 3)


def test_paired_differences_see_that_trials_are_the_same() -> None:
    ones, others = [True] * 60 + [False] * 40, [True] * 50 + [False] * 50
    difference, low, high = paired_difference(ones, others)
    assert difference == pytest.approx(0.1) and 0 < low < 0.1 < high
    apart = paired_difference(ones, others[::-1])  # the same shares, but each wins where the other loses
    assert apart[0] == pytest.approx(0.1) and apart[1] < 0 < apart[2]
    assert paired_difference(ones, ones)[0] == 0.0
    with pytest.raises(ValueError, match="at least one pair"):
        paired_difference([], [])


# When an answer is right


@pytest.mark.parametrize("layout", ["graph", "block", "pcw", "sequential", "ape"])
def test_rows_are_packed_logits_one_by_one(layout: str) -> None:
    """1. Three rows in one forward. 2. Each alone by `packed_logits`."""
    engine = tiny_engine()
    graph = random_graph({"a": 5, "b": 7, "c": 4}, [("a", "b"), ("b", "c")])
    segments = {segment.id: segment.tokens or () for segment in graph.segments}
    rows = [random_ids(6, 1), random_ids(3, 2), random_ids(9, 3)]
    prefix = random_ids(2, 4)
    plan = make_layout(layout, graph, {id: len(ids) for id, ids in segments.items()}, prefix=2, question=9)
    with torch.no_grad():
        together = packed_rows(engine.model, plan, segments, prefix, rows)
        ends = packed_rows(engine.model, plan, segments, prefix, rows, last=[2, 3, 1])
        for row, logits, end in zip(rows, together, ends, strict=True):
            alone = packed_logits(engine.model, plan.with_question(len(row)), segments, prefix, row)
            torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(end, logits[-len(end) :], rtol=1e-4, atol=1e-4)
    assert [len(end) for end in ends] == [2, 3, 1]


def test_rows_that_cannot_be_are_refused() -> None:
    engine = tiny_engine()
    graph = random_graph({"a": 5}, [])
    plan = make_layout("graph", graph, {"a": 5})
    segments = {"a": graph["a"].tokens or ()}
    for rows, last, message in (([], None, "at least one row"), ([[1], []], None, "at least one token in each"), ([[1, 2]], [3], "last must say"), ([[1, 2]], [1, 1], "last must say")):
        with pytest.raises(InputError, match=message):
            packed_rows(engine.model, plan, segments, (), rows, last=last)


def test_right_is_what_ask_answers(embedded: GraphKV) -> None:
    """1. `outcomes`: one forward for all questions, gold answers given. 2. `engine.ask_many`: greedy decoding, token by token."""
    seen: list[Outcome] = []
    for style, layout, options in (
        ("named", "graph", {}),
        ("named", "block", {}),
        ("named", "sequential", {}),
        ("numbered", "pcw", {}),
        ("bare", "graph", {"rounds": 2}),
        ("bare", "graph", {"positions": "sequential"}),
        ("named", "ape", {}),
        ("bare", "block", {}),  # nothing tells the cited paper: these are wrong
    ):
        world = make_world(11, 4, True, one_style(style))
        documents, asked = world.to_row()["documents"], world.questions[:10]
        found = outcomes(embedded, documents, [q.question for q in asked], [q.answer for q in asked], layout=layout, **options)
        answers = embedded.ask_many(documents, [q.question for q in asked], layout=layout, max_new_tokens=16, **options)
        for question, outcome, answer in zip(asked, found, answers, strict=True):
            gold = embedded.reader.answer(question.answer)
            assert outcome.right == (answer.text == question.answer and answer.finish_reason == "stop") == (answer.token_ids == gold)
            assert outcome.refused == (answer.token_ids[:1] == embedded.reader.ids(f" {NOT_FOUND}")[:1])
        seen += found
    assert len(seen) == 80 and {outcome.right for outcome in seen} == {True, False}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Rain.", Outcome(True, False)),
        ("Rainy", Outcome(False, False)),
        ("Ruin.", Outcome(False, False)),
        ("Ra.n.", Outcome(False, False)),
        ("nain.", Outcome(False, True)),  # greedily it would have gone on from there, to "not in the documents" most likely
    ],
)
def test_an_answer_is_right_to_its_end(said: str, expected: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model says at the question's end and after each token of the answer "Rain", a byte a token; a dot for the end token."""
    engine = tiny_engine(chat_template=CHAT)

    def told(model: Any, layout: Any, tokens: Any, prefix: Any, rows: Any, *, last: list[int]) -> list[torch.Tensor]:
        assert last == [5] and rows[0][-4:] == engine.reader.ids("Rain")
        return [torch.nn.functional.one_hot(torch.tensor([257 if letter == "." else engine.reader.ids(letter)[0] for letter in said]), 259)]

    monkeypatch.setattr(answers_module, "packed_rows", told)
    assert outcomes(engine, [{"id": "a", "text": "x"}], ["What?"], ["Rain"]) == [expected]


def test_the_space_in_front_of_an_answer_follows_the_prompt(embedded: GraphKV) -> None:
    assert embedded.reader.answer("Ada Fumrel") == embedded.reader.ids(" Ada Fumrel")
    chat = tiny_engine(chat_template=CHAT)
    assert chat.reader.answer("Ada Fumrel") == chat.reader.ids("Ada Fumrel")


def test_answers_that_cannot_be_scored_are_refused() -> None:
    engine = tiny_engine()
    documents = [{"id": "a", "text": "It rains."}]
    with pytest.raises(InputError, match="one gold answer a question, got 0 for 1"):
        outcomes(engine, documents, ["What?"], [])
    with pytest.raises(LengthError, match="window is 20"):
        engine.model.config.max_position_embeddings = 20
        outcomes(engine, documents, ["What?"], ["Rain"])
    endless = tiny_engine(eos_token_id=None)
    endless.model.model.generation_config.eos_token_id = None
    endless.model.tokenizer.eos_token = None
    with pytest.raises(InputError, match="no end token"):
        outcomes(endless, documents, ["What?"], ["Rain"])


# Runs


def test_cells_count_what_was_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def half(engine: Any, documents: Any, questions: list[str], answers: list[str], **options: Any) -> list[Outcome]:
        return [Outcome(i % 2 == 0, i % 4 == 3) for i in range(len(questions))]

    monkeypatch.setattr(measure_module, "outcomes", half)
    cells = measure(None, replace(SMALL, kinds=("1 hop",), questions=20), 1)  # type: ignore[arg-type]
    (found,) = cells
    assert (found["questions"], found["right"], found["refused"]) == (20, 10, 5)
    assert (found["accuracy"], found["low"], found["high"]) == (0.5, *(round(bound, 4) for bound in wilson(10, 20)))
    assert found["outcomes"].count("1") == 10 and len(found["outcomes"]) == 20
    for tallies in (found["quarters"], found["by"].values()):
        assert [sum(column) for column in zip(*tallies, strict=True)] == [10, 20]


def test_what_does_not_fit_is_named_and_left_out() -> None:
    engine = tiny_engine(max_position_embeddings=600)
    cells = measure(engine, replace(SMALL, arm="sequential"), 1)
    assert [cell["kind"] for cell in cells] == ["1 hop", "2 hops"]
    assert all("window is 600" in cell["skipped"] and "accuracy" not in cell for cell in cells)


def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, journal = tiny_engine(), tmp_path / "run.jsonl"
    batches = [replace(SMALL, arm=arm, documents=2, kinds=("1 hop",)) for arm in ("graph", "block", "pcw")]
    calls: list[str] = []

    def counted(engine: GraphKV, batch: Batch, seed: int) -> list[dict[str, Any]]:
        calls.append(batch.arm)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(engine, batch, seed)

    monkeypatch.setattr(run_module, "measure", counted)
    with pytest.raises(KeyboardInterrupt):
        run(engine, None, batches, journal=journal)
    with journal.open("a") as file:
        file.write('{"batch": {"arm": "pc')  # what a kill in the middle of a line leaves
    reported: list[tuple[int, str]] = []
    result = run(engine, None, batches, journal=journal, report=lambda done, total, batch, cells, /: reported.append((done, batch.arm)))
    assert sorted(calls) == ["block", "graph", "pcw", "pcw"] and reported == [(1, "graph"), (2, "block"), (3, "pcw")]
    assert result["cells"] == run(engine, None, batches)["cells"]
    assert [cell["arm"] for cell in result["cells"]] == ["graph", "block", "pcw"]
    calls.clear()
    assert run(engine, None, batches, journal=journal)["cells"] == result["cells"] and calls == []
    with pytest.raises(InputError, match=r"other settings \(seed\)"):
        run(engine, None, batches, journal=journal, seed=2)
    journal.write_text('{"something": "else"}\n')
    with pytest.raises(InputError, match="not the journal of a run"):
        run(engine, None, batches, journal=journal)


# Presets, tables, pictures


def test_presets_hold_what_the_tables_need() -> None:
    def points(preset: str) -> set[tuple[str, str, int, int, str, int | None]]:
        return {(b.arm, b.style, b.documents, b.words, kind, b.place) for b in batches_of(preset) for kind in b.kinds}

    for arm in ("graph", "block", "pcw", "sequential", "graph-wrong"):
        assert {(arm, style, n, 0, kind, None) for style in ("named", "numbered", "bare") for n in (8, 16, 32) for kind in HOPS} <= points("table")
    assert {("graph-removed", "named", n, 0, kind, None) for n in (8, 16, 32) for kind in HOPS} <= points("table")
    # Both controls, wrong edges and the gold document removed, stand beside every preset.
    for name in ("table", "position", "ablation", "length"):
        assert {"graph-wrong", "graph-removed"} <= {arm for arm, *_ in points(name)}
    assert points("all") == set().union(*(points(name) for name in PRESETS if name not in ("all", "quick")))
    assert len(batches_of("all")) < sum(len(batches_of(name)) for name in ("table", "position", "ablation", "length"))
    assert {b.questions for b in batches_of("all")} == {500}
    places = {b.place for b in batches_of("position") if (b.arm, b.documents) == ("graph", 16)}
    assert {0, 15} < places and len(places) == 5


def test_options_replace_sides_of_the_grids() -> None:
    batches = batches_of("table", arms=["pcw"], documents=[5], styles=["bare"], hops=[2], words=[30], questions=7)
    assert batches == [Batch("pcw", "bare", 5, 30, ("2 hops",), 7)]
    for wrong, message in (
        ({"preset": "tabel"}, "unknown preset 'tabel'"),
        ({"arms": ["grpah"]}, "unknown arm 'grpah'"),
        ({"styles": ["boxed"]}, "unknown citation style"),
        ({"hops": [4]}, "unknown number of hops 4"),
        ({"documents": [0]}, "documents must be"),
        ({"words": [-1]}, "words must be"),
        ({"questions": 0}, "questions must be"),
        ({"arms": []}, "at least one value"),
    ):
        with pytest.raises(InputError, match=message):
            batches_of(**{"preset": "quick", **wrong})  # type: ignore[arg-type]


def cell(arm: str, right: int, **changes: Any) -> dict[str, Any]:
    """A cell of 100 questions, the first `right` of them answered."""
    low, high = wilson(right, 100)
    made = {"arm": arm, "style": "named", "documents": 8, "words": 0, "place": None, "kind": "2 hops", "questions": 100, "right": right}
    marks = "1" * right + "0" * (100 - right)
    return {**made, "accuracy": right / 100, "low": low, "high": high, "refused": 2, "by": {}, "quarters": [[right // 4, 25]] * 4, "outcomes": marks, **changes}


def test_tables_and_panels_show_the_cells() -> None:
    cells = [
        cell("graph", 98), cell("block", 88), cell("shared-no-edges", 80), cell("rounds-2", 97), cell("graph-removed", 1, refused=90),
        cell("graph", 96, kind="unanswerable"), cell("graph", 95, documents=16), cell("graph", 90, place=0), cell("graph", 91, place=7),
        cell("graph-removed", 3, words=300, refused=80), {**cell("block", 0, documents=32), "skipped": "too long"},
    ]  # fmt: skip
    text = markdown({"cells": cells, "arms": {"graph": "as given"}})
    for line in (
        "| 8 documents, named, 2 hops | 98.0 [93.0, 99.4] | 88.0 [80.2, 93.0] | 1.0 [0.2, 5.4] |",
        "| 8 documents, named, 2 hops | +10.0 [+3.7, +15.9] |",
        "| 8 documents, named | 96.0 [90.2, 98.4] (2.0 [0.6, 7.0]) |",
        "| 8 documents, named | 1.0 [0.2, 5.4] / 90.0 [82.6, 94.5] |",
        "| 8 documents of 300 words, named | 3.0 [1.0, 8.5] / 80.0 [71.1, 86.7] |",
        "| 8 documents, named, 2 hops, graph | 90.0 [82.6, 94.5] | 91.0 [83.8, 95.2] | +1.0 | 1.0 [0.2, 5.4] |",
        "| 8 documents, named, 2 hops | 98.0 [93.0, 99.4] | 80.0 [71.1, 86.7] | 88.0 [80.2, 93.0] | 1.0 [0.2, 5.4] |",
        "| 8 documents, named, 2 hops | 98.0 [93.0, 99.4] | 97.0 [91.5, 99.0] | 1.0 [0.2, 5.4] |",
        "- 32 documents, named, 2 hops, block: too long",
    ):
        assert line in text.splitlines()
    assert place_panels(cells) == {"8 documents, named, 2 hops": {"graph": [(1.0, 0.9, *wilson(90, 100)), (8.0, 0.91, *wilson(91, 100))]}}
    free = [c for c in cells if c["place"] is None and "skipped" not in c]
    assert [x for x, *_ in place_panels(free)["16 documents, named, 2 hops"]["graph"]] == [1.0, 2.0, 3.0, 4.0]
    assert [x for x, *_ in document_panels(cells)["named, 2 hops"]["graph"]] == [8.0, 16.0]


def bench(*args: str) -> Result:
    return CliRunner().invoke(app, ["bench", "citation-world", *args], env={"COLUMNS": "200", "GRAPHKV_DEBUG": ""})


def test_the_command_writes_numbers_tables_and_pictures(tmp_path: Path, embedded: GraphKV) -> None:
    """With two processes, whose numbers are those of one."""
    out = tmp_path / "made" / "cw.json"
    command = ("--preset", "quick", "--arms", "graph,graph-wrong", "--questions", "4", "--workers", "2", "--out", str(out), "--plots", str(tmp_path / "plots"))
    first = bench(*command)
    assert first.exit_code == 0, first.output
    assert first.stderr.count("graph, 4 named documents: 1 hop ") == 1 and "[8/8] " in first.stderr
    last = json.loads(first.stdout.splitlines()[-1])
    assert last["cells"] == 12 and last["skipped"] == 0 and len(last["plots"]) == 2
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in last["plots"])
    result = json.loads(out.read_text())
    assert result["cells"] == run(embedded, None, batches_of("quick", arms=["graph", "graph-wrong"], questions=4))["cells"]
    assert {c["questions"] for c in result["cells"]} == {4} and result["settings"]["held_out"] is True
    assert "### Exact match" in out.with_suffix(".md").read_text() and "### Exact match" in first.stdout
    again = bench(*command)
    assert json.loads(out.read_text())["cells"] == result["cells"] and len(out.with_suffix(".jsonl").read_text().splitlines()) == 9
    assert again.stdout.splitlines()[:-1] == first.stdout.splitlines()[:-1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--preset", "tabel"), "unknown preset 'tabel'; valid: ablation"),
        (("--arms", "grpah"), "unknown arm 'grpah'; valid: ape, block"),
        (("--documents", "8,many"), "--documents needs whole numbers such as 8,16, got '8,many'"),
        (("--hops", "4"), "unknown number of hops 4"),
        (("--words", "-5"), "--words needs whole numbers"),
        (("--styles", ","), "at least one value"),
        (("--out", "."), "is a folder: expected a name such as results.json"),
        (("--out", "cells.jsonl"), "expected a name such as results.json"),
        (("--model", "./nowhere"), "no such model folder"),
    ],
)
def test_bad_input_is_one_line(args: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = bench(*args)
    assert result.exit_code == 2 and result.stdout == ""
    assert message in result.stderr and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
