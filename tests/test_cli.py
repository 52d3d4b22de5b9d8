"""The command line, over a tiny random model in a folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from helpers import byte_tokenizer, tiny_model
from typer.testing import CliRunner, Result

from graphkv.cli import app
from graphkv.cli.ask import COMPARED
from graphkv.cli.common import parse_options
from graphkv.cli.demo import read_demo
from graphkv.errors import InputError
from graphkv.layouts import LAYOUTS
from graphkv.model import EMBEDDED

DOCUMENTS = [
    {"id": "a", "title": "Alpha <b>&amp;", "text": "The first </script> paper.", "sources": ["b"]},
    {"id": "b", "title": "Beta", "text": "The second paper, which says more about rivers."},
    {"id": "c", "text": "A third one. It has two sentences."},
]
ROW = {
    "_id": "row1",
    "question": "Which river?",
    "answer": "Rhine",
    "context": [["One", ["It flows."]], ["Two", ["It rains.", " It pours."]]],
    "question_decomposition": [{"paragraph_support_title": "One"}, {"paragraph_support_title": "Two"}],
    "no_of_hops": 2,
}


@pytest.fixture
def docs(tmp_path: Path) -> str:
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps(d) + "\n" for d in DOCUMENTS), encoding="utf-8")
    return str(path)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROW, {**ROW, "_id": "row2", "question": "Which rain?"}]), encoding="utf-8")
    return str(path)


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "200", "GRAPHKV_DEBUG": ""})


def refused(*args: str) -> str:
    """The one line on stderr of a command that must be refused."""
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    return result.stderr


def test_ask_answers_and_counts(docs: str, model: str) -> None:
    result = run("ask", docs, "Which paper?", "--model", model, "--max-new-tokens", "3")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"graph: 0 tokens reused, \d+ computed, \d generated; first token \d", result.stdout)


def test_json_is_all_there_is_on_stdout(docs: str, model: str) -> None:
    result = run("ask", docs, "Which paper?", "-m", model, "--max-new-tokens", "3", "-l", "graph_topk", "-o", "m=1", "--rank", "bm25", "--json")
    answer = json.loads(result.stdout)
    assert answer["layout"] == "graph_topk" and answer["tokens_generated"] <= 3
    assert answer["timings"]["total"] > 0
    assert all(segment["score"] is not None for segment in answer["segments"])


def test_stream_prints_the_answer_of_ask(docs: str, model: str) -> None:
    common = (docs, "Which paper?", "-m", model, "--max-new-tokens", "4")
    streamed = run("ask", *common, "--stream")
    asked = json.loads(run("ask", *common, "--json").stdout)
    assert streamed.exit_code == 0
    assert streamed.stdout.strip() == asked["text"].strip()


def test_stop_and_max_segment_tokens_reach_the_engine(docs: str, model: str) -> None:
    cut = json.loads(run("ask", docs, "Q?", "-m", model, "--max-segment-tokens", "40", "--max-new-tokens", "2", "--stop", "zz", "--json").stdout)
    assert {"c", "b#1", "b#2"} <= {segment["id"] for segment in cut["segments"]}


def test_compare_shows_layouts_side_by_side(docs: str, model: str) -> None:
    result = run("ask", docs, "Which paper?", "-m", model, "--max-new-tokens", "2", "--compare")
    assert result.exit_code == 0, result.stderr
    assert all(name in result.stdout for name in COMPARED)
    compared = json.loads(run("ask", docs, "Which?", "-m", model, "--max-new-tokens", "2", "--compare", "-l", "graph", "-l", "block", "-o", "rounds=2", "--json").stdout)
    assert [entry["layout"] for entry in compared] == ["graph", "block"]
    for entry in compared:  # a store of its own each: nothing there at first, everything the second time
        assert entry["tokens_reused"] == 0
        assert entry["again"]["tokens_reused"] + entry["again"]["tokens_computed"] == entry["tokens_computed"]
        assert entry["again"]["tokens_computed"] < entry["tokens_computed"]


def test_a_layout_that_cannot_do_it_does_not_stop_the_others(docs: str, tmp_path: Path) -> None:
    tiny_model(max_position_embeddings=150).save_pretrained(tmp_path / "short")
    byte_tokenizer().save_pretrained(tmp_path / "short")
    found = json.loads(run("ask", docs, "Which?", "-m", str(tmp_path / "short"), "--max-new-tokens", "2", "--compare", "-l", "block", "-l", "pcw", "-s", "full_context", "--json").stdout)
    assert "positions are left" in found[0]["error"] and "text" in found[1] and "error" in found[2]
    assert [(entry["strategy"], entry["layout"]) for entry in found] == [("graph", "block"), ("graph", "pcw"), ("full_context", None)]


def test_a_data_set_brings_questions_and_gold_answers(rows: str, model: str) -> None:
    result = run("ask", rows, "-m", model, "--max-new-tokens", "2")
    assert result.exit_code == 0, result.stderr
    assert "Which river?" in result.stdout and "gold: Rhine" in result.stdout and "over 2 rows" in result.stdout
    entry = json.loads(run("ask", rows, "-m", model, "--max-new-tokens", "2", "--row", "1", "--edges", "decomposition", "--json").stdout)
    assert entry["id"] == "row2" and entry["gold"] == ["Rhine"] and entry["best_subspan_em"] in (0.0, 1.0)
    assert [segment["reads"] for segment in entry["segments"]] == [[], ["One"]]
    own = json.loads(run("ask", rows, "Another question?", "--row", "0", "-m", model, "--max-new-tokens", "2", "--json").stdout)
    assert own["question"] == "Another question?" and "gold" not in own


def test_what_is_refused(docs: str, rows: str, model: str, tmp_path: Path) -> None:
    assert "no such file" in refused("ask", str(tmp_path / "none.jsonl"), "Q?")
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "text": "x"}\n{"id": \n')
    assert "bad.jsonl, line 2" in refused("ask", str(tmp_path / "bad.jsonl"), "Q?")
    assert "a question is needed" in refused("ask", docs)
    assert all(name in refused("ask", docs, "Q?", "--layout", "grpah") for name in LAYOUTS)
    assert "valid: positions" in refused("ask", docs, "Q?", "--option", "m=1")
    assert "key=value" in refused("ask", docs, "Q?", "--option", "m")
    assert "valid: bm25" in refused("ask", docs, "Q?", "--rank", "bm52")
    assert "--compare" in refused("ask", docs, "Q?", "-l", "graph", "-l", "block")
    assert "--stream" in refused("ask", docs, "Q?", "--stream", "--json")
    assert "rows 0 to 1" in refused("ask", rows, "--row", "2")
    assert "choose one with --row" in refused("ask", rows, "--stream")
    assert "leave the question out" in refused("ask", rows, "Q?")
    assert "for data sets" in refused("ask", docs, "Q?", "--limit", "2")
    assert "valid: decomposition, none" in refused("ask", rows, "--edges", "gold")
    assert "no such model folder" in refused("ask", docs, "Q?", "-m", str(tmp_path / "nowhere"))
    assert "unknown dtype 'float8'" in refused("ask", docs, "Q?", "-m", model, "--dtype", "float8")


def test_debug_keeps_the_traceback(docs: str) -> None:
    shown = CliRunner().invoke(app, ["--debug", "ask", docs], env={"GRAPHKV_DEBUG": ""})
    assert isinstance(shown.exception, InputError)
    assert isinstance(CliRunner().invoke(app, ["ask", docs], env={"GRAPHKV_DEBUG": "1"}).exception, InputError)
    assert "a question is needed" in refused("ask", docs)


def test_ctrl_c_exits_with_130(docs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("graphkv.cli.ask.load_engine", interrupted)
    assert run("ask", docs, "Q?").exit_code == 130


def test_options_are_read_as_values() -> None:
    pairs = ["rounds=topological", "m=2", "tiers=1,2,2", "prefix-visible=true", "scale=0.5"]
    assert parse_options(pairs) == {"rounds": "topological", "m": 2, "tiers": (1, 2, 2), "prefix_visible": True, "scale": 0.5}
    with pytest.raises(InputError, match="twice"):
        parse_options(["m=1", "m=2"])


class Page(HTMLParser):
    """Collects what a browser would fetch or run, and whether tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object") or any(name in ("src", "href") or name.startswith("on") for name, _ in attrs):
            self.fetched.append(tag)
        if tag not in ("meta", "rect", "line", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line", "path"):
            assert self.open.pop() == tag


def test_show_writes_pictures_and_a_page_without_requests(docs: str, model: str, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    result = run("show", docs, "Which <paper>?", "-m", model, "--out", str(out))
    assert result.exit_code == 0, result.stderr
    assert "layout graph" in result.stdout
    for name in ("graph.png", "mask.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    text = (out / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.fetched == [] and page.open == []
    assert "</script>" not in text and "Which &lt;paper&gt;?" in text
    assert "a@1 reads b@0" in text and "question reads a@1" in text
    assert "http" not in text


def test_show_of_two_hundred_nodes(model: str, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"id": f"p{i}", "text": f"Paper {i}.", "sources": [f"p{i // 2}"] if i else []}) + "\n" for i in range(220)))
    result = run("show", str(path), "-m", model, "--out", str(tmp_path / "out"), "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["blocks"] > 220
    page = Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert page.open == [] and page.fetched == []


def test_doctor_names_every_kernel() -> None:
    found = json.loads(run("doctor", "--json").stdout)
    assert {"dense", "gather", "flex", "varlen"} == set(found["kernels"])
    assert found["kernels"]["gather"] is None and found["machine"]["cores"] >= 1
    assert found["default_kernel"] in run("doctor").stdout


def test_demo_reads_draws_and_answers(model: str, tmp_path: Path) -> None:
    graph, questions = read_demo()
    assert len(graph) == 8 and len(questions) == 5
    result = run("demo", "-m", model, "--out", str(tmp_path), "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert set(found["layouts"]) == {"graph", "block", "sequential"}
    for layout in found["layouts"].values():
        for answer in layout["answers"]:
            assert answer["tokens_reused"] == layout["tokens_encoded"]
            assert answer["tokens_computed"] < layout["tokens_encoded"]
    assert (tmp_path / "graph.png").is_file() and (tmp_path / "index.html").is_file()


@pytest.mark.skipif(not (EMBEDDED / "model.safetensors").is_file(), reason="the embedded model is not there: make train-embedded")
def test_the_embedded_model_answers_the_demo(tmp_path: Path) -> None:
    found = json.loads(run("demo", "--out", str(tmp_path), "--json").stdout)
    assert [answer["right"] for answer in found["layouts"]["graph"]["answers"]] == [True] * 5
    assert not found["layouts"]["block"]["answers"][2]["right"]  # without the edge nothing tells the second paper
    assert found["seconds"]["total"] < 60


def test_every_verb_explains_itself_with_a_session() -> None:
    assert run("--version").stdout.startswith("graphkv ")
    for verb in (["ask"], ["show"], ["demo"], ["doctor"], ["bench", "attention"]):
        help = run(*verb, "--help")
        assert help.exit_code == 0
        assert f"$ graphkv {' '.join(verb)}" in help.stdout


def test_help_loads_no_matplotlib() -> None:
    code = "import sys; from graphkv.cli import app; app(['--help'], standalone_mode=False); print(sorted({'matplotlib', 'bm25s', 'faiss'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
