"""The RAG task: settings, scores and their oddities, offline rows, the command, and rows of a real set under three layouts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers import byte_tokenizer, tiny_model
from typer.testing import CliRunner

from graphkv import GraphKV
from graphkv.cli.bench.rag import rag
from graphkv.cli.common import guarded
from graphkv.errors import DocumentError, InputError
from graphkv.prompt import PromptTemplate
from graphkv_benchmarks.citation_world import is_held_out
from graphkv_benchmarks.runner.arms import make_arms
from graphkv_benchmarks.runner.case import Case, Question
from graphkv_benchmarks.tasks import task_from
from graphkv_benchmarks.tasks.offline_rag import write_offline_rag
from graphkv_benchmarks.tasks.rag import NOT_FOLLOWED, SETS, RagQA
from graphkv_benchmarks.tasks.rag_file import FILES, find_file
from graphkv_benchmarks.tasks.rag_prompts import END_MARKS, TEMPLATES

REAL = Path(__file__).parents[3] / "shared" / "data" / "morehopqa_100.json"
ROWS = 12
OWN = PromptTemplate("<s>", "{title}: {text}\n", "{text}\n", "{question}")


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline")
    write_offline_rag(folder, rows=ROWS, seed=3)
    return folder


def cases_of(task: RagQA, limit: int | None = None) -> list[Case]:
    found = [case for unit in task.units()[:limit] for case in task.cases(unit)]
    assert all(isinstance(case, Case) for case in found), found
    return [case for case in found if isinstance(case, Case)]


def passages(name: str, words: int) -> dict[str, Any]:
    """LongBench-v2's own option."""
    return {"passage_words": words} if name == "longbench-v2" else {}


# The task


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("as_published", [False, True])
def test_a_task_goes_round(offline: Path, name: str, as_published: bool) -> None:
    """Through settings, JSON, and pickle: the same task with the same cases."""
    task = RagQA(name, str(offline), prompt="model", as_published=as_published, **passages(name, 100))
    settings = task.settings()
    assert settings["kind"] == "rag" and settings["oddities"] and settings == json.loads(json.dumps(settings))
    again, copied = task_from(json.loads(json.dumps(settings))), pickle.loads(pickle.dumps(task))
    assert again == task == copied and task.name == f"rag-{name}"
    unit = task.units()[0]
    (one,), (other,) = task.cases(unit), copied.cases(unit)
    assert isinstance(one, Case) and isinstance(other, Case) and one.questions == other.questions and one.graph.segments == other.graph.segments
    assert task.template(OWN) is OWN and RagQA(name, str(offline)).template(OWN) is TEMPLATES[name]
    assert task.max_new_tokens("graph") == (128 if name == "longbench-v2" else 1024)
    assert task.stop() == (() if as_published else END_MARKS)
    with pytest.raises(DocumentError, match="has no row 'nowhere'"):
        list(task.cases("nowhere"))


def test_what_as_published_changes_stands_in_the_settings(offline: Path) -> None:
    for name in SETS:
        ours, theirs = (RagQA(name, str(offline), as_published=flag).settings()["oddities"] for flag in (False, True))
        assert set(ours) == set(theirs) and {key for key in ours if ours[key] == theirs[key]} == (set(NOT_FOLLOWED) if name == "longbench-v2" else set())
    assert set(RagQA("nq", str(offline)).settings()["oddities"]) == {"answers", "gold of punctuation and articles only", "stop strings"}
    for flag in (False, True):
        long = RagQA("longbench-v2", str(offline), as_published=flag).settings()["oddities"]
        assert "cuts the prompt's middle" in long["long rows"] and "temperature 0.1" in long["sampling"]


def test_the_rows_decide_over_the_settings_not_their_place(offline: Path, tmp_path: Path) -> None:
    copy = tmp_path / "rows"
    copy.write_bytes(find_file("nq", offline).read_bytes())
    one, other = RagQA("nq", str(offline)).settings(), RagQA("nq", str(copy)).settings()
    assert one["digest"] == other["digest"]
    copy.write_bytes(copy.read_bytes() + b"\n")
    assert RagQA("nq", str(copy)).settings()["digest"] != one["digest"]


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    for options, said in (
        ({"set": "nqa"}, "unknown RAG set 'nqa'"),
        ({"prompt": "mine"}, "unknown prompt 'mine'"),
        ({"passage_words": 0}, "passage_words must be"),
        ({"domain": "Code"}, "are for longbench-v2"),
    ):
        with pytest.raises(InputError, match=said):
            RagQA(**{"set": "nq", "data": str(tmp_path), **options})
    with pytest.raises(DocumentError, match="needs the file datahub/rag/tqa_eval/dataset"):
        RagQA("tqa", str(tmp_path)).units()


# Scores


def score(name: str, prediction: str, answers: tuple[str, ...], as_published: bool = False, choices: tuple[str, ...] = ()) -> float:
    return RagQA(name, "nowhere", as_published=as_published).score(prediction, Question("0", "?", answers, choices=choices))


def test_scores_and_their_oddities() -> None:
    for name in ("nq", "2wiki", "tqa", "hotpotqa"):
        assert score(name, "It is the Rhine.", ("Elbe", "rhine")) == 1.0 and score(name, "It", ("Elbe",)) == 0.0
        assert score(name, "It", ("...",)) == 0.0 and score(name, "It", ("...",), as_published=True) == 1.0
    assert score("morehopqa", "5 or 6. Answer: 6", ("5",)) == 0.0 and score("morehopqa", "so it is 5", ("5",)) == 1.0
    behind = "Answer: 6<|eot_id|>\nAnswer: 5"
    assert score("morehopqa", behind, ("5",)) == 0.0 and score("morehopqa", behind, ("5",), as_published=True) == 1.0
    assert score("multihop-rag", "The answer is: the Guardian", ("The Verge",)) == 0.0
    assert score("multihop-rag", "The answer is: the Guardian", ("The Verge",), as_published=True) == 1.0
    assert score("multihop-rag", "Yes.", ("yes",)) == 1.0 and score("multihop-rag", "Yes.", ("yes",), as_published=True) == 0.0
    choices = ("one river", "two", "three", "two rivers")
    read = {"The correct answer is (D)": (1.0, 1.0), "Two rivers.": (1.0, 0.0), "D. Two rivers": (1.0, 0.0), "The correct answer is Doubtful": (0.0, 1.0)}
    for text, (ours, theirs) in read.items():
        assert score("longbench-v2", text, ("D",), choices=choices) == ours and score("longbench-v2", text, ("D",), True, choices) == theirs
    assert score("longbench-v2", "", ("A",), choices=choices) == 0.0


def line(answer: str, *gold: str) -> dict[str, Any]:
    return {"answer": answer, "gold": list(gold)}


def test_further_metrics() -> None:
    lines = [line("the Rhine", "Rhine", "Elbe"), line("river Elbe", "Elbe")]
    assert RagQA("nq", "x").further(lines) == {"word_f1": pytest.approx(5 / 6), "exact_match": 0.5}
    assert RagQA("nq", "x", as_published=True).further(lines) == RagQA("nq", "x", as_published=True).further([line("Rhine")]) == {}
    assert RagQA("morehopqa", "x").further([line("so ... answer: 5", "5")]) == {"word_f1": 1.0, "exact_match": 1.0}
    multihop = [line("Insufficient information", "Insufficient information."), line("no", "Yes")]
    assert RagQA("multihop-rag", "x").further(multihop) == {"word_f1": 0.5, "exact_match": 0.5, "precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": 0.5}
    assert RagQA("multihop-rag", "x", as_published=True).further(multihop) == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "accuracy": 0.5}
    assert RagQA("longbench-v2", "x").further([line("B.", "B"), line("two", "B")]) == {"no_letter": 0.5}
    assert RagQA("longbench-v2", "x", as_published=True).further([line("B.", "B"), line("two", "B")]) == {"no_letter": 1.0}
    for name in SETS:
        assert RagQA(name, "x").further([]) == {}
    names = {(name, flag): RagQA(name, "x", as_published=flag).metric for name in SETS for flag in (False, True)}
    assert {names[key] for key in names if key[0] not in ("multihop-rag", "longbench-v2")} == {"best_subspan_em"} and names["longbench-v2", True] == "accuracy"
    assert (names["multihop-rag", False], names["multihop-rag", True]) == ("best_subspan_em", "word_intersection")


# Offline rows


@pytest.mark.parametrize("name", SETS)
def test_offline_rows_are_like_the_released_ones(offline: Path, name: str) -> None:
    assert find_file(name, offline) == offline / FILES[name][-1 if name == "longbench-v2" else 0]
    for prompt in ("paper", "model"):
        for case in cases_of(RagQA(name, str(offline), prompt=prompt, **passages(name, 200))):
            (question,) = case.questions
            scores = [segment.score for segment in case.graph]
            if name == "longbench-v2":
                assert len(set(question.choices)) == 4 and question.answers[0] in "ABCD" and len(case.graph) > 10
                gold = question.choices["ABCD".index(question.answers[0])]
            else:
                assert len(case.graph) == 10 and scores == sorted(scores, key=lambda score: score or 0.0) and len(set(scores)) > 1
                (gold,) = question.answers
            text = " ".join(f"{segment.title or ''} {segment.text}" for segment in case.graph)
            assert gold in text  # it stands in a document: no edge is needed to know it
            titled = name != "longbench-v2" and (prompt == "model" or name not in ("multihop-rag", "morehopqa"))
            assert all((segment.title is not None) == titled for segment in case.graph)
            assert is_held_out(gold.split()[-1].lower()) or gold.replace(".", "").isdigit() or " " in gold


def test_offline_rows_are_the_same_for_the_same_seed(offline: Path, tmp_path: Path) -> None:
    made = write_offline_rag(tmp_path / "again", rows=ROWS, seed=3)
    files = sorted(path.relative_to(offline) for path in offline.rglob("*") if path.is_file())
    assert len(files) == len(SETS) + 1 and made["rows"] == ROWS
    assert all((offline / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)
    write_offline_rag(tmp_path / "other", rows=ROWS, seed=4)
    assert (tmp_path / "other" / FILES["nq"][0]).read_bytes() != (offline / FILES["nq"][0]).read_bytes()


def test_offline_rows_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphkv_benchmarks.tasks import offline_rag

    def failing(*rest: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setitem(offline_rag._SETS, "longbench-v2", ("longbench-v2/data.json", failing))
        with pytest.raises(OSError, match="no space left"):
            write_offline_rag(tmp_path, rows=1)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    write_offline_rag(tmp_path, rows=1)
    with monkeypatch.context() as patch:
        patch.setattr(offline_rag, "_write", lambda *rest: pytest.fail("written again"))
        write_offline_rag(tmp_path, rows=1)
        with pytest.raises(InputError, match="holds another set"):
            write_offline_rag(tmp_path, rows=2)
    (tmp_path / "mine" / "datahub" / "rag" / "nq_eval").mkdir(parents=True)
    with pytest.raises(InputError, match="was not made by"):
        write_offline_rag(tmp_path / "mine", rows=1)
    for options, said in (({"rows": 0}, "rows must be"), ({"words": -1}, "words must be")):
        with pytest.raises(InputError, match=said):
            write_offline_rag(tmp_path / "new", **options)


# Running


ARMS = ("sequential", "full", "hops2")


@pytest.mark.skipif(not REAL.exists(), reason="../shared/data/morehopqa_100.json is absent")
@pytest.mark.parametrize("which", ["embedded", "qwen2"])
def test_rows_of_a_real_set(which: str) -> None:
    """A row of MoreHopQA as its authors release it, by the embedded model in its own words and by a random Qwen2 in the paper's.

    A passage whose sentences come without spaces between them is shown as it is meant to be read.
    """
    task = RagQA("morehopqa", str(REAL), prompt="model" if which == "embedded" else "paper")
    cases = cases_of(task)
    assert len(task.units()) == len(cases) == 100
    shown = RagQA("morehopqa", str(REAL)).template(OWN).render(next(segment for segment in cases[28].graph if segment.title == "Daniel Bergman"))
    assert shown.startswith(
        "- Title: Daniel Bergman\nDaniel Sebastian Bergman (born 7 September 1962) is a Swedish film director. "
        "He is the son of Ingmar Bergman and Käbi Laretei. As a child"
    )
    pair: Any = (tiny_model("qwen2", max_position_embeddings=16384), byte_tokenizer())
    engine = GraphKV.from_pretrained(store="memory") if which == "embedded" else GraphKV.from_pretrained(pair, template=task.template(OWN))
    for case in cases[:1]:
        (question,) = case.questions
        for arm in make_arms(ARMS):
            answer = engine.ask(case.graph, question.text, max_new_tokens=4, stop=task.stop(), **arm.options)
            assert answer.text is not None and answer.tokens_computed > 0 and task.score(answer.text, question) in (0.0, 1.0)


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    app.command("rag")(guarded(rag))
    return app


def test_the_command(app: typer.Typer, tmp_path: Path) -> None:
    args = ["rag", "--set", "nq", "--offline", "--rows", "3", "--limit", "2", "--arms", "sequential,top1", "--out", str(tmp_path / "out")]
    planned = CliRunner().invoke(app, [*args, "--dry-run", "--json"])
    assert planned.exit_code == 0 and json.loads(planned.stdout)["task"] == "rag-nq", planned.output
    ran = CliRunner().invoke(app, [*args, "--json"])
    assert ran.exit_code == 0, ran.output
    cells = json.loads(ran.stdout)["cells"]
    assert [(cell["arm"], cell["answered"]) for cell in cells] == [("sequential", 2), ("top1", 2)]
    assert (tmp_path / "out" / "data" / FILES["nq"][0]).exists()


def test_bad_options_of_the_command(app: typer.Typer, tmp_path: Path) -> None:
    for args, said in (
        (["--set", "nq"], "expected --data FILE|DIR"),
        (["--set", "nq", "--offline", "--data", str(tmp_path)], "and not both"),
        (["--set", "x", "--offline", "--out", str(tmp_path / "new")], "unknown RAG set 'x'"),
        (["--set", "nq", "--data", str(tmp_path), "--out", str(tmp_path / "new")], "needs the file datahub/rag/nq_eval/dataset"),
    ):
        result = CliRunner().invoke(app, ["rag", *args])
        assert result.exit_code == 2 and said in " ".join(result.output.split()), result.output
    wrong = (["--arms", "nothing"], "unknown arm 'nothing'"), (["--shard", "3/2"], "--shard is I/N"), (["--landmark-model", "x"], "is for arm landmark")
    for further, said in wrong:
        result = CliRunner().invoke(app, ["rag", "--offline", "--out", str(tmp_path / "new"), *further])
        assert result.exit_code == 2 and said in " ".join(result.output.split()), result.output
    assert not (tmp_path / "new").exists()
