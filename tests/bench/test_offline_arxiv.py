"""The offline Arxiv-QA set: the released layout, one right answer a graph, the same for the same arguments, whole or not there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphkv.cli import app
from graphkv.errors import InputError
from graphkv.importers import build_graph
from graphkv_benchmarks.citation_world import is_held_out
from graphkv_benchmarks.citation_world.ego import TYPES, Ego, make_egos, titles_there_are
from graphkv_benchmarks.runner.case import Case
from graphkv_benchmarks.tasks import offline_arxiv
from graphkv_benchmarks.tasks.arxiv_files import ArxivFiles
from graphkv_benchmarks.tasks.arxiv_qa import ArxivQA
from graphkv_benchmarks.tasks.offline_arxiv import write_offline_arxiv


@pytest.fixture(scope="module")
def egos() -> list[Ego]:
    return make_egos(1)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_for_the_same_arguments(egos: list[Ego]) -> None:
    assert egos == make_egos(1)
    assert [ego.centre for ego in egos] != [ego.centre for ego in make_egos(2)]


def test_titles_are_of_one_graph_only(egos: list[Ego]) -> None:
    titles = [title for ego in egos for title in (ego.centre.title, *ego.references)]
    assert len(set(titles)) == len(titles) and all(map(is_held_out, titles))
    assert not any(map(is_held_out, (title for ego in make_egos(1, graphs=3, held_out=False) for title in ego.references)))


def test_dials() -> None:
    for ego in make_egos(3, graphs=5, references=(1, 4), words=120, missing=2):
        here = [paper for paper in ego.references.values() if paper is not None]
        assert 1 <= len(here) <= 4 and len(ego.references) == len(here) + 2
        assert all(len(paper.text.split()) >= 120 for paper in (ego.centre, *here))
        assert sorted(ego.centre.cites) == (["builds"] if len(here) == 1 else ["builds", "compares"])
    assert all(ego.references.values() for ego in make_egos(3, graphs=2, missing=0))


def test_half_of_the_questions_take_two_hops(egos: list[Ego]) -> None:
    counts = [sum(ego.type == type for ego in egos) for type in TYPES]
    assert counts == [30, 15, 15]


def test_each_question_has_its_answer_where_it_says(egos: list[Ego]) -> None:
    for ego in egos:
        question, references = ego.question, {paper.id: paper for paper in ego.references.values() if paper is not None}
        assert ego.centre.title in question.question and question.gold is not None
        gold = ego.centre if question.gold == "centre" else references[question.gold]
        others = [paper.text for paper in (ego.centre, *references.values()) if paper is not gold]
        assert question.answer in gold.text and (ego.type == "2 hops") == (gold is not ego.centre)
        if ego.type == "2 hops":
            assert gold.title in ego.centre.text and ego.centre.cites[question.via[0]] == gold.id
        if not question.answer.isdigit() and ego.type != "title":  # years may repeat; a title stands in its own paper too
            assert not any(question.answer in text for text in others)


def test_every_sentence_names_its_paper(egos: list[Ego]) -> None:
    for ego in egos[:10]:
        for paper in (paper for paper in ego.references.values() if paper is not None):
            assert paper.text.count(paper.title) == len(paper.facts)


def test_all_references_are_mentioned_somewhere(egos: list[Ego]) -> None:
    numbered = [ego for ego in egos if ego.centre.style == "numbered"]
    assert 5 < len(numbered) < 30
    assert all(title in ego.centre.text for ego in numbered for title in ego.references)


@pytest.mark.parametrize("arguments", [{"graphs": 0}, {"references": (0, 3)}, {"references": (4, 3)}, {"words": -1}, {"missing": -1}])
def test_counts_that_make_no_sense(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected at least 1 graph"):
        make_egos(1, **arguments)  # type: ignore[arg-type]


def test_more_papers_than_titles() -> None:
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"there are 1,730 titles: ask for fewer"):
        make_egos(1, graphs=200, references=(10, 10))
    assert time.monotonic() - begun < 1
    assert titles_there_are(True) == 1730
    assert len(make_egos(1, graphs=173, references=(8, 8))) == 173  # every title there is


def test_the_released_layout(tmp_path: Path, egos: list[Ego]) -> None:
    made = write_offline_arxiv(tmp_path)
    folder = tmp_path / "arxiv"
    expected = {f"{part}/{n}{ending}" for part, ending in (("questions", ".txt"), ("answers", ".txt"), ("text_data", ".json")) for n in range(1, 61)}
    assert set(files(folder)) == expected | {"types.json", "offline.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["arxiv"]  # no leftovers
    row = json.loads((folder / "text_data" / "1.json").read_text())
    assert row == {egos[0].centre.title: {"0": egos[0].centre.text, "1": {title: paper and paper.text for title, paper in egos[0].references.items()}}}
    assert made == json.loads((folder / "offline.json").read_text()) and made["documents"] == sum(1 + sum(p is not None for p in e.references.values()) for e in egos)


def test_round_trip_through_the_task(tmp_path: Path, egos: list[Ego]) -> None:
    write_offline_arxiv(tmp_path)
    task = ArxivQA(str(tmp_path), distractors=(0,), prompt="model")
    assert len(task.units()) == 60
    for unit, ego in zip(task.units(), egos, strict=True):
        (case,) = task.cases(unit)
        assert isinstance(case, Case)
        assert [(s.title, s.text) for s in case.graph] == [*((t, p.text) for t, p in ego.references.items() if p is not None), (ego.centre.title, ego.centre.text)]
        (question,) = case.questions
        assert (question.text, question.answers, question.type) == (ego.question.question, (ego.question.answer,), ego.type)


def test_round_trip_through_the_importers(tmp_path: Path, egos: list[Ego]) -> None:
    write_offline_arxiv(tmp_path)
    graph = build_graph(tmp_path / "arxiv" / "text_data" / "1.json", references="matched").graph
    assert {segment.text for segment in graph} == {egos[0].centre.text, *(p.text for p in egos[0].references.values() if p is not None)}
    centre = next(segment.id for segment in graph if segment.text == egos[0].centre.text)
    assert len(graph.sources(centre)) == len(graph) - 1


def test_again_it_is_left_and_another_is_refused(tmp_path: Path) -> None:
    made = write_offline_arxiv(tmp_path, graphs=2, references=(1, 2))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write_offline_arxiv(tmp_path, graphs=2, references=(1, 2)) == made
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(InputError, match="holds another set"):
        write_offline_arxiv(tmp_path, graphs=2, references=(1, 2), seed=2)
    (tmp_path / "arxiv" / "offline.json").unlink()
    with pytest.raises(InputError, match="was not made by"):
        write_offline_arxiv(tmp_path, graphs=2, references=(1, 2))


def test_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_offline_arxiv(tmp_path / name, graphs=4)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(place: Path, *_: object) -> None:
        (place / "questions").mkdir(parents=True)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(offline_arxiv, "_write", full)
        with pytest.raises(OSError, match="No space"):
            write_offline_arxiv(tmp_path, graphs=2)
    assert list(tmp_path.iterdir()) == []
    write_offline_arxiv(tmp_path, graphs=2)
    assert ArxivFiles(tmp_path).ids == ("1", "2")


def test_a_long_question_is_made_in_seconds() -> None:
    begun = time.monotonic()
    (ego,) = make_egos(1, graphs=1, references=(22, 22), words=3350)
    assert time.monotonic() - begun < 5
    assert sum(len(paper.text.split()) for paper in (ego.centre, *ego.references.values()) if paper is not None) >= 23 * 3350


def test_command(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "offline", "arxiv-qa", "--graphs", "3", "--references", "2", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["documents"] == 9 and ArxivFiles(tmp_path).ids == ("1", "2", "3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["morehopqa"], "unknown data set 'morehopqa'; valid: arxiv-qa, rag"),
        (["arxiv-qa", "--references", "0,3"], "--references is LOW,HIGH"),
        (["arxiv-qa", "--references", "x"], "--references is LOW,HIGH"),
        (["arxiv-qa", "--rows", "3"], "--rows is for rag"),
        (["rag", "--graphs", "3"], "--graphs and --references are for arxiv-qa"),
    ],
)
def test_command_refuses(tmp_path: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["bench", "offline", *options, "--out", str(tmp_path / "set")])
    assert done.exit_code == 2 and message in " ".join(done.stderr.split())
    assert not (tmp_path / "set").exists()
