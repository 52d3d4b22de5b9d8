"""Retrieval heads: the scores against whole attention matrices, and where they are kept."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, tiny_engine, tiny_model

from graphkv import GraphKV, InputError
from graphkv.model import EMBEDDED
from graphkv_retrieval.head_file import FILE, place_of_heads, save_heads, saved_heads
from graphkv_retrieval.heads import HeadScores, _Case, detect_heads
from graphkv_retrieval.needles import make_needles
from graphkv_retrieval.options import choose
from graphkv_retrieval.scan import phrase_sums

LEFT_OPEN: dict[str, Any] = dict.fromkeys(("window", "top_tokens", "layers", "heads", "rows")) | {"phrase": 8, "windows_at_once": 1}


def some_scores(copied: int = 9) -> HeadScores:
    copy, margins = torch.zeros(2, 4), torch.full((4, 2, 2, 4), -1.0)
    copy[1] = torch.tensor([1.0, 0.9, 0.2, 0.9])
    margins[:3, 0, 0, 3] = 1.0  # found three times in four with the question's rows
    margins[:, 1, 1] = torch.tensor([2.0, 3.0, 4.0, -1.0])
    margins[0, 1, 1, 0] = -1.0
    return HeadScores(copy, margins, 3, copied)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_scores_are_those_of_whole_matrices() -> None:
    """1. One needle, the eager model's matrices, and both scores by their definition. 2. Ours from watched rows."""
    engine = tiny_engine()
    case = _Case.of(engine, next(make_needles(1)), 400, None, 0.4, random.Random(0))
    first, last = case.needle
    assert engine.model.tokenizer.decode(case.prompt[first:last]) == f" {next(make_needles(1)).sentence}"
    ids = [*case.prompt, *case.wanted]
    with torch.no_grad():
        matrices = [a[0].double() for a in engine.model.model(torch.tensor([ids]), output_attentions=True).attentions]
    want_copy, want = torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, 2, 4, dtype=torch.float64)
    copied = [i for i, token in enumerate(case.wanted) if token in case.prompt[first:last]]
    for layer, matrix in enumerate(matrices):
        for head in range(4):
            for i in copied:
                top = int(matrix[head, len(case.prompt) - 1 + i].argmax())
                want_copy[layer, head] += first <= top < last and ids[top] == case.wanted[i]
            question = matrix[head, case.question : len(case.prompt), : len(case.prompt)]
            weights = question[:, case.question :].sum(1) ** 2
            for way, row in enumerate((weights @ question, question[-1])):
                scores = phrase_sums(row[case.context[0] : case.context[1]], 8).tolist()
                places = range(case.context[0], case.context[1])
                mine = max(score for score, place in zip(scores, places, strict=True) if first <= place < last)
                rest = sorted((score for score, place in zip(scores, places, strict=True) if not first - 8 <= place < last + 8), reverse=True)
                want[way, layer, head] = math.log(mine / rest[7])
    hits, count = case.copies(engine.model, 2, 4)
    assert count == len(copied) > 0 and torch.equal(hits, want_copy)
    torch.testing.assert_close(case.margins(engine.model, 2, 4, 8), want, atol=1e-4, rtol=1e-4)


def test_the_embedded_models_heads_copy() -> None:
    """Its needle circuits were trained in layer 3, heads 0 and 1 (see its card): they must be among those that copy."""
    seen: list[tuple[int, int]] = []
    scores = detect_heads(GraphKV.from_pretrained(), n=4, length=256, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)] and scores.answered > 0
    assert float(scores.copy[3, :2].min()) > 0.7 and float(scores.copy[:2].max()) == 0.0
    assert set(scores.best()) <= {(layer, head) for layer in (2, 3, 4, 5) for head in (0, 1)}


def test_a_haystack_of_ones_own() -> None:
    case = _Case.of(tiny_engine(), next(make_needles(1)), 300, ["Own words here.", "More of them."], 0.5, random.Random(0))
    assert "Own words here." in byte_tokenizer().decode(case.prompt)
    (begin, end), (first, last) = case.context, case.needle
    assert 300 - len(" Own words here.") < end - begin - (last - first) < 310  # with the template's end


def test_a_sentence_without_an_end_is_cut_to_the_haystack() -> None:
    case = _Case.of(tiny_engine(), next(make_needles(1)), 300, ["x" * 100_000], 0.5, random.Random(0))
    assert len(case.prompt) < 1000 and byte_tokenizer().decode(case.prompt).count("x") >= 299


def test_the_best_find_and_copy() -> None:
    scores = some_scores()
    assert scores.rows == "last" and scores.ranked()[:2] == [(1, 2), (1, 1)] and scores.ranked("question")[0] == (0, 3)
    assert scores.needles == 4 and float(scores.found("question")[0, 3]) == 0.75 and scores.found("last")[1].tolist() == [0.75, 1.0, 1.0, 0.0]
    assert scores.best() == [(1, 1)] and scores.best(2, 0.7) == [(1, 0), (1, 1)]
    assert scores.reaching(0.7) == [(1, 1), (1, 0)] and scores.reaching(0.95) == []
    assert scores.best(2, 0.95) == [(1, 2)]  # none both finds and copies so well: the surest
    assert some_scores(copied=0).reaching(0.0) == []  # nothing was answered: no head can be said to copy


@pytest.mark.parametrize(("options", "message"), [({"n": 0}, "n must be"), ({"length": 5000}, "more than half of the model's window"), ({"phrase": 0}, "phrase must be"), ({"length": 63}, "too short"), ({"text": " "}, "is empty")])
def test_bad_numbers(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        detect_heads(tiny_engine(), **options)


def test_saved_beside_the_model_and_used(folder: Path) -> None:
    engine = GraphKV.from_pretrained(folder)
    assert saved_heads(engine.model) is None
    assert choose(engine.model, **LEFT_OPEN).heads == {1: None}
    assert save_heads(engine.model, some_scores(), [(0, 1), (1, 2)], window=512, top_tokens=64) == folder / FILE
    assert [p.name for p in folder.glob("*.tmp")] == []
    chosen = choose(GraphKV.from_pretrained(folder).model, **LEFT_OPEN)
    assert (chosen.heads, chosen.rows, chosen.window, chosen.top_tokens) == ({0: (1,), 1: (2,)}, "last", 512, 64)
    assert chosen.notes == ("attention of layer 0: heads 1; layer 1: heads 2 (saved with the model), the last row",)
    asked_for = choose(engine.model, **{**LEFT_OPEN, "layers": -1, "window": 300})
    assert (asked_for.heads, asked_for.rows, asked_for.window, asked_for.top_tokens) == ({1: None}, "question", 300, 300)  # the paper's
    assert GraphKV.from_pretrained(folder, dtype="bfloat16").model is not None
    assert choose(GraphKV.from_pretrained(folder, dtype="bfloat16").model, **LEFT_OPEN).heads == {0: (1,), 1: (2,)}  # the same weights, rounded


def test_heads_of_another_model_are_not_used(folder: Path) -> None:
    save_heads(GraphKV.from_pretrained(folder).model, some_scores(), [(0, 1)])
    tiny_model(seed=1).save_pretrained(folder)  # trained on, say
    chosen = choose(GraphKV.from_pretrained(folder).model, **LEFT_OPEN)
    assert chosen.heads == {1: None} and chosen.top_tokens == 300
    assert "made for another model" in chosen.notes[0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"heads": [[0]]}', '{"heads": [["a", 1]], "shape": [], "weights": "", "dtype": "", "rows": "last"}'])
def test_a_file_that_is_none_of_ours(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text)
    with pytest.raises(InputError, match="no file of retrieval heads"):
        saved_heads(GraphKV.from_pretrained(folder).model)


def test_a_model_from_elsewhere_has_its_heads_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine = tiny_engine()
    place = place_of_heads(engine.model)
    assert place.is_relative_to(tmp_path) and place.stem == engine.model.fingerprint
    save_heads(engine.model, some_scores(), [(0, 1)])
    saved = saved_heads(tiny_engine().model)
    assert saved is not None and saved.heads == ((0, 1),)
    assert saved_heads(tiny_engine(seed=1).model) is None


def test_a_place_that_cannot_be_written_to(folder: Path) -> None:
    (folder / FILE).mkdir()
    with pytest.raises(InputError, match="cannot be saved at"):
        save_heads(GraphKV.from_pretrained(folder).model, some_scores(), [(0, 1)])


def test_the_embedded_models_heads_are_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's file is read as long as the user has none, and never written to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = GraphKV.from_pretrained().model
    saved = saved_heads(model)
    assert saved is not None and saved.heads and not saved.note
    row = json.loads((EMBEDDED / FILE).read_text(encoding="utf-8"))
    assert row["weights"] == model.fingerprint and len(row["copy"]) == 7 and row["answered"] > 0
    own = save_heads(model, some_scores(), [(0, 1)])
    assert own.is_relative_to(tmp_path) and json.loads((EMBEDDED / FILE).read_text(encoding="utf-8")) == row
    mine = saved_heads(model)
    assert mine is not None and mine.heads == ((0, 1),)
