"""The citation-world benchmark: what is asked of whom, when an answer is right, and that a stopped run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
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
from graphkv_benchmarks.citation_bench import measure as measure_module
from graphkv_benchmarks.citation_bench import run as run_module
from graphkv_benchmarks.citation_bench.answers import Outcome, answer_text, outcomes
from graphkv_benchmarks.citation_bench.arms import ARMS, documents_for
from graphkv_benchmarks.citation_bench.cells import KINDS, PER_WORLD, Batch, worlds_of
from graphkv_benchmarks.citation_bench.measure import measure
from graphkv_benchmarks.citation_bench.plots import document_panels, place_panels
from graphkv_benchmarks.citation_bench.presets import PRESETS, batches_of
from graphkv_benchmarks.citation_bench.run import run
from graphkv_benchmarks.citation_bench.tables import markdown
from graphkv_benchmarks.citation_world import NOT_FOUND, make_world, one_style
from graphkv_benchmarks.scoring import paired_difference, wilson

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


# Arms


def test_arms_do_to_edges_and_documents_what_they_say() -> None:
    world = make_world(3, 8, True, one_style("bare"))
    given = {p.id: p.sources for p in world.papers}
    text = {p.id: p.text for p in world.papers}
    cited = next(source for sources in given.values() for source in sources)
    for arm in ARMS.values():
        documents = documents_for(arm, world, "seed", cited)
        sources = {d["id"]: d["sources"] for d in documents}
        assert all(d["text"] == text[d["id"]] for d in documents)
        if arm.name == "graph-wrong":
            assert {id: len(s) for id, s in sources.items()} == {id: len(s) for id, s in given.items()}
            assert not any(set(sources[id]) & {id, *given[id]} for id in sources)
            assert documents == documents_for(arm, world, "seed") and documents != documents_for(arm, world, "other")
        elif arm.name == "graph-removed":
            assert list(sources) == [id for id in given if id != cited]
            assert sources == {id: [s for s in given[id] if s != cited] for id in sources}
        elif arm.name == "shared-no-edges":
            assert not any(sources.values()) and list(sources) == list(given)
        else:
            assert sources == given
    assert {p.id: p.sources for p in world.papers} == given  # the world itself is not touched


def test_the_gold_document_must_be_named_to_be_taken_out() -> None:
    with pytest.raises(InputError, match="expected one of p0, p1, p2, p3, got None"):
        documents_for(ARMS["graph-removed"], make_world(1, 4, True), "")


# Cells


@pytest.mark.parametrize("style", ["named", "numbered", "bare"])
def test_a_cell_has_its_number_and_kind_of_questions(style: str) -> None:
    kinds = (*HOPS, "comparison", "unanswerable")
    worlds = list(worlds_of(Batch("graph", style, 8, 0, kinds, 30), seed=1))
    for kind in kinds:
        asked = [q for world in worlds for q in world.questions.get(kind, ())]
        assert len(asked) == 30
        assert max(len(world.questions.get(kind, ())) for world in worlds) <= PER_WORLD
        if kind in HOPS:
            assert {q.style for q in asked} == {style} and {q.hops for q in asked} == {HOPS.index(kind) + 1}
        if kind == "1 hop":
            assert {q.type for q in asked} == ({"attribute", "title"} if style == "named" else {"title"})
        if kind == "unanswerable":
            assert {q.answer for q in asked} == {NOT_FOUND}
    assert all(paper.style == style for world in worlds for paper in world.world.papers if paper.cites)


def test_arms_kinds_and_places_share_worlds_and_questions() -> None:
    batch = Batch("graph", "named", 8, 0, HOPS, 25)

    def asked(batch: Batch, kind: str) -> list[tuple[int, str]]:
        return [(world.number, q.question) for world in worlds_of(batch, seed=4) for q in world.questions.get(kind, ())]

    for kind in HOPS:
        assert asked(batch, kind) == asked(replace(batch, arm="block"), kind) == asked(replace(batch, kinds=(kind,)), kind)
        assert asked(replace(batch, place=0), kind) == asked(replace(batch, place=7, arm="pcw"), kind)
    assert asked(batch, "1 hop") != [(world.number, q.question) for world in worlds_of(batch, seed=5) for q in world.questions.get("1 hop", ())]


def test_a_place_is_where_the_gold_document_stands() -> None:
    worlds = [list(worlds_of(replace(SMALL, documents=6, place=place), seed=1)) for place in (0, 3, 5)]
    for first, *moved in zip(*worlds, strict=True):
        for place, world in zip((0, 3, 5), (first, *moved), strict=True):
            assert {q.gold for questions in world.questions.values() for q in questions} == {world.gold}
            assert world.world.papers[place].id == world.gold
        others = [[p.id for p in world.world.papers if p.id != first.gold] for world in (first, *moved)]
        assert all(one == other for one, other in pairwise(others))


def test_needles_are_asked_for() -> None:
    worlds = list(worlds_of(Batch("graph", "named", 2, 60, ("needle",), 12), seed=1))
    assert sum(len(world.questions["needle"]) for world in worlds) == 12
    assert all(len(world.world.papers) == 2 and q.type == "needle" for world in worlds for q in world.questions["needle"])


def test_cells_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="had no question of kind 3 hops: allow more documents"):
        list(worlds_of(replace(SMALL, documents=2, kinds=("3 hops",)), seed=1))
    with pytest.raises(InputError, match="cannot be moved or taken out"):
        list(worlds_of(replace(SMALL, kinds=("unanswerable",), place=0), seed=1))
    with pytest.raises(InputError, match="unknown citation style 'boxed'"):
        list(worlds_of(replace(SMALL, style="boxed"), seed=1))
    with pytest.raises(InputError, match="place must be from 0 to 3, got 4"):
        list(worlds_of(replace(SMALL, place=4), seed=1))


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
    ):
        world = make_world(11, 4, True, one_style(style))
        documents, asked = world.to_row()["documents"], world.questions[:16]
        found = outcomes(embedded, documents, [q.question for q in asked], [q.answer for q in asked], layout=layout, **options)
        answers = embedded.ask_many(documents, [q.question for q in asked], layout=layout, max_new_tokens=24, **options)
        for question, outcome, answer in zip(asked, found, answers, strict=True):
            gold = embedded.reader.ids(answer_text(embedded, question.answer))
            assert outcome.right == (answer.text == question.answer and answer.finish_reason == "stop") == (answer.token_ids == gold)
            assert outcome.refused == (answer.token_ids[:1] == embedded.reader.ids(f" {NOT_FOUND}")[:1])
        seen += found
    assert len(seen) > 100 and {outcome.right for outcome in seen} == {True, False}


def test_the_space_in_front_of_an_answer_follows_the_prompt(embedded: GraphKV) -> None:
    assert answer_text(embedded, "Ada Fumrel") == " Ada Fumrel"
    chat = tiny_engine(chat_template="{% for m in messages %}<s>{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}assistant\n{% endif %}")
    assert answer_text(chat, "Ada Fumrel") == "Ada Fumrel"


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
    (cell,) = cells
    assert (cell["questions"], cell["right"], cell["refused"]) == (20, 10, 5)
    assert (cell["accuracy"], cell["low"], cell["high"]) == (0.5, *(round(bound, 4) for bound in wilson(10, 20)))
    assert cell["outcomes"].count("1") == 10 and len(cell["outcomes"]) == 20
    assert sum(count for _, count in cell["quarters"]) == sum(count for _, count in cell["by"].values()) == 20


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


def test_workers_change_nothing(embedded: GraphKV) -> None:
    batches = [replace(SMALL, arm=arm, documents=2, kinds=("1 hop",)) for arm in ("graph", "graph-wrong")]
    assert run(embedded, None, batches, workers=2)["cells"] == run(embedded, None, batches)["cells"]


# Presets, tables, pictures


def test_presets_hold_what_the_tables_need() -> None:
    def points(preset: str) -> set[tuple[str, str, int, int, str, int | None]]:
        return {(b.arm, b.style, b.documents, b.words, kind, b.place) for b in batches_of(preset) for kind in b.kinds}

    for arm in ("graph", "block", "pcw", "sequential", "graph-wrong"):
        assert {(arm, style, n, 0, kind, None) for style in ("named", "numbered", "bare") for n in (8, 16, 32) for kind in HOPS} <= points("table")
    assert {("graph-removed", "named", n, 0, kind, None) for n in (8, 16) for kind in HOPS} <= points("table")
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
        {**cell("block", 0, documents=32), "skipped": "too long"},
    ]  # fmt: skip
    text = markdown({"cells": cells, "arms": {"graph": "as given"}})
    for line in (
        "| 8 documents, named, 2 hops | 98.0 [93.0, 99.4] | 88.0 [80.2, 93.0] |",
        "| 8 documents, named, 2 hops | +10.0 [+3.7, +15.9] |",
        "| 8 documents, named | 96.0 [90.2, 98.4] (2.0 [0.6, 7.0]) |",
        "| 8 documents, named | 1.0 [0.2, 5.4] / 90.0 [82.6, 94.5] |",
        "| 8 documents, named, 2 hops, graph | 90.0 [82.6, 94.5] | 91.0 [83.8, 95.2] | +1.0 |",
        "| 8 documents, named, 2 hops | 98.0 [93.0, 99.4] | 80.0 [71.1, 86.7] | 88.0 [80.2, 93.0] |",
        "| 8 documents, named, 2 hops | 98.0 [93.0, 99.4] | 97.0 [91.5, 99.0] |",
        "- 32 documents, named, 2 hops, block: too long",
    ):
        assert line in text.splitlines()
    assert place_panels(cells) == {"8 documents, named, 2 hops": {"graph": [(1.0, 0.9, *wilson(90, 100)), (8.0, 0.91, *wilson(91, 100))]}}
    free = [c for c in cells if c["place"] is None and "skipped" not in c]
    assert [x for x, *_ in place_panels(free)["16 documents, named, 2 hops"]["graph"]] == [1.0, 2.0, 3.0, 4.0]
    assert [x for x, *_ in document_panels(cells)["named, 2 hops"]["graph"]] == [8.0, 16.0]


def bench(*args: str) -> Result:
    return CliRunner().invoke(app, ["bench", "citation-world", *args], env={"COLUMNS": "200", "GRAPHKV_DEBUG": ""})


def test_the_command_writes_numbers_tables_and_pictures(tmp_path: Path) -> None:
    out = tmp_path / "made" / "cw.json"
    command = ("--preset", "quick", "--arms", "graph,block", "--questions", "4", "--workers", "1", "--out", str(out), "--plots", str(tmp_path / "plots"))
    first = bench(*command)
    assert first.exit_code == 0, first.output
    assert first.stderr.count("graph, 4 named documents: 1 hop ") == 1 and "[8/8] " in first.stderr
    last = json.loads(first.stdout.splitlines()[-1])
    assert last["cells"] == 12 and last["skipped"] == 0 and len(last["plots"]) == 2
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in last["plots"])
    result = json.loads(out.read_text())
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
