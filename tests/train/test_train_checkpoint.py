"""Checkpoints and metrics: whatever moment a run is killed at, the last whole one is found again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from graphkv.errors import DocumentError, InputError, ModelError
from graphkv.train import checkpoint
from graphkv.train.checkpoint import FOLDERS, load, save
from graphkv.train.metrics import Meter, MetricsLog, read_metrics


def group(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {"model": {"w": torch.full((3, 2), value), "b": torch.full((2,), value, dtype=torch.bfloat16)}, "optimizer": {}}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    assert load(tmp_path / "none") is None
    state = {"step": 3, "sums": {"loss": [0.1 + 0.2, 1e-300]}}
    save(tmp_path / "run", group(1.5), state)
    found = load(tmp_path / "run")
    assert found is not None and found.state == state and found.number == 1
    assert set(found.tensors) == {"model", "optimizer"} and found.tensors["optimizer"] == {}
    assert found.tensors["model"]["b"].dtype == torch.bfloat16
    torch.testing.assert_close(found.tensors["model"]["w"], torch.full((3, 2), 1.5), rtol=0, atol=0)


def test_two_folders_take_turns(tmp_path: Path) -> None:
    written = [save(tmp_path, group(i), {"step": i}).name for i in range(5)]
    assert written == [FOLDERS[i % 2] for i in range(5)]
    found = load(tmp_path)
    assert found is not None and found.state == {"step": 4} and float(found.tensors["model"]["w"][0, 0]) == 4


def test_shared_and_sliced_tensors(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    save(tmp_path, {"model": {"a": whole, "b": whole, "c": whole[::2], "d": whole[3:]}}, {})
    found = load(tmp_path)
    assert found is not None and found.tensors["model"]["c"].tolist() == [0, 2, 4] and found.tensors["model"]["d"].tolist() == [3, 4, 5]


@pytest.mark.parametrize("calls", range(1, 10))
def test_a_kill_at_any_write_leaves_the_last_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """1. Two checkpoints. 2. The third dies at its n-th step on the disk. 3. The second is found; 4. and the next save works."""
    for i in (1, 2):
        save(tmp_path, group(i), {"step": i})
    left = [calls]

    def dies(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as m:
        m.setattr(checkpoint, "save_file", dies(checkpoint.save_file))
        m.setattr(checkpoint, "_flush", dies(checkpoint._flush))
        m.setattr(os, "replace", dies(os.replace))
        m.setattr(Path, "unlink", dies(Path.unlink))
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, group(3), {"step": 3})
    found = load(tmp_path)
    assert found is not None and found.state == {"step": 2} and float(found.tensors["model"]["w"][0, 0]) == 2
    save(tmp_path, group(4), {"step": 4})
    found = load(tmp_path)
    assert found is not None and found.state == {"step": 4}


def test_a_state_cut_short_does_not_count_and_a_broken_file_is_named(tmp_path: Path) -> None:
    save(tmp_path, group(1), {"step": 1})
    latest = save(tmp_path, group(2), {"step": 2})
    text = (latest / "state.json").read_text()
    (latest / "state.json").write_text(text[:-5])
    found = load(tmp_path)
    assert found is not None and found.state == {"step": 1}
    (latest / "state.json").write_text(text)
    weights = latest / "model.safetensors"
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    with pytest.raises(ModelError, match=str(latest)):
        load(tmp_path)
    with pytest.raises(InputError, match="plain name"):
        save(tmp_path, {"../model": {}}, {})


def test_metrics_are_cut_to_the_step_and_never_doubled(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(1, 6):
        log.write({"step": step, "loss": 1 / step})
    with path.open("a") as file:
        file.write('{"step": 6, "lo')
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3, 4, 5]
    log = MetricsLog(path, step=3)
    log.write({"step": 4, "loss": 0.25})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": s, "loss": 1 / s} for s in range(1, 5)]
    path.write_text('{"step": 1}\nno\n{"step": 2}\n')
    with pytest.raises(DocumentError, match=r"metrics\.jsonl:2: .*'no'"):
        MetricsLog(path)


def test_meter_goes_through_json() -> None:
    meter = Meter()
    meter.add("loss", 0.1)
    meter.add("loss", 0.2)
    meter.add("right", 3, 4)
    meter.add("nothing", 0, 0)
    again = Meter(json.loads(json.dumps(meter.sums)))
    again.add("loss", 0.3)
    meter.add("loss", 0.3)
    assert again.means() == meter.means() and again.means()["right"] == 0.75 and "nothing" not in again.means()
    again.clear()
    assert again.means() == {}
