"""What the card claims is what the result files hold, and these were measured on the weights that are shipped."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from graphkv import GraphKV
from graphkv_benchmarks.citation_bench.tables import markdown
from graphkv_benchmarks.codecs import table as codec_table
from graphkv_benchmarks.embedded.bars import bars
from graphkv_benchmarks.embedded.bars import markdown as bar_lines
from graphkv_benchmarks.long_context.strategies import markdown_page
from graphkv_benchmarks.retrieval_recall import table as recall_table
from graphkv_benchmarks.ttft.tables import markdown as ttft_page
from graphkv_benchmarks.ttft.tables import times

ROOT = Path(__file__).parent.parent
MODEL_FILES = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
RESULTS, EMBEDDED = ROOT / "benchmarks" / "results", ROOT / "graphkv" / "embedded"


@cache
def result(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


@cache
def card() -> list[str]:
    return (EMBEDDED / "README.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", ["citation_world", "answer_time", "codecs"])
def test_the_shipped_weights_were_measured(name: str) -> None:
    assert result(name)["settings"]["weights"] == GraphKV.from_pretrained().model.fingerprint


@pytest.mark.parametrize("name", ["citation_world", "citation_world_half"])
def test_tables_are_those_of_the_numbers(name: str) -> None:
    text = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    assert text == markdown(result(name))
    assert min(cell["questions"] for cell in result(name)["cells"] if "questions" in cell) >= 500


def test_the_card_lists_every_bar_met_or_missed() -> None:
    lines = bar_lines(bars(result("citation_world"), result("answer_time")))
    start = card().index(lines[0])
    assert card()[start : start + len(lines)] == lines


def test_every_row_of_the_cards_tables_stands_in_a_result() -> None:
    known = {line for name in ("citation_world", "citation_world_half") for line in (RESULTS / f"{name}.md").read_text(encoding="utf-8").splitlines()}
    known |= set(bar_lines(bars(result("citation_world"), result("answer_time"))))
    assert [line for line in card() if line.startswith("|") and line not in known] == []


def test_the_readmes_rows_stand_in_the_result() -> None:
    known = (RESULTS / "citation_world.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if " hop" in line and " documents" in line and line.startswith("| ")]
    assert len(rows) >= 9 and [line for line in rows if line not in known] == []


def test_the_curve_is_that_of_the_card() -> None:
    last = json.loads((RESULTS / "training" / "embedded.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    text = " ".join(card())
    for claim in (f"{last['tokens'] / 1e6:.1f} million tokens", f"{last['step']:,} steps", f"{last['minutes']:.0f} minutes"):
        assert claim in text


def test_the_model_is_small_and_safe() -> None:
    files = [path for path in EMBEDDED.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25e6
    assert {path.name for path in files} == {*MODEL_FILES, "graphkv_heads.json"}
    landmark = EMBEDDED.with_name("embedded_landmark")
    assert {path.name for path in landmark.iterdir()} == MODEL_FILES and (landmark / "model.safetensors").stat().st_size < 25e6


def test_a_bar_can_be_missed() -> None:
    """Every share that is asked for is missed by a model that answers nothing, so are differences and gaps; what was not measured is an error."""
    cells = [cell | {"right": 0, "accuracy": 0.0, "low": 0.0, "refused": 0, "outcomes": "0" * len(cell.get("outcomes", ""))} for cell in result("citation_world")["cells"]]
    found = bars({"cells": cells}, result("answer_time"))
    least = [bar for bar in found if bar.wanted.startswith("≥")]
    assert len(least) == 17 and not any(bar.met for bar in least)
    better = [cell | {"outcomes": "1" * len(cell["outcomes"])} if cell["arm"] == "block" else cell for cell in cells]
    assert [bar.met for bar in bars({"cells": better}, result("answer_time")) if bar.wanted == "not below 0"] == [True, False]
    moved = [cell | {"accuracy": 0.02} if cell["place"] == 15 else cell for cell in cells]
    assert not any(bar.met for bar in bars({"cells": moved}, result("answer_time")) if bar.name.startswith("gold document"))
    with pytest.raises(KeyError, match="not measured"):
        bars({"cells": [cell for cell in cells if cell["words"] == 0]}, result("answer_time"))


def test_the_readmes_times_and_codecs_are_those_of_the_results() -> None:
    """Every row of the two tables, and the page beside the JSON."""
    assert (RESULTS / "ttft.md").read_text(encoding="utf-8") == ttft_page(result("ttft"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for lines in (times(result("ttft")), codec_table(result("codecs"))):
        start = readme.index(lines[0])
        assert readme[start : start + len(lines)] == lines
    assert result("ttft")["settings"]["repeats"] >= 5 and result("codecs")["settings"]["questions"] >= 500
    assert all(len(way["ttft_all"]) >= 5 for row in result("ttft")["rows"] for way in row["ways"].values())


def test_the_readmes_recall_is_that_of_the_results() -> None:
    found = result("retrieval")
    page = (RESULTS / "retrieval.md").read_text(encoding="utf-8").splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for lines, where in ((recall_table(found), page), (recall_table(found, (2, 5)), readme)):
        assert where[(start := where.index(lines[0])) : start + len(lines)] == lines
    assert found["settings"]["questions"] == 100 and found["settings"]["embedder"].startswith("minilm")


def test_a_hundred_thousand_segments_were_searched() -> None:
    """What is asked of retrieval at scale, and that the README says what was measured."""
    found = result("retrieval_scale")
    assert found["settings"]["segments"] == 100_000 and found["recall"]["n"] >= 200
    bm25, ratio, recall = found["search"]["bm25"]["search"]["median"], found["ratio"], found["recall"]["mean"]
    assert bm25 < 50 and ratio >= 10 and recall >= 0.95 and found["killed"]["kept"] > 0
    peaks = [row["peak_mb"] for part in ("build", "search") for row in found[part].values()]
    assert max(peaks) < 2 * 2**30 / 2**20
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for claim in (f"no process took more than {max(peaks):,.0f} MiB", f"BM25 takes {bm25:.2f} ms", f"HNSW finds {100 * recall:.1f}%", f"{ratio} times as fast", f"({found['index']['hnsw']['median']:.2f} against {found['index']['flat']['median']:.2f} ms"):
        assert claim in text, claim


def test_ten_thousand_blocks_were_measured() -> None:
    assert result("store_size")["segments"] == 10_000


@pytest.mark.parametrize("name", ["strategies", "strategies_64k", "strategies_neighbours", "needle_32k", "needle_256k", "needle_512k", "needle_1m", "passkey_32k"])
def test_the_long_texts_were_read_by_the_shipped_weights(name: str) -> None:
    for about in result(name)["strategies"].values():
        model = "embedded-landmark" if about["strategy"] == "landmark" else None
        assert about["weights"] == GraphKV.from_pretrained(model).model.fingerprint
        assert about["query_aware"] is (about["strategy"] == "infini_retri")


def test_the_tables_of_strategies_are_those_of_the_numbers() -> None:
    page = (RESULTS / "strategies.md").read_text(encoding="utf-8")
    assert page == markdown_page(result("strategies"))
    told = (ROOT / "docs" / "which_strategy.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in told if line.startswith("| `") and "[" in line and line not in page.splitlines()] == []


def test_the_landmark_model_is_the_one_that_was_measured() -> None:
    weights = GraphKV.from_pretrained("embedded-landmark").model.fingerprint
    assert result("landmark_perplexity")["arms"]["shipped"]["weights"] == weights


def test_the_package_of_infini_retri_was_compared() -> None:
    (embedded,) = result("infini_retri_peer")["rows"]
    assert embedded["settings"]["cases"] == 50 and embedded["agreement"]["led"]["same"] == 1.0
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in (embedded, *result("infini_retri_peer_qwen")["rows"]):
        assert f"{row['seconds']['times_faster']:.1f} times" in readme and row["peak_mb"]["share"] < 1 / 3
