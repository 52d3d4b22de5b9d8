"""The citation world: the same for the same seed, split by name, and every question answerable from its gold document."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphkv_benchmarks.citation_world import (
    NOT_FOUND,
    STYLES,
    SYLLABLES,
    Recipe,
    entities,
    is_held_out,
    make_needles,
    make_world,
    one_style,
    place_gold,
    rows,
)  # fmt: skip
from graphkv_benchmarks.citation_world.phrases import ASK, ATTRIBUTES, BARE_MENTIONS, COMPARE, FACTS, LEADS, RELATIONS, VIA, VIA_NESTED

WORLDS = 40


def some_rows(held_out: bool, documents: int = 8) -> list[dict]:
    return list(rows(seed=5, worlds=WORLDS, documents=documents, held_out=held_out))


def test_same_seed_same_world() -> None:
    assert some_rows(False) == some_rows(False)
    assert make_world(1, 6).to_row() != make_world(2, 6).to_row()


def test_rows_are_json_with_the_documented_keys() -> None:
    row = make_world(3, 5).to_row()
    assert json.loads(json.dumps(row)) == row
    assert set(row) == {"documents", "questions"}
    assert all(set(d) == {"id", "title", "text", "sources"} for d in row["documents"])
    assert all(set(q) == {"question", "answer", "type", "hops", "gold", "path", "style"} for q in row["questions"])
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


def test_titles_in_reference_lists_stand_on_the_same_side() -> None:
    for held_out in (False, True):
        others = [t for seed in range(WORLDS) for p in make_world(seed, 8, held_out, one_style("numbered")).papers for t in p.others]
        assert len(others) > 50 and all(is_held_out(title) == held_out for title in others)


@pytest.mark.parametrize("held_out", [False, True])
def test_every_answer_stands_in_its_gold_document_and_no_other(held_out: bool) -> None:
    """An attribute's value occurs in one document only, so that an answer without the gold document would be a guess."""
    for row in some_rows(held_out):
        texts = {d["id"]: f"Title: {d['title']}. {d['text']}" for d in row["documents"]}
        for question in row["questions"]:
            if question["gold"] is None:
                assert question["answer"] == NOT_FOUND and question["type"] == "unanswerable" and question["path"] == []
                continue
            assert question["path"][-1] == question["gold"]
            assert question["answer"] in texts[question["gold"]]
            if question["type"] == "attribute" and not question["answer"].isdigit():
                assert [name for name, text in texts.items() if re.search(rf"\b{re.escape(question['answer'])}\b", text)] == [question["gold"]]


def test_no_question_is_asked_of_two_answers() -> None:
    for row in some_rows(True):
        asked = [q["question"] for q in row["questions"]]
        assert len(set(asked)) == len(asked) > 20


@pytest.mark.parametrize("missing", [0, 2])
@pytest.mark.parametrize("style", STYLES)
def test_answers_can_be_worked_out_from_text_and_edges(style: str, missing: int) -> None:
    """A reader with rules instead of a model: 1. it takes every sentence of a document apart by the templates, 2. it takes the question
    apart, 3. it follows the citations, a bare one over the edge, and must come to the same answer, NOT_FOUND included."""
    seen = set()
    for seed in range(25):
        world = make_world(seed, 7, True, one_style(style, missing=missing))
        assert len(world.papers) == 7
        known = {p.title: _read(p.text, p.title) for p in world.papers}
        by_id = {p.id: p.title for p in world.papers}
        sources = {p.title: [by_id[s] for s in p.sources] for p in world.papers}
        for question in world.questions:
            seen.add((question.type, question.hops))
            assert _answer(question.question, known, sources, style) == question.answer, question.question
    assert {(t, h) for t in ("attribute", "unanswerable") for h in (1, 2, 3)} <= seen
    assert {("title", 1), ("comparison", 1)} <= seen


def _pattern(template: str, **places: str) -> re.Pattern[str]:
    """A template with its places as groups, matching a whole text."""
    pattern = re.escape(template)
    for place in re.findall(r"{(\w)}", template):
        pattern = pattern.replace(re.escape("{" + place + "}"), f"(?P<{place}>{places.get(place, '.+')})")
    return re.compile(f"^{pattern}$")


VALUES = {"author": r"[A-Z]\w+ [A-Z]\w+", "score": r"\d\d\.\d", "year": r"\d{4}", "method": r"[A-Z]\w+", "dataset": r"[A-Z]\w+", "lab": r"[A-Z]\w+"}
CITED = rf"[A-Z]\w+ [A-Z]\w+|\[\d\]|{'|'.join(BARE_MENTIONS)}"


def _read(text: str, title: str) -> dict[str, str]:
    body, _, listed = text.partition(" References: ")
    numbers = {f"[{n}]": name for n, name in re.findall(r"\[(\d+)\] ([^.]+)\.", listed)}
    inner = f"{title}|this paper|this work"
    outer = rf"(?:{'|'.join(LEADS)})?(?:{title}|[Tt]his paper|[Tt]his work|[Ii]t)"
    found = {}
    for sentence in re.split(r"(?<=\.) (?=[A-Z])", body):
        for kind, templates in FACTS.items():
            for template in templates:
                if match := _pattern(template, S=outer, O=inner, V=VALUES.get(kind, CITED)).match(sentence):
                    found[kind] = numbers.get(match["V"], match["V"])
    return found


def _answer(question: str, known: dict[str, dict[str, str]], sources: dict[str, list[str]], style: str) -> str:
    for (kind, larger), templates in COMPARE.items():
        for template in templates:
            if match := _pattern(template).match(question):
                pair = sorted((match["A"], match["B"]), key=lambda t: float(known[t][kind]))
                return pair[-1] if larger else pair[0]
    for kind, templates in ASK.items():
        for template in templates:
            if match := _pattern(template).match(question):
                paper = _follow(match["P"], known, sources, style)
                if paper is None or kind not in known.get(paper, {}):
                    continue
                if kind in RELATIONS and style == "bare":
                    return sources[paper][0] if sources[paper] else NOT_FOUND
                return known[paper][kind]
    return NOT_FOUND


def _follow(phrase: str, known: dict[str, dict[str, str]], sources: dict[str, list[str]], style: str) -> str | None:
    if phrase in known:
        return phrase
    for relation in RELATIONS:
        for template in (*VIA[relation], *VIA_NESTED[relation]):
            if match := _pattern(template).match(phrase):
                paper = _follow(match["P"], known, sources, style)
                if paper is not None and relation in known.get(paper, {}):
                    return known[paper][relation] if style != "bare" else sources[paper][0] if sources[paper] else None
    return None


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


def test_each_style_says_as_much_as_it_should() -> None:
    seen = dict.fromkeys(STYLES, 0)
    for index in range(WORLDS):
        world = make_world(index, 8)
        titles = {p.id: p.title for p in world.papers}
        for paper in world.papers:
            body, _, listed = paper.text.partition("References:")
            for cited in paper.cites.values():
                assert (titles[cited] in body) == (paper.style == "named")
                assert (titles[cited] in listed) == (paper.style == "numbered")
                assert paper.style != "bare" or len(paper.cites) == 1
                seen[paper.style] += 1
    assert min(seen.values()) > 20


def test_marks_point_at_the_values() -> None:
    for index in range(WORLDS):
        world = make_world(index, 4)
        titles = {p.id: p.title for p in world.papers}
        for paper in world.papers:
            marks = {m.kind: paper.segment[m.start : m.end] for m in paper.marks}
            assert {k: marks[k] for k in paper.facts} == paper.facts
            for relation, cited in paper.cites.items():
                shown = {"named": relation, "numbered": f"{relation}.entry"}.get(paper.style)
                assert shown is None or marks[shown] == titles[cited]


def test_some_names_begin_alike() -> None:
    def pairs(collide: float) -> int:
        count = 0
        for index in range(WORLDS):
            facts = [p.facts for p in make_world(index, 8, recipe=Recipe(collide=collide)).papers]
            heads = [f["method"][:3] for f in facts if "method" in f]
            count += len(heads) - len(set(heads))
        return count

    assert pairs(0.9) > pairs(0.0) + 20


@pytest.mark.parametrize("words", [0, 80, 300])
def test_documents_are_as_long_as_asked(words: int) -> None:
    lengths = [len(p.text.split()) for seed in range(5) for p in make_world(seed, 6, recipe=Recipe(words=words)).papers]
    assert min(lengths) >= words and max(lengths) < max(words, 80) + 30


def test_distractors_stand_outside_the_graph_and_the_questions() -> None:
    for seed in range(10):
        world = make_world(seed, 8, recipe=Recipe(distractors=5))
        inside = {name for p in world.papers for name in (*p.sources, *([p.id] if p.sources else []))}
        asked = {name for q in world.questions for name in q.path}
        assert len(inside | asked) <= 3 and len(world.papers) == 8


def test_missing_papers_are_cited_and_not_there() -> None:
    asked = set()
    for seed in range(20):
        world = make_world(seed, 6, recipe=Recipe(missing=2))
        titles = {p.title for p in world.papers}
        absent = {title for p in world.papers for title in p.absent.values()}
        assert len(world.papers) == 6 and not absent & titles
        assert {s for p in world.papers for s in p.sources} <= {p.id for p in world.papers}
        asked |= {(q.hops, q.answer == NOT_FOUND) for q in world.questions for p in world.papers if q.subject == p.id and q.via[:1] and q.via[0] in p.absent}
        assert all(q.answer == NOT_FOUND for q in world.questions for p in world.papers if q.subject == p.id and q.via[:1] and q.via[0] in p.absent)
    assert (2, True) in asked


def test_gold_position() -> None:
    world = make_world(1, 6)
    question = next(q for q in world.questions if q.gold)
    for position in (0, 3, 5, -1):
        moved = place_gold(world, question, position)
        assert moved.papers[position].id == question.gold
        assert sorted(p.id for p in moved.papers) == sorted(p.id for p in world.papers)
    for row in rows(2, 5, 6, True, gold_position=-1, hops=(2,), types=("attribute",)):
        assert [q["gold"] for q in row["questions"]] == [row["documents"][-1]["id"]] and row["questions"][0]["hops"] == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_world(0, 0), "at least 1, got 0"),
        (lambda: make_world(0, 3, recipe=Recipe(distractors=3)), "at most 2 can be distractors, got 3"),
        (lambda: one_style("footnote"), "unknown citation style 'footnote', expected one of named, numbered, bare"),
        (lambda: place_gold(make_world(1, 4), next(q for q in make_world(1, 4).questions if q.gold), 4), "position must be from -4 to 3, got 4"),
        (lambda: list(rows(0, 1, 1, False, hops=(3,))), "none of 1000 worlds had a question"),
    ],
)
def test_bad_input(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()


def test_needles_can_be_found_and_one_question_cannot_be_answered() -> None:
    phrasings = set()
    for seed in range(60):
        world = make_needles(seed, 100, documents=1 + seed % 3)
        texts = {p.id: p.text for p in world.papers}
        for question in world.questions:
            if question.gold is None:
                assert question.answer == NOT_FOUND
                continue
            phrasings.add(question.question.split(" for ")[0].split(" of ")[0].split(" in ")[0])
            assert [name for name, text in texts.items() if question.answer in text] == [question.gold]
        assert min(len(text.split()) for text in texts.values()) >= 100
    assert len(phrasings) >= 6


def test_every_template_has_its_places() -> None:
    assert set(FACTS) == {*ATTRIBUTES, *RELATIONS} == set(ASK)
    for templates in FACTS.values():
        assert all(t.count("{V}") == 1 and t.count("{S}") + t.count("{O}") == 1 and t.endswith(".") for t in templates)
    for templates in (*ASK.values(), *VIA.values(), *VIA_NESTED.values()):
        assert all(t.count("{P}") == 1 for t in templates)


def test_syllables_are_three_letters() -> None:
    assert len(set(SYLLABLES)) == 70 and all(len(s) == 3 for s in SYLLABLES)


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    from graphkv_benchmarks.embedded.vocabulary import build_tokenizer

    return build_tokenizer()


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
