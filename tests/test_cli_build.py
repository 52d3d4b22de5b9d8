"""From a folder of papers to an answer by commands, and what `build`, `index`, `show` and `ask --retrieve` say and refuse."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from graphkv.cli import app
from graphkv.graph import SegmentGraph

PAPERS = Path(str(files("graphkv"))) / "demo" / "latex"
QUESTIONS = json.loads((Path(str(files("graphkv"))) / "demo" / "questions.json").read_text())


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def good(*arguments: object) -> Any:
    """What a command prints with --json."""
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """The demo's papers, built from LaTeX."""
    path = tmp_path / "graph.jsonl"
    assert run("build", PAPERS, "-o", path).exit_code == 0
    return path


def test_three_commands_from_latex_to_the_right_answers(tmp_path: Path) -> None:
    """Build, encode, ask, with the embedded model: every question of the demo, along citations that only the .tex files know."""
    graph, store = tmp_path / "graph.jsonl", tmp_path / "kv"
    built = good("build", PAPERS, "-o", graph)
    assert built["totals"] == {"records": 8, "sections": 8, "references": 5, "matched": 5, "citations": 5, "resolved": 5}
    assert not built["unresolved"] and not built["skipped"] and built["edges"] == {"cites": 5}
    assert good("encode", graph, "--store", store)["blocks_encoded"] > 0
    for row in QUESTIONS:
        answer = good("ask", graph, row["question"], "--store", store)
        assert answer["text"].strip() == row["answer"], row["question"]
        assert answer["tokens_reused"] > 300
    bare = "Who is the author of the paper extended by Violet Oak?"
    found = good("ask", graph, bare, "--store", store, "--retrieve", 1, "--expand", "hops")
    assert found["text"].strip() == "Jane Sintil" and {s["id"] for s in found["segments"]} == {"violet_oak", "onyx_anchor"}
    assert good("ask", graph, bare, "--store", store, "--retrieve", 1)["text"].strip() != "Jane Sintil"  # the edge is the only trace


def test_build_tells_what_it_found_and_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text("# Alpha\n\nSee [the other](b.md) and [nothing](c.md).\n")
    (folder / "b.md").write_text("# Beta\n\nText.\n")
    (folder / "x.json").write_text("{broken")
    report = tmp_path / "new" / "report.json"
    done = run("build", folder, "-o", tmp_path / "g.jsonl", "--report", report)
    assert done.exit_code == 0, done.output
    assert "2 records: 2 segments (2 document); 1 edge (1 links)" in done.output and "2 references and links: 1 to records of the sources (1 by name), 1 unresolved" in done.output and "unresolved: " in done.output and "skipped: " in done.output and "wrote" in done.output
    written = json.loads(report.read_text())
    assert [u["name"] for u in written["unresolved"]] == ["c"] or [u["name"] for u in written["unresolved"]] == ["c.md"]
    assert len(written["skipped"]) == 1 and not list(report.parent.glob(".*"))


def test_policies_budgets_and_parts(graph: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.jsonl"
    assert good("build", graph, "-o", turned, "--edges", "cited-by,co_citation")["edges"] == {"cited_by": 5}
    assert ("temple_ruby", "ruby_geyser") in SegmentGraph.from_jsonl(turned).edges
    assert good("build", turned, "-o", tmp_path / "one.jsonl", "--max-sources", 1)["edges"] == {"cited_by": 3}
    assert good("build", turned, "-o", tmp_path / "few.jsonl", "--max-tokens", 60)["edges"]["cited_by"] < 5
    assert good("build", graph, "-o", tmp_path / "ego.jsonl", "--ego", "pearl_hazel", "--hops", 2)["segments"] == {"paper": 3}
    assert good("build", graph, "-o", tmp_path / "ego.jsonl", "--ego", "pearl HAZEL", "--direction", "sources")["segments"] == {"paper": 2}
    path = good("build", graph, "-o", tmp_path / "path.jsonl", "--path", "pearl_hazel", "--path", "ruby_geyser")
    assert path["segments"] == {"paper": 3} and path["edges"] == {"cites": 2}
    near = good("build", graph, "-o", tmp_path / "near.jsonl", "--nearest", 2, "--mentions")
    assert near["edges"]["nearest"] > 0 and near["edges"]["cites"] == 5  # an edge that is there stays; the mentions are citations


@pytest.mark.parametrize("ending", [".jsonl", ".graphml", ".gexf", ".json", ".csv"])
def test_every_output_is_read_again(graph: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"again{ending}"
    good("build", graph, "-o", out)
    good("build", out, "-o", tmp_path / "back.jsonl")
    first, back = (SegmentGraph.from_jsonl(path) for path in (graph, tmp_path / "back.jsonl"))
    assert list(first) == list(back) and [s.metadata for s in first] == [s.metadata for s in back]
    assert [(e, e.kind, e.weight) for e in sorted(first.edges)] == [(e, e.kind, e.weight) for e in sorted(back.edges)]
    assert good("stats", out)["edges"] == good("stats", graph)["edges"]


def test_what_is_read_is_never_written_over(graph: Path, tmp_path: Path) -> None:
    before = graph.read_bytes()
    for arguments in (("-o", graph), ("-o", tmp_path / "x.jsonl", "--report", graph)):
        done = run("build", graph, *arguments)
        assert done.exit_code == 2 and "would be overwritten" in done.output and graph.read_bytes() == before
    done = run("build", graph, "-o", tmp_path / "x.jsonl", "--report", tmp_path)
    assert done.exit_code == 2 and "is a folder" in done.output and not (tmp_path / "x.jsonl").exists()
    for arguments in (("-o", tmp_path / "new" / "all.graphml"), ("-o", tmp_path.parent / "x.jsonl", "--report", tmp_path / "report.json")):
        done = run("build", tmp_path, *arguments)  # the next build would read it
        assert done.exit_code == 2 and "would lie in the source folder" in done.output
    assert [p.name for p in tmp_path.iterdir()] == [graph.name]


def test_documents_that_also_have_a_question_are_documents(tmp_path: Path) -> None:
    path = tmp_path / "rag.jsonl"
    rows = [{"id": i, "text": f"Text {i}.", "question": "Why?", "context": []} for i in range(2)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert good("stats", path)["segments"]["total"] == 2 and good("build", path, "-o", tmp_path / "g.jsonl")["totals"]["records"] == 2
    path.write_text(json.dumps({"question": "Why?", "context": []}))
    done = run("build", path, "-o", tmp_path / "h.jsonl")
    assert done.exit_code == 2 and "there is nothing in it" in done.output


def test_kinds_that_policies_have_are_told(tmp_path: Path) -> None:
    path = tmp_path / "chain.jsonl"
    rows = [{"page_content": "One.", "metadata": {"id": "a", "mentions": ["b"]}}, {"page_content": "Two.", "metadata": {"id": "b"}}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert good("build", path, "-o", tmp_path / "g.jsonl", "--edge", "mentions=$id")["edges"] == {"mentions": 1}
    found = good("build", path, "-o", tmp_path / "g.jsonl", "--edge", "mentions=$id", "--edges", "cites")
    assert not found["edges"] and "1 mentions" in found["notes"][0]["reason"]


def test_a_folder_whose_endings_say_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "shard0").write_text('{"id": "a", "text": "One."}\n{"id": "b", "text": "Two."}\n')
    (folder / "picture.png").write_bytes(b"x")
    assert good("build", folder, "--format", "documents", "-o", tmp_path / "g.jsonl")["totals"]["records"] == 2
    done = run("build", folder, "-o", tmp_path / "h.jsonl")
    assert done.exit_code == 2 and "2 files of other kinds left out" in done.output
    (tmp_path / "e.csv").write_text("source,target\na,b\n")
    done = run("build", tmp_path / "e.csv", "-o", tmp_path / "h.jsonl")
    assert done.exit_code == 2 and "1 edges, but no texts" in done.output


def test_pagerank_ends_where_the_models_window_ends(tmp_path: Path) -> None:
    path = tmp_path / "chain.jsonl"
    words = " ".join(["maple"] * 60)
    path.write_text("\n".join(json.dumps({"id": str(i), "text": f"{words} number{i}.", "sources": [str(i - 1)] if i else []}) for i in range(200)))
    shown = good("show", path, "number7", "--retrieve", 1, "--expand", "ppr", "--out", tmp_path / "show")
    assert 1 < shown["segments"] < 200


def test_show_and_stats_take_anything_that_build_reads(tmp_path: Path) -> None:
    shown = good("show", PAPERS, "Who wrote Violet Oak?", "--out", tmp_path / "show", "--ego", "violet_oak")
    assert shown["segments"] == 2 and shown["fits"] and len(shown["files"]) == 3
    page = (tmp_path / "show" / "index.html").read_text()
    assert "cites" in page and "Onyx Anchor" in page and "Temple Ruby" not in page
    shown = good("show", PAPERS, "Who wrote Violet Oak?", "--out", tmp_path / "show", "--retrieve", 2)
    assert shown["segments"] == 2
    assert good("stats", PAPERS)["segments"]["roles"] == {"paper": 8}


def test_an_index_is_built_once_and_asked(graph: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    assert good("index", graph, "-o", index)["segments"] == 8
    answer = good("ask", graph, "Which lab does Delta Thunder come from?", "--retrieve", 2, "--index", index, "--store", "memory")
    assert answer["text"].strip() == "Zerrentik" and len(answer["segments"]) == 2 and all(s["score"] > 0 for s in answer["segments"])
    dense = tmp_path / "dense"
    assert good("index", graph, "-o", dense, "--method", "hybrid", "--embedder", "engine", "--kind", "flat")["method"] == "hybrid"
    answer = good("ask", graph, "Which lab does Delta Thunder come from?", "--retrieve", 3, "--index", dense, "--store", "memory", "--context-tokens", 120)
    assert 1 <= len(answer["segments"]) <= 2
    shown = good("show", graph, "Which lab does Delta Thunder come from?", "--retrieve", 3, "--index", dense, "--out", tmp_path / "show")
    assert shown["segments"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "gone"), "no such file or folder: gone"),
        (("build", PAPERS, "-o", "graph.pdf"), "expected a file that ends in .jsonl"),
        (("build", PAPERS, "--format", "papers"), "unknown format 'papers'"),
        (("build", PAPERS, "--edges", "sites"), "unknown edge policy 'sites'"),
        (("build", PAPERS, "--references", "some"), "unknown setting of references"),
        (("build", PAPERS, "--edge", "cites"), "--edge needs FIELD=FIELD"),
        (("build", PAPERS, "--ego", "violet"), "no paper or segment 'violet' in the graph; close: 'violet_oak'"),
        (("build", PAPERS, "--ego", "Violet Oaks"), "close: 'Violet Oak'"),
        (("build", PAPERS, "--hops", "2"), "it needs --ego ID"),
        (("show", PAPERS, "--direction", "up"), "it needs --ego ID"),
        (("build", PAPERS, "--path", "violet_oak"), "--path needs two papers"),
        (("build", PAPERS, "--max-file-size", "huge"), "huge"),
        (("ask", PAPERS, "Who?", "--expand", "hops"), "it needs --retrieve"),
        (("ask", PAPERS, "xyzzy", "--retrieve", "2"), "nothing was found for 'xyzzy'"),
        (("ask", PAPERS, "Oak", "--retrieve", "2", "--expand", "far"), "unknown way to expand 'far'"),
        (("ask", PAPERS, "Oak", "--retrieve", "2", "--index", "gone"), "there is no index in gone"),
        (("show", PAPERS, "--retrieve", "2"), "needs a question"),
        (("index", PAPERS, "--method", "magic"), "unknown method 'magic'"),
    ],
)
def test_refusals(arguments: tuple[object, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert message in done.output and isinstance(done.exception, SystemExit)
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".jsonl", ".pdf", ".part")]  # nothing half-written
