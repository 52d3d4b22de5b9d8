"""Arxiv-QA: reading the released layout, drawing distractors, the official wording, and what is broken."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graphkv import GraphKV
from graphkv.cli import app
from graphkv.errors import DocumentError, InputError
from graphkv_benchmarks.runner.case import Broken, Case
from graphkv_benchmarks.runner.folder import open_folder
from graphkv_benchmarks.tasks.arxiv_files import ArxivFiles
from graphkv_benchmarks.tasks.arxiv_qa import ArxivQA, official_draw
from graphkv_benchmarks.tasks.offline_arxiv import write_offline_arxiv

EGOS: dict[str, dict[str, Any]] = {
    "1": {"Night Maple": {"0": "Night Maple builds on Red Fern.", "1": {"Red Fern": "Ada wrote Red Fern.", "Gone": None, "Blue Oak": "Blue Oak is\n\nlong. "}}},
    "2": {"Lone Pine": {"0": "Lone Pine cites nothing that is here.", "1": {"Gone": None}}},
    "3": {"centre": {"0": "A paper called centre.", "1": {"centre": "Its namesake.", "a/b": "A name with a stroke.", "": "No name."}}},
    "10": {"Wide Bay": {"0": "Wide Bay.", "1": {"Empty": " \n", "Full": "Full."}}, "Second": {"0": "Not read.", "1": {}}},
}


def write(folder: Path, id: str, ego: Any) -> None:
    for part, text in (("questions", f"What of {id}?\n"), ("answers", f"Answer {id}\n")):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / f"{id}.txt").write_text(text)
    (folder / "text_data").mkdir(exist_ok=True)
    (folder / "text_data" / f"{id}.json").write_text(ego if isinstance(ego, str) else json.dumps(ego))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for id, ego in EGOS.items():
        write(tmp_path / "datahub" / "arxiv", id, ego)
    return tmp_path / "datahub" / "arxiv"


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sixty")
    write_offline_arxiv(folder, references=(2, 3))
    return folder


def cases(task: ArxivQA, unit: str) -> list[Case]:
    found = list(task.cases(unit))
    assert all(isinstance(case, Case) for case in found), found
    return [case for case in found if isinstance(case, Case)]


def texts(case: Case) -> list[str]:
    return [segment.text or "" for segment in case.graph]


def groups(case: Case) -> list[str]:
    """Ids of the ego graphs in their order."""
    return list(dict.fromkeys(id.split("/")[0] for id in case.graph.ids))


def rendered(task: ArxivQA, case: Case) -> Iterator[str]:
    template = task.template(None)  # type: ignore[arg-type]
    for segment in case.sequential_graph or case.graph:
        yield template.render(segment)


def test_reads_the_released_layout(data: Path) -> None:
    files = ArxivFiles(data)
    assert files.ids == ("1", "2", "3", "10")
    ego = files.ego("1")
    assert (ego.paper, ego.references) == ("Night Maple", (("Red Fern", "Ada wrote Red Fern."), ("Blue Oak", "Blue Oak is\n\nlong. ")))
    assert files.ego("2").references == ()
    assert files.ego("10").references == (("Empty", " \n"), ("Full", "Full."))  # of two papers the first
    assert files.ego("10").with_text == (("Full", "Full."),)
    assert (files.question("1"), files.answer("10"), files.types()) == ("What of 1?\n", "Answer 10\n", {})


@pytest.mark.parametrize("above", [".", "..", "../.."])
def test_the_folder_or_one_above_it(data: Path, above: str) -> None:
    assert ArxivQA(str(data / above)).units() == ("1", "2", "3", "10")


def test_no_data_says_what_is_expected(tmp_path: Path, data: Path) -> None:
    with pytest.raises(DocumentError, match=r"questions/1\.txt.*no questions and no answers.*graphkv bench download.*graphkv bench offline"):
        ArxivQA(str(tmp_path / "nowhere")).units()
    for path in data.glob("*/*"):
        path.unlink()
    with pytest.raises(DocumentError, match="holds no question"):
        ArxivQA(str(data)).units()


def test_a_case_is_whole_ego_graphs_and_its_edges_lead_to_the_paper(data: Path) -> None:
    (case,) = cases(ArxivQA(str(data), distractors=(0,)), "1")
    assert case.graph.ids == ("1/cited/Red Fern", "1/cited/Blue Oak", "1/centre")
    assert case.graph.edges == (("1/cited/Red Fern", "1/centre"), ("1/cited/Blue Oak", "1/centre"))
    assert case.setting == {"distractors": 0} and case.unit == "1"
    (question,) = case.questions
    assert (question.id, question.text, question.answers, question.type) == ("1", "What of 1?", ("Answer 1",), "")
    three = next(case for case in cases(ArxivQA(str(data), distractors=(3,), seeds=(1,)), "1"))
    assert len(three.graph) == 10 and set(groups(three)) == set(EGOS)  # names as odd as "centre", "a/b" and "" do not meet


def test_first_and_last_hold_the_same(data: Path) -> None:
    task = ArxivQA(str(data), distractors=(1, 2))
    for unit in task.units():
        found = {tuple(case.setting.values()): case for case in cases(task, unit)}
        assert len(found) == 2 * 3 * 2
        for count in (1, 2):
            for seed in (42, 43, 44):
                first, last = found[count, "first", seed], found[count, "last", seed]
                assert groups(first) == [unit, *groups(last)[:-1]] and groups(last)[-1] == unit
                assert set(first.graph.segments) == set(last.graph.segments)  # texts and scores too
                assert set(first.graph.edges) == set(last.graph.edges)
                assert groups(found[1, "first", seed])[1] == groups(found[2, "first", seed])[1]


def test_a_paper_is_never_its_own_distractor(sixty: Path) -> None:
    task = ArxivQA(str(sixty), distractors=(2,), orders=("first",))
    seen = {unit: [groups(case) for case in cases(task, unit)] for unit in task.units()[:20]}
    assert all(drawn[0] == unit and len(set(drawn)) == 3 for unit, draws in seen.items() for drawn in draws)
    assert any(draws[0] != draws[1] for draws in seen.values())  # seeds differ
    assert seen == {unit: [groups(case) for case in cases(ArxivQA(str(sixty), distractors=(2,), orders=("first",)), unit)] for unit in seen}


@pytest.mark.parametrize("count", [1, 2])
def test_as_published_draws_like_the_official_code(sixty: Path, count: int) -> None:
    random.seed(42)
    set_ids = list(range(1, 61))
    official = {str(set_id): random.sample(set_ids, count) for set_id in set_ids}
    assert official_draw([str(id) for id in set_ids], count, 42) == {unit: tuple(map(str, drawn)) for unit, drawn in official.items()}
    task = ArxivQA(str(sixty), distractors=(count,), as_published=True)
    own = [unit for unit, drawn in official.items() if int(unit) in drawn]
    assert own or count == 1
    for unit in ["1", "60", *own]:
        first, last = cases(task, unit)  # one seed
        drawn = [f"{id} again" if str(id) == unit else str(id) for id in official[unit]]
        assert groups(first) == [unit, *drawn] and groups(last) == [*drawn, unit]
        assert first.setting == {"distractors": count, "order": "first", "seed": 42}


def test_as_published_reads_exactly_the_official_texts(data: Path) -> None:
    task = ArxivQA(str(data), distractors=(0, 3), orders=("last",), as_published=True)
    alone, beside = cases(task, "1")
    neighbours, paper = ["Ada wrote Red Fern.", "Blue Oak is\n\nlong. "], "Night Maple builds on Red Fern."
    assert "".join(rendered(task, alone)) == "\n\n".join(neighbours) + "\n\n Now please read the paper:" + paper
    assert texts(alone) == [*neighbours, "\nNow you will read the center paper and answer a related question: \n" + paper]
    files, prompt = ArxivFiles(data), ""
    for id in groups(beside):
        ego = files.ego(id.removesuffix(" again"))
        prompt += "\n\n".join(text for _, text in ego.references) + "\n\n Now please read the paper:" + ego.centre
        assert beside.graph[f"{id}/centre"].text == "\nNow you will read the center paper and answer a related question: : \n" + ego.centre
    assert "".join(rendered(task, beside)) == prompt
    assert beside.sequential_graph is not None and beside.sequential_graph.ids == beside.graph.ids
    assert task.template(None).ask(alone.questions[0].text) == "\n Question: What of 1?\n \n<|assistant|>\n"  # type: ignore[arg-type]


def test_as_published_an_empty_reference_is_text_of_sequential(data: Path) -> None:
    write(data, "7", {"P": {"0": "Paper.", "1": {"a": "", "b": "B.", "c": "", "d": " \n", "e": None}}})
    write(data, "8", {"P": {"0": "Paper.", "1": {"a": "", "b": ""}}})
    write(data, "9", {"P": {"0": "Paper.", "1": {}}})
    task = ArxivQA(str(data), distractors=(0,), as_published=True)
    for unit, given in (("7", ["", "B.", "", " \n"]), ("8", ["", ""]), ("9", [])):
        (case,) = cases(task, unit)
        assert "".join(rendered(task, case)) == "\n\n".join(given) + "\n\n Now please read the paper:" + "Paper."
        assert case.sequential_graph is not None and case.sequential_graph.ids == case.graph.ids
        assert texts(case)[:-1] == [text for text in given if text.strip()]
    (default,) = cases(ArxivQA(str(data), distractors=(0,)), "7")
    assert texts(default)[:-1] == ["B.\n\n"]


def test_a_gold_without_a_word_is_found_as_published_only(data: Path) -> None:
    (data / "answers" / "1.txt").write_text("The...\n")
    (data / "answers" / "2.txt").write_text("\n")
    ours, theirs = ArxivQA(str(data), distractors=(0,)), ArxivQA(str(data), distractors=(0,), as_published=True)
    for unit in ("1", "2"):
        (case,) = cases(theirs, unit)
        assert theirs.score("Ada Fumrel", case.questions[0]) == 1.0
    assert ours.score("Ada Fumrel", cases(ours, "1")[0].questions[0]) == 0.0
    (broken,) = ours.cases("2")
    assert isinstance(broken, Broken) and "answers/2.txt is empty" in broken.reason
    (usual,) = cases(theirs, "3")
    assert [theirs.score(answer, usual.questions[0]) for answer in ("It is answer 3.<|eot_id|>", "It is 3.")] == [1.0, 0.0]


def test_by_default_all_arms_read_one_wording(data: Path) -> None:
    task = ArxivQA(str(data), distractors=(0, 1))
    for case in cases(task, "1"):
        assert case.sequential_graph is None and not any(segment.title for segment in case.graph)
        assert case.graph["1/centre"].text == "\nNow you will read the center paper and answer a related question: \nNight Maple builds on Red Fern."
        assert case.graph["1/cited/Red Fern"].text == "Ada wrote Red Fern.\n\n"


def test_with_the_models_prompt_documents_have_titles(data: Path) -> None:
    own = GraphKV.from_pretrained().template
    task = ArxivQA(str(data), distractors=(0,), prompt="model")
    (case,) = cases(task, "1")
    assert [(segment.title, segment.text) for segment in case.graph][::2] == [("Red Fern", "Ada wrote Red Fern."), ("Night Maple", "Night Maple builds on Red Fern.")]
    assert case.sequential_graph is None and task.template(own) is own


@pytest.mark.parametrize(("arm", "default", "published"), [("sequential", 256, 512), ("full_context", 256, 512), ("graph:rounds=2", 256, 256), ("block", 256, 256)])
def test_caps(arm: str, default: int, published: int) -> None:
    assert (ArxivQA("x").max_new_tokens(arm), ArxivQA("x", as_published=True).max_new_tokens(arm)) == (default, published)


def test_scores_rank_by_the_question(data: Path) -> None:
    (data / "questions" / "1.txt").write_text("Who wrote Red Fern?")
    for case in cases(ArxivQA(str(data), distractors=(3,)), "1"):
        scores = {segment.id: segment.score or 0.0 for segment in case.graph}
        assert sorted(scores.values()) == list(range(1, 11)) and max(scores, key=scores.__getitem__) == "1/cited/Red Fern"
        worst = [id for id in sorted(scores, key=scores.__getitem__) if "Fern" not in (case.graph[id].text or "")]
        assert worst == sorted(worst, reverse=True)  # what has no word of the question is a tie: lower ids first


def test_settings_make_the_same_task(data: Path) -> None:
    task = ArxivQA(str(data), distractors=(0, 2), orders=("last",), seeds=(7,), prompt="model")
    task.units()
    assert ArxivQA.from_settings(json.loads(json.dumps(task.settings()))) == task == pickle.loads(pickle.dumps(task))
    assert task.settings()["kind"] == task.name == "arxiv-qa" and "BM25" in task.settings()["scores"]
    published = ArxivQA("x", as_published=True)
    assert published.seeds == (42,) and ArxivQA.from_settings(published.settings()) == published
    assert ArxivQA("x").seeds == (42, 43, 44)
    ours, theirs = ArxivQA("x").settings(), published.settings()
    assert ours["oddities"].keys() == theirs["oddities"].keys() and not set(ours["oddities"].items()) & set(theirs["oddities"].items())
    assert "not_followed" not in ours and {"positions of graph with distractors", "seams of sequential", "empty references"} <= set(theirs["not_followed"])


def digest(folder: Path) -> Any:
    return ArxivQA(str(folder)).settings()["digest"]


@pytest.mark.parametrize("file", ["questions/2.txt", "answers/10.txt", "text_data/1.json", "types.json"])
def test_the_digest_tells_sets_apart(data: Path, tmp_path: Path, file: str) -> None:
    (data / "types.json").write_text("{}")
    (data / "offline.json").write_text("{}")  # how a set was made is no part of it
    copy = tmp_path / "elsewhere"
    shutil.copytree(data, copy, ignore=shutil.ignore_patterns("offline.json"))
    before = digest(data)
    assert len(before) == 16 and digest(copy) == digest(tmp_path / "datahub") == before
    (copy / file).write_bytes((copy / file).read_bytes() + b" ")
    changed = digest(copy)
    (copy / file).unlink()
    assert len({before, changed, digest(copy)}) == 3 and digest(data) == before
    assert digest(tmp_path / "nowhere") is None


def test_the_digest_tells_which_file_a_text_is_in(data: Path) -> None:
    before = digest(data)
    for path in data.glob("*/10.*"):  # the draw goes by ids
        path.rename(path.with_stem("11"))
    assert digest(data) != before


def test_a_changed_answer_is_another_run(data: Path, tmp_path: Path) -> None:
    def config() -> dict[str, Any]:
        return {"task": ArxivQA(str(data)).settings(), "arms": []}

    open_folder(tmp_path / "run", config())
    open_folder(tmp_path / "run", config())
    (data / "answers" / "2.txt").write_text("Another answer\n")
    with pytest.raises(InputError, match=r"other settings \(task\)"):
        open_folder(tmp_path / "run", config())


BROKEN = {
    "not JSON": ("text_data/5.json", "{", "not valid JSON"),
    "another shape": ("text_data/5.json", "[1]", "got a list"),
    "no paper": ("text_data/5.json", "{}", "got an object"),
    "no references": ("text_data/5.json", '{"P": {"0": "x"}}', "references under"),
    "no text": ("text_data/5.json", '{"P": {"0": null, "1": {}}}', "got nothing"),
    "empty text": ("text_data/5.json", '{"P": {"0": " ", "1": {}}}', "empty text"),
    "a list for a reference": ("text_data/5.json", '{"P": {"0": "x", "1": {"R": ["y"]}}}', "reference 'R': expected a text, got a list"),
    "half a character": ("text_data/5.json", '{"P": {"0": "\\ud800", "1": {}}}', "half of a character"),
    "nested too deep": ("text_data/5.json", "[" * 100_000, "cannot be read"),
    "empty question": ("questions/5.txt", " \n", "is empty"),
    "no answer": ("answers/5.txt", None, "no answers/5.txt"),
    "not UTF-8": ("answers/5.txt", b"\xff", "UTF-8"),
    "a folder": ("answers/5.txt", Path("a folder"), "cannot be read: Is a directory"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_row_is_reported_and_the_rest_goes_on(data: Path, what: str) -> None:
    file, content, reason = BROKEN[what]
    write(data, "5", {"P": {"0": "Paper.", "1": {}}})
    if content is None:
        (data / file).unlink()
    elif isinstance(content, Path):
        (data / file).unlink()
        (data / file).mkdir()
    else:
        (data / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    task = ArxivQA(str(data), distractors=(3,))
    assert task.units() == ("1", "2", "3", "5", "10")
    (broken,) = task.cases("5")
    assert isinstance(broken, Broken) and broken.id == "5" and reason in broken.reason
    assert file in broken.reason and str(data.parent) not in broken.reason  # wherever the data lies, the same words
    assert len(digest(data)) == 16
    assert all("5" not in groups(case) or "text_data" not in file for case in cases(task, "1"))
    published = ArxivQA(str(data), distractors=(4,), as_published=True)
    for unit, drawn in official_draw(task.units(), 4, 42).items():
        if unit != "5" and "text_data" in file:  # the official draw is not changed for it
            found = [broken.id for broken in published.cases(unit) if isinstance(broken, Broken)]
            assert found == ([f"{unit}, 4 distractors, seed 42"] if "5" in drawn else [])


def test_too_few_that_can_be_read(data: Path) -> None:
    (data / "text_data" / "2.json").unlink()
    (data / "text_data" / "3.json").write_text("{")
    found = list(ArxivQA(str(data), distractors=(1, 2), seeds=(1, 2), orders=("first",)).cases("1"))
    assert [broken.id for broken in found if isinstance(broken, Broken)] == ["1, 2 distractors, seed 1", "1, 2 distractors, seed 2"]
    with pytest.raises(InputError, match="4 distractors need more than 4"):
        ArxivQA(str(data), distractors=(4,)).units()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distractors": ()}, "distractors"),
        ({"distractors": (1, 1)}, "each once"),
        ({"distractors": (-1,)}, "from 0 up"),
        ({"seeds": ("a",)}, "seeds"),
        ({"orders": ("middle",)}, "unknown order 'middle'; valid: first, last"),
        ({"prompt": "own"}, "unknown prompt 'own'"),
        ({"as_published": True, "seeds": (43,)}, r"seed 42 and no other, got \[43\]"),
        ({"as_published": True, "seeds": (42, 43, 44)}, "leave the seeds out"),
        ({"as_published": True, "prompt": "model"}, "say --prompt paper"),
    ],
)
def test_settings_that_cannot_be_meant(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ArxivQA("x", **options)


def test_malformed_types(data: Path) -> None:
    (data / "types.json").write_text('{"1": 2}')
    (broken,) = ArxivQA(str(data), distractors=(0,)).cases("1")
    assert isinstance(broken, Broken) and broken.reason.startswith("types.json: ")


def test_data_that_went_away_is_no_broken_row(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="is not the Arxiv-QA data"):
        list(ArxivQA(str(tmp_path)).cases("1"))


def test_graph_answers_the_same_first_and_last(sixty: Path) -> None:
    task = ArxivQA(str(sixty), distractors=(2,), seeds=(42,), prompt="model")
    engine = GraphKV.from_pretrained()
    right = 0.0
    for unit in task.units()[:4]:
        first, last = cases(task, unit)
        answers = [engine.ask(case.graph, case.questions[0].text, layout="graph", max_new_tokens=16).text for case in (first, last)]
        assert answers[0] == answers[1]
        right += task.score(answers[0], first.questions[0])
    assert right >= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--data DIR"),
        (["--offline", "--data", "x"], "and not both"),
        (["--offline", "--order", "middle"], "valid: first, last"),
        (["--offline", "--as-published"], "say --prompt paper"),
        (["--offline", "--as-published", "--prompt", "paper", "--seeds", "42,43"], "seed 42 and no other"),
    ],
)
def test_command_refuses(tmp_path: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["bench", "arxiv-qa", "--out", str(tmp_path / "run"), *options])
    assert done.exit_code == 2 and message in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


def test_a_dry_run_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--offline", "--dry-run", "--distractors", "0", "--arms", "graph", "--limit", "2", "--json", "--out", str(out)]
    done = CliRunner().invoke(app, ["bench", "arxiv-qa", *options])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["arms"]
    assert (row["arm"], row["questions"]) == ("graph", 2)
    assert list(tmp_path.iterdir()) == []
