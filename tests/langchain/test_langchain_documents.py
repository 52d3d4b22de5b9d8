"""Documents of every form become the same graph, and messages give them back."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.content import create_plaintext_block

from graphkv import Document, DocumentError, GraphError, InputError, Segment, SegmentGraph
from graphkv.graph import Edge
from graphkv.langchain import documents_message
from graphkv.langchain.documents import graph_of, langchain_documents
from graphkv.langchain.messages import read_messages

A, B = "Maples at night.", "A river."
FORMS: dict[str, list[Any]] = {
    "langchain": [LangChainDocument(id="a", page_content=A, metadata={"title": "T", "cites": ["b", "gone"]}), LangChainDocument(id="b", page_content=B)],
    "langchain, as dicts": [{"id": "a", "page_content": A, "metadata": {"title": "T", "cites": ["b"]}}, {"id": "b", "page_content": B}],
    "ours": [Document("a", A, title="T", sources=("b",)), Document("b", B)],
    "ours, as dicts": [{"id": "a", "text": A, "title": "T", "cites": ["b"]}, {"id": "b", "text": B}],
    "mixed": [Document("a", A, title="T", sources=("b",)), LangChainDocument(id="b", page_content=B)],
    "legacy links": [
        LangChainDocument(id="a", page_content=A, metadata={"title": "T", "links": [{"kind": "x", "direction": "out", "tag": "1"}]}),
        LangChainDocument(id="b", page_content=B, metadata={"links": [SimpleNamespace(kind="x", direction="in", tag="1")]}),
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_graph(form: str) -> None:
    graph = graph_of(FORMS[form])
    assert graph is not None
    assert [(s.id, s.title, s.text) for s in graph] == [("a", "T", A), ("b", None, B)]
    assert graph.edges == (("b", "a"),)


def test_a_graph_is_taken_as_it_is_and_edges_are_added() -> None:
    graph = SegmentGraph.from_documents([{"id": "a", "text": A}, {"id": "b", "text": B}])
    assert graph_of(graph) is graph
    more = graph_of(graph, graph_edges=[("a", "b")])
    assert more is not None and more.edges == (("a", "b"),)
    listed = graph_of([{"id": "a", "text": A}, {"id": "b", "text": B}], graph_edges=[Edge("a", "b", kind="next")])
    assert listed is not None and listed.edge("a", "b").kind == "next"


def test_names_scores_and_texts_alone() -> None:
    graph = graph_of(["One.", "Two.", LangChainDocument(page_content="Three.", metadata={"source": "f.txt", "relevance_score": 0.5})])
    assert graph is not None
    assert [s.score for s in graph] == [None, None, 0.5] and graph.ids[2] == "f.txt" and len(set(graph.ids)) == 3
    assert graph_of([]) is None


def test_other_edge_fields() -> None:
    documents = [LangChainDocument(id="1", page_content=A, metadata={"refs": {"doi": ["10/b"]}}), LangChainDocument(id="2", page_content=B, metadata={"doi": "10/b"})]
    graph = graph_of(documents, edges=[("refs.doi", "doi")])
    assert graph is not None and graph.edges == (("2", "1"),)


def test_the_same_document_twice_counts_once() -> None:
    """Of a conversation in which a document was retrieved at two turns."""
    first = LangChainDocument(id="a", page_content=A, metadata={"score": 1.0})
    graph = graph_of([first, {"id": "b", "text": B}, LangChainDocument(id="a", page_content=A, metadata={"score": 2.0})])
    assert graph is not None and graph.ids == ("a", "b") and graph["a"].score == 2.0
    told = graph_of([{"id": "a", "text": A, "sources": ["b"]}, {"id": "b", "text": B}, {"id": "c", "text": "C."}, {"id": "a", "text": A, "sources": ["c"]}])
    assert told is not None and told.sources("a") == ("b", "c"), "what either of them reads"
    places = [LangChainDocument(page_content=A, metadata={"source": place}) for place in ("x", "y", "x")]
    assert graph_of(places).ids == ("x", "y")  # type: ignore[union-attr]
    with pytest.raises(DocumentError, match="'a' is there already"):
        graph_of([first, LangChainDocument(id="a", page_content=B)])


@pytest.mark.parametrize(
    ("documents", "more", "error"),
    [
        ("one text", {}, "expected a list of documents"),
        ({"id": "a", "text": "t"}, {}, r"goes in as \[document\]"),
        ([3], {}, "document 0: expected a LangChain document"),
        ([{"id": "a"}], {}, "missing text"),
        ([LangChainDocument(page_content=" ")], {}, "empty"),
        ([{"id": "a", "text": "t", "sources": ["x"]}], {}, "unknown source id 'x'"),
        (["t"], {"edges": ["cites"]}, "edges must be pairs"),
        (["t"], {"graph_edges": [("a", "b")]}, "unknown source id"),
        ([], {"graph_edges": [("a", "b")]}, "no documents"),
        ([Segment.from_tokens("a", [1, 2])], {}, "token ids"),
    ],
)
def test_what_is_no_document_is_refused(documents: Any, more: dict[str, Any], error: str) -> None:
    with pytest.raises((InputError, GraphError), match=error):
        graph_of(documents, **more)


def test_there_and_back() -> None:
    """Segments as LangChain documents, in another order and without one, keep what is between those that are there."""
    graph = graph_of([*FORMS["ours"], {"id": "c", "text": "Night.", "sources": ["a", "b"], "score": 3, "year": 1999}])
    assert graph is not None
    made = langchain_documents(graph, ["c", "b"])
    assert [(d.id, d.metadata) for d in made] == [("c", {"score": 3, "year": 1999, "cites": ["b"]}), ("b", {})]
    again = graph_of(made)
    assert again is not None and again.edges == (("b", "c"),) and again["c"].score == 3


def test_a_message_carries_documents_and_their_edges() -> None:
    """Also those that no metadata tells of, with what is known of them."""
    message = documents_message("What?", FORMS["ours"], graph_edges=[Edge("a", "b", kind="next", weight=2.0)])
    copied = HumanMessage.model_validate_json(message.model_dump_json())
    held = read_messages([copied])
    graph = graph_of(held.documents)
    assert graph is not None and held.said == (("user", "What?"),)
    assert set(graph.edges) == {("b", "a"), ("a", "b")}
    assert (graph.edge("a", "b").kind, graph.edge("a", "b").weight, graph["a"].title) == ("next", 2.0, "T")


BLOCKS: dict[str, tuple[dict[str, Any], tuple[str | None, str | None, str]]] = {
    "text-plain": (dict(create_plaintext_block("Words.", title="T")), (None, "T", "Words.")),
    "text-plain with an id": ({"type": "text-plain", "id": "d1", "text": "Words."}, ("d1", None, "Words.")),
    "text-plain in base64": ({"type": "text-plain", "base64": base64.b64encode("Wörter.".encode()).decode()}, (None, None, "Wörter.")),
    "text-plain with context": ({"type": "text-plain", "text": "Words.", "context": "From 1999."}, (None, None, "From 1999.\n\nWords.")),
    "Anthropic, text": ({"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "Words."}}, (None, "T", "Words.")),
    "Anthropic, content": (
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]}},
        (None, None, "One.\n\nTwo."),
    ),
    "Anthropic, search result": (
        {"type": "search_result", "source": "https://x", "title": "T", "content": [{"type": "text", "text": "Words."}]},
        (None, "T", "Words."),
    ),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_of_documents(kind: str) -> None:
    block, (id, title, text) = BLOCKS[kind]
    held = read_messages([HumanMessage(content=[block, {"type": "text", "text": "What?"}])])
    (found,) = held.documents
    assert (found.id, found.metadata.get("title"), found.page_content, held.said) == (id, title, text, (("user", "What?"),))


def test_turns_are_put_in_order() -> None:
    """Messages of one role are one; documents alone, calls of tools and empty answers say nothing."""
    retrieved = [LangChainDocument(id="a", page_content=A)]
    held = read_messages(
        [
            SystemMessage("Be brief."),
            ChatMessage(role="system", content="Be kind."),
            HumanMessage([{"type": "text-plain", "text": "Doc."}]),
            HumanMessage("Hello"),
            AIMessage([{"type": "text", "text": "Hi", "annotations": []}, {"type": "reasoning", "reasoning": "hm"}]),
            HumanMessage("What?", name="someone"),
            AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "1", "type": "tool_call"}]),
            ToolMessage("Maples at night.", tool_call_id="1", artifact=retrieved),
        ]
    )
    assert held.said == (("system", "Be brief.\n\nBe kind."), ("user", "Hello"), ("assistant", "Hi"), ("user", "What?"))
    assert [document.page_content for document in held.documents] == ["Doc.", A]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (HumanMessage([{"type": "image", "url": "https://x/y.png"}]), "block 0: this model reads text"),
        (HumanMessage([{"type": "text-plain", "url": "https://x"}]), "is not fetched"),
        (HumanMessage([{"type": "text-plain", "base64": "%"}]), "UTF-8 under base64"),
        (HumanMessage([{"type": "document", "source": {"type": "url", "url": "https://x"}}]), "no PDF"),
        (HumanMessage([{"type": "search_result", "content": 3}]), "list of text blocks"),
        (SystemMessage([{"type": "text-plain", "text": "t"}]), "documents stand in a user's message"),
        (ToolMessage("It is sunny.", tool_call_id="1"), "calls no tools"),
        (ChatMessage(role="critic", content="Hm."), "unknown role 'critic'"),
    ],
)
def test_messages_that_cannot_be_read_are_refused(message: Any, error: str) -> None:
    with pytest.raises(InputError, match=error):
        read_messages([message])


def test_documents_of_a_message_need_a_question() -> None:
    with pytest.raises(InputError, match="a question must be some text"):
        documents_message(" ", ["Doc."])
