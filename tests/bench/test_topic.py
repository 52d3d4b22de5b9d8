"""Topic classification: the readers on files made by hand, what a prompt may hold, which papers are asked and what they read."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphkv.cli import app
from graphkv.errors import DocumentError, InputError
from graphkv.prompt import PromptTemplate
from graphkv_benchmarks.runner.case import Broken, Case
from graphkv_benchmarks.tasks import task_from, topic_cora, topic_pubmed
from graphkv_benchmarks.tasks.offline_topic import write_offline_topic
from graphkv_benchmarks.tasks.topic import SETS, TEMPLATE, TopicTask
from graphkv_benchmarks.tasks.topic_cora import read_cora
from graphkv_benchmarks.tasks.topic_pubmed import read_pubmed

OWN = PromptTemplate("", "{title}: {text}\n", "{text}\n", "Q: {question}\nA:")


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("latin-1"))


def cora(folder: Path, texts: str = "mccallum/cora") -> Path:
    """Four papers with a text and one without; 40 has no abstract, and a file name with a colon that was unpacked as an underscore."""
    write(folder / "cora.content", "10\t0\t1\tTheory", "20\t1\t1\tNeural_Networks", "30\t0\t0\tTheory", "40\t0\t0\tCase_Based", "50\t0\t0\tTheory")
    write(folder / "cora.cites", "10\t20", "10\t30", "40\t10", "20\t10", "50\t10", "10\t99", "30\t30")
    names = {"10": "ten.ps", "20": "twenty.ps", "30": "thirty.ps", "40": "http:##x#Forty.ps"}
    listed = [f"{id}\t{name}\t<title>no</title>" for id, name in names.items()]
    write(folder / texts / "papers", "10\told.ps\tfirst", *listed, "20\tgone.ps\tno", "77\tother.ps\tno")
    write(folder / texts / "extractions" / "old.ps", "Title: An older file of paper 10")
    for id, name in names.items():
        abstract = [] if id == "40" else [f"Abstract-found: 1 {id}", f"Abstract: About  {id}, caf\xe9."]
        write(folder / texts / "extractions" / name.replace(":", "_"), "URL: x", f"Title: Paper {id}", "Author: Title: Nobody", *abstract)
    return folder


def pubmed(folder: Path, data: str = "data") -> Path:
    rows = ("11\tlabel=1\tw-rat=0.1\tsummary=w-rat", "22\tlabel=3\tsummary=", "33\tlabel=2\tsummary=")
    nodes = ("NODE\tpaper", "cat=1,2,3:label\tnumeric:w-rat:0.0\tstring:summary", *rows)
    write(folder / data / "Pubmed-Diabetes.NODE.paper.tab", *nodes)
    write(folder / data / "Pubmed-Diabetes.DIRECTED.cites.tab", "DIRECTED\tcites", "NO_FEATURES", "1\tpaper:11\t|\tpaper:22", "2\tpaper:33\t|\tpaper:11")
    # In another order than the nodes; one PubMed did not know.
    records = '[{"PMID": "22", "TI": "Two", "AB": "On rats."}, {"PMID": "11", "TI": "One", "AB": "On mice."}, {"TI": NaN, "AB": NaN}]'
    write(folder / "pubmed.json", records)
    return folder


@pytest.mark.parametrize("inner", ["", "cora", "cora_orig"])
@pytest.mark.parametrize("texts", ["mccallum/cora", "cora", ""])
def test_cora_as_released(tmp_path: Path, inner: str, texts: str) -> None:
    cora(tmp_path / inner, texts)
    read = read_cora(tmp_path)
    assert [(p.id, p.title, p.text, p.label) for p in read.papers.values()] == [
        ("10", "Paper 10", "About 10, café.", "Theory"),
        ("20", "Paper 20", "About 20, café.", "Neural Networks"),
        ("30", "Paper 30", "About 30, café.", "Theory"),
        ("40", None, "Paper 40", "Case Based"),
    ]
    assert read.neighbours == {"10": ("20", "30", "40"), "20": ("10",), "30": ("10",), "40": ("10",)}
    assert (read.without_text, read.edges_left_out, read.broken) == (1, 2, ())  # 50 is without a text, 99 unknown, 30 cites itself


@pytest.mark.parametrize("inner", ["", "PubMed_orig", "Pubmed-Diabetes"])
@pytest.mark.parametrize("data", ["", "data"])
def test_pubmed_as_released(tmp_path: Path, inner: str, data: str) -> None:
    pubmed(tmp_path / inner, data)
    read = read_pubmed(tmp_path)
    assert [(p.id, p.title, p.text, p.label) for p in read.papers.values()] == [("11", "One", "On mice.", "Experimental"), ("22", "Two", "On rats.", "Type 2")]
    assert read.neighbours == {"11": ("22",), "22": ("11",)}
    assert (read.without_text, read.edges_left_out, read.broken) == (1, 1, ())


def test_broken_rows_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    cora(tmp_path)
    with (tmp_path / "cora.content").open("a") as file:
        file.write("60\t0\t1\tAlchemy\n70\t2\tTheory\n10\t0\t0\tTheory\n\n")
    write(tmp_path / "cora.cites", "10\t20", "just one")
    (tmp_path / "cora.cites").write_text("10\t20\nalone\n")
    write(tmp_path / "mccallum/cora/papers", "10\tten.ps\tx", "20")
    task = TopicTask("cora", str(tmp_path))
    *papers, a, b, c, d, e = task.units()
    assert papers == ["10"] and (a, b, c, d, e) == ("cora.content:6", "cora.content:7", "cora.content:8", "cora.cites:2", "papers:2")
    reasons = [row.reason for unit in (a, b, c, d, e) for row in task.cases(unit) if isinstance(row, Broken)]
    assert "expected a class of Case_Based, Genetic_Algorithms" in reasons[0] and "got 'Alchemy'" in reasons[0]
    assert "words as 0 or 1" in reasons[1] and "second time" in reasons[2] and "got 'alone'" in reasons[3] and "file name" in reasons[4]
    pubmed(tmp_path)
    with (tmp_path / "data/Pubmed-Diabetes.NODE.paper.tab").open("a") as file:
        file.write("44\tlabel=4\n55 without\n")
    records = json.loads((tmp_path / "pubmed.json").read_text())
    (tmp_path / "pubmed.json").write_text(json.dumps([*records, 3, {"TI": "Nobody's"}, {"PMID": "9", "TI": 5}]))
    broken = read_pubmed(tmp_path).broken
    nodes = [f"Pubmed-Diabetes.NODE.paper.tab:{line}" for line in (6, 7)]
    assert [row.id for row in broken] == [*nodes, "pubmed.json[3]", "pubmed.json[4]", "pubmed.json[5]"]
    with pytest.raises(DocumentError, match="no paper 'x'"):
        list(task.cases("x"))


def test_an_extraction_that_cannot_be_read_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    cora(tmp_path)
    path = tmp_path / "mccallum/cora/extractions/twenty.ps"
    path.unlink()
    path.mkdir()  # as good as a file that may not be read, which this test could read all the same
    task = TopicTask("cora", str(tmp_path))
    *papers, bad = task.units()
    assert sorted(papers) == ["10", "30", "40"] and bad == "extractions/twenty.ps of paper 20"
    (broken,) = task.cases(bad)
    assert isinstance(broken, Broken) and f"{path.name} cannot be read" in broken.reason and str(path.parent) not in broken.reason
    assert read_cora(tmp_path).without_text == 2 and "20" not in read_cora(tmp_path).neighbours["10"]


@pytest.mark.parametrize("strange", ["\x0c", "\x85", "\u2028", "\x1c", "\x0b"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_line_ends_end_lines(tmp_path: Path, strange: str, end: str) -> None:
    """A form feed, U+0085, U+2028 and the like inside of a line part words and nothing else."""
    cora(tmp_path)
    extraction = f"Title: A{strange}b{end}Abstract: One{strange}Title: two.{end}"
    (tmp_path / "mccallum/cora/extractions/ten.ps").write_bytes(extraction.encode())
    papers = tmp_path / "mccallum/cora/papers"
    papers.write_bytes("".join(f"{line}\t{strange}x{end}" for line in papers.read_text().split("\n") if line).encode())
    for name in ("cora.content", "cora.cites"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))
    read = read_cora(tmp_path)
    assert not read.broken and (read.papers["10"].title, read.papers["10"].text) == ("A b", "One Title: two.")
    assert [p.label for p in read.papers.values()] == ["Theory", "Neural Networks", "Theory", "Case Based"] and read.neighbours["10"] == ("20", "30", "40")
    pubmed(tmp_path)
    for name in ("NODE.paper", "DIRECTED.cites"):
        path = tmp_path / f"data/Pubmed-Diabetes.{name}.tab"
        path.write_bytes("".join(f"{line}\tx{strange}y{end}" for line in path.read_text().split("\n") if line).encode())
    network = read_pubmed(tmp_path)
    assert not network.broken and network.neighbours == {"11": ("22",), "22": ("11",)}


def test_missing_files_are_named_with_all_that_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such folder") as error:
        TopicTask("cora", str(tmp_path / "no")).units()
    assert topic_cora.EXPECTED in str(error.value)
    cora(tmp_path)
    (tmp_path / "cora.cites").unlink()
    (tmp_path / "mccallum/cora/papers").unlink()
    with pytest.raises(DocumentError, match=r"missing cora\.cites and mccallum/cora/papers; expected cora\.content"):
        TopicTask("cora", str(tmp_path)).units()
    with pytest.raises(DocumentError, match=r"missing Pubmed-Diabetes\.NODE") as error:
        TopicTask("pubmed", str(tmp_path)).settings()
    assert topic_pubmed.EXPECTED in str(error.value)
    pubmed(tmp_path)
    for content, said in (("[", "not valid JSON"), ("{}", "expected a JSON list"), ("[]", "none of its 3 papers has a text")):
        (tmp_path / "pubmed.json").write_text(content)
        with pytest.raises(DocumentError, match=said):
            read_pubmed(tmp_path)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    pubmed(tmp_path)
    assert read_pubmed(tmp_path) is read_pubmed(tmp_path)
    path = tmp_path / "pubmed.json"
    before = TopicTask("pubmed", str(tmp_path)).settings()["digest"]
    path.write_text(path.read_text().replace("mice", "cats"))
    os.utime(path, ns=(1, 1))
    assert read_pubmed(tmp_path).papers["11"].text == "On cats."
    assert TopicTask("pubmed", str(tmp_path)).settings()["digest"] != before


def shown(task: TopicTask) -> list[tuple[str, list[str], list[tuple[str, str]], str]]:
    """Everything that the model is shown: unit, rendered documents, edges, question."""
    template, found = task.template(OWN), []
    for unit in task.units():
        for case in task.cases(unit):
            assert isinstance(case, Case)
            (question,) = case.questions
            documents = ["".join(text for text, _ in template.pieces(segment.title, str(segment.text))) for segment in case.graph]
            found.append((unit, documents, sorted(map(tuple, case.graph.edges)), "".join(text for text, _ in template.question_pieces(question.text))))
    return found


@pytest.mark.parametrize("prompt", ["paper", "model"])
@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("set", SETS)
def test_no_class_of_any_paper_is_shown(tmp_path: Path, set: str, hops: int, prompt: str) -> None:
    """1. the prompts with the true classes, 2. with every class exchanged for the next: byte for byte the same; only the gold answers differ."""
    place = write_offline_topic(tmp_path / set, set)
    task = TopicTask(set, str(place), hops=hops, prompt=prompt, test=12)
    true, gold = shown(task), [next(task.cases(unit)).questions[0].answers for unit in task.units()]  # type: ignore[union-attr]
    if set == "cora":
        path, names = place / "cora.content", list(topic_cora.CLASSES)
        exchange = {f"\t{name}\n": f"\t{names[i - 1]}\n" for i, name in enumerate(names)}
        path.write_text("".join(line.rpartition("\t")[0] + exchange["\t" + line.rpartition("\t")[2]] for line in path.read_text().splitlines(keepends=True)))
    else:
        path = place / "data" / "Pubmed-Diabetes.NODE.paper.tab"
        path.write_text(re.sub(r"label=(\d)", lambda found: f"label={int(found[1]) % 3 + 1}", path.read_text()))
    os.utime(path, ns=(1, 1))
    assert shown(task) == true
    assert all(a != b for a, b in zip(gold, (next(task.cases(unit)).questions[0].answers for unit in task.units()), strict=True))  # type: ignore[union-attr]
    # The invented texts hold no class's name, so the question's list is the only place of one.
    assert not [name for _, documents, _, _ in true for text in documents for name in task.classes if name.lower() in text.lower()]


def test_the_target_reads_its_neighbours_and_stands_last(tmp_path: Path) -> None:
    cora(tmp_path)
    (case,) = TopicTask("cora", str(tmp_path)).cases("10")
    assert isinstance(case, Case)
    assert case.graph.ids[-1] == "10" and {source for source, _ in case.graph.edges} == {"20", "30", "40"} and case.graph.targets("20") == ("10",)
    assert (case.unit, case.setting, case.questions[0].type, case.questions[0].answers) == ("10", {}, "Theory", ("Theory",))
    assert 'the paper with the title "Paper 10" belong? The classes are: Case Based; Genetic Algorithms;' in case.questions[0].text
    (alone,) = TopicTask("cora", str(tmp_path), neighbours=0).cases("10")
    assert isinstance(alone, Case) and alone.graph.ids == ("10",)
    (untitled,) = TopicTask("cora", str(tmp_path)).cases("40")
    assert isinstance(untitled, Case) and 'the paper that begins with "Paper 40"' in untitled.questions[0].text
    (two,) = TopicTask("cora", str(tmp_path), hops=2).cases("20")
    assert isinstance(two, Case)
    assert sorted(two.graph.ids[:2]) == ["30", "40"] and two.graph.ids[2:] == ("10", "20")
    assert set(two.graph.edges) == {("30", "10"), ("40", "10"), ("10", "20")}


def test_the_neighbours_chosen(tmp_path: Path) -> None:
    texts = {"1": "copper lanterns glow", "2": "copper lanterns by night", "3": "rivers", "4": "copper", "20": "wolves"}
    write(tmp_path / "Pubmed-Diabetes.NODE.paper.tab", "NODE\tpaper", "x", *(f"{id}\tlabel=1" for id in texts))
    write(tmp_path / "Pubmed-Diabetes.DIRECTED.cites.tab", "DIRECTED\tcites", "x", *(f"{id}\tpaper:1\t|\tpaper:{id}" for id in texts))
    write(tmp_path / "pubmed.json", json.dumps([{"PMID": int(id), "TI": "", "AB": text} for id, text in texts.items()]))

    def neighbours(choose: str, count: int) -> tuple[str, ...]:
        (case,) = TopicTask("pubmed", str(tmp_path), neighbours=count, choose=choose).cases("1")
        assert isinstance(case, Case)
        return case.graph.ids[:-1]

    assert neighbours("bm25", 2) == ("4", "2")  # the nearest stands last
    assert neighbours("bm25", 10) == ("20", "3", "4", "2")  # of equals the earlier one is nearer
    assert neighbours("id", 3) == ("2", "3", "4")


def test_which_papers_are_asked(tmp_path: Path) -> None:
    place = str(write_offline_topic(tmp_path / "set", "cora", papers=200))
    all_of_it, some = TopicTask("cora", place).units(), TopicTask("cora", place, test=50).units()
    assert list(some) == list(all_of_it[:50]) and len(set(all_of_it)) == 200
    other = TopicTask("cora", place, test=50, seed=2).units()
    assert 5 <= len(set(some) & set(other)) <= 22  # a quarter of them by chance
    assert TopicTask("cora", place, test=50).units() == some
    labels = Counter(case.questions[0].type for unit in some for case in TopicTask("cora", place).cases(unit) if isinstance(case, Case))
    assert len(labels) == 7


def test_scores(tmp_path: Path) -> None:
    place = str(write_offline_topic(tmp_path / "set", "pubmed"))
    strict, lenient = TopicTask("pubmed", place), TopicTask("pubmed", place, answers="first")
    cases = (case for unit in strict.units() for case in strict.cases(unit) if isinstance(case, Case))
    question = next(case.questions[0] for case in cases if case.questions[0].type == "Type 1")
    right = {"Diabetes Mellitus Type 1": (1, 1), "type-1 diabetes.": (1, 1), "Type 1, not Type 2": (0, 1)}
    answers = {**right, "Type 1 in an experimental model": (0, 0), "Type 2": (0, 0), "Type 10": (0, 0), "": (0, 0)}
    assert {answer: (strict.score(answer, question), lenient.score(answer, question)) for answer in answers} == answers
    assert strict.further([{"answer": answer} for answer in ("Type 1", "Type 1 or Type 2", "neither", "")]) == {"no_class": 0.5, "several_classes": 0.25}
    assert strict.further([]) == {}


def test_the_paper_prompt(tmp_path: Path) -> None:
    assert TEMPLATE.prefix.startswith("<|user|>\n") and TEMPLATE.question.endswith("<|assistant|>\n") and TEMPLATE.document == "- Title: {title}\n{text}\n"
    task = TopicTask("cora", str(tmp_path), prompt="model")
    assert task.template(OWN) is OWN


def test_settings_make_the_same_task_anew(tmp_path: Path) -> None:
    place = write_offline_topic(tmp_path / "set", "pubmed")
    task = TopicTask("pubmed", str(place), neighbours=3, choose="id", hops=2, test=7, seed=5, prompt="model", answers="first")
    settings = json.loads(json.dumps(task.settings()))
    assert settings["kind"] == "topic" and settings["answers"] == "first" and settings["papers"] == 60 and "no paper's class" in settings["sees"]
    assert task_from(settings) == TopicTask.from_settings(settings) == pickle.loads(pickle.dumps(task)) == task
    assert task.name == "topic-pubmed" and task.metric == "accuracy"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"set": "citeseer"}, "unknown set 'citeseer'"),
        ({"choose": "best"}, "choice of neighbours"),
        ({"hops": 3}, "hops"),
        ({"prompt": "x"}, "prompt"),
        ({"answers": "any"}, "unknown reading of answers 'any'; valid: first, strict"),
        ({"test": 0}, "test"),
        ({"neighbours": -1}, "neighbours"),
    ],
)
def test_wrong_options(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TopicTask(**{"set": "cora", "data": "x", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("set", SETS)
def test_the_offline_set(tmp_path: Path, set: str) -> None:
    one, same, other = (write_offline_topic(tmp_path / name, set, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    contents = [{path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()} for place in (one, same, other)]
    assert contents[0] == contents[1] != contents[2]
    read = (read_cora if set == "cora" else read_pubmed)(one)
    assert len(read.papers) == 60 and not read.broken and not read.without_text and not read.edges_left_out
    pairs = [(id, other) for id, around in read.neighbours.items() for other in around]
    assert sum(read.papers[a].label == read.papers[b].label for a, b in pairs) > 0.6 * len(pairs)
    assert write_offline_topic(one, set) == one
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="was not made by"):
        write_offline_topic(tmp_path / "file", set)


def test_command_line(tmp_path: Path) -> None:
    run = CliRunner().invoke
    out = tmp_path / "run"
    planned = run(app, ["bench", "topic", "--offline", "--set", "pubmed", "--arms", "graph", "--limit", "3", "--dry-run", "--json", "--out", str(out)])
    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.stdout)["task"] == "topic-pubmed"
    assert read_pubmed(out / "data" / "topic-pubmed").papers
    for arguments in ([], ["--offline", "--data", str(tmp_path)]):
        refused = run(app, ["bench", "topic", *arguments])
        assert refused.exit_code == 2 and "expected --data DIR" in refused.stderr
    new = tmp_path / "new"
    wrong = [(["--arms", "nothing"], "unknown arm"), (["--shard", "3/2"], "--shard is I/N"), (["--answers", "any"], "reading of answers")]
    wrong.append((["--as-published"], "No such option"))
    for further, said in wrong:
        refused = run(app, ["bench", "topic", "--offline", "--out", str(new), *further])
        assert refused.exit_code == 2 and said in refused.stderr and not new.exists()
    refused = run(app, ["bench", "topic", "--data", str(tmp_path), "--dry-run"])
    assert refused.exit_code == 2 and "missing cora.content" in refused.stderr
