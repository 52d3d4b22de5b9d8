"""Long-context benchmarks: a stopped run goes on, windows, refusals, tables, pictures, and the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny_engine
from typer.testing import CliRunner, Result

from graphkv import GraphKV
from graphkv.cli import app
from graphkv.cli.bench.long_context import lengths_of, places_of
from graphkv.errors import InputError
from graphkv.plot import draw_heatmap
from graphkv_benchmarks.long_context import ways as ways_module
from graphkv_benchmarks.long_context.cases import Case, Context
from graphkv_benchmarks.long_context.haystack import Meter
from graphkv_benchmarks.long_context.journal import Journal
from graphkv_benchmarks.long_context.pictures import draw_all, grids
from graphkv_benchmarks.long_context.run import _skipped, run_contexts
from graphkv_benchmarks.long_context.strategies import amount, markdown_page, table_contexts
from graphkv_benchmarks.long_context.summary import summarise
from graphkv_benchmarks.long_context.tables import markdown
from graphkv_benchmarks.long_context.ways import Way, make_ways

TIMES = ("seconds", "peak_mb")


def documents(length: int) -> list[dict[str, Any]]:
    return [{"id": "a", "text": "a" * (length // 2)}, {"id": "b", "text": "b" * (length - length // 2 - 60)}]


def contexts(lengths: Sequence[int] = (128, 256, 1024)) -> list[Context]:
    """Two contexts of two questions at every length; with the tiny byte model all answers are wrong."""
    return [
        Context(f"tiny-{n}-{i}", n, tuple(Case(f"tiny-{n}-{i}-{j}", "tiny", f"What {j}?", ("x",), depth=float(j)) for j in range(2)), partial(documents, n), "contains", 2)
        for n in lengths
        for i in range(2)
    ]


@pytest.fixture(scope="module")
def engine() -> GraphKV:
    return tiny_engine(max_position_embeddings=600)


@pytest.fixture(scope="module")
def ways(engine: GraphKV) -> list[Way]:
    return make_ways(["graph", "full_context"], {}, {}, ("tiny", engine))


def untimed(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what the clock says."""
    rows = [{key: value for key, value in row.items() if key not in TIMES} for row in result["totals"]]
    return {**{key: value for key, value in result.items() if key != "totals"}, "totals": rows}


# Running


def test_a_context_beyond_the_window_is_skipped_and_counted(ways: list[Way]) -> None:
    result = run_contexts(ways, contexts(), {})
    rows = {(row["strategy"], row["length"]): row for row in result["totals"]}
    assert [rows["graph", n]["questions"] for n in (128, 256, 1024)] == [4, 4, 4]  # shared positions: each document fits the window
    assert [rows["full_context", n]["questions"] for n in (128, 256, 1024)] == [4, 4, 0]
    assert rows["full_context", 1024]["skipped"] == 4 and "window is 600" in rows["full_context", 1024]["reason"] and "score" not in rows["full_context", 1024]
    assert rows["graph", 256]["tokens_read"] >= 196 and rows["graph", 256]["seconds"] > 0 and rows["graph", 256]["score"] == 0.0
    assert {cell["depth"] for cell in result["cells"]} == {0.0, 1.0}
    assert result["strategies"]["full_context"] == ways[1].about() and ways[1].about()["query_aware"] is False


def test_what_did_not_fit_is_not_tried_again(ways: list[Way], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    ask = Way.ask

    def counted(self: Way, context: Context, *rest: Any) -> Any:
        asked.append((self.name, context.length))
        return ask(self, context, *rest)

    monkeypatch.setattr(Way, "ask", counted)
    run_contexts(ways, contexts((1024, 2048)), {})
    assert [length for name, length in asked if name == "full_context"] == [1024]
    assert [length for name, length in asked if name == "graph"] == [1024, 1024, 2048]  # 2048: documents of 1024 bytes do not fit either


def test_a_stopped_run_goes_on(ways: list[Way], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1. A whole run. 2. One that is stopped in the middle of a context, its last line cut off, and then begun again: the same, no case asked twice."""
    whole = run_contexts(ways, contexts(), {"seed": 1})
    journal, output = tmp_path / "out" / "predictions.jsonl", tmp_path / "out" / "summary.json"
    ask, calls = Way.ask, 0

    def failing(self: Way, *rest: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return ask(self, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Way, "ask", failing)
        run_contexts(ways, contexts(), {"seed": 1}, journal=journal, output=output)
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 1 + 6 and json.loads(output.read_text(encoding="utf-8"))["totals"]
    journal.write_text("".join(lines[:-1]) + lines[-1][:20], encoding="utf-8")  # as a kill leaves it: one question of a pair is done, the other is not
    told: list[tuple[int, int, int]] = []
    again = run_contexts(ways, contexts(), {"seed": 1}, journal=journal, output=output, report=lambda done, total, new: told.append((done, total, len(new))))
    assert told[0] == (6, 24, 1) and told[-1][:2] == (24, 24)
    assert untimed(again) == untimed(whole)
    assert json.loads(output.read_text(encoding="utf-8")) == json.loads(json.dumps(again))
    ids = [(line["strategy"], line["id"]) for line in map(json.loads, journal.read_text(encoding="utf-8").splitlines()[1:])]
    assert len(ids) == len(set(ids)) == 24
    third = run_contexts(ways, contexts(), {"seed": 1}, journal=journal, output=output)
    assert third == again


def test_another_run_is_refused(ways: list[Way], tmp_path: Path) -> None:
    journal = tmp_path / "predictions.jsonl"
    run_contexts(ways[:1], contexts((128,)), {"seed": 1}, journal=journal)
    before = journal.read_text(encoding="utf-8")
    for others, some, plan, named in (
        (ways, contexts((128,)), {"seed": 1}, "strategies"),
        (ways[:1], contexts((128,)), {"seed": 2}, "seed"),
        (ways[:1], contexts((128, 256)), {"seed": 1}, "questions"),
    ):
        with pytest.raises(InputError, match=f"other settings.*{named}"):
            run_contexts(others, some, plan, journal=journal)
    assert journal.read_text(encoding="utf-8") == before
    for other in ("no journal\n", "one line without an end", '{"rows": []}\n'):
        journal.write_text(other, encoding="utf-8")
        with pytest.raises(InputError, match="is not the journal of a run"):
            Journal(journal, {})
        assert journal.read_text(encoding="utf-8") == other
    with pytest.raises(InputError, match="at least one strategy and one context"):
        run_contexts([], contexts((128,)), {})


def test_answers_of_any_letters_are_read_again(tmp_path: Path) -> None:
    """1. Letters that end a line elsewhere. 2. A kill that cut a letter in two."""
    path = tmp_path / "predictions.jsonl"
    lines = [line("graph", n, 1.0) | {"answer": "a\u2028b\u0085c\x0b\r\nd"} for n in (1, 2)]
    Journal(path, {}).add(lines)
    assert Journal(path, {}).lines == lines
    path.write_bytes(path.read_bytes() + '{"answer": "é'.encode()[:-1])
    assert Journal(path, {}).lines == lines and path.read_bytes().endswith(b"}\n")


def test_a_run_that_goes_on_knows_the_shortest_length_that_did_not_fit() -> None:
    lines = [line("graph", 1, None, 8192), line("graph", 2, None, 4096), line("graph", 3, None, 16_384), line("full_context", 1, 1.0, 2048)]
    assert _skipped(lines) == {("graph", "n"): (4096, "too long")}


def test_each_context_begins_with_an_empty_store(engine: GraphKV, ways: list[Way]) -> None:
    context = contexts((128,))[0]
    for _ in range(2):
        answers, seconds, _ = ways[0].ask(context, context.build(), ["What?", "Who?"])
        assert answers[0].tokens_reused == 0 and seconds > 0
    assert engine.store.nbytes == 0


def test_long_contexts_are_answered_a_few_questions_at_a_time(ways: list[Way], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Recorder(GraphKV):
        def ask_many(self, *args: Any, **options: Any) -> Any:
            sizes.append(options["batch_size"])
            return super().ask_many(*args, **options)

    monkeypatch.setattr(ways_module, "GraphKV", Recorder)
    for length in (128, 2**15, 2**20):
        ways[0].ask(Context("x", length, (), lambda: documents(128), "exact", 2), documents(128), ["What?"])
    assert sizes == [16, 4, 1]


# Strategies by name


def test_ways_from_the_command_line(engine: GraphKV) -> None:
    other = tiny_engine("qwen2")
    made = make_ways(["graph:layout=block:view=all", "graph", "full_context"], {"positions": "paper"}, {"full_context": ("other", other)}, ("tiny", engine))
    assert [way.name for way in made] == ["graph:layout=block:view=all", "graph", "full_context"]
    assert made[0].options == {"positions": "paper", "layout": "block", "view": "all"} and made[2].options == {}
    assert made[2].engine is other and made[2].model == "other" and made[0].engine is engine
    for specs, options, message in (
        (["grpah"], {}, "unknown strategy 'grpah'"),
        (["full_context:window=3"], {}, "'full_context' has no option 'window'; valid: none"),
        (["graph"], {"window": 3}, "none of the strategies graph has an option 'window'"),
        (["graph", "graph"], {}, "given twice"),
        (["graph:layout"], {}, "expected name:key=value"),
        (["graph:layout=block:layout=pcw"], {}, "layout is given twice"),
    ):
        with pytest.raises(InputError, match=message):
            make_ways(specs, options, {}, ("tiny", engine))


# Summaries, tables, pictures


def line(strategy: str, number: int, score: float | None, length: int = 4096, depth: float | None = 0.5) -> dict[str, Any]:
    made = {"id": f"n-{length}-{number}", "strategy": strategy, "task": "needle", "length": length, "context": f"n-{length}-0", "depth": depth}
    if score is None:
        return {**made, "skipped": "too long"}
    return {**made, "score": score, "exact": float(score == 1), "contains": score, "tokens_read": 100 * number, "tokens_kept": 10, "seconds": 1.0 * number, "peak_mb": 5.0 * number}


def test_a_summary_counts_what_was_answered() -> None:
    lines = [line("graph", 1, 1.0), line("graph", 2, 0.5), line("graph", 3, 1.0, depth=0.0), line("graph", 4, None, 8192)]
    found = summarise(lines)
    assert found == summarise(reversed(lines))
    whole, beyond = found["totals"]
    assert (whole["questions"], whole["skipped"], whole["score"], whole["exact"]) == (3, 0, 0.8333, 0.6667)
    assert (whole["tokens_read"], whole["seconds"], whole["peak_mb"]) == (200, 2.0, 15.0) and whole["interval"][0] < 0.8333 < whole["interval"][1]
    assert beyond == {"strategy": "graph", "task": "needle", "length": 8192, "questions": 0, "skipped": 1, "reason": "too long"}
    assert [(cell["length"], cell["depth"], cell["questions"]) for cell in found["cells"]] == [(4096, 0.0, 1), (4096, 0.5, 2), (8192, 0.5, 0)]


def test_tables_and_heat_maps_mark_what_is_beyond_the_window(tmp_path: Path) -> None:
    lines = [line("graph", 1, 1.0), line("graph", 2, 1.0, 8192), line("full_context", 1, 0.0), line("full_context", 2, None, 8192)]
    about = {"query_aware": False, "model": "tiny", "window": 4096}
    result = {"strategies": {"graph": about, "full_context": about}, "settings": {"seed": 1}, **summarise(lines)}
    text = markdown(result)
    assert "| `full_context` | 0.0 [0.0, 79.3] | beyond the window |" in text and "- `full_context`, needle, 8k (1 cases): too long" in text
    assert "| `graph` | 4k | no | 100 | 10 | 1.00 | 5 |" in text
    assert markdown_page(result).endswith(text) and "`tiny` (window 4,096)" in markdown_page(result)
    assert grids(result)["needle", "full_context"] == {(4096, 0.5): 0.0, (8192, 0.5): None}
    drawn = draw_all(result, tmp_path / "map")
    assert [path.name for path in drawn] == ["map_needle_full_context.png", "map_needle_graph.png"] and all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    with pytest.raises(InputError, match="a value for each of 2 rows and 1 columns"):
        draw_heatmap([[1.0]], tmp_path / "x.png", columns=["a"], rows=["b", "c"], x_label="", y_label="")


def test_the_table_of_strategies_has_fewer_contexts_where_they_are_long() -> None:
    meter = Meter(GraphKV.from_pretrained(store="memory"))
    made = table_contexts(meter, [4096], ["needle", "vt", "citation"])
    tasks = [case.task for context in made for case in context.cases]
    assert {task: tasks.count(task) for task in dict.fromkeys(tasks)} == {"citation_1_hop": 20, "citation_2_hops": 20, "needle": 40, "vt": 16}
    made = table_contexts(meter, [4096], ["needle", "multi_needle"], scale=2)
    assert [context.id.split("-")[0] for context in made] == ["needle"] * 8 + ["multi_needle"] * 8
    assert len({case.id for context in made for case in context.cases}) == 160
    assert amount(65_536).contexts == 1
    with pytest.raises(InputError, match="unknown task of the table 'x'"):
        table_contexts(meter, [4096], ["x"])


# Commands


def run(*args: str) -> Result:
    return CliRunner().invoke(app, ["bench", *args], env={"COLUMNS": "200", "GRAPHKV_DEBUG": ""})


def test_bench_needle(tmp_path: Path) -> None:
    """The embedded model: found at a kilobyte and at eight, and full_context only within the window of 8,192 tokens."""
    out = tmp_path / "needles"
    args = ("needle", "--lengths", "1k,9k", "--depths", "2", "--phrasings", "1", "--questions-per-context", "2", "--output", str(out), "--plot")
    result = run(*args)
    assert result.exit_code == 0, result.output
    assert "| `graph` | 100.0 [34.2, 100.0] | 100.0 [34.2, 100.0] |" in result.stdout and "| `full_context` | 100.0 [34.2, 100.0] | beyond the window |" in result.stdout
    last = json.loads(result.stdout.splitlines()[-1])
    assert (last["questions"], last["skipped"]) == (6, 2) and all(Path(path).exists() for path in last["plots"]) and len(last["plots"]) == 2
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["settings"]["held_out"] is True and summary["settings"]["benchmark"] == "needle" and "torch" in summary["machine"]
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()[1:]]
    assert len(lines) == 8 and {"id", "strategy", "length", "depth", "question", "gold", "answer", "score", "tokens_read", "tokens_kept", "seconds", "peak_mb"} <= set(lines[0])
    assert run(*args).exit_code == 0 and json.loads((out / "summary.json").read_text(encoding="utf-8")) == summary
    refused = run(*args, "--seed", "2")
    assert refused.exit_code == 2 and "other settings" in refused.stderr


def test_the_other_verbs(tmp_path: Path) -> None:
    passkey = run("passkey", "--lengths", "1k", "--depths", "2", "--cases", "1", "-s", "graph", "--json")
    assert passkey.exit_code == 0 and json.loads(passkey.stdout)["totals"][0]["score"] == 1.0
    ruler = run("ruler", "-t", "niah_single_1", "-t", "vt", "--bare", "--lengths", "1k", "--cases", "1", "-s", "graph", "--json")
    assert ruler.exit_code == 0 and [row["task"] for row in json.loads(ruler.stdout)["totals"]] == ["niah_single_1", "vt"]
    out = tmp_path / "strategies.json"
    table = run("strategies", "-t", "multi_needle", "--lengths", "1k", "-s", "graph", "--output", str(out))
    assert table.exit_code == 0 and json.loads(out.read_text(encoding="utf-8"))["totals"][0]["questions"] == 40
    assert "### multi_needle" in out.with_suffix(".md").read_text(encoding="utf-8") and out.with_suffix(".jsonl").exists()


def test_bad_options_are_refused() -> None:
    assert lengths_of("4k, 1M,300") == [300, 4096, 2**20]
    for text in ("4x", "", "0", "4k,4096"):
        with pytest.raises(InputError, match="--lengths"):
            lengths_of(text)
    assert places_of(Path("a.json")) == (Path("a.json"), Path("a.jsonl"), Path("a")) and places_of(None)[0] is None
    with pytest.raises(InputError, match="--output is a folder"):
        places_of(Path("a.jsonl"))
    for args, message in (
        (("needle", "-s", "nothing"), "unknown strategy 'nothing'"),
        (("needle", "-o", "window=3", "-s", "graph", "-m", "no/model"), "none of the strategies graph has an option 'window'"),  # before a model is loaded
        (("needle", "--landmark-model", "embedded-landmark", "-m", "no/model"), "--landmark-model is for strategy landmark, which is not asked for"),
        (("strategies", "-t", "x", "-m", "no/model"), "unknown task of the table 'x'"),
        (("ruler", "-t", "qa_1"), "unknown RULER task 'qa_1'"),
        (("passkey", "--lengths", "32"), "no room for a haystack"),
    ):
        result = run(*args)
        assert result.exit_code == 2 and message in result.stderr, result.output


def test_a_run_that_cannot_be_drawn_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(Way, "ask", lambda *rest: pytest.fail("the run has begun"))
    result = run("needle", "--lengths", "1k", "--plot")
    assert result.exit_code == 2 and "drawing needs matplotlib" in result.stderr, result.output
