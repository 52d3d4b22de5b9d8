"""The components against langchain-tests, LangChain's own suites: nothing in them is overridden but what they ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.retrievers import BaseRetriever
from langchain_core.stores import BaseStore
from langchain_tests.integration_tests import BaseStoreAsyncTests, BaseStoreSyncTests, ChatModelIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from graphkv import GraphKV, SegmentGraph
from graphkv.cli.demo import read_demo
from graphkv.langchain import ChatGraphKV, GraphKVByteStore, GraphKVRetriever
from graphkv.scheduler import Scheduler


@cache
def scheduler() -> Scheduler:
    """The embedded model. It was trained on papers, and to a greeting it says that it is not in the documents: words enough for the suites."""
    return Scheduler(GraphKV.from_pretrained(store="memory"))


@cache
def demo() -> tuple[SegmentGraph, str]:
    graph, questions = read_demo()
    return graph, questions[0]["question"]


class _Declared:
    """What is declared of the chat model. Of the features that it lacks (tools, structured output, pictures, sound) the suites' defaults say so."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatGraphKV

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"scheduler": scheduler()}

    @property
    def supports_model_override(self) -> bool:
        return False  # an object is one model

    @property
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[Any, list[Any]]:
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}


class TestChatUnit(_Declared, ChatModelUnitTests):
    pass


class TestChatIntegration(_Declared, ChatModelIntegrationTests):
    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        """The suite's hook for a call that reads a cache: the second over the same documents."""
        graph, question = demo()
        chat = ChatGraphKV(scheduler=scheduler(), max_tokens=4).bind(documents=graph)
        chat.invoke(question)
        if not stream:
            return chat.invoke(question)
        whole: AIMessageChunk | None = None
        for chunk in chat.stream(question):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        return whole


class TestRetriever(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return GraphKVRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"graph": demo()[0]}

    @property
    def retriever_query_example(self) -> str:
        return demo()[1]


class _Values:
    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"value1", b"", bytes(range(256))


class TestByteStoreInFolder(_Values, BaseStoreSyncTests[bytes]):
    @pytest.fixture
    def kv_store(self, tmp_path: Path) -> Iterator[BaseStore[str, bytes]]:
        yield GraphKVByteStore(str(tmp_path / "kv"))


class TestByteStoreInFolderAsync(_Values, BaseStoreAsyncTests[bytes]):
    @pytest.fixture
    async def kv_store(self, tmp_path: Path) -> AsyncIterator[BaseStore[str, bytes]]:
        yield GraphKVByteStore(str(tmp_path / "kv"))


class TestByteStoreInMemory(_Values, BaseStoreSyncTests[bytes]):
    @pytest.fixture
    def kv_store(self) -> BaseStore[str, bytes]:
        return GraphKVByteStore("memory")


class TestByteStoreInMemoryAsync(_Values, BaseStoreAsyncTests[bytes]):
    @pytest.fixture
    async def kv_store(self) -> BaseStore[str, bytes]:
        return GraphKVByteStore("memory")
