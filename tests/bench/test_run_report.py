"""report.md: valid tables whatever the texts are, the numbers of metrics.json in them, and the pictures."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from graphkv.graph import SegmentGraph
from graphkv.layouts import make_layout
from graphkv.segments import Segment
from graphkv_benchmarks.runner.arms import ARMS as ARMS_OF_ALL
from graphkv_benchmarks.runner.arms import make_arms
from graphkv_benchmarks.runner.case import Line
from graphkv_benchmarks.runner.metrics import metrics
from graphkv_benchmarks.runner.pictures import draw_all
from graphkv_benchmarks.runner.report import markdown, summary_table, write_report
from graphkv_benchmarks.runner.report_tables import code, escape, interval, percent, setting_name, table
from graphkv_benchmarks.tasks.arxiv_qa import ArxivQA

ARMS = ("sequential", "graph", "hops2", "infini_retri")
TASK = ArxivQA("/nowhere", seeds=(42,))


def about(**more: Any) -> dict[str, Any]:
    arms = [
        {"name": arm.name, "strategy": arm.strategy, "options": dict(arm.options), "query_aware": arm.query_aware, "about": arm.about} for arm in make_arms(ARMS)
    ]
    return {"task": TASK.settings(), "arms": arms, "weights": "f1n", "dtype": "float32", "model": "embedded", "shard": "1/1", "machine": {"cpu": "a|b"}, **more}


def lines_of(units: int = 12, arms: Sequence[str] = ARMS, distractors: Sequence[int] = (0, 1, 2)) -> list[Line]:
    """Graph does not mind the order, sequential does; hops2 does not fit with two distractors."""
    lines: list[Line] = []
    for unit in range(units):
        for count in distractors:
            for order in ("first", "last") if count else ("",):
                for arm in arms:
                    setting: dict[str, Any] = {"distractors": count, "order": order, "seed": 42} if count else {"distractors": 0}
                    head: Line = {"arm": arm, "setting": setting, "id": str(unit), "unit": str(unit), "type": f"{unit % 2 + 1} hops", "prompt": "0", "gold": ["x"]}
                    if arm == "hops2" and count == 2:
                        lines.append(head | {"skipped": f"length: {80_000 + unit:,} tokens | more than the window"})
                        continue
                    right = random.Random(f"{unit} {arm} {count} {order if arm == 'sequential' else ''}").random() < 0.6
                    tokens = {"context": 1000 * (1 + 5 * count) + unit, "kept": 9, "reused": 0 if arm == "sequential" else 1000 * (1 + 5 * count), "computed": 9, "generated": 2}
                    lines.append(head | {"answer": f"{right}", "score": float(right), "finish": "stop", "tokens": tokens, "ttft": 0.5 if arm == "sequential" else 0.01, "seconds": 1.0})
    return lines


def result_of(lines: Sequence[Line]) -> dict[str, Any]:
    return metrics(TASK.name, TASK.metric, lines, TASK.further, arms=ARMS)


def tables_of(text: str) -> list[list[list[str]]]:
    """Tables as a markdown reader finds them, each as rows of cells as they are rendered."""
    found: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for place, token in enumerate(tokens):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("td_open", "th_open"):
            inline = tokens[place + 1]
            found[-1][-1].append("".join(child.content for child in inline.children or [] if child.type in ("text", "code_inline", "text_special")))
    return found


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def one_table(text: str, title: str) -> list[list[str]]:
    (found,) = tables_of(section(text, title))
    return found


# Tables


@example("&lt;", "&amp;|")
@given(st.text(max_size=30), st.text(alphabet="|\\`*_<>[]~$#&;a \n", max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_text_is_one_cell(one: str, other: str) -> None:
    """Two cells go in and two come out, as they were but for white space; a reader draws NUL as U+FFFD."""
    texts = [one, other]
    (rows,) = tables_of("\n".join(table(["first", "second"], [[f"x{escape(text)}x" for text in texts]])))
    assert [[" ".join(cell.split()) for cell in row] for row in rows] == [["first", "second"], [f"x{' '.join(text.split())}x".replace("\0", "\ufffd") for text in texts]]


@given(st.text(alphabet="ab|`\\:=", max_size=12))
@settings(max_examples=100, deadline=None)
def test_a_name_stays_one_cell(name: str) -> None:
    (rows,) = tables_of("\n".join(table(["arm", "n"], [[code(name), "1"]])))
    assert rows[1] == [name, "1"]


def test_an_empty_table_is_no_lines() -> None:
    assert table(["a"], []) == []


def test_words_for_settings_and_numbers() -> None:
    assert setting_name({"order": "last", "distractors": 2}) == "2 distractors, last" and setting_name({"seed": 3}) == "seed 3"
    assert percent(None) == "–" and percent(1 / 3) == "33.3"
    assert interval({"low": 1.0, "high": 1.0, "wilson": [0.94, 1.0]}) == "[94.0, 100.0]†"
    assert interval({"low": 1.0, "high": 1.0, "wilson": None}) == "[100.0, 100.0]"
    assert interval({"low": None, "high": None}) == ""


# The report


def test_scores_are_arms_by_settings() -> None:
    lines = lines_of()
    result = result_of(lines)
    head, *rows = one_table(markdown(TASK, result, lines, about()), "Scores")
    assert head == ["arm", "0 distractors", "1 distractor, first", "1 distractor, last", "2 distractors, first", "2 distractors, last"]
    assert [row[0] for row in rows] == list(ARMS)
    for arm, *cells in rows:
        for text, cell in zip(cells, [cell for cell in result["cells"] if cell["arm"] == arm], strict=True):
            if arm == "hops2" and cell["setting"]["distractors"] == 2:
                assert text == "none of 12 answered"
            else:
                assert text.startswith(f"{cell['right']:.0f} of 12: {100 * cell['mean']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]")


def test_what_does_not_fit_does_not_flatter() -> None:
    lines = lines_of(distractors=(0,), arms=["graph"])
    half = [{key: value for key, value in line.items() if key not in ("score", "answer")} | {"skipped": "memory: full"} if int(line["id"]) % 2 else {**line, "score": 1.0} for line in lines]
    (_, row) = one_table(markdown(TASK, result_of(half), half, about()), "Scores")
    assert row == ["graph", "6 of 6: 100.0 [61.0, 100.0]†; answered 6 of 12, of all 50.0"]


def test_gaps_types_lengths_times_and_what_was_left() -> None:
    lines = [*lines_of(), {"broken": "61|x", "unit": "61", "reason": "no *answer*|\nat all"}]
    text = markdown(TASK, result_of(lines), lines, about())
    gaps = {(row[0], row[1]): row for row in one_table(text, "First and last")[1:]}
    assert gaps["graph", "1 distractor"][5:] == ["+0.0 [-14.0, +14.0]†", "12 of 12"]
    assert gaps["sequential", "1 distractor"][6] != "12 of 12" and gaps["hops2", "2 distractors"][2:] == ["0", "–", "–", "–", "0 of 0"]
    assert one_table(text, "Types of questions")[0] == ["arm", "setting", "1 hops", "2 hops"]
    lengths = one_table(text, "Length of the context")
    assert lengths[0] == ["arm", "512–1,023", "4,096–8,191", "8,192–16,383"] and lengths[3][3] == "–"
    assert lengths[1][1].endswith("(12)") and lengths[1][2].endswith("(24)")
    times = one_table(text, "Time to the first token")
    assert times[1] == ["sequential", "0 distractors", "0.5 s (12)", "–", "–"] and times[4] == ["graph", "0 distractors", "–", "–", "0.01 s (12)"]
    skipped = one_table(text, "Not asked")
    assert skipped[1] == ["hops2", "2 distractors, first", "12", "length: 80,000 tokens | more than the window (and others like it)"] and len(skipped) == 3
    assert one_table(text, "Broken rows")[1] == ["61|x", "no *answer*| at all"]
    assert "Seeds\n" not in text and "Other metrics" not in text


def test_seeds_that_all_say_the_same_have_a_dagger() -> None:
    lines = [
        {"arm": "graph", "setting": {"distractors": 1, "order": order, "seed": seed}, "id": str(i), "unit": str(i), "type": "", "prompt": "0", "gold": ["x"], "answer": "x", "score": float(i < 20)}
        for i in range(60) for order in ("first", "last") for seed in (42, 43, 44)
    ]  # fmt: skip
    text = markdown(TASK, result_of(lines), lines, about())
    assert one_table(text, "First and last")[1][2:] == ["60", "33.3", "33.3", "+0.0 [-3.2, +3.2]†", "180 of 180"]
    assert "† Agresti and Min's over questions" in section(text, "First and last")


def test_reported_numbers_stand_beside_ours() -> None:
    lines = lines_of()
    result = result_of(lines)
    text = markdown(TASK, result, lines, about())
    rows = {row[0]: row for row in one_table(text, "Reported by others")}
    graph = next(cell for cell in result["cells"] if cell["arm"] == "graph" and cell["setting"] == {"distractors": 1, "order": "first"})
    assert rows["Graph-KV"][3].startswith(f"17 of 60, 28.3 / {100 * graph['mean']:.1f} [")
    assert rows["Block-RAG"][2] == "7 of 60, 11.7 / –"
    said = section(text, "Reported by others")
    assert "These are not the same experiment" in said and "Llama-3.1-8B" in said and "1. Graph-KV (arXiv 2506.07334), Arxiv-QA" in said


def test_what_each_arm_may_see() -> None:
    rows = {row[0]: row[4:] for row in one_table(markdown(TASK, result_of([]), [], about()), "Arms")}
    assert rows["sequential"] == ["no", "none: each reads all before it", "no"] and rows["graph"] == ["no", "the data's", "no"]
    assert rows["hops2"] == ["no", "from the ranking", "yes"] and rows["infini_retri"] == ["yes", "none: each reads all before it", "no"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("infini_retri:neighbours=sources", ["yes", "the data's: it keeps sources too, and reads along them", "no"]),
        ("infini_retri:neighbours=both:read=plain", ["yes", "the data's: it keeps sources and targets too; then none: each reads all before it", "no"]),
        ("infini_retri:read=graph", ["yes", "the data's", "no"]),
        ("infini_retri:read=graph_topk", ["yes", "from its own ranking", "no: its own, by attention"]),
        ("official-full", ["no", "all pairs, and each itself", "yes"]),
        ("official-top3", ["no", "from the ranking", "yes"]),
        ("full", ["no", "all pairs", "no"]),
        ("graph:rounds=0", ["no", "none", "no"]),
        ("landmark", ["no", "none: each reads what was fetched of all before it", "no"]),
    ],
)
def test_what_other_arms_may_see(name: str, expected: list[str]) -> None:
    (arm,) = make_arms([name])
    (_, row) = one_table(markdown(TASK, result_of([]), [], about(arms=[vars(arm) | {"query_aware": arm.query_aware}])), "Arms")
    assert row[4:] == expected


@pytest.mark.parametrize("name", ARMS_OF_ALL)
def test_nothing_is_unknown_of_an_arm(name: str) -> None:
    """Whether a layout reads the data's edges, or the ranking, is found by taking them away and turning it round."""
    arm = ARMS_OF_ALL[name]
    (_, row) = one_table(markdown(TASK, result_of([]), [], about(arms=[vars(arm) | {"query_aware": arm.query_aware}])), "Arms")
    assert "–" not in row[4:]
    if arm.layout is None:
        return
    options = {key: value for key, value in arm.options.items() if key != "layout"}

    def drawn(edges: Sequence[tuple[str, str]], scores: Sequence[float]) -> Any:
        segments = [Segment.from_tokens(id, [1], score=score) for id, score in zip("abcdef", scores, strict=True)]
        return make_layout(str(arm.layout), SegmentGraph.from_segments(segments, edges), dict.fromkeys("abcdef", 1), prefix=1, question=1, **options).blocks

    plain, up, down = [("a", "b"), ("b", "e")], [1.0, 2, 3, 4, 5, 6], [6.0, 5, 4, 3, 2, 1]
    assert (row[5] == "the data's") == (drawn(plain, up) != drawn([], up))
    assert (row[6] == "yes") == (drawn(plain, up) != drawn(plain, down))


def test_seeds_and_other_metrics() -> None:
    lines = [line | {"setting": {"seed": seed}} for seed in (42, 43) for line in lines_of(distractors=(0,), arms=["graph"])]
    result = metrics("topic-cora", "accuracy", lines, lambda some: {"macro_f1": 0.25})
    text = markdown(TASK, result, lines, about())
    assert one_table(text, "Seeds")[0] == ["arm", "setting", "seed 42", "seed 43", "standard deviation"]
    assert one_table(text, "Other metrics")[1] == ["graph", "all", "0.2500"]
    mean = 100 * result["cells"][0]["mean"]
    assert one_table(text, "Reported by others")[3][2].startswith(f"71.03 / {mean:.1f} [")


def test_the_run_is_told() -> None:
    text = markdown(TASK, result_of([]), [], about(shard="2/4", limit=5, prompt={"prefix": "~~~\n<|user|>|", "question": "{question}"}, command="graphkv bench a|b"))
    assert text.startswith("# arxiv-qa: best\\_subspan\\_em\n")
    for part in ("- model: embedded, float32, weights f1n", "- part: shard 2/4", "- limit: the first 5 units", "a\\|b", "No question was asked.", "~~~~\n~~~\n<|user|>|\n~~~~"):
        assert part in text, part
    merged = markdown(TASK, result_of([]), [], about(merged=[{"shard": "1/3"}, {"shard": "3/3"}], missing_shards=["2/3"]))
    assert "- merged: from shards 1/3, 3/3; 2/3 not among them" in merged


def test_a_merged_run_has_the_time_and_the_machines_of_its_shards() -> None:
    """Nothing stands in its own config that was a shard's only."""
    shards = [{"shard": "1/2", "seconds": 90.0, "machine": {"cpu": "a"}}, {"shard": "2/2", "seconds": 210.0, "machine": {"cpu": "b"}}]
    own = {key: value for key, value in about().items() if key != "machine"}

    def told(**more: Any) -> str:
        return markdown(TASK, result_of([]), [], own | more)

    text = told(merged=shards)
    assert "- time: 5.0 minutes, all shards together\n" in text and "- machine: several, each with its shard under merged in config.yaml\n" in text
    assert "- machine: cpu a\n" in told(merged=[shards[0], shards[0] | {"shard": "2/2"}])
    assert "- time: 1.5 minutes, all shards together (1 of 2 are known); 2.0 minutes since they were merged\n" in told(merged=[shards[0], {"shard": "2/2"}], seconds=120.0)
    assert "- time: 2.0 minutes, 3 processes\n" in told(seconds=120.0, workers=3) and "- time" not in told() and "- machine" not in told()


def test_an_empty_config_is_enough() -> None:
    lines = lines_of(2)
    assert one_table(markdown(TASK, result_of(lines), lines, {}), "Scores")[1][0] == "sequential"


def test_a_terminal_gets_scores_and_gaps() -> None:
    scores, gaps = tables_of(summary_table(result_of(lines_of())))
    assert scores[0][0] == "arm" and gaps[0][-1] == "same answer" and len(gaps) == 1 + 2 * len(ARMS)
    assert summary_table(result_of([])) == "no question was asked"


# Pictures


def test_pictures_are_drawn_and_named(tmp_path: Path) -> None:
    lines = lines_of()
    write_report(tmp_path, TASK, result_of(lines), lines, about())
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "![First against last](gap.png)" in text and "(length.png)" in text and "There are no pictures" not in text
    for name in ("gap.png", "length.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gap.png", "length.png", "report.md"]


def test_pictures_with_nothing_to_show_are_left_out_and_old_ones_go(tmp_path: Path) -> None:
    (tmp_path / "gap.png").write_bytes(b"old")
    for lines in ([], lines_of(distractors=(0,), arms=["graph"], units=1)):
        write_report(tmp_path, TASK, result_of(lines), lines, about())
        assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_odd_names_can_be_drawn(tmp_path: Path) -> None:
    lines = [line | {"arm": f"{line['arm']}:x=$_^"} for line in lines_of(3)]
    assert len(draw_all(metrics(TASK.name, "a_b$", lines), tmp_path)) == 2


def test_one_length_and_wide_ones(tmp_path: Path) -> None:
    lines = lines_of(3)
    for line in lines:
        if "tokens" in line:
            line["tokens"]["context"] = 100 * 20 ** line["setting"]["distractors"]
    assert (tmp_path / "length.png") in draw_all(result_of(lines), tmp_path)


def test_without_matplotlib_the_report_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    lines = lines_of(2)
    write_report(tmp_path, TASK, result_of(lines), lines, about())
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "There are no pictures: drawing needs matplotlib" in text and [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_half_a_character_does_not_stop_a_report(tmp_path: Path) -> None:
    lines: list[Line] = [{"broken": "\ud800", "unit": "1", "reason": "torn \udfff"}]
    write_report(tmp_path, TASK, result_of(lines), lines, about())
    assert "\\ud800" in (tmp_path / "report.md").read_text(encoding="utf-8")
