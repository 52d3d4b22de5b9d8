"""LlamaIndex: nodes become a graph, the model reads it, and a query engine made of its own parts gives the demo's answers."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import Document, NodeWithScore, QueryBundle, TextNode

from graphkv import DocumentError, GraphError, InputError, Scheduler
from graphkv.adapters.llama_index import GraphKVLLM, GraphKVPostprocessor, GraphKVSynthesizer, node_graph


class First(BaseRetriever):
    """Finds the node whose title stands in the question."""

    def __init__(self, nodes: list[TextNode]) -> None:
        super().__init__()
        self.nodes = nodes

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [NodeWithScore(node=node, score=1.0) for node in self.nodes if node.metadata["title"] in query_bundle.query_str]


@pytest.fixture
def nodes(papers: list[dict[str, Any]]) -> list[TextNode]:
    return [TextNode(id_=p["id"], text=p["text"], metadata={"title": p["title"], "cites": p["sources"]}) for p in papers]


@pytest.fixture
def llm(scheduler: Scheduler) -> GraphKVLLM:
    return GraphKVLLM(scheduler=scheduler, settings={"max_new_tokens": 16})


def scored(nodes: list[TextNode]) -> list[NodeWithScore]:
    return [NodeWithScore(node=node) for node in nodes]


def test_nodes_as_a_graph() -> None:
    """Edges from metadata, and from what a node parser knows: the node before, the document that it is a part of."""
    a, b = TextNode(id_="a", text="New.", metadata={"cites": ["b", "nowhere"], "title": "A"}), TextNode(id_="b", text="Old.")
    graph = node_graph([NodeWithScore(node=a, score=0.5), NodeWithScore(node=b)])
    assert graph.edges == (("b", "a"),) and graph.edges[0].kind == "cites"
    assert (graph["a"].title, graph["a"].text, graph["a"].score, graph["b"].score) == ("A", "New.", 0.5, None)
    assert node_graph(scored([a, b]), edges=[("see", "$id")]).edges == ()

    whole = Document(text="One two three. Four five six. Seven eight nine.", id_="whole")
    parts = SentenceSplitter(chunk_size=6, chunk_overlap=0, include_metadata=False).get_nodes_from_documents([whole])
    assert len(parts) > 1
    found = node_graph(scored([whole, *parts]))
    assert {(u, v, found.edge(u, v).kind) for u, v in found.edges} == {
        *((whole.node_id, part.node_id, "section_of") for part in parts),
        *((one.node_id, next.node_id, "next") for one, next in itertools.pairwise(parts)),
    }
    assert {edge.kind for edge in node_graph(scored(parts[1:])).edges} == {"next"}  # what is not among the nodes makes no edge
    with pytest.raises(DocumentError, match="'empty' has no text"):
        node_graph(scored([TextNode(id_="empty", text=" ")]))


def test_the_postprocessor_follows_edges(nodes: list[TextNode], scheduler: Scheduler) -> None:
    oak = [NodeWithScore(node=nodes[1], score=0.7)]  # paper2 reads paper3
    one = GraphKVPostprocessor(nodes=nodes, options={"how": "hops"}).postprocess_nodes(oak)
    assert [(n.node_id, n.node is nodes[i]) for n, i in zip(one, (1, 2), strict=True)] == [("paper2", True), ("paper3", True)]
    assert one[0].score == 0.7 > one[1].score
    count = scheduler.engine.reader.count
    room = count(node_graph(scored(nodes))["paper2"])
    tight = GraphKVPostprocessor(nodes=nodes, options={"max_tokens": room, "count": count})
    assert [n.node_id for n in tight.postprocess_nodes(oak)] == ["paper2"]
    assert [n.node_id for n in asyncio.run(tight.apostprocess_nodes(oak))] == ["paper2"]
    assert tight.postprocess_nodes([]) == []
    with pytest.raises(GraphError, match="elsewhere"):
        tight.postprocess_nodes([NodeWithScore(node=TextNode(id_="elsewhere", text="x"))])
    with pytest.raises(InputError, match="unknown way to expand 'walk'"):
        GraphKVPostprocessor(nodes=nodes, options={"how": "walk"}).postprocess_nodes(oak)


def test_a_query_engine_answers_along_the_edges(llm: GraphKVLLM, nodes: list[TextNode], asked: list[tuple[str, str]]) -> None:
    """The retriever finds the paper that is named; the answer stands in one that it leads to."""
    engine = RetrieverQueryEngine(First(nodes), GraphKVSynthesizer(llm), [GraphKVPostprocessor(nodes=nodes)])
    for question, expected in asked[:4]:
        response = engine.query(question)
        assert str(response) == expected
        about = response.metadata["graphkv"]
        cited = [id for citation in about["citations"] for id, _ in citation["segments"]]
        assert cited and set(cited) <= {n.node_id for n in response.source_nodes}
    again = engine.query(asked[0][0])
    assert again.metadata["graphkv"]["usage"]["cached_tokens"] > 0 and again.metadata["paper6"]["title"] == "Delta Thunder"
    assert str(asyncio.run(engine.aquery(asked[2][0]))) == asked[2][1]
    assert str(engine.query("Of no paper at all?")) == "Empty Response"


def test_a_streaming_query_engine(llm: GraphKVLLM, nodes: list[TextNode], asked: list[tuple[str, str]]) -> None:
    question, expected = asked[2]
    engine = RetrieverQueryEngine(First(nodes), GraphKVSynthesizer(llm, streaming=True), [GraphKVPostprocessor(nodes=nodes)])
    response = engine.query(question)
    assert response.metadata["graphkv"] == {}
    pieces = list(response.response_gen)
    assert "".join(pieces) == expected and len(pieces) > 2
    assert response.metadata["graphkv"]["usage"]["completion_tokens"] > 2


def test_the_model_alone(llm: GraphKVLLM, nodes: list[TextNode], asked: list[tuple[str, str]]) -> None:
    """complete, stream_complete, chat, stream_chat and their asynchronous twins say the same; a handler counts the model's own tokens."""
    counter = TokenCountingHandler(tokenizer=str.split)
    llm.callback_manager = CallbackManager([counter])
    documents, (question, expected) = node_graph(scored(nodes)), asked[2]
    first = llm.complete(question, documents=documents)
    assert first.text == expected and first.raw["usage"]["cached_tokens"] == 0
    assert counter.prompt_llm_token_count == first.raw["usage"]["prompt_tokens"]
    pieces = list(llm.stream_complete(question, documents=documents))
    assert "".join(piece.delta for piece in pieces) == pieces[-1].text == expected
    assert pieces[-1].raw["usage"]["cached_tokens"] > 400 and pieces[0].raw is None
    said = [ChatMessage(question)]
    assert llm.chat(said, documents=documents).message.content == expected
    assert list(llm.stream_chat(said, documents=documents))[-1].message.content == expected
    assert asyncio.run(llm.achat(said, documents=documents)).message.content == expected
    assert asyncio.run(llm.acomplete(question, documents=documents)).text == expected
    assert (llm.metadata.context_window, llm.metadata.num_output, llm.metadata.model_name) == (llm.scheduler.engine.model.window, 16, "embedded")
    assert "scheduler" not in llm.to_dict()


def test_the_event_loop_goes_on(llm: GraphKVLLM, nodes: list[TextNode], asked: list[tuple[str, str]]) -> None:
    documents = node_graph(scored(nodes))

    async def together() -> tuple[bool, list[str]]:
        tasks = [asyncio.create_task(llm.acomplete(question, documents=documents)) for question, _ in asked]
        await asyncio.sleep(0.001)
        free = not any(task.done() for task in tasks)
        return free, [response.text for response in await asyncio.gather(*tasks)]

    assert asyncio.run(together()) == (True, [answer for _, answer in asked])


def test_settings_and_conversations(llm: GraphKVLLM, nodes: list[TextNode]) -> None:
    documents, question = node_graph(scored(nodes)), "Who is the author of the paper extended by Violet Oak?"
    assert llm.complete(question, documents=documents, max_new_tokens=1).raw["usage"]["completion_tokens"] == 1
    assert llm.complete(question, documents=documents, stop="Sintil").text == "Jane"
    assert llm.complete("Hello!").raw["usage"]["prompt_tokens"] < 50  # without documents it just talks
    conversation = [ChatMessage(question), ChatMessage("Jane Sintil", role="assistant"), ChatMessage("Which lab does Delta Thunder come from?")]
    longer = llm.chat(conversation, documents=documents).raw["usage"]
    assert longer["prompt_tokens"] > llm.complete(question, documents=documents).raw["usage"]["prompt_tokens"] + 10
    for wrong, said in (({"max_tokens": 3}, "unknown setting 'max_tokens'"), ({"temperature": -1.0}, "temperature")):
        with pytest.raises(InputError, match=said):
            llm.complete(question, documents=documents, **wrong)
        with pytest.raises(InputError, match=said):
            llm.stream_complete(question, documents=documents, **wrong)  # at the call, not at the first piece
    with pytest.raises(InputError, match="role"):
        llm.chat([ChatMessage("x", role="tool")])
