"""Documents, segments and graphs: what is accepted, which edges there are, and how long documents are cut."""

from __future__ import annotations

import json
import re
from pathlib import Path

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv import Document, DocumentError, GraphError, Segment, SegmentGraph
from graphkv.segments import split_segment, split_sentences


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_documents_become_segments_and_sources_become_edges() -> None:
    graph = SegmentGraph.from_documents(
        [
            {"id": "survey", "title": "Survey", "text": "We build on earlier work.", "sources": ["first", "second"], "score": 2, "year": 1999},
            Document("first", "The first paper."),
            {"id": 7, "text": "A number as id.", "cites": ["survey", "survey"]},
            {"id": "second", "text": "The second.", "title": "", "sources": None},
        ]
    )
    assert graph.ids == ("survey", "first", "7", "second")
    assert set(graph.edges) == {("first", "survey"), ("second", "survey"), ("survey", "7")}
    assert graph.sources("survey") == ("first", "second")
    assert graph.targets("survey") == ("7",)
    assert graph.sources("first") == ()
    assert graph["survey"] == Segment("survey", text="We build on earlier work.", title="Survey", score=2.0)
    assert graph["second"].title is None
    assert len(graph) == 4 and "first" in graph and "third" not in graph
    assert repr(graph) == "SegmentGraph(4 segments, 3 edges)"


def test_a_document_keeps_what_it_is_given() -> None:
    document = Document.from_dict({"id": "a", "text": "x", "cites": ["b", 3, "b"], "score": 1, "venue": "ACL"})
    assert document.sources == ("b", "3")
    assert document.score == 1.0
    assert document.metadata == {"venue": "ACL"}
    assert document == Document("a", "x", sources=("b", "3"), score=1.0)


@pytest.mark.parametrize("ids", [[5, 6, 7], (5, 6, 7), torch.tensor([5, 6, 7])])
def test_segments_of_token_ids(ids: object) -> None:
    segment = Segment.from_tokens("a", ids)  # type: ignore[arg-type]
    assert segment.tokens == (5, 6, 7) and segment.text is None


@pytest.mark.parametrize("ids", [[-1], [1.5], [True], ["1"], torch.tensor([[1, 2]])])
def test_token_ids_that_are_none(ids: object) -> None:
    with pytest.raises(DocumentError, match="'a': token ids must be non-negative integers"):
        Segment.from_tokens("a", ids)  # type: ignore[arg-type]


def test_a_segment_is_text_or_tokens() -> None:
    with pytest.raises(DocumentError, match="'a': give either text or tokens"):
        Segment("a")
    with pytest.raises(DocumentError, match="'a': give either text or tokens"):
        Segment("a", text="x", tokens=(1,))
    with pytest.raises(DocumentError, match="id must be a non-empty string, got 3"):
        Segment(3, text="x")  # type: ignore[arg-type]


def test_networkx_edges_say_that_v_reads_u() -> None:
    source = nx.DiGraph()
    source.add_node(1, text="One", title="First", score=0.5)
    source.add_node("b", text="Two")
    source.add_edge(1, "b")
    graph = SegmentGraph.from_networkx(source)
    assert graph.ids == ("1", "b") and graph.edges == (("1", "b"),)
    assert graph["1"] == Segment("1", text="One", title="First", score=0.5)
    back = graph.networkx
    assert dict(back.nodes["1"]) == {"text": "One", "title": "First", "score": 0.5} and set(back.edges) == {("1", "b")}
    back.add_edge("b", "1")
    assert graph.edges == (("1", "b"),)


def test_undirected_networkx_is_read_both_ways() -> None:
    source = nx.Graph([("a", "b")])
    nx.set_node_attributes(source, "x", "text")
    assert set(SegmentGraph.from_networkx(source).edges) == {("a", "b"), ("b", "a")}


def test_networkx_nodes_that_cannot_be_read() -> None:
    source = nx.DiGraph()
    source.add_node("a", txt="typing error")
    with pytest.raises(DocumentError, match=r"node 'a' has no 'text' attribute.*got \['txt'\]"):
        SegmentGraph.from_networkx(source)
    twice = nx.DiGraph()
    twice.add_nodes_from([1, "1"], text="x")
    with pytest.raises(GraphError, match="same id as text: 1; rename"):
        SegmentGraph.from_networkx(twice)


def test_jsonl_with_empty_lines_and_line_separators_in_strings(tmp_path: Path) -> None:
    path = write(tmp_path / "docs.jsonl", '{"id": "a", "text": "one \u2028 line", "sources": ["b"]}', "", '{"id": "b", "text": "two"}\r', "  ")
    graph = SegmentGraph.from_jsonl(path, max_segment_tokens=9)
    assert graph["a"].text == "one \u2028 line" and graph.edges == (("b", "a"),) and graph.max_segment_tokens == 9
    assert SegmentGraph.from_jsonl(str(path)).ids == ("a", "b")


def test_jsonl_keeps_any_text(tmp_path: Path) -> None:
    text = "naïve café 漢字 \U0001f600 \t \\n {title} \x85"
    path = write(tmp_path / "docs.jsonl", json.dumps({"id": "ü", "text": text}), json.dumps({"id": "b", "text": text}, ensure_ascii=False))
    graph = SegmentGraph.from_jsonl(path)
    assert [s.text for s in graph.segments] == [text, text]


def test_topological_order_keeps_the_graphs_order_among_equals() -> None:
    segments = [Segment.from_text(id, "x") for id in "dcba"]
    graph = SegmentGraph.from_segments(segments, [("a", "d"), ("b", "c")])
    assert graph.topological() == ("b", "c", "a", "d")
    with pytest.raises(GraphError, match=r"cycle \(.*a → b.*\)|cycle \(.*b → a.*\)"):
        SegmentGraph.from_segments(segments, [("a", "b"), ("b", "a")]).topological()


def test_other_edges_and_another_order() -> None:
    graph = SegmentGraph.from_segments([Segment.from_text(id, "x") for id in "abc"], [("a", "b")])
    assert graph.with_edges([("c", "a")]).edges == (("c", "a"),) and graph.edges == (("a", "b"),)
    turned = graph.reordered("cab")
    assert turned.ids == ("c", "a", "b") and turned.edges == (("a", "b"),)
    for wrong in ("ab", "abcc", "abx"):
        with pytest.raises(GraphError, match="every id exactly once"):
            graph.reordered(wrong)
    with pytest.raises(GraphError, match="no segment 'z'"):
        graph["z"]


# Cutting long documents. Tokens are counted as letters, title included.


def letters(title: str | None, text: str) -> int:
    return len(title or "") + len(text)


def squeezed(text: str) -> str:
    """Without white space, which may be lost at the cuts."""
    return "".join(text.split())


TEXT = "It costs $3.14 today. Buy it! Dr. Smith said no. Why? Nobody knows."


def test_sentences_keep_numbers_and_titles_whole() -> None:
    assert split_sentences(TEXT) == ["It costs $3.14 today. ", "Buy it! ", "Dr. Smith said no. ", "Why? ", "Nobody knows."]
    assert split_sentences("  no end") == ["  no end"]
    assert split_sentences("A first.\n\nB second.") == ["A first.\n\n", "B second."]


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text(alphabet="ab .!?\n\t\u00a0", max_size=200))
def test_sentences_put_together_are_the_text(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join(sentences) == text and all(sentences)


def test_parts_end_at_sentences() -> None:
    parts = split_segment(Segment.from_text("d", TEXT, title="T", score=0.5), letters, 32)
    assert [p.id for p in parts] == ["d#1", "d#2", "d#3"]
    assert [p.text for p in parts] == ["It costs $3.14 today. Buy it!", "Dr. Smith said no. Why?", "Nobody knows."]
    assert {(p.title, p.score, p.document) for p in parts} == {("T", 0.5, "d")}


def test_a_sentence_that_is_too_long_is_cut_between_words_and_a_word_anywhere() -> None:
    assert [p.text for p in split_segment(Segment.from_text("d", "one two three four"), letters, 9)] == ["one two", "three", "four"]
    assert [p.text for p in split_segment(Segment.from_text("d", "abcdefgh"), letters, 3)] == ["abc", "def", "gh"]


def test_what_fits_or_is_made_of_tokens_stays_whole() -> None:
    whole = Segment.from_text("d", TEXT)
    assert split_segment(whole, letters, len(TEXT)) == [whole]
    tokens = Segment.from_tokens("d", range(50))
    assert split_segment(tokens, letters, 3) == [tokens]


def test_a_title_that_leaves_no_room() -> None:
    with pytest.raises(DocumentError, match="'d': nothing fits into max_segment_tokens=4 beside the title"):
        split_segment(Segment.from_text("d", "some text", title="long title"), letters, 4)


def test_edges_of_split_documents() -> None:
    """Each part reads the one before it; every part of a reader reads every part of what it read."""
    two = "Aaaa aaa. Bbbb bbb."
    segments = [Segment.from_text("a", two), Segment.from_text("b", "Short."), Segment.from_text("c", two), Segment.from_text("l", two)]
    graph = SegmentGraph.from_segments(segments, [("a", "c"), ("b", "a"), ("l", "l")]).split(letters, 10)
    assert graph.ids == ("a#1", "a#2", "b", "c#1", "c#2", "l#1", "l#2")
    assert set(graph.edges) == {
        *[("a#1", "a#2"), ("c#1", "c#2"), ("l#1", "l#2")],
        *[("a#1", "c#1"), ("a#1", "c#2"), ("a#2", "c#1"), ("a#2", "c#2")],
        *[("b", "a#1"), ("b", "a#2")],
        *[("l#1", "l#1"), ("l#2", "l#2")],
    }


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abc  .?!\n", min_size=1, max_size=120).filter(str.strip), st.integers(5, 40), st.sampled_from([None, "T", "Tit"]))
def test_parts_give_the_text_back_and_keep_the_limit(text: str, limit: int, title: str | None) -> None:
    parts = split_segment(Segment.from_text("d", text, title=title), letters, limit)
    assert squeezed("".join(p.text or "" for p in parts)) == squeezed(text)
    assert all(letters(p.title, p.text or "") <= limit for p in parts)


@pytest.mark.parametrize("text", [" " * 30 + "first words", "first" + " " * 30 + "words", "first words." + " " * 60])
def test_white_space_longer_than_the_limit(text: str) -> None:
    parts = split_segment(Segment.from_text("d", text), letters, 12)
    assert squeezed("".join(p.text or "" for p in parts)) == squeezed(text)
    assert all(len(p.text or "") <= 12 for p in parts)


def test_cutting_looks_at_each_letter_a_few_times_only() -> None:
    seen = 0

    def counting(title: str | None, text: str) -> int:
        nonlocal seen
        seen += len(text)
        return len(text)

    text = "word " * 20_000  # no sentence ends: cut between words
    assert len(split_segment(Segment.from_text("d", text), counting, 500)) >= 200
    assert seen < 60 * len(text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet="ab.! ", min_size=1, max_size=60).filter(str.strip), min_size=1, max_size=4), st.data())
def test_splitting_a_graph_keeps_who_reads_whom(texts: list[str], data: st.DataObject) -> None:
    texts = [re.sub(r" {6,}", " ", text) for text in texts]
    ids = [f"d{i}" for i in range(len(texts))]
    edges = data.draw(st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(ids)), max_size=5))
    graph = SegmentGraph.from_segments([Segment.from_text(id, t) for id, t in zip(ids, texts, strict=True)], edges)
    parted = graph.split(letters, 12)
    owner = {s.id: s.document or s.id for s in parted.segments}
    between = {(owner[u], owner[v]) for u, v in parted.edges if owner[u] != owner[v]}
    assert between == {(u, v) for u, v in edges if u != v}
    for id in ids:
        assert squeezed("".join(s.text or "" for s in parted.segments if owner[s.id] == id)) == squeezed(graph[id].text or "")


def test_a_line_without_end_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n{"id": "b", "text": "' + "x" * 4000 + '"}\n')
    assert len(SegmentGraph.from_jsonl(path)) == 2
    monkeypatch.setattr("graphkv.graph.LONGEST_LINE", 1000)
    with pytest.raises(DocumentError, match=r"long.jsonl, line 2: longer than 1,000 characters"):
        SegmentGraph.from_jsonl(path)
