"""Sentences as token ids: every token in exactly one, ends where a reader would see them, and never a second tokenisation."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from helpers import byte_tokenizer, tiny_engine
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv import GraphKV, Segment, SegmentGraph
from graphkv.model import EMBEDDED
from graphkv_retrieval.scan import pack
from graphkv_retrieval.sentences import STRETCH, Sentences, find_sentences

BYTES = byte_tokenizer()


def of_text(text: str, longest: int = 10**6, tokenizer: Any = BYTES) -> list[str]:
    """The sentences of a text, decoded; a character that is cut in two is not."""
    found = find_sentences(tokenizer, {"a": tokenizer(text, add_special_tokens=False)["input_ids"]}, longest)
    return [tokenizer.decode(found.tokens([i])) for i in range(len(found))]


@pytest.mark.parametrize(
    "sentences",
    [
        ["It costs $3.14 today. ", "Dr. Smith bought it, i.e. two of them. ", "Why? ", "Nobody knows!"],
        ["One line.\n", "Another line.\n"],
        ["你好。", "再见！", "是吗？"],
        ["No end at all"],
        ["Grüße! ", "Ça va? ", "🙂 is a face. ", "Not a word."],
    ],
)
def test_ends_are_where_a_reader_sees_them(sentences: list[str]) -> None:
    assert of_text("".join(sentences)) == sentences


def test_the_embedded_models_tokenizer_too() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    assert of_text("It costs $3.14 today. It was written by Ada Lund. 再见。 So it goes.", tokenizer=tokenizer) == [
        "It costs $3.14 today.", " It was written by Ada Lund. ", "再见。", " So it goes.",
    ]  # fmt: skip


TEXT = st.text(st.sampled_from(list("ab .!?\n\"'é。你🙂\ufffd1")), min_size=1, max_size=80).filter(str.strip)


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXT | st.lists(st.integers(0, 255), min_size=1, max_size=40), min_size=1, max_size=4), st.integers(1, 30))
def test_every_token_is_in_exactly_one_sentence(contents: list[Any], longest: int) -> None:
    ids = {f"s{i}": tuple(BYTES(c, add_special_tokens=False)["input_ids"]) if isinstance(c, str) else tuple(c) for i, c in enumerate(contents)}
    found = find_sentences(BYTES, ids, longest)
    assert found.ids.tolist() == found.tokens(range(len(found))).tolist() == [t for tokens in ids.values() for t in tokens]
    assert found.lengths.min() >= 1 and found.lengths.max() <= longest
    for number, tokens in enumerate(ids.values()):  # a segment's end is a sentence's end
        assert found.tokens(np.flatnonzero(found.segment == number)).tolist() == list(tokens)
    windows = pack(found.lengths, longest)
    assert np.concatenate(windows).tolist() == list(range(len(found)))
    assert all(found.lengths[w].sum() <= longest for w in windows)
    assert all(found.lengths[a].sum() + found.lengths[b[0]] > longest for a, b in itertools.pairwise(windows))


def test_ids_are_the_readers() -> None:
    """Title, template and text, as every layout reads them; segments of ready ids as they are."""
    engine = tiny_engine()
    graph = SegmentGraph.from_segments([Segment.from_text("a", "It rains. It pours.", title="Weather"), Segment.from_tokens("b", [1, 2, 3])])
    tokens = engine.reader.read(graph, ["Why?"], None)
    found = find_sentences(engine.model.tokenizer, tokens.segments, 100)
    assert found.ids.tolist() == [*tokens.segments["a"], *tokens.segments["b"]]
    assert found.segments == ("a", "b") and found.segment.tolist()[-1] == 1


def test_one_word_of_100_000_letters_is_cut() -> None:
    begin = time.process_time()
    found = find_sentences(BYTES, {"a": BYTES("x" * 100_000, add_special_tokens=False)["input_ids"]}, 1024)
    assert time.process_time() - begin < 3
    assert found.lengths.max() == 1024 and found.cut == 1 and len(found) == 98


def test_stretches_do_not_break_sentences() -> None:
    """A text of several stretches is cut as its sentences are, wherever a stretch ends."""
    sentences = [f"This is sentence number {i}, and it costs {i}.50 pounds. " for i in range(3 * STRETCH // 50)]
    assert of_text("".join(sentences)) == sentences


def test_without_a_tokenizer_a_segment_is_a_sentence() -> None:
    found = find_sentences(None, {"a": [1, 2, 3], "b": [4, 5]}, 2)
    assert found.starts.tolist() == [0, 2, 3, 5] and found.segment.tolist() == [0, 0, 1] and found.cut == 1


def test_time_is_in_proportion_to_the_text() -> None:
    engine = GraphKV.from_pretrained()
    ids = engine.reader.ids("The grass is green. It costs $3.14. " * 500)

    def seconds(times: int) -> float:
        begin = time.process_time()
        found: Sentences = find_sentences(engine.model.tokenizer, {"a": ids * times}, 1024)
        assert len(found) == 1000 * times
        return time.process_time() - begin

    seconds(1)
    assert seconds(4) < 4 * 4 * max(seconds(1), 0.01)
