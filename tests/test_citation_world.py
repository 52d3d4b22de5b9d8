"""The citation world: the same for the same seed, split by name, and every question answerable from its gold document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from graphkv_benchmarks.citation_world import SYLLABLES, Recipe, entities, is_held_out, make_world, rows

WORLDS = 40


def some_rows(held_out: bool, documents: int = 8) -> list[dict]:
    return list(rows(seed=5, worlds=WORLDS, documents=documents, held_out=held_out, questions=None))


def test_same_seed_same_world() -> None:
    assert some_rows(False) == some_rows(False)
    assert make_world(1, 6).to_row() != make_world(2, 6).to_row()


def test_rows_are_json_with_the_documented_keys() -> None:
    row = make_world(3, 5).to_row()
    assert json.loads(json.dumps(row)) == row
    assert set(row) == {"documents", "questions"}
    assert all(set(d) == {"id", "title", "text", "sources"} for d in row["documents"])
    assert all(set(q) == {"question", "answer", "hops", "gold", "style"} for q in row["questions"])
    assert not any(d["text"].startswith("Title:") for d in row["documents"])


def test_the_same_world_in_another_process() -> None:
    # Python's own hash differs between processes; the split must not depend on it.
    code = "import json; from graphkv_benchmarks.citation_world import make_world; print(json.dumps(make_world(11, 4, True).to_row()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "123"})
    assert json.loads(out.stdout) == make_world(11, 4, True).to_row()


def test_train_and_held_out_share_no_entity() -> None:
    train = set().union(*(entities(row) for row in some_rows(False)))
    held_out = set().union(*(entities(row) for row in some_rows(True)))
    assert len(train) > 500 and len(held_out) > 500
    assert not train & held_out
    assert not any(is_held_out(name) for name in train)
    assert all(is_held_out(name) for name in held_out)


@pytest.mark.parametrize("held_out", [False, True])
def test_every_answer_stands_in_its_gold_document(held_out: bool) -> None:
    for row in some_rows(held_out):
        documents = {d["id"]: d for d in row["documents"]}
        for question in row["questions"]:
            gold = documents[question["gold"]]
            assert question["answer"] in f"Title: {gold['title']}. {gold['text']}"


def test_no_question_is_asked_of_two_answers() -> None:
    for row in some_rows(True):
        answers: dict[str, set[str]] = {}
        for question in row["questions"]:
            answers.setdefault(question["question"], set()).add(question["answer"])
        assert all(len(found) == 1 for found in answers.values())


def test_sources_exist_and_there_is_no_cycle() -> None:
    for row in some_rows(False):
        sources = {d["id"]: d["sources"] for d in row["documents"]}
        assert all(len(s) <= 2 and d not in s and set(s) <= set(sources) for d, s in sources.items())
        left = dict(sources)
        while left:
            free = [d for d, s in left.items() if not set(s) & set(left)]
            assert free, "the citations form a cycle"
            for document in free:
                del left[document]


def test_a_bare_citation_does_not_name_the_paper_and_a_named_one_does() -> None:
    seen = {"bare": 0, "named": 0}
    for index in range(WORLDS):
        world = make_world(index, 8)
        titles = {p.id: p.title for p in world.papers}
        for paper in world.papers:
            for cited, named in paper.cites.values():
                assert (titles[cited] in paper.text) == named
                assert named or len(paper.cites) == 1
                seen["named" if named else "bare"] += 1
    assert min(seen.values()) > 20


def test_marks_point_at_the_values() -> None:
    for index in range(WORLDS):
        for paper in make_world(index, 4).papers:
            for mark in paper.marks:
                if mark.kind in paper.facts:
                    assert paper.segment[mark.start : mark.end] == paper.facts[mark.kind]


def test_some_names_begin_alike() -> None:
    def pairs(collide: float) -> int:
        count = 0
        for index in range(WORLDS):
            facts = [p.facts for p in make_world(index, 8, recipe=Recipe(collide=collide)).papers]
            heads = [f["method"][:3] for f in facts if "method" in f]
            count += len(heads) - len(set(heads))
        return count

    assert pairs(0.9) > pairs(0.0) + 20


def test_styles_and_hops_all_occur() -> None:
    seen = {(q["style"], q["hops"]) for row in some_rows(True) for q in row["questions"]}
    assert seen == {("named", 1), ("named", 2), ("bare", 1), ("bare", 2)}


def test_a_world_needs_a_document() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make_world(0, 0)


def test_syllables_are_three_letters() -> None:
    assert len(set(SYLLABLES)) == 70 and all(len(s) == 3 for s in SYLLABLES)


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    from graphkv_benchmarks.embedded.vocabulary import build_tokenizer

    return build_tokenizer()


@pytest.mark.parametrize("layout", ["sequential", "block", "pcw", "graph"])
def test_training_episodes_stand_as_the_library_lays_them_out(tokenizer, layout: str) -> None:  # type: ignore[no-untyped-def]
    """The trainer packs episodes with its own few lines.

    1. Positions and mask of an episode with one question.
    2. The library's layout for the same documents, its blocks put in the trainer's order. Both must be equal.
    """
    import torch

    from graphkv.graph import SegmentGraph
    from graphkv.layouts import make_layout
    from graphkv_benchmarks.embedded.episodes import build

    for seed in range(8):
        world = make_world(seed, 2 + seed)
        question = world.questions[0]
        episode = build(world, [question], layout, tokenizer)

        lengths = {p.id: len(tokenizer(p.segment)["input_ids"]) for p in world.papers}
        asked = len(tokenizer(f"Question: {question.question}\nAnswer: {question.answer}")["input_ids"])
        theirs = make_layout(layout, SegmentGraph.from_documents(world.to_row()["documents"]), lengths, prefix=1, question=asked)
        order = sorted(range(len(theirs.blocks)), key=lambda i: _place_of(theirs.blocks[i], [p.id for p in world.papers]))
        rows = torch.cat([torch.arange(theirs.starts[i], theirs.starts[i + 1]) for i in order])
        assert torch.equal(episode.positions, theirs.position_ids()[rows])
        assert torch.equal(episode.mask, theirs.mask()[rows][:, rows])


def _place_of(block, papers: list[str]) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    """The trainer's order: prefix, rounds in turn (each in the order of the papers), question."""
    if block.segment is None:
        return (-1, 0) if block.role == "prefix" else (99, 0)
    return block.round, papers.index(block.segment)


def test_names_split_into_syllables(tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert tokenizer.convert_ids_to_tokens(tokenizer(" Zixkon 95.7")["input_ids"]) == ["ĠZix", "kon", "Ġ9", "5", ".", "7"]


def test_command_line(tmp_path: Path) -> None:
    out = tmp_path / "worlds.jsonl"
    command = [
        sys.executable,
        "-m",
        "graphkv_benchmarks.citation_world",
        "--seed",
        "4",
        "--worlds",
        "3",
        "--documents",
        "5",
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 3
