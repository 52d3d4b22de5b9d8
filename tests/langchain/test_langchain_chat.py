"""ChatGraphKV: documents by every way, answers whole and in pieces, usage, citations, and what is refused."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import byte_tokenizer, tiny_engine, tiny_model
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from pydantic import ValidationError

import graphkv.langchain as ours
from graphkv import GraphKV, InputError, MemoryStore, SegmentGraph
from graphkv.langchain import ChatGraphKV, documents_message
from graphkv.scheduler import Scheduler


@pytest.fixture
def chat(scheduler: Scheduler) -> ChatGraphKV:
    return ChatGraphKV(scheduler=scheduler)


def joined(chunks: list[Any]) -> BaseMessage:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert isinstance(whole, AIMessageChunk)
    return whole


def text_of(message: BaseMessage) -> str:
    return str(message.text)


def test_answers_are_the_engines_and_right(chat: ChatGraphKV, embedded: GraphKV, graph: SegmentGraph, papers: list[Document], questions: dict[str, str]) -> None:
    """1. LangChain documents, bound. 2. The engine itself, over the graph."""
    bound = chat.bind(documents=papers)
    for question, answer in questions.items():
        assert text_of(bound.invoke(question)) == embedded.ask(graph, question).text.strip() == answer


def test_every_way_of_giving_documents(chat: ChatGraphKV, graph: SegmentGraph, papers: list[Document], edge_question: tuple[str, str]) -> None:
    question, answer = edge_question
    plain = [{"id": p.id, "text": p.page_content, "title": p.metadata["title"]} for p in papers]
    ways: dict[str, BaseMessage] = {
        "an argument": chat.invoke(question, documents=papers),
        "a graph": chat.invoke(question, documents=graph),
        "rows and edges": chat.invoke(question, documents=plain, graph_edges=list(graph.edges)),
        "a message": chat.invoke([documents_message(question, papers)]),
        "a message and an argument": chat.invoke([documents_message(question, graph)], documents=papers[:3]),
        "a retriever tool's artifact": chat.invoke(
            [
                HumanMessage(question),
                AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "1", "type": "tool_call"}]),
                ToolMessage("8 papers", tool_call_id="1", artifact=papers),
            ]
        ),
    }
    assert {name: text_of(message) for name, message in ways.items()} == dict.fromkeys(ways, answer)
    assert text_of(chat.invoke(question, documents=papers, edges=[])) != answer, "without the edges nothing says which paper is meant"


def test_other_metadata_fields_and_layouts(scheduler: Scheduler, papers: list[Document], edge_question: tuple[str, str]) -> None:
    question, answer = edge_question
    renamed = [Document(id=p.id, page_content=p.page_content, metadata={"title": p.metadata["title"], "refs": p.metadata["cites"]}) for p in papers]
    chat = ChatGraphKV(scheduler=scheduler, edges=[("refs", "$id")])
    assert text_of(chat.invoke(question, documents=renamed)) == answer
    message = chat.invoke(question, documents=renamed, layout="graph_hops", layout_options={"tiers": (4, 4)})
    assert message.response_metadata["layout"] == "graph_hops"


def test_pieces_add_up_to_the_answer(chat: ChatGraphKV, papers: list[Document], edge_question: tuple[str, str]) -> None:
    class Heard(BaseCallbackHandler):
        def __init__(self) -> None:
            self.tokens: list[str] = []

        def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:
            self.tokens.append(str(chunk.message.text))

    heard = Heard()
    bound = chat.bind(documents=papers)
    whole = bound.invoke(edge_question[0])
    chunks = list(bound.stream(edge_question[0], config={"callbacks": [heard]}))
    pieces = [text_of(chunk) for chunk in chunks]
    assert len([piece for piece in pieces if piece]) > 1 and heard.tokens == pieces
    message = joined(chunks)
    assert text_of(message) == text_of(whole) == edge_question[1]
    assert message.usage_metadata == whole.usage_metadata  # type: ignore[attr-defined]
    assert message.content_blocks[0]["annotations"] == whole.content_blocks[0]["annotations"]  # type: ignore[typeddict-item]
    assert (bound | StrOutputParser()).invoke(edge_question[0]) == edge_question[1]


async def test_the_asynchronous_ways_say_the_same(chat: ChatGraphKV, papers: list[Document], edge_question: tuple[str, str]) -> None:
    question, answer = edge_question
    bound = chat.bind(documents=papers)
    chunks = [chunk async for chunk in bound.astream(question)]
    assert len(chunks) > 2 and text_of(joined(chunks)) == text_of(await bound.ainvoke(question)) == answer
    tokens = [
        event["data"]["chunk"] async for event in bound.astream_events(question, version="v2") if event["event"] == "on_chat_model_stream"
    ]
    assert text_of(joined(tokens)) == answer
    stream = await bound.astream_events(question, version="v3")
    (block,) = (await stream.output).content_blocks
    assert block["text"] == answer and block["annotations"][0]["type"] == "citation"  # type: ignore[typeddict-item]


def test_usage_counts_what_was_reused(embedded: GraphKV, papers: list[Document], questions: dict[str, str]) -> None:
    """First nothing; then the very context; then the same documents after a restart of everything but the store, block by block."""
    question = next(iter(questions))
    fresh = GraphKV(embedded.model, store="memory")
    with ChatGraphKV(engine=fresh) as chat:
        first, second = (chat.invoke(question, documents=papers) for _ in range(2))
    with ChatGraphKV(engine=fresh) as chat:
        third = chat.invoke(question, documents=papers[::-1])
    usages = [message.usage_metadata for message in (first, second, third)]
    assert all(usage is not None and usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] for usage in usages)
    reused = [usage["input_token_details"]["cache_read"] for usage in usages]  # type: ignore[index]
    assert reused[0] == 0 < reused[1] == reused[2] < usages[0]["input_tokens"]  # type: ignore[index]
    assert second.response_metadata["tokens_reused"] == {"exact": reused[1], "composed": 0}
    assert third.response_metadata["tokens_reused"] == {"exact": 0, "composed": reused[2]}
    assert (first.response_metadata["finish_reason"], first.response_metadata["model_name"]) == ("stop", "embedded")


def test_citations_name_the_documents(chat: ChatGraphKV, papers: list[Document], edge_question: tuple[str, str]) -> None:
    message = chat.invoke(edge_question[0], documents=papers)
    (block,) = message.content_blocks
    citation = block["annotations"][0]  # type: ignore[typeddict-item]
    assert message.text[citation["start_index"] : citation["end_index"]] == edge_question[1]
    assert (citation["type"], citation["title"], citation["url"]) == ("citation", "Onyx Anchor", "https://papers.example/paper3")
    assert citation["extras"]["document_id"] == "paper3" and 0.5 < citation["extras"]["share"] <= 1
    assert chat.invoke(edge_question[0], documents=papers, citations=False).content == edge_question[1]


def test_a_long_document_is_cited_as_a_document(embedded: GraphKV, papers: list[Document]) -> None:
    """It is read in parts; the citation names both."""
    whole = Document(id="all", page_content=" ".join(p.page_content for p in papers))
    with ChatGraphKV(engine=GraphKV(embedded.model, store="memory", max_segment_tokens=64)) as chat:
        message = chat.invoke("What score does Delta Thunder report?", documents=[whole])
    notes = message.content_blocks[0]["annotations"]  # type: ignore[typeddict-item]
    assert {note["extras"]["document_id"] for note in notes} == {"all"}
    assert all(note["extras"]["segment_id"].startswith("all#") for note in notes)


def test_stop_strings_and_limits(chat: ChatGraphKV, scheduler: Scheduler, papers: list[Document], edge_question: tuple[str, str]) -> None:
    stopped = chat.invoke(edge_question[0], documents=papers, stop=[" Sin"])
    assert (text_of(stopped), stopped.response_metadata["finish_reason"]) == ("Jane", "stop")
    assert text_of(ChatGraphKV(scheduler=scheduler, stop=[" Sin"]).invoke(edge_question[0], documents=papers)) == "Jane"
    short = chat.invoke(edge_question[0], documents=papers, max_tokens=1)
    assert (short.usage_metadata["output_tokens"], short.response_metadata["finish_reason"]) == (1, "length")  # type: ignore[index]


def test_sampling_is_seeded() -> None:
    with ChatGraphKV(engine=tiny_engine(), temperature=5.0, max_tokens=12) as chat:
        drawn = [chat.invoke("Hello", seed=seed).content for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_conversation_without_documents(chat: ChatGraphKV) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
    message = (prompt | chat).invoke({"question": "Hello?"})
    assert isinstance(message.content, str) and message.usage_metadata["input_token_details"]["cache_read"] == 0  # type: ignore[index]
    assert chat.bind(documents=[]).invoke("Hello?").content == chat.invoke("Hello?").content


def test_documents_of_earlier_turns_stay(chat: ChatGraphKV, papers: list[Document], edge_question: tuple[str, str]) -> None:
    """A document that was retrieved at both turns is one."""
    turns = [documents_message("Who wrote Onyx Anchor?", papers[1:4]), AIMessage("Jane Sintil"), documents_message(edge_question[0], papers[1:2])]
    message = chat.invoke([SystemMessage("Be brief."), *turns])
    assert message.content_blocks[0]["type"] == "text" and message.usage_metadata["input_tokens"] > 100  # type: ignore[index]


def test_the_answer_cache_tells_graphs_apart(scheduler: Scheduler, graph: SegmentGraph, edge_question: tuple[str, str]) -> None:
    """LangChain's cache goes by what is printed of the arguments, and a graph prints no texts."""
    chat = ChatGraphKV(scheduler=scheduler, cache=InMemoryCache())
    renamed = [{"id": s.id, "title": s.title, "text": str(s.text).replace("Jane Sintil", "Cora Rasteskel"), "sources": list(graph.sources(s.id))} for s in graph]
    other = SegmentGraph.from_documents(renamed)
    assert repr(other) == repr(graph)
    answers = [text_of(chat.invoke(edge_question[0], documents=documents)) for documents in (graph, other, graph)]
    assert answers == [edge_question[1], "Cora Rasteskel", edge_question[1]]


def test_traces_get_a_digest_and_no_documents(chat: ChatGraphKV, papers: list[Document]) -> None:
    seen: list[dict[str, Any]] = []

    class Trace(BaseCallbackHandler):
        def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
            seen.append(kwargs["invocation_params"])

    chat.invoke("Hello?", documents=papers, config={"callbacks": [Trace()]})
    assert seen[0]["documents"] == "8 documents" and papers[0].page_content not in repr(seen)
    assert seen[0]["_type"] == "graphkv" and seen[0]["model"] == "embedded"
    assert chat._get_ls_params()["ls_provider"] == "graphkv"


def test_tokens_are_counted_by_the_model_s_own_tokenizer(chat: ChatGraphKV, embedded: GraphKV) -> None:
    assert chat.get_num_tokens("Delta Thunder") == len(embedded.reader.ids("Delta Thunder"))


def test_model_by_path_or_pair(model: str, tmp_path: Any) -> None:
    with ChatGraphKV(model=model, store=tmp_path / "kv", model_kwargs={"dtype": "float32"}, max_tokens=3) as chat:
        assert chat.invoke("Hello").response_metadata["model_name"] == model
    made = GraphKV.from_pretrained((tiny_model(), byte_tokenizer()))
    assert ChatGraphKV(engine=made).model_name == "custom"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"temperature": -1}, "temperature must be"),
        ({"max_tokens": 0}, "max_new_tokens must be"),
        ({"layout": "grpah"}, "unknown layout 'grpah'"),
        ({"edges": ["cites"]}, "edges must be pairs"),
        ({"timeout": 0}, "timeout must be"),
        ({"max_retries": -1}, "max_retries"),
        ({"stop": [""]}, "stop must be"),
        ({"max_token": 3}, "Extra inputs are not permitted"),
        ({"engine": 3}, "instance of GraphKV"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_at_once(given: dict[str, Any], error: str) -> None:
    with pytest.raises(ValidationError, match=error):
        ChatGraphKV(**given)


def test_one_source_of_the_model(scheduler: Scheduler) -> None:
    with pytest.raises(ValidationError, match="give one of"):
        ChatGraphKV(scheduler=scheduler, model="x")
    with pytest.raises(ValidationError, match="give one of"):
        ChatGraphKV(scheduler=scheduler, engine=scheduler.engine)
    with pytest.raises(ValidationError, match="give one of"):
        ChatGraphKV(engine=scheduler.engine, store=MemoryStore())


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"documnets": []}, "unknown argument 'documnets'"),
        ({"tools": [{"name": "f"}]}, "calls no tools"),
        ({"layout": "grpah"}, "unknown layout"),
        ({"layout_options": {"m": 1}}, "'m'"),
        ({"documents": "text"}, "expected a list of documents"),
        ({"documents": ["text"], "graph_edges": [("a", "b")]}, "unknown source id"),
        ({"top_p": 2}, "top_p must be"),
        ({"timeout": "1"}, "timeout must be"),
    ],
)
async def test_calls_that_cannot_be_meant_are_refused(chat: ChatGraphKV, given: dict[str, Any], error: str) -> None:
    given = {"documents": ["Some text."], **given}
    with pytest.raises(InputError, match=error):
        chat.invoke("Hello", **given)
    with pytest.raises(InputError, match=error):
        await chat.ainvoke("Hello", **given)
    with pytest.raises(InputError, match=error):
        list(chat.stream("Hello", **given))


def test_messages_that_cannot_be_meant_are_refused(chat: ChatGraphKV, graph: SegmentGraph) -> None:
    for messages, error in (
        ([HumanMessage([{"type": "image", "url": "https://x/y.png"}])], "reads text"),
        ([HumanMessage("Hello"), AIMessage("Hi")], "last message to be the user's"),
        ([], "at least one message"),
        ([HumanMessage("Hello"), SystemMessage("Be brief.")], "system messages come first"),
    ):
        with pytest.raises(InputError, match=error):
            chat.invoke(messages)
    with pytest.raises(InputError, match="one of the two ways"):
        chat.invoke([documents_message("What?", ["Doc."])], documents=graph)
    with pytest.raises(NotImplementedError):
        chat.bind_tools([])


def test_what_is_imported() -> None:
    """Never LangChain itself; and a retriever does not wait for torch."""
    for path in Path(ours.__path__[0]).glob("*.py"):
        tree = ast.parse(path.read_text())
        named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        named += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in named if name.partition(".")[0] == "langchain"], path
    code = "import sys; from graphkv.langchain import GraphKVRetriever; assert not {'torch', 'langchain'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_answer_by_another_event_loop(chat: ChatGraphKV, papers: list[Document], edge_question: tuple[str, str]) -> None:
    """Nothing is bound to the loop of the first call."""
    for _ in range(2):
        assert text_of(asyncio.run(chat.ainvoke(edge_question[0], documents=papers))) == edge_question[1]
