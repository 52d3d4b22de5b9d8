"""`graphkv bench compare`: pairs counted by hand, what only one run has, and runs that cannot be compared."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from graphkv.cli.bench.compare import compare as verb
from graphkv.cli.common import guarded
from graphkv.errors import InputError
from graphkv_benchmarks.runner.case import Line
from graphkv_benchmarks.runner.compare import compare, markdown, read_side
from graphkv_benchmarks.runner.folder import write_config
from graphkv_benchmarks.runner.intervals import bootstrap, holm, mcnemar, sign_flip
from graphkv_benchmarks.tasks.arxiv_qa import ArxivQA

Scores = Mapping[tuple[str, str, int], float | None]
"""(arm, id, seed) → score; None for skipped, seed 0 for none."""

APP = typer.Typer()
APP.command("compare")(guarded(verb))


@APP.callback()
def _main() -> None:
    """Two verbs make a group."""


def line(arm: str, id: str, seed: int, score: float | None, gold: str = "x", **setting: Any) -> Line:
    setting |= {"seed": seed} if seed else {}
    head: Line = {"arm": arm, "setting": setting, "id": id, "unit": id, "type": "", "prompt": "0", "gold": [gold]}
    return head | ({"skipped": "length: too long"} if score is None else {"answer": str(score), "score": score})


def run(folder: Path, lines: Iterable[Line], arms: Iterable[str] = ("graph",), task: Mapping[str, Any] | None = None, **more: Any) -> Path:
    folder.mkdir(parents=True)
    found = list(lines)
    config = {"task": task or ArxivQA("/nowhere").settings(), "arms": [{"name": arm, "strategy": "graph", "options": {}} for arm in arms], "model": "embedded", "dtype": "float32"}
    write_config(folder, config | more)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in found), encoding="utf-8")
    return folder


def scored(arm: str, scores: Iterable[float | None], seed: int = 0, **setting: Any) -> list[Line]:
    return [line(arm, str(i), seed, score, **setting) for i, score in enumerate(scores)]


def compared(a: Path | str, b: Path | str) -> dict[str, Any]:
    result = compare(read_side(str(a)), read_side(str(b)))
    json.dumps(result, allow_nan=False)
    return result


def test_a_comparison_by_hand(tmp_path: Path) -> None:
    ours, theirs = [1, 1, 0, 0, 1, 0, None, 1, None], [1, 0, 1, 1, 1, 1, 1, None, None]
    a = run(tmp_path / "a", scored("graph", ours))
    b = run(tmp_path / "b", reversed(scored("graph", [*theirs, 1.0])))
    (cell,) = compared(a, b)["cells"]
    assert (cell["questions"], cell["pairs"], cell["only_a"], cell["only_b"], cell["neither"]) == (6, 6, 1, 2, 1)
    assert (cell["mean_a"], cell["mean_b"], cell["difference"]) == (0.5, 0.833333, 0.333333)
    assert [cell["low"], cell["high"]] == [round(bound, 6) for bound in bootstrap([0.0, -1.0, 1.0, 1.0, 0.0, 1.0])]
    assert (cell["b"], cell["c"], cell["test"], cell["p"], cell["p_holm"]) == (1, 3, "mcnemar", 0.625, 0.625)
    (back,) = compared(b, a)["cells"]
    assert (back["difference"], back["b"], back["c"], back["only_a"], back["only_b"]) == (-0.333333, 3, 1, 2, 1)


def test_a_run_is_equal_to_itself(tmp_path: Path) -> None:
    a = run(tmp_path / "a", scored("graph", [1.0, 0.0, 1.0]))
    (cell,) = compared(a, a)["cells"]
    assert (cell["difference"], cell["low"], cell["high"], cell["p"]) == (0.0, 0.0, 0.0, 1.0) and compared(a, a)["differing"] == []


@pytest.mark.parametrize("seeds", [(0,), (42, 43, 44)])
def test_equal_arms_are_not_certain_to_be_equal(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    """60 questions, whatever the number of seeds."""
    lines = [one for arm in ("graph", "block") for seed in seeds for one in scored(arm, [float(i < 20) for i in range(60)], seed)]
    a = run(tmp_path / "a", lines, ["graph", "block"])
    (cell,) = compared(f"{a}:graph", f"{a}:block")["cells"]
    assert (cell["low"], cell["high"], cell["score_interval"]) == (0.0, 0.0, [-0.031612, 0.031612])
    text = markdown(compared(f"{a}:graph", f"{a}:block"))
    assert "| +0.0 [-3.2, +3.2]† |" in text and "† All differences are equal" in text


def test_a_dagger_is_explained_where_there_is_one(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", scored("graph", [1.0, 0.0])), run(tmp_path / "b", scored("graph", [1.0, 1.0]))
    (cell,) = compared(a, b)["cells"]
    assert cell["low"] < cell["high"] and "†" not in markdown(compared(a, b))


def test_two_arms_of_one_run(tmp_path: Path) -> None:
    lines = [*scored("graph", [1.0] * 10, distractors=1, order="first"), *scored("sequential:x=1", [0.0] * 10, distractors=1, order="first")]
    a = run(tmp_path / "a:b", lines, ["graph", "sequential:x=1"])  # a colon in the folder's own name
    (cell,) = compared(f"{a}:sequential:x=1", f"{a}:graph")["cells"]
    assert (cell["arm_a"], cell["arm_b"], cell["setting"]) == ("sequential:x=1", "graph", {"distractors": 1, "order": "first"})
    assert (cell["difference"], cell["b"], cell["c"]) == (1.0, 0, 10) and cell["p"] == pytest.approx(2 / 1024)
    (one_named,) = compared(f"{a}:graph", a)["cells"]
    assert (one_named["arm_a"], one_named["arm_b"], one_named["difference"]) == ("graph", "graph", 0.0)


def test_pairs_are_made_by_seed_and_pooled_by_question(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [*scored("graph", [1, 0], 1), *scored("graph", [0, 0], 2), *scored("graph", [1, 1], 3)])
    b = run(tmp_path / "b", [*scored("graph", [1, 1], 1), *scored("graph", [1, 0], 2)])
    (cell,) = compared(a, b)["cells"]
    assert (cell["questions"], cell["pairs"], cell["only_a"], cell["setting"]) == (2, 4, 2, {})
    assert (cell["mean_a"], cell["mean_b"], cell["difference"]) == (0.25, 0.75, 0.5) and (cell["low"], cell["high"]) == (0.5, 0.5)
    assert (cell["test"], cell["b"], cell["c"], cell["p"]) == ("sign-flip", 0, 2, sign_flip([0.5, 0.5])) and abs(cell["p"] - 0.5) < 0.01
    assert "Where seeds are pooled" in markdown(compared(a, b))


def test_scores_between_have_the_general_test(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", scored("graph", [0.5, 1.0])), run(tmp_path / "b", scored("graph", [1.0, 1.0]))
    (cell,) = compared(a, b)["cells"]
    assert (cell["test"], cell["p"], cell["b"], cell["c"], cell["difference"]) == ("sign-flip", 1.0, 0, 1, 0.25)


def test_several_comparisons_are_adjusted(tmp_path: Path) -> None:
    rng = random.Random(4)
    sides = []
    for name in "ab":
        lines = [one for count in (0, 1, 2) for one in scored("graph", [float(rng.random() < (0.3 + 0.25 * (name == "b"))) for _ in range(40)], distractors=count)]
        sides.append(run(tmp_path / name, lines))
    result = compared(*sides)
    ps = [cell["p"] for cell in result["cells"]]
    assert len(ps) == 3 and [cell["p_holm"] for cell in result["cells"]] == holm(ps)
    by_hand = []
    for count in (0, 1, 2):
        ones, others = ([one["score"] for one in read_side(str(side)).lines if one["setting"]["distractors"] == count] for side in sides)
        by_hand.append(mcnemar(ones, others).p)
    assert ps == by_hand
    assert "3 comparisons are shown" in markdown(result)


def test_what_one_run_has_is_said(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [*scored("graph", [1.0], distractors=0), *scored("graph", [1.0], distractors=1), *scored("block", [1.0])], ["graph", "block", "pcw"])
    b = run(tmp_path / "b", [*scored("graph", [1.0], distractors=0), *scored("full", [1.0])], ["full", "graph"])
    result = compared(a, b)
    assert result["left_out"] == [
        {"arm": "graph", "setting": {"distractors": 1}, "run": "a"},
        {"arm": "block", "setting": None, "run": "a"},
        {"arm": "full", "setting": None, "run": "b"},
    ]
    assert "In one run only: `graph` under 1 distractor (A); `block` (A); `full` (B)." in markdown(result)


def test_nothing_that_both_answered(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", scored("graph", [1.0, None])), run(tmp_path / "b", scored("graph", [None, 1.0]))
    (cell,) = compared(a, b)["cells"]
    assert (cell["questions"], cell["difference"], cell["low"], cell["p"], cell["only_a"], cell["only_b"]) == (0, None, None, None, 1, 1)
    assert "| – | – | – | – |" in markdown(compared(a, b))


def test_another_model_is_named_not_refused(tmp_path: Path) -> None:
    a = run(tmp_path / "a", scored("graph", [1.0]), weights="w1")
    b = run(tmp_path / "b", scored("graph", [0.0]), weights="w2", model="qwen|2", dtype="bfloat16", task=ArxivQA("/elsewhere", prompt="model").settings())
    assert compared(a, b)["differing"] == ["model: embedded and qwen|2", "weights: w1 and w2", "dtype: float32 and bfloat16", "task's prompt: paper and model"]
    assert "model qwen\\|2, bfloat16" in markdown(compared(a, b))


def test_another_benchmark_is_refused(tmp_path: Path) -> None:
    a = run(tmp_path / "a", scored("graph", [1.0, 1.0]))
    published = run(tmp_path / "b", scored("graph", [1.0, 1.0]), task=ArxivQA("/nowhere", as_published=True).settings())
    with pytest.raises(InputError, match=r"not runs of one benchmark: as_published is False in .* and True in"):
        compared(a, published)
    topic = {"kind": "topic", "set": "cora", "data": "/x"}
    other = run(tmp_path / "c", scored("graph", [1.0]), task=topic)
    with pytest.raises(InputError, match="not runs of one benchmark: task is 'arxiv-qa'"):
        compared(a, other)
    changed = run(tmp_path / "d", scored("graph", [1.0, 1.0], gold="other"))
    with pytest.raises(InputError, match=r"not runs of the same data: question '0' of arm 'graph' has the gold answers \[\"x\"\] in the one and \[\"other\"\]"):
        compared(a, changed)


def test_other_data_of_one_name_is_refused(tmp_path: Path) -> None:
    tasks = [{"kind": "topic", "set": "cora", "data": "/x", "digest": digest} for digest in "12"]
    a, b = (run(tmp_path / name, scored("graph", [1.0]), task=task) for name, task in zip("ab", tasks, strict=True))
    with pytest.raises(InputError, match="digest is '1' in"):
        compared(a, b)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    a = run(tmp_path / "a", scored("graph", [1.0]), ["graph"])
    b = run(tmp_path / "b", scored("block", [1.0]), ["block"])
    with pytest.raises(InputError, match=r"have no arm and setting in common; two arms are compared as"):
        compared(a, b)
    with pytest.raises(InputError, match="unknown arm 'grpah'; valid: graph"):
        read_side(f"{a}:grpah")
    for spec in (f"{tmp_path}/none", f"{tmp_path}/none:graph", f"{a}:", ""):
        with pytest.raises(InputError, match="is neither the folder of a run nor such a folder, a colon and an arm"):
            read_side(spec)
    with pytest.raises(InputError, match="is not the folder of a run"):
        read_side(str(tmp_path))


def test_the_verb(tmp_path: Path) -> None:
    a = run(tmp_path / "a", [*scored("graph", [1.0] * 8), *scored("block", [0.0] * 8)], ["graph", "block"])
    shown = CliRunner().invoke(APP, ["compare", f"{a}:block", f"{a}:graph"])
    assert shown.exit_code == 0, shown.output
    tokens = MarkdownIt("commonmark").enable("table").parse(shown.stdout)
    assert sum(token.type == "td_open" for token in tokens) == sum(token.type == "th_open" for token in tokens) == 10
    assert "+100.0 [+48.4, +100.0]†" in shown.stdout and "0 / 8" in shown.stdout and "0.0078" in shown.stdout
    as_json = CliRunner().invoke(APP, ["compare", f"{a}:block", f"{a}:graph", "--json"])
    assert json.loads(as_json.stdout)["cells"][0]["p"] == pytest.approx(2 / 256)
    wrong = CliRunner().invoke(APP, ["compare", str(a), str(tmp_path / "none")])
    assert wrong.exit_code == 2 and wrong.stderr.startswith("error: ")
