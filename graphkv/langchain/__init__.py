"""LangChain components, on langchain-core alone: ``pip install 'graphkv[langchain]'``.

    documents.py   documents of every form that people have → a graph, and back
    messages.py    messages → prompt and documents; an answer → a message with citations
    chat.py        ChatGraphKV: a chat model that reads a graph of documents
    following.py   an answer while it is written, for threads and for coroutines
    retriever.py   GraphKVRetriever: an index and the edges around what it finds
    compressor.py  InfiniRetriCompressor: the sentences that the model looks at
    byte_store.py  GraphKVByteStore: bytes by key, inside a store of encoded blocks
    chain.py       create_graph_rag_chain: question in; answer, documents, citations and usage out
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkv.langchain.byte_store import GraphKVByteStore
    from graphkv.langchain.chain import create_graph_rag_chain
    from graphkv.langchain.chat import ChatGraphKV
    from graphkv.langchain.compressor import InfiniRetriCompressor
    from graphkv.langchain.messages import documents_message
    from graphkv.langchain.retriever import GraphKVRetriever

__all__ = ["ChatGraphKV", "GraphKVByteStore", "GraphKVRetriever", "InfiniRetriCompressor", "create_graph_rag_chain", "documents_message"]

# As in graphkv/__init__.py: a retriever does not wait for torch.
_HOMES = {
    "ChatGraphKV": "chat",
    "GraphKVByteStore": "byte_store",
    "GraphKVRetriever": "retriever",
    "InfiniRetriCompressor": "compressor",
    "create_graph_rag_chain": "chain",
    "documents_message": "messages",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphkv.langchain' has no attribute {name!r}")
    try:
        module = import_module(f"graphkv.langchain.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "langchain_core":
            raise
        raise ImportError("graphkv.langchain needs langchain-core: pip install 'graphkv[langchain]'") from error
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
