"""Training input: rows with file and line in every refusal, mixtures, settings, folders, and the order of rows."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import byte_tokenizer, tiny_model

from graphkv import DocumentError, InputError, LayoutError, LengthError
from graphkv.errors import KernelError, ModelError
from graphkv.train import TrainSettings, train
from graphkv.train.folder import open_run
from graphkv.train.mixture import Mixture
from graphkv.train.optim import rate
from graphkv.train.rows import Order, Rows
from graphkv.train.settings import TrainSettings as Settings

DOCUMENT = {"id": "a", "text": "It rains."}
GOOD = {"documents": [DOCUMENT], "question": "Why?", "answer": "So."}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("base")
    tiny_model(max_position_embeddings=128).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), encoding="utf-8")
    return path


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "not JSON": ('{"documents": [', "not JSON"),
    "a list": ([1], "expected an object .* got list"),
    "no documents": ({"question": "q", "answer": "a"}, "expected an object with documents"),
    "no questions": ({"documents": [DOCUMENT]}, "list of at least one"),
    "empty questions": ({"documents": [DOCUMENT], "questions": []}, "list of at least one"),
    "both forms": ({**GOOD, "questions": [{"question": "q", "answer": "a"}]}, "keep one"),
    "a question that is none": ({"documents": [DOCUMENT], "questions": ["q"]}, "question 0: expected .* got 'q'"),
    "no answer": ({"documents": [DOCUMENT], "questions": [{"question": "q", "answer": "a"}, {"question": "q"}]}, "question 1: 'answer' must be a text"),
    "an empty answer": ({**GOOD, "answer": "  "}, "'answer' must be a text"),
    "an unknown source": ({**GOOD, "documents": [{**DOCUMENT, "sources": ["z"]}]}, "unknown source id 'z'"),
    "a doubled id": ({**GOOD, "documents": [DOCUMENT, DOCUMENT]}, "duplicate id 'a'"),
    "an empty document": ({**GOOD, "documents": [{"id": "a", "text": ""}]}, "empty"),
    "documents that are none": ({**GOOD, "documents": "text"}, "list of documents"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, name: str) -> None:
    row, message = BAD_ROWS[name]
    path = write(tmp_path / "rows.jsonl", GOOD, "", row)
    with pytest.raises(DocumentError, match=rf"rows\.jsonl:3: .*{message}"):
        Rows(path)


def test_rows_are_read_where_they_stand(tmp_path: Path) -> None:
    lines = ["", {**GOOD, "question": "Größe?"}, "   ", {"documents": [DOCUMENT], "questions": [{"question": "b", "answer": "c", "hops": 2}] * 2}]
    rows = Rows(write(tmp_path / "rows.jsonl", *lines))
    assert len(rows) == 2 and rows[0].questions == (("Größe?", "So."),) and rows[1].questions == (("b", "c"),) * 2
    assert rows[1].where.endswith("rows.jsonl:4") and rows[1].graph.ids == ("a",)
    same = Rows(write(tmp_path / "moved.jsonl", *[line for line in lines if not isinstance(line, str)]))
    assert same.digest == rows.digest != Rows(write(tmp_path / "other.jsonl", GOOD)).digest
    with pytest.raises(DocumentError, match="has no rows"):
        Rows(write(tmp_path / "empty.jsonl", ""))
    with pytest.raises(DocumentError, match=r"none\.jsonl cannot be read"):
        Rows(tmp_path / "none.jsonl")


def test_every_epoch_has_every_row_once_in_a_new_order() -> None:
    order = Order(50, seed=1)
    epochs = [[order.row(e * 50 + i) for i in range(50)] for e in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert Order(50, seed=1).row(120) == epochs[2][20] and [Order(50, seed=2).row(i) for i in range(50)] != epochs[0]


def test_mixture() -> None:
    mixture = Mixture.parse("graph=3, block", {"rounds": 2, "view": "final"})
    assert mixture.weights == {"graph": 3.0, "block": 1.0} and mixture.options == {"graph": {"rounds": 2, "view": "final"}, "block": {}}
    rng = random.Random(0)
    drawn = Counter(mixture.draw(rng) for _ in range(4000))
    assert drawn["graph"] / 4000 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("grpah", {}, "unknown layout 'grpah'; valid: ape"),
        ("graph=0", {}, "weight above 0"),
        ("graph=x", {}, "weight above 0"),
        ("graph,graph=2", {}, "named twice"),
        ("graph,", {}, "unknown layout ''"),
        ("graph_sequential", {}, "no packed forward"),
        ("block,pcw", {"rounds": 2}, "unknown option of block, pcw: 'rounds'"),
    ],
)
def test_bad_mixtures(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        Mixture.parse(text, options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a whole number"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be a number"),
        ({"decay": 1.5}, "decay must be a number from 0 to 1, got 1.5"),
        ({"warmup": -1}, "warmup must be"),
        ({"questions": 0}, "questions must be"),
        ({"dtype": "float16"}, "unknown dtype 'float16'; valid: bfloat16, float32"),
        ({"init": "random"}, "unknown init 'random'; valid: pretrained, scratch"),
        ({"init": "scratch", "lora": 4}, "lora trains an adapter"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainSettings("rows.jsonl", "out", **changes)


def test_the_rate_rises_stays_and_falls() -> None:
    assert [round(rate(s, 10, 2, 0.4), 3) for s in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert [rate(s, 3, 0, 0.0) for s in range(3)] == [1, 1, 1]


def test_whose_folder_it_is(tmp_path: Path, base: str) -> None:
    """Another's folder is left alone; a run that made no checkpoint may change its settings, one that did may not."""
    rows = write(tmp_path / "rows.jsonl", GOOD)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    for out, message in ((other, "is no training run"), (rows, "is no training run")):
        with pytest.raises(InputError, match=message):
            train(TrainSettings(rows, out, base))
    assert [p.name for p in other.iterdir()] == ["thesis.txt"]

    run = tmp_path / "run"
    assert open_run(run, {"seed": 1}, 5) is None and open_run(run, {"seed": 2}, 5) is None
    settings: dict[str, Any] = {"steps": 2, "batch_tokens": 10, "layouts": "block"}
    train(Settings(rows, run, base, **settings))
    for changes, named in (
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"layouts": "graph", "lr": 0.1}, "layouts was 'block' and is now 'graph'; lr was 0.0001 and is now 0.1"),
        ({"steps": 1}, "stands at step 2, beyond steps=1"),
    ):
        with pytest.raises(InputError, match=named):
            train(Settings(rows, run, base, **{**settings, **changes}))
    with pytest.raises(InputError, match="rows_digest was"):
        train(Settings(write(tmp_path / "new.jsonl", {**GOOD, "answer": "No."}), run, base, **settings))
    moved = rows.rename(tmp_path / "moved.jsonl")
    summary = train(Settings(moved, run, base, **{**settings, "steps": 3, "log_every": 1, "save_every": 1.0}))
    assert summary["done"] and summary["step"] == 3


def test_rows_that_do_not_fit(tmp_path: Path, base: str) -> None:
    """A window of 128: a long row stops the run by name, or is passed over and counted; nothing but long rows is an error."""
    long = {**GOOD, "documents": [{"id": "a", "text": "rain " * 40}]}
    rows = write(tmp_path / "rows.jsonl", GOOD, long)
    options: dict[str, Any] = {"steps": 3, "batch_tokens": 10, "layouts": "block"}
    with pytest.raises(LengthError, match=r"rows\.jsonl:2: segment 'a' has"):
        train(TrainSettings(rows, tmp_path / "stops", base, **options))
    summary = train(TrainSettings(rows, tmp_path / "skips", base, skip_long=True, **options))
    assert summary["done"] and summary["skipped"] > 0
    with pytest.raises(InputError, match="do not fit into the model's window"):
        train(TrainSettings(write(tmp_path / "long.jsonl", long), tmp_path / "none", base, skip_long=True, **options))


def test_what_is_missing(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = write(tmp_path / "rows.jsonl", GOOD)
    with pytest.raises(ModelError, match="no such model folder"):
        train(TrainSettings(rows, tmp_path / "a", tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="no model can be made"):
        (tmp_path / "bare").mkdir()
        (tmp_path / "bare" / "config.json").write_bytes((Path(base) / "config.json").read_bytes())
        train(TrainSettings(rows, tmp_path / "b", tmp_path / "bare", init="scratch"))
    with pytest.raises(InputError, match="cannot be put on device 'moon'"):
        train(TrainSettings(rows, tmp_path / "c", base, device="moon"))
    with pytest.raises(KernelError, match="unknown kernel 'gahter'"):
        train(TrainSettings(rows, tmp_path / "d", base, kernel="gahter"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install graphkv\[lora\]"):
        train(TrainSettings(rows, tmp_path / "e", base, lora=4))
