"""Documents of a request: every form that clients send, edges, the library's, and what is refused, with the place of the mistake."""

from __future__ import annotations

from typing import Any

import pytest

from graphkv import Document, SegmentGraph
from graphkv.serve.citations import cohere_citations
from graphkv.serve.document_forms import read_given
from graphkv.serve.documents import Shelf, document_of, read_graph, with_sources
from graphkv.serve.errors import ApiError
from graphkv.serve.layout_choice import Choice, check_reads, read_choice
from graphkv.serve.library import Library, Stored
from graphkv.serve.messages import read_messages
from graphkv.serve.refusals import REFUSED, refuse_unsupported
from graphkv.serve.schema import ChatMessage, GraphField
from graphkv.serve.settings import Settings
from graphkv.strategy import Answer, Citation


@pytest.fixture
def shelf() -> Shelf:
    library = Library(None)
    library.put("mine", [Stored("kept", "A kept text.", "Kept", sources=("first",)), Stored("first", "The first text.")])
    library.put("another's", [Stored("secret", "A secret.")])
    return Shelf(library, "mine", Settings(max_documents=5, max_edges=6, max_document_chars=1000))


def graph_of(shelf: Shelf, given: list[Any], **graph: Any) -> SegmentGraph:
    read = read_graph(given, (), GraphField(**graph), shelf)
    assert read is not None
    return read


FORMS = {
    "text": ("It rains.", None, None, "It rains."),
    "vllm": ({"title": "Weather", "text": "It rains."}, None, "Weather", "It rains."),
    "vllm, with an id": ({"id": 7, "text": "It rains.", "url": "x"}, "7", None, "It rains."),
    "granite": ({"doc_id": 1, "title": "", "text": "It rains."}, "1", None, "It rains."),
    "cohere, text": ({"id": "a", "data": "It rains."}, "a", None, "It rains."),
    "cohere, fields": ({"data": {"title": "Weather", "snippet": "It rains."}}, None, "Weather", "It rains."),
    "cohere, more fields": (
        {"id": "a", "data": {"author": "Ada", "title": "Weather", "text": "It rains.", "year": 1999, "_note": "no", "secret": "no", "_excludes": ["secret"]}},
        "a",
        "Weather",
        "author: Ada\nyear: 1999\nIt rains.",
    ),
    "cohere, no text": ({"data": {"author": "Ada", "none": None}}, None, None, "author: Ada"),
    "anthropic, text": (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "It rains."}, "title": "Weather"},
        None,
        "Weather",
        "It rains.",
    ),
    "anthropic, context": ({"type": "document", "source": {"type": "text", "data": "It rains."}, "context": "From a diary."}, None, None, "From a diary.\nIt rains."),
    "anthropic, content": (
        {
            "type": "document",
            "source": {"type": "content", "content": [{"type": "text", "text": "It rains."}, {"type": "text", "text": "It pours."}]},
            "citations": {"enabled": True},
        },
        None,
        None,
        "It rains.\nIt pours.",
    ),
    "anthropic, content as text": ({"type": "document", "source": {"type": "content", "content": "It rains."}}, None, None, "It rains."),
    "stored": ({"id": "a"}, "a", None, None),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_known_by_its_shape(form: str) -> None:
    value, id, title, text = FORMS[form]
    given = read_given(value, "documents[0]")
    assert (given.id, given.title, given.text) == (id, title, text)
    assert given.stored == (form == "stored")


WRONG = {
    "a number": (5, "documents[3]", "got a number"),
    "nothing": (None, "documents[3]", "got null"),
    "an empty object": ({}, "documents[3]", "an empty object"),
    "other keys": ({"body": "x"}, "documents[3]", "'body'"),
    "empty text": ({"text": " \n"}, "documents[3].text", "the text is empty"),
    "text that is none": ({"text": ["x"]}, "documents[3].text", "got a list"),
    "a bare empty text": ("", "documents[3]", "the text is empty"),
    "title": ({"text": "x", "title": 5}, "documents[3].title", "expected text"),
    "id that is true": ({"id": True, "text": "x"}, "documents[3].id", "must be a string"),
    "id that is empty": ({"id": "", "text": "x"}, "documents[3].id", "1 to 512 characters"),
    "id that is long": ({"id": "x" * 513, "text": "x"}, "documents[3].id", "1 to 512 characters"),
    "id with a control character": ({"id": "a\0b", "text": "x"}, "documents[3].id", "control characters"),
    "id with a line break": ({"id": "a\nb", "text": "x"}, "documents[3].id", "control characters"),
    "id with half a character": ({"id": "a\ud800", "text": "x"}, "documents[3].id", "halves of characters"),
    "cohere, nothing": ({"data": None}, "documents[3].data", "got null"),
    "cohere, no fields": ({"data": {}}, "documents[3].data", "the text is empty"),
    "cohere, nested": ({"data": {"text": "x", "tags": ["a"]}}, "documents[3].data.tags", "got a list"),
    "cohere, text that is none": ({"data": {"snippet": 5}}, "documents[3].data.snippet", "got a number"),
    "anthropic, pdf": ({"source": {"type": "base64", "media_type": "application/pdf", "data": "x"}}, "documents[3].source.type", "only text is read"),
    "anthropic, html": ({"source": {"type": "text", "media_type": "text/html", "data": "x"}}, "documents[3].source.media_type", "text/plain"),
    "anthropic, image": ({"source": {"type": "content", "content": [{"type": "image"}]}}, "documents[3].source.content[0]", "only text is read"),
    "anthropic, no data": ({"source": {"type": "text"}}, "documents[3].source.data", "got null"),
    "anthropic, context": ({"source": {"type": "text", "data": "x"}, "context": 5}, "documents[3].context", "expected text"),
    "sources": ({"id": "a", "text": "x", "sources": "b"}, "documents[3]", "'sources' must be a list"),
    "score": ({"id": "a", "text": "x", "score": "high"}, "documents[3]", "'score' must be a finite number"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_has_no_form_is_refused_at_its_place(what: str) -> None:
    value, place, said = WRONG[what]
    with pytest.raises(ApiError) as caught:
        read_given(value, "documents[3]").document("a")
    assert caught.value.status == 400 and caught.value.param == place
    assert caught.value.message.startswith(f"{place}: ") and said in caught.value.message


def test_names_edges_and_order(shelf: Shelf) -> None:
    graph = graph_of(
        shelf,
        ["bare", {"id": "a", "text": "x", "sources": ["doc_0", {"id": "doc_0", "kind": "cites"}]}, {"data": {"text": "y", "cites": ["a"]}}],
        edges=[["a", "doc_2"], {"source": "doc_2", "target": "a", "kind": "links", "weight": 2}, ["a", "a"]],
    )
    assert graph.ids == ("doc_0", "a", "doc_2")
    assert set(graph.edges) == {("doc_0", "a"), ("a", "doc_2"), ("doc_2", "a"), ("a", "a")}  # a cycle and an edge to itself are graphs too
    assert graph.edge("doc_2", "a").kind == "links" and graph.edge("doc_2", "a").weight == 2.0


def test_documents_of_the_library(shelf: Shelf) -> None:
    graph = graph_of(shelf, [{"id": "kept"}, "bare"], documents=["first"])
    assert graph.ids == ("kept", "doc_1", "first")
    assert (graph["kept"].text, graph["kept"].title) == ("A kept text.", "Kept")
    assert graph.edges == (("first", "kept"),)
    assert graph_of(shelf, [{"id": "kept"}]).edges == ()  # what it cites is not part of this request


@pytest.mark.parametrize("ask", [{"documents": ["secret"]}, {"documents": ["nowhere"]}])
def test_a_document_that_is_not_there_and_one_of_another_scope_are_the_same(shelf: Shelf, ask: dict[str, Any]) -> None:
    name = ask["documents"][0]
    with pytest.raises(ApiError) as caught:
        read_graph([], (), GraphField(**ask), shelf)
    assert (caught.value.status, caught.value.param) == (404, "graph.documents[0]")
    assert caught.value.message == f"graph.documents[0]: there is no document '{name}' in the library"


REFUSED_GRAPHS: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "doubled id": ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], {}, "documents[1]: the id 'a' is that of documents[0] already"),
    "an id that a nameless one has": ([{"id": "doc_1", "text": "x"}, "y"], {}, "documents[1]: the id 'doc_1'"),
    "unknown source": ([{"id": "a", "text": "x", "sources": ["b"]}], {}, "unknown source id 'b'"),
    "unknown end": (["x"], {"edges": [["doc_0", "b"]]}, "graph.edges[0]: there is no document 'b' among the 1 of this request"),
    "not an edge": (["x"], {"edges": ["doc_0"]}, "graph.edges[0]: expected [source, target]"),
    "half an edge": (["x"], {"edges": [["doc_0"]]}, "graph.edges[0]: expected [source, target]"),
    "an edge of numbers": (["x"], {"edges": [[0, 1]]}, "graph.edges[0]: the source must be a document's id, got '0'"),
    "an edge with more": (["x"], {"edges": [{"source": "doc_0", "target": "doc_0", "colour": "red"}]}, "not 'colour'"),
    "an edge with a strange weight": (["x"], {"edges": [{"source": "doc_0", "target": "doc_0", "weight": "much"}]}, "'weight' must be a finite number"),
    "edges alone": ([], {"edges": [["a", "b"]]}, "there are edges, but no documents"),
    "too many documents": (["x"] * 6, {}, "6 documents: at most 5"),
    "too many edges": (["x"] * 2, {"edges": [["doc_0", "doc_1"]] * 7}, "7 edges: at most 6"),
    "too many characters": (["x" * 600] * 2, {}, "1,200 characters, at most 1,000"),
}


@pytest.mark.parametrize("what", REFUSED_GRAPHS)
def test_graphs_that_are_refused(shelf: Shelf, what: str) -> None:
    documents, graph, said = REFUSED_GRAPHS[what]
    with pytest.raises(ApiError) as caught:
        read_graph(documents, (), GraphField(**graph), shelf)
    assert caught.value.status == 400 and caught.value.param
    assert said in caught.value.message and "\n" not in caught.value.message


def test_stored_documents_count_before_they_are_read(shelf: Shelf) -> None:
    shelf.library.put("mine", [Stored("long", "x" * 2000)])
    with pytest.raises(ApiError, match="2,000 characters, at most 1,000"):
        read_graph([{"id": "long"}], (), None, shelf)


def test_with_sources(shelf: Shelf) -> None:
    graph = with_sources([Document("new", "text", sources=("kept", "nowhere")), Document("kept", "other text")], shelf)
    assert graph is not None and graph.ids == ("new", "kept") and graph.edges == (("kept", "new"),)
    graph = with_sources([Document("new", "text", sources=("kept",))], shelf)
    assert graph is not None and graph.ids == ("new", "kept") and graph["kept"].text == "A kept text."  # and what that one cites is not followed
    assert with_sources([Document("new", "text", sources=("secret",))], shelf) is None


def test_parts_belong_to_their_document() -> None:
    graph = SegmentGraph.from_documents([{"id": "a#1", "text": "x"}])
    assert document_of(graph, "a#1") == "a#1" and document_of(graph, "a#1#2") == "a#1"


def test_messages() -> None:
    document = {"type": "document", "source": {"type": "text", "data": "It rains."}, "title": "Weather"}
    said, documents = read_messages(
        [
            ChatMessage(role="developer", content="Be brief."),
            ChatMessage(role="user", content=[document, {"type": "text", "text": "Who"}, {"type": "text", "text": "is it?"}], name="x"),
        ],
        10,
    )
    assert said == [("system", "Be brief."), ("user", "Who\nis it?")]
    assert [(d.place, d.title, d.text) for d in documents] == [("messages[1].content[0]", "Weather", "It rains.")]


WRONG_MESSAGES: dict[str, tuple[ChatMessage, str, str]] = {
    "no content": (ChatMessage(role="user"), "messages[0].content", "expected text"),
    "empty": (ChatMessage(role="user", content=" "), "messages[0].content", "is empty"),
    "documents only": (ChatMessage(role="user", content=[{"type": "document", "source": {"type": "text", "data": "x"}}]), "messages[0].content", "is empty"),
    "an image": (ChatMessage(role="user", content=[{"type": "image_url", "image_url": {"url": "x"}}]), "messages[0].content[0]", "only text is read"),
    "a bare list": (ChatMessage(role="user", content=["x"]), "messages[0].content[0]", "only text is read"),
    "no text": (ChatMessage(role="user", content=[{"type": "text"}]), "messages[0].content[0].text", "got null"),
    "a tool's call": (ChatMessage(role="assistant", content=None, tool_calls=[{}]), "messages[0].tool_calls", "not supported"),
    "a document of the system": (ChatMessage(role="system", content=[{"type": "document"}]), "messages[0].content[0]", "in the user's messages"),
    "a strange document": (ChatMessage(role="user", content=[{"type": "document"}]), "messages[0].content[0]", "expected text"),
}


@pytest.mark.parametrize("what", WRONG_MESSAGES)
def test_messages_that_are_refused(what: str) -> None:
    message, place, said = WRONG_MESSAGES[what]
    with pytest.raises(ApiError) as caught:
        read_messages([message], 10)
    assert (caught.value.status, caught.value.param) == (400, place) and said in caught.value.message


def test_too_many_messages() -> None:
    with pytest.raises(ApiError, match="3 messages: at most 2"):
        read_messages([ChatMessage(role="user", content="x")] * 3, 2)


def test_layouts() -> None:
    assert read_choice(None, "block") == Choice("block")
    assert read_choice("graph", "block") == Choice("graph")
    assert read_choice({"name": "graph_hops", "tiers": [1, 2]}, "graph") == Choice("graph_hops", {"tiers": [1, 2]})
    for value, said in (
        (5, "expected a layout's name"),
        ({"rounds": 1}, "expected a layout's name"),
        ({"name": "graph", "rounds": 10**12}, "a number of at most"),
        ({"name": "ape", "scale": 10**400}, "a number of at most"),
        ({"name": "graph", "view": {}}, "graph.layout.view"),
        ({"name": "ape", "temperature": 1e-60}, "from 0.001 to 1000, got 1e-60"),
        ({"name": "ape", "scale": 1e60}, "a number of at most"),
        ({"name": "ape", "scale": 1001}, "graph.layout.scale: expected a number from"),
        ({"name": "graph_hops", "tiers": [[1]]}, "graph.layout.tiers"),
        ({"name": "graph", "ronds": 1}, "has no option 'ronds'; valid: positions, prefix_visible, rounds, view"),
    ):
        with pytest.raises(ApiError, match=r"graph\.layout") as caught:
            read_choice(value, "graph")
        assert said in caught.value.message
    with pytest.raises(ValueError, match="unknown layout 'grpah'"):
        read_choice("grpah", "graph")


def test_bombs_are_refused_before_they_are_laid_out() -> None:
    documents = [{"id": f"d{i}", "text": "x"} for i in range(100)]
    chain = SegmentGraph.from_documents([{**d, "sources": [f"d{i - 1}"] if i else []} for i, d in enumerate(documents)])
    for choice, reads in (
        (Choice("graph", {"rounds": 1000}), 99_000),
        (Choice("graph_full"), 9_900),
        (Choice("sequential"), 4_950),
        (Choice("graph_topk", {"m": 50}), 5_000),
        (Choice("graph_hops", {"tiers": [50]}), 2_500),
        (Choice("graph_sequential", {"m": 100}), 10_000),
    ):
        check_reads(choice, chain, reads)
        with pytest.raises(ApiError, match=f"{reads:,} times, at most {reads - 1:,}"):
            check_reads(choice, chain, reads - 1)
    check_reads(Choice("block"), chain, 1)


def test_the_parts_of_a_document_are_cited_as_one() -> None:
    """Each by the share of a word of its own: the largest is the document's."""
    graph = SegmentGraph.from_documents([{"id": "a", "text": "x"}, {"id": "b", "text": "y"}])
    answer = Answer("Ada", (), "stop", (), "graph", 0, 0, 0, {}, citations=(Citation(0, 3, "Ada", (("b", 0.8), ("a#1", 0.7), ("a#2", 0.6))),))
    [cited] = cohere_citations(answer, graph)
    assert [(source.id, source.score) for source in cited.sources] == [("b", 0.8), ("a", 0.7)]


SILENT: dict[str, Any] = {"chat_template_kwargs": {"thinking": True}, "allowed_token_ids": [1], "include_stop_str_in_output": True, "truncate_prompt_tokens": 5, "add_generation_prompt": False}
SILENT |= {"system": "Be brief.", "stop_sequences": ["x"], "p": 0.5, "k": 5, "document": [{"text": "x"}]}


def test_fields_that_would_change_the_answer() -> None:
    refuse_unsupported({"user": "a", "store": True, "metadata": {}, "service_tier": "auto", "parallel_tool_calls": True, "unheard_of": 1})
    refuse_unsupported({name: harmless[0] for name, (harmless, _) in REFUSED.items()})
    for name, value in (("n", 2), ("tools", [{"type": "function"}]), ("response_format", {"type": "json_object"}), ("logprobs", True), ("logit_bias", {"5": 1}), *SILENT.items()):
        with pytest.raises(ApiError) as caught:
            refuse_unsupported({name: value})
        assert caught.value.param == name and caught.value.code == "unsupported_parameter"
