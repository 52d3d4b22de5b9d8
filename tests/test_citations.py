"""Citations: cases by hand, and how often the segment that is named is the one that the answer stands in."""

from __future__ import annotations

import doctest
import time

import pytest
from helpers import tiny_engine
from scheduler_helpers import SECONDS, question

import graphkv.citations
from graphkv import Citation, GraphKV, Segment, SegmentGraph
from graphkv.citations import LEAST, by_segment, citations_of, watched_heads
from graphkv.cli.demo import read_demo
from graphkv.generate import TextStream
from graphkv.scheduler import Scheduler
from graphkv_benchmarks.citation_world import rows
from graphkv_retrieval.head_file import saved_heads

GRAPH = SegmentGraph.from_documents(
    [
        {"id": "target", "title": "Night Maple", "text": "It builds on earlier work.", "sources": ["source", "other"]},
        {"id": "source", "title": "Day Birch", "text": "It was written by Ada Fumrel in 2011.", "sources": ["root"]},
        {"id": "other", "text": "Nothing of that."},
        {"id": "root", "text": "The lab is Zerrentik."},
    ]
)


def cited(text: str, looks: list[dict[str, float]], reach: list[int] | None = None, graph: SegmentGraph = GRAPH) -> list[tuple[str, list[str]]]:
    """Words and the segments named for them; one token a word, if nothing else is said."""
    ends = [place for place, letter in enumerate(text + " ") if letter == " "] if reach is None else reach
    found = citations_of(text, ends, looks, graph)
    assert all(citation.text == text[citation.start : citation.end] and citation.segments for citation in found)
    assert [citation.start for citation in found] == sorted(citation.start for citation in found)
    return [(citation.text, [id for id, _ in citation.segments]) for citation in found]


def test_the_examples() -> None:
    assert doctest.testmod(graphkv.citations).attempted >= 2 and doctest.testmod(graphkv.citations).failed == 0


def test_words_in_a_row_from_one_segment_are_one_citation() -> None:
    assert cited("Ada Fumrel wrote this", [{"source": 0.9}, {"source": 0.8}, {"other": 0.7}, {"other": 0.4}]) == [("Ada Fumrel", ["source"]), ("wrote this", ["other"])]
    assert citations_of("Ada Fumrel", [3, 10], [{"source": 0.5}, {"source": 0.81234567}], GRAPH) == (Citation(0, 10, "Ada Fumrel", (("source", 0.8123),)),)


@pytest.mark.parametrize(("share", "expected"), [(LEAST + 0.01, [("Ada", ["source"])]), (LEAST - 0.01, [])])
def test_words_that_no_segment_was_looked_at_for_are_not_cited(share: float, expected: list[tuple[str, list[str]]]) -> None:
    assert cited("Ada", [{"source": share}]) == expected
    assert cited("Ada", [{"source": LEAST / 2, "other": LEAST / 2 - 0.01}]) == [] == cited("Ada", [{}]) == cited("", []) == cited("Ada", [])


def test_words_without_a_citation_part_those_around_them() -> None:
    found = cited("Ada Fumrel says nothing but Ada", [{"source": 0.9}, {"source": 0.9}, {"source": 0.1}, {}, {"other": 0.2}, {"source": 0.9}])
    assert found == [("Ada Fumrel", ["source"]), ("Ada", ["source"])]


def test_a_word_goes_by_its_token_that_looked_hardest() -> None:
    """``Fum`` + ``rel`` + ``.``: the rest of a name follows from its beginning, so a later token may look anywhere, a little."""
    looks = [{"source": 0.9, "other": 0.05}, {"other": 0.5, "source": 0.1}, {"other": 0.1}]
    assert cited("Fumrel.", looks, [3, 6, 7]) == [("Fumrel.", ["source"])]
    assert cited("Fumrel.", [{"source": 0.4}, {"other": 0.8}, {}], [3, 6, 7]) == [("Fumrel.", ["other"])]
    # A token over a border counts for both words; one that shows nothing, for none.
    assert cited("Ada Fumrel", [{"source": 0.9}, {"other": 0.8}, {"other": 0.4}], [1, 5, 10]) == [("Ada", ["source"]), ("Fumrel", ["other"])]
    assert cited("Ada", [{"other": 0.99}, {"source": 0.5}], [0, 3]) == [("Ada", ["source"])]
    assert cited("Ada", [{"source": 0.5}, {"other": 0.99}, {}], [2, 2, 3]) == [("Ada", ["source"])]


def test_a_second_segment_is_named_that_was_looked_at_half_as_much() -> None:
    assert cited("Ada", [{"source": 0.6, "other": 0.31}]) == [("Ada", ["source", "other"])]
    assert cited("Ada", [{"source": 0.6, "other": 0.29}]) == [("Ada", ["source"])]


def test_a_source_that_holds_the_words_goes_before_the_target_that_was_looked_at() -> None:
    assert citations_of("Ada Fumrel", [3, 10], [{"target": 0.9}, {"target": 0.9}], GRAPH)[0].segments == (("source", 0.9), ("target", 0.9))
    assert cited("Zerrentik.", [{"target": 0.9}]) == [("Zerrentik.", ["root", "target"])], "behind its source"
    assert cited("zerrentik", [{"source": 0.9}]) == [("zerrentik", ["root", "source"])]
    assert cited("Night Maple", [{"target": 0.9}, {"target": 0.9}]) == [("Night Maple", ["target"])], "it holds them itself"
    assert cited("Kuxmul", [{"target": 0.9}]) == [("Kuxmul", ["target"])], "they stand nowhere"
    assert cited("Nothing", [{"source": 0.9}]) == [("Nothing", ["source"])], "they stand in another, which it did not read"
    assert cited("Ada", [{"target": 0.9, "source": 0.5}]) == [("Ada", ["source", "target"])]


def test_circles_and_tokens_without_text() -> None:
    circle = SegmentGraph.from_documents([{"id": "a", "text": "One.", "sources": ["b"]}, {"id": "b", "text": "Two.", "sources": ["a"]}])
    assert cited("Two", [{"a": 0.9}], graph=circle) == [("Two", ["b", "a"])]
    assert cited("Three", [{"a": 0.9}], graph=circle) == [("Three", ["a"])]
    assert cited("Word", [{"t": 0.9}], graph=SegmentGraph.from_segments([Segment.from_tokens("t", [1, 2])])) == [("Word", ["t"])]


@pytest.mark.parametrize(("text", "says"), [("of the", False), ("in", False), ("...", False), ("in 2011", True), ("of Ada", True), ("with", True), ("北京", True), ("3", True)])
def test_short_words_alone_say_nothing(text: str, says: bool) -> None:
    assert bool(cited(text, [{"source": 0.9}] * len(text.split()))) == says


def test_a_stop_string_and_what_follows_it_are_no_words() -> None:
    """`reach` ends with the text: tokens behind it have looked at nothing that is shown."""
    assert cited("Ada", [{"source": 0.9}, {"other": 0.99}], [3, 3]) == [("Ada", ["source"])]


@pytest.mark.parametrize("stops", [(), (" in",)])
def test_how_far_the_text_reaches_after_each_token(stops: tuple[str, ...]) -> None:
    """White space in front is left out, as in the answer; with a stop string nothing behind it is counted."""
    engine = GraphKV.from_pretrained()
    tokens, text = engine.reader.ids(" Ada Fumrel in 2011."), TextStream(engine.model, stops)
    for token in tokens:
        text.push(token)
    whole = [engine.model.tokenizer.decode(list(tokens[: n + 1])).lstrip() for n in range(len(tokens))]
    assert whole[-1] == "Ada Fumrel in 2011." and text.reach == [len(part if not stops else part.partition(" in")[0]) for part in whole]


def test_shares_of_blocks_are_summed_by_segment() -> None:
    assert by_segment({0: 0.25, 1: 0.5, 2: 0.25}, ["a", "b", "a"]) == {"a": 0.5, "b": 0.5}
    assert list(by_segment({0: 0.1, 1: 0.2, 2: 0.3}, ["a", "b", "c"])) == ["c", "b", "a"] and by_segment({}, []) == {}


def test_a_long_answer_is_cited_in_linear_time() -> None:
    """Four times the words take about four times as long; by pairs of words and tokens it would be sixteen times."""
    graph = SegmentGraph.from_documents([{"id": f"p{i}", "text": f"Nothing of it {i}. " * 20, "sources": [f"p{i - 1}"] if i else []} for i in range(40)])

    def seconds(words: int) -> float:
        text = " ".join(f"Word{i}" for i in range(words))
        reach = [place for place, letter in enumerate(text) if letter == " "] + [len(text)]
        looks = [{f"p{i % 40}": 0.9} for i in range(words)]
        begin = time.process_time()
        assert len(citations_of(text, reach, looks, graph)) == words
        return time.process_time() - begin

    seconds(100)
    assert min(seconds(4000) for _ in range(3)) < 9 * min(seconds(1000) for _ in range(3)) + 0.05


def test_the_heads_that_are_watched() -> None:
    engine = GraphKV.from_pretrained()
    saved = saved_heads(engine.model)
    assert saved is not None and sorted(saved.heads) == [(layer, head) for layer, heads in watched_heads(engine).items() for head in sorted(heads)]
    assert watched_heads(tiny_engine()) == {1: (0, 1, 2, 3)}
    assert watched_heads(tiny_engine(num_hidden_layers=5)) == dict.fromkeys((2, 3, 4), (0, 1, 2, 3))


def test_on_the_demo_the_paper_that_the_answer_stands_in_is_named() -> None:
    engine = GraphKV.from_pretrained()
    graph, questions = read_demo()
    with Scheduler(engine) as scheduler:
        for row in questions:
            answer = scheduler.ask(question(engine, graph, row["question"]))
            if row["needs"].startswith("nothing"):
                assert answer.citations == ()
                continue
            (citation,) = answer.citations
            segment = graph[citation.segments[0][0]]
            assert citation.text == row["answer"] and row["answer"] in f"{segment.title} {segment.text}"
            assert all(0.3 <= share <= 1 for _, share in citation.segments)


def test_the_first_cited_segment_of_a_right_answer_is_the_gold_one() -> None:
    """Measured on 347 right answers about 60 other worlds: 335, that is 96.5% (95% interval 94.1 to 98.0). Eleven of the rest are comparisons: their answer is a title that
    the question names, so no document is cited. Here fewer, and a floor."""
    engine = GraphKV.from_pretrained()
    right = named = 0
    with Scheduler(engine) as scheduler:
        for row in rows(7, 4, 6, True, 9):
            graph = SegmentGraph.from_documents(row["documents"])
            asked = [one for one in row["questions"] if one["gold"] is not None]
            tickets = [scheduler.submit(question(engine, graph, one["question"])) for one in asked]
            for one, ticket in zip(asked, tickets, strict=True):
                answer = ticket.future.result(SECONDS)
                if answer.text.rstrip(".") == one["answer"]:
                    right += 1
                    named += bool(answer.citations) and answer.citations[0].segments[0][0] == one["gold"]
    assert right >= 20 and named >= 0.85 * right
