"""LangChain messages → what is said and which documents are read; an answer → a message with usage and citations."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.content import Citation

from graphkv.chat import ROLES, Message
from graphkv.errors import DocumentError, InputError, one_of
from graphkv.graph import Edge, SegmentGraph
from graphkv.importers.langchain import Pairs
from graphkv.langchain.documents import CITES, Found, graph_of, langchain_documents, read_documents
from graphkv.strategy import Answer

PROVIDER = "graphkv"
"""What LangChain calls the maker of a model."""

_EXTRAS = "graphkv"
"""Key of a block's extras under which its document's id, metadata and sources travel."""


@dataclass(frozen=True)
class Conversation:
    """What a list of messages holds: texts by role, and the documents in them."""

    said: tuple[Message, ...]
    documents: tuple[Found, ...]


def documents_message(question: str, documents: Any, *, edges: Pairs = CITES, graph_edges: Iterable[tuple[str, str]] = ()) -> HumanMessage:
    """A question and its documents as one message: standard ``text-plain`` blocks, and behind them the question.

    Other chat models read the blocks too, without the edges. Arguments as in :func:`graphkv.langchain.documents.graph_of`.

    Raises:
        InputError: an empty question, or anything that :func:`graph_of` refuses.

    Example:
        >>> message = documents_message("Which river?", [{"id": "a", "text": "The Elbe."}])
        >>> [block["type"] for block in message.content], message.text
        (['text-plain', 'text'], 'Which river?')
    """
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"a question must be some text, got {question!r}")
    graph = graph_of(documents, edges, graph_edges)
    blocks: list[str | dict[Any, Any]] = []
    for document in langchain_documents(graph, graph.ids) if graph is not None else ():
        title = {} if document.metadata.get("title") is None else {"title": document.metadata["title"]}
        sources = [] if graph is None else [{"id": source, **graph.edge(source, str(document.id)).data} for source in graph.sources(str(document.id))]
        own = {"id": document.id, "metadata": document.metadata, "sources": sources}
        blocks.append({"type": "text-plain", "mime_type": "text/plain", "text": document.page_content, **title, "extras": {_EXTRAS: own}})
    return HumanMessage(content=[*blocks, {"type": "text", "text": question}])


def read_messages(messages: Sequence[BaseMessage]) -> Conversation:
    """Texts by role and documents, out of messages.

    Messages of one role that follow each other are one, with an empty line between. Documents stand in a user's message, as blocks (``text-plain``, Anthropic's
    ``document`` and ``search_result``), or in a tool's message whose `artifact` is a list of documents, as LangChain's retriever tools give them;
    the model's call of the tool is then left out.

    Raises:
        InputError: content that is neither text nor a text document, a tool's message without documents, an unknown role.
    """
    said: list[Message] = []
    documents: list[Found] = []
    for number, message in enumerate(messages):
        where = f"message {number}"
        if isinstance(message, ToolMessage):
            documents += _artifact(message, where)
            continue
        role = _role(message, where)
        text, found = _contents(message, where)
        documents += found
        if not text.strip() and (found or role == "assistant"):
            continue  # documents alone, a call of a tool, or an answer of no words: nothing was said
        if said and said[-1][0] == role:
            text = f"{said.pop()[1]}\n\n{text}"
        said.append((role, text))
    return Conversation(tuple(said), tuple(documents))


def usage_of(answer: Answer) -> UsageMetadata:
    """Tokens of prompt and answer; ``cache_read`` are those of the prompt whose KV was there already."""
    prompt = answer.tokens_reused + answer.tokens_computed
    details = InputTokenDetails(cache_read=answer.tokens_reused)
    return UsageMetadata(input_tokens=prompt, output_tokens=answer.tokens_generated, total_tokens=prompt + answer.tokens_generated, input_token_details=details)


def metadata_of(answer: Answer, model: str) -> dict[str, Any]:
    """A message's response_metadata."""
    return {
        "model_name": model,
        "model_provider": PROVIDER,
        "finish_reason": answer.finish_reason,
        "layout": answer.layout,
        "tokens_reused": {"exact": answer.tokens_exact, "composed": answer.tokens_reused - answer.tokens_exact},
        "tokens_computed": answer.tokens_computed,
        "first_token_seconds": answer.timings.first_token,
    }


def citations_of(answer: Answer, graph: SegmentGraph, parts: SegmentGraph) -> list[Citation]:
    """LangChain's citations: one for each segment that the model looked at while it wrote a stretch of the answer, in the answer's order, best first.

    Attention points to segments and to no passage in them, so there is no ``cited_text``. ``extras`` has the document's id, the segment's where a
    long document was cut, and the share of the attention.

    Args:
        graph: the documents. parts: the segments that they were read as.
    """
    found = []
    for cited in answer.citations:
        for id, share in cited.segments:
            segment = parts[id]
            document = graph[segment.document or id]
            citation = Citation(type="citation", start_index=cited.start, end_index=cited.end)
            if document.title:
                citation["title"] = document.title
            if url := _url(document.metadata):
                citation["url"] = url
            part = {"segment_id": id} if segment.document is not None else {}
            citation["extras"] = {"document_id": document.id, **part, "share": round(share, 4)}
            found.append(citation)
    return found


def citations_in(message: BaseMessage) -> list[Citation]:
    """The citations that a message carries, its own blocks' or those of any other model."""
    return [note for block in message.content_blocks if block["type"] == "text" for note in block.get("annotations", []) if note["type"] == "citation"]


def _role(message: BaseMessage, where: str) -> str:
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, AIMessage):
        return "assistant"
    if isinstance(message, SystemMessage):
        return "system"
    role = message.role if isinstance(message, ChatMessage) else message.type
    if role not in ROLES:
        raise InputError(f"{where}: {one_of('role', role, ROLES)}")
    return role


def _contents(message: BaseMessage, where: str) -> tuple[str, list[Found]]:
    """A message's text, and the documents in it."""
    if isinstance(message, AIMessage):
        return str(message.text), []  # what else a model said (thoughts, calls) is no part of the conversation
    texts: list[str] = []
    documents: list[Found] = []
    for number, block in enumerate([message.content] if isinstance(message.content, str) else message.content):
        place = f"{where}, block {number}"
        kind = "text" if isinstance(block, str) else block.get("type")
        if isinstance(block, str):
            texts.append(block)
        elif kind == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind in _DOCUMENTS and isinstance(message, HumanMessage):
            documents.append(_DOCUMENTS[kind](block, place))
        elif kind in _DOCUMENTS:
            raise InputError(f"{place}: documents stand in a user's message, this is a {message.type} message")
        else:
            raise InputError(f"{place}: this model reads text and text documents; {one_of('kind of content', kind, ['text', *_DOCUMENTS])}")
    return "\n\n".join(text for text in texts if text), documents


def _artifact(message: ToolMessage, where: str) -> list[Found]:
    """A retriever tool's documents."""
    artifact = message.artifact
    if not isinstance(artifact, list | tuple) or not all(hasattr(document, "page_content") for document in artifact):
        raise InputError(
            f"{where}: a tool's message is read only if its artifact is a list of documents (a retriever tool with response_format='content_and_artifact'); "
            f"this model calls no tools, got {type(artifact).__name__}"
        )
    return list(read_documents(artifact))


def _plain_text(block: Mapping[str, Any], where: str) -> Found:
    """LangChain's ``text-plain``."""
    text = block.get("text")
    if text is None and isinstance(data := block.get("base64"), str):
        try:
            text = base64.b64decode(data, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise DocumentError(f"{where}: expected plain text in UTF-8 under base64: {error}") from None
    if not isinstance(text, str):
        raise DocumentError(f"{where}: expected the document's words in text or base64; a url or a file_id is not fetched")
    own = block.get("extras", {}).get(_EXTRAS) if isinstance(block.get("extras"), Mapping) else None
    if isinstance(own, Mapping):
        return _travelled(own, text)
    id = block.get("id")
    # An id that LangChain made up for the block is new every time, and no name of the document.
    return _described(text, block, None if not isinstance(id, str) or id.startswith("lc_") else id)


def _travelled(own: Mapping[str, Any], text: str) -> Found:
    """A document out of a block that :func:`documents_message` made."""
    metadata, sources = own.get("metadata"), own.get("sources")
    edges = tuple(Edge(row["id"], str(own.get("id")), kind=row.get("kind"), weight=row.get("weight")) for row in sources or ())
    return Found(text, metadata if isinstance(metadata, Mapping) else {}, own.get("id"), edges)


def _anthropic(block: Mapping[str, Any], where: str) -> Found:
    """Anthropic's ``document``: its source is a text, or a list of text blocks."""
    source = block.get("source")
    kind = source.get("type") if isinstance(source, Mapping) else None
    content = source.get({"text": "data", "content": "content"}.get(str(kind), "")) if isinstance(source, Mapping) else None
    return _described(_joined(content, f"{where}: a document's source is a text or content (no PDF, no url, no file), got {kind!r}"), block, None)


def _search_result(block: Mapping[str, Any], where: str) -> Found:
    """Anthropic's ``search_result``."""
    source = {"source": block["source"]} if isinstance(block.get("source"), str) else {}
    found = _described(_joined(block.get("content"), f"{where}: a search result's content is a list of text blocks"), block, None)
    return Found(found.page_content, {**found.metadata, **source})


def _joined(content: Any, expected: str) -> str:
    """A text, or the text blocks of a list as paragraphs. Raises DocumentError for anything else."""
    blocks = [content] if isinstance(content, str) else content
    texts = [block.get("text") if isinstance(block, Mapping) else block for block in blocks] if isinstance(blocks, list) else [None]
    if any(not isinstance(text, str) for text in texts):
        raise DocumentError(expected)
    return "\n\n".join(map(str, texts))


def _described(text: str, block: Mapping[str, Any], id: str | None) -> Found:
    """A document with the block's title; its ``context``, words about the document that the model is to know, stands before the text."""
    context = block.get("context")
    metadata = {key: block[key] for key in ("title", "url") if isinstance(block.get(key), str) and block[key]}
    return Found(f"{context}\n\n{text}" if isinstance(context, str) and context.strip() else text, metadata, id)


def _url(metadata: Mapping[str, Any]) -> str | None:
    candidates = (metadata.get(key) for key in ("url", "source"))
    return next((value for value in candidates if isinstance(value, str) and value.startswith(("http://", "https://"))), None)


_DOCUMENTS = {"text-plain": _plain_text, "document": _anthropic, "search_result": _search_result}
