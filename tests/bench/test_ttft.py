"""The time to the first token: what is timed is equal first, rows are kept, and the command writes and draws what it measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from graphkv import InputError, ModelError
from graphkv.cli import app
from graphkv_benchmarks.ttft import row, run
from graphkv_benchmarks.ttft.plots import draw_all

WAYS = tuple(run.WAYS)


def spec(**changes: Any) -> row.Spec:
    return row.Spec(**{"model": "embedded", "dtype": "float32", "tokens": 64, "documents": 8, "repeats": 2, "decode": 2, "seed": 1, "ways": WAYS, **changes})


@pytest.fixture
def measured(tmp_path: Path) -> row.Row:
    return row.Row(row.load("embedded", "float32", 1), spec(), tmp_path)


def test_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHKV_BENCH_DIR", str(tmp_path))
    result = run._with_ratios(row.measure(spec()))
    assert set(result["ways"]) == set(WAYS) and result["checked"]["sequential_apart"] < 1e-5 and result["checked"]["checked_tokens"] == 64
    for name, way in result["ways"].items():
        assert len(way["ttft_all"]) == 2 and way["ttft"] > 0 and way["decode_tokens_s"] > 0, name
    assert result["ways"]["sequential"]["over_sequential"] == 1.0
    assert result["store"]["over_raw"] > 1 and result["store"]["read_cached_gb_s"] > 0
    assert not list(tmp_path.iterdir()), "stores are removed"


def test_warm_ways_encode_nothing_and_cold_ways_everything(measured: row.Row, monkeypatch: pytest.MonkeyPatch) -> None:
    measured.check()
    encoded: list[int] = []
    encode = measured.model.encode
    monkeypatch.setattr(measured.model, "encode", lambda ids, *rest: encoded.append(len(ids)) or encode(ids, *rest))
    counts = {}
    for way in WAYS:
        encoded.clear()
        getattr(measured, way)()
        counts[way] = sum(encoded)
    assert counts == {"sequential": 0, "cold_ego": 64, "cold_nearest": 128, "warm_memory": 0, "shuffled": 0, "warm_disk": 0, "warm_disk_cached": 0}


def test_a_store_that_changes_one_number_is_not_timed(measured: row.Row, monkeypatch: pytest.MonkeyPatch) -> None:
    get = measured.disk.get

    def wrong(key: str, token_ids: Any) -> Any:
        block = get(key, token_ids)
        if block is not None:
            for layer in block.values:
                layer[0, 0, 0] += 1  # the mapped copy only
        return block

    monkeypatch.setattr(measured.disk, "get", wrong)
    with pytest.raises(ArithmeticError, match=r"the logits over the store \(disk\)"):
        measured.check()


def test_a_model_that_reads_otherwise_is_not_timed(measured: row.Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphkv.kv.Rope.table", lambda self, positions: (torch.ones(len(positions), 2 * len(self.inv_freq)), torch.zeros(len(positions), 2 * len(self.inv_freq))))
    with pytest.raises(ArithmeticError, match="away from the model's own forward"):
        measured.check()


def test_rows_are_kept_and_other_settings_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def fake(spec: row.Spec, report: Any) -> dict[str, Any]:
        asked.append(spec.tokens)
        ways = {way: {"ttft": spec.tokens / (1 if way == "sequential" else 50), "decode_tokens_s": 1.0, "peak_mb": None} for way in spec.ways}
        return {"model": spec.model, "dtype": spec.dtype, "tokens": spec.tokens, "documents": spec.documents, "ways": ways, "machine": {"threads": 2}}

    monkeypatch.setattr(run, "_in_a_process", fake)
    out = tmp_path / "ttft.json"
    run.run_ttft(["embedded"], [512], output=out)
    result = run.run_ttft(["embedded"], [2048, 512], output=out)
    assert asked == [512, 2048] and [r["tokens"] for r in result["rows"]] == [512, 2048] and json.loads(out.read_text()) == result
    assert result["rows"][1]["ways"]["warm_memory"]["over_sequential"] == 50
    with pytest.raises(InputError, match="measured with other settings \\(repeats\\)"):
        run.run_ttft(["embedded"], [512], output=out, repeats=2)
    (tmp_path / "no.json").write_text("[]")
    with pytest.raises(InputError, match="not a result of this benchmark"):
        run.run_ttft(["embedded"], [512], output=tmp_path / "no.json")
    (picture,) = draw_all(result, tmp_path)
    assert picture.name == "ttft_embedded.png" and picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [513]}, "cannot be cut into 8 equal documents"),
        ({"sizes": [512], "repeats": 0}, "repeats must be a whole number"),
        ({"sizes": [512], "ways": ("sequential", "cold_lunch")}, "unknown way 'cold_lunch'"),
        ({"sizes": [512], "ways": ("warm_memory",)}, "it cannot be left out"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run.run_ttft(["embedded"], **arguments)


def test_a_row_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"was not measured: .*no such model folder"):
        run.run_ttft([str(tmp_path / "nowhere")], [512])


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "ttft.json"
    args = ["bench", "ttft", "--quick", "--tokens", "64", "--repeats", "1", "--decode", "1", "--output", str(out), "--json"]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(out.read_text())
    again = CliRunner().invoke(app, args[:-1], env={"COLUMNS": "200"})
    assert again.exit_code == 0 and "warm_memory" in again.stdout

