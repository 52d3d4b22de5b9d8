"""LlamaIndex: nodes as a graph. A postprocessor adds what stands around the retrieved ones, a response synthesizer hands them to the model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import BaseNode, MetadataMode, NodeRelationship, NodeWithScore, QueryBundle

from graphkv.adapters.common import CITES, graph_of
from graphkv.edges import merge_edges
from graphkv.errors import InputError
from graphkv.graph import Edge, SegmentGraph
from graphkv_retrieval import expand

READS = {NodeRelationship.SOURCE: "section_of", NodeRelationship.PARENT: "section_of", NodeRelationship.PREVIOUS: "next"}
"""A node reads the nodes that it names under one of these relationships; the kind of the edge."""


def node_graph(nodes: Sequence[NodeWithScore], edges: Sequence[tuple[str, str]] = CITES) -> SegmentGraph:
    """Nodes as a graph, with edges from pairs of metadata fields, as in :func:`graphkv.importers.from_langchain`, and from the nodes' relationships.

    Raises:
        DocumentError: a node without text. GraphError: no nodes.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> a, b = TextNode(id_="a", text="New.", metadata={"cites": ["b"]}), TextNode(id_="b", text="Old.")
        >>> node_graph([NodeWithScore(node=a), NodeWithScore(node=b)]).edges
        (('b', 'a'),)
    """
    graph = graph_of([(n.node_id, n.node.get_content(MetadataMode.NONE), n.metadata, n.score) for n in nodes], edges)
    related = [(n.node_id, READS[how], to) for n in nodes for how, to in n.node.relationships.items() if how in READS]
    return merge_edges(graph, [Edge(to.node_id, id, kind=kind) for id, kind, to in related if not isinstance(to, list) and to.node_id in graph])


class GraphKVPostprocessor(BaseNodePostprocessor):  # type: ignore[misc]
    """The retrieved nodes and what stands around them among all `nodes`, best first.

    Args:
        nodes: all nodes, for example ``list(index.docstore.docs.values())``; a retrieved node must be one of them. edges: as in :func:`node_graph`.
        options: those of :func:`graphkv_retrieval.expand`: ``{"how": "hops", "max_tokens": 2000, "count": engine.reader.count}``.
    """

    nodes: list[Any] = Field(exclude=True)
    edges: Sequence[tuple[str, str]] = CITES
    options: dict[str, Any] = Field(default_factory=dict, exclude=True)

    @cached_property
    def _graph(self) -> SegmentGraph:
        return node_graph([NodeWithScore(node=node) for node in self.nodes], self.edges)

    def _postprocess_nodes(self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None) -> list[NodeWithScore]:
        known: dict[str, BaseNode] = {node.node_id: node for node in self.nodes}
        found = expand(self._graph, {n.node_id: n.score or 0.0 for n in nodes}, **self.options) if nodes else {}
        return [NodeWithScore(node=known[id], score=score) for id, score in found.items()]


class GraphKVSynthesizer(BaseSynthesizer):  # type: ignore[misc]
    """One call of a GraphKVLLM for query and nodes, these as documents with edges; usage and citations are in the response's ``metadata["graphkv"]``."""

    def _get_prompts(self) -> dict[str, Any]:
        return {}  # the model's own template is the prompt

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        if prompts:
            raise InputError("this synthesizer has no prompts to update: the model's template is graphkv.PromptTemplate")

    def synthesize(self, query: Any, nodes: list[NodeWithScore], *args: Any, **kwargs: Any) -> Any:
        about: dict[str, Any] = {}
        response = super().synthesize(query, nodes, *args, documents=node_graph(nodes, self._llm.edges) if nodes else None, about=about, **kwargs)
        response.metadata = {**(response.metadata or {}), "graphkv": about}  # of a stream: filled when it ends
        return response

    async def asynthesize(self, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(self.synthesize, *args, **kwargs)

    def get_response(self, query_str: str, text_chunks: Sequence[str], documents: Any = None, about: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        said = {} if about is None else about
        documents = documents or graph_of((f"chunk {number}", text, {}, None) for number, text in enumerate(text_chunks))
        stream = self._llm.stream_complete(query_str, documents=documents, **kwargs)

        def pieces() -> Iterator[str]:
            for piece in stream:
                said.update(piece.raw or {})
                yield piece.delta or ""

        return pieces() if self._streaming else "".join(pieces())

    async def aget_response(self, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(self.get_response, *args, **kwargs)
