"""SegmentGraph: segments in order, and the edges that say who reads whom.

An edge ``u → v`` means: target v reads source u. The graph knows nothing of tokens or models.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx

from graphkv.errors import DocumentError, GraphError, check_count
from graphkv.segments import Document, Segment, finite, split_segment


class Edge(tuple[str, str]):
    """A pair (source id, target id) that also knows why it is there. It equals the plain pair.

    Attributes:
        kind: what made it: ``cites``, ``links``, ``next``, ``nearest`` ...; None if nobody said.
        weight: how strong it is, higher is stronger (mentions in the text, similarity ...); None if nobody said.

    Raises:
        GraphError: a kind that is no text, or a weight that is no finite number.

    Example:
        >>> edge = Edge("first", "survey", kind="cites", weight=2)
        >>> edge == ("first", "survey"), edge.kind, edge.weight
        (True, 'cites', 2.0)
    """

    kind: str | None
    weight: float | None

    def __new__(cls, source: str, target: str, *, kind: str | None = None, weight: float | None = None) -> Edge:
        self = super().__new__(cls, (source, target))
        if kind is not None and (not isinstance(kind, str) or not kind):
            raise GraphError(f"edge {source!r} → {target!r}: 'kind' must be a non-empty string, got {kind!r}")
        number = finite(weight)
        if weight is not None and number is None:
            raise GraphError(f"edge {source!r} → {target!r}: 'weight' must be a finite number, got {weight!r}")
        self.kind, self.weight = kind, number
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str, str], dict[str, Any]]:
        return (self[0], self[1]), {"kind": self.kind, "weight": self.weight}

    def between(self, source: str, target: str) -> Edge:
        """The same kind and weight between two other segments."""
        return Edge(source, target, kind=self.kind, weight=self.weight)

    @property
    def data(self) -> dict[str, str | float]:
        """Kind and weight, as far as they are known."""
        known = {"kind": self.kind, "weight": self.weight}
        return {name: value for name, value in known.items() if value is not None}


class SegmentGraph:
    """Segments and directed edges, in the order the segments were given.

    Make one with :meth:`from_documents`, :meth:`from_networkx`, :meth:`from_segments` or :meth:`from_jsonl`.
    It is not changed after it is made; methods return new graphs.

    Example:
        >>> graph = SegmentGraph.from_documents([
        ...     {"id": "survey", "text": "We build on earlier work.", "sources": ["first"]},
        ...     {"id": "first", "text": "The first paper."},
        ... ])
        >>> graph.edges
        (('first', 'survey'),)
        >>> graph.sources("survey")
        ('first',)
    """

    def __init__(self, segments: Iterable[Segment], edges: Iterable[tuple[str, str]], *, max_segment_tokens: int | None = None) -> None:
        self._segments: dict[str, Segment] = {}
        for segment in segments:
            if not isinstance(segment, Segment):
                raise DocumentError(f"expected segments, got {type(segment).__name__}; make them with Segment.from_text or Segment.from_tokens")
            if segment.id in self._segments:
                raise DocumentError(f"duplicate id {segment.id!r}: every document needs an id of its own")
            self._segments[segment.id] = segment
        if not self._segments:
            raise GraphError("the graph has no segments: expected at least one document")
        if max_segment_tokens is not None:
            check_count("max_segment_tokens", max_segment_tokens, DocumentError)
        self.max_segment_tokens = max_segment_tokens
        self._rank = {id: i for i, id in enumerate(self._segments)}
        self._edges: dict[tuple[str, str], Edge] = {}
        self._graph: nx.DiGraph[str] = nx.DiGraph()
        self._graph.add_nodes_from(self._segments)
        if not isinstance(edges, Iterable):
            raise GraphError(f"edges must be pairs (source id, target id), got {edges!r}")
        for edge in edges:
            if isinstance(edge, str) or not isinstance(edge, Sequence) or len(edge) != 2 or not all(isinstance(end, str) for end in edge):
                raise GraphError(f"an edge is a pair (source id, target id), got {edge!r}")
            source, target = edge
            known = edge if isinstance(edge, Edge) else Edge(source, target)
            for end, other, verb in ((source, target, "is read by"), (target, source, "reads")):
                if end not in self._segments:
                    raise GraphError(f"unknown source id {end!r}: it {verb} {other!r} but is not among the {len(self._segments)} segments; add it or drop the edge")
            self._edges.setdefault((source, target), known)  # of two edges between the same two the first one stays
            self._graph.add_edge(source, target)

    @classmethod
    def from_documents(cls, documents: Iterable[Document | Mapping[str, Any]], *, max_segment_tokens: int | None = None) -> SegmentGraph:
        """One segment a document; an edge from each of its sources to it.

        Args:
            documents: :class:`Document` objects or dicts ``{"id", "text", "title", "sources" or "cites", "score"}``.
            max_segment_tokens: longer documents become chains of segments at sentence boundaries (see :meth:`split`).

        Raises:
            DocumentError: a malformed, empty or doubled document.
            GraphError: a source that is not among the documents, or no documents at all.
        """
        if isinstance(documents, nx.Graph):
            raise DocumentError("got a networkx graph where documents were expected: use SegmentGraph.from_networkx(graph)")
        if isinstance(documents, str | Mapping) or not isinstance(documents, Iterable):
            raise DocumentError(f"expected a list of documents, got {type(documents).__name__}")
        docs = [d if isinstance(d, Document) else Document.from_dict(d, where=f"document {i}") for i, d in enumerate(documents)]
        return cls(
            (Segment.from_document(d) for d in docs),
            (Edge(source, d.id, **d.edges.get(source, {})) for d in docs for source in d.sources),
            max_segment_tokens=max_segment_tokens,
        )

    @classmethod
    def from_segments(cls, segments: Iterable[Segment], edges: Iterable[tuple[str, str]] = ()) -> SegmentGraph:
        """Ready segments and edges ``(source id, target id)``.

        Example:
            >>> SegmentGraph.from_segments([Segment.from_tokens("a", [1, 2]), Segment.from_tokens("b", [3])], edges=[("b", "a")]).sources("a")
            ('b',)
        """
        return cls(segments, edges)

    @classmethod
    def from_networkx(cls, graph: nx.Graph[Any]) -> SegmentGraph:
        """Any networkx graph whose nodes carry a ``text`` attribute (and, if they like, ``title`` and ``score``).

        An edge u→v means that v reads u; its attributes ``kind`` and ``weight`` are kept. In an undirected graph every edge is read
        both ways; of parallel edges the first stays. Nodes may be any hashable; their ids become strings, which must stay distinct. Other
        attributes become metadata, but for ``id``, ``sources`` and ``cites``, which the graph itself says.

        Raises:
            DocumentError: a node without text. GraphError: two nodes with the same string form, or a malformed kind or weight.
        """
        if not isinstance(graph, nx.Graph):
            raise GraphError(f"expected a networkx graph, got {type(graph).__name__}; documents go to from_documents, segments to from_segments")
        names: dict[Hashable, str] = {node: node if isinstance(node, str) else str(node) for node in graph.nodes}
        if len(set(names.values())) < len(names):
            twice = sorted(name for name, count in Counter(names.values()).items() if count > 1)
            raise GraphError(f"several nodes have the same id as text: {', '.join(twice)}; rename them")
        documents = []
        for node, data in graph.nodes(data=True):
            if data.get("text") is None:
                raise DocumentError(f"node {node!r} has no 'text' attribute: expected one on every node, got {sorted(map(str, data))}")
            row = {str(key): value for key, value in data.items() if key not in ("id", "sources", "cites")}
            documents.append(Document.from_dict(row | {"id": names[node]}, where=f"node {node!r}"))
        edges = [Edge(names[u], names[v], kind=data.get("kind"), weight=data.get("weight")) for u, v, data in graph.edges(data=True)]
        if not graph.is_directed():
            edges += [edge.between(edge[1], edge[0]) for edge in edges]
        return cls((Segment.from_document(d) for d in documents), edges)

    @classmethod
    def from_jsonl(cls, path: str | Path, *, max_segment_tokens: int | None = None) -> SegmentGraph:
        """Documents from a JSON Lines file, one object a line, as :meth:`from_documents` takes them; empty lines are passed over.

        Raises:
            DocumentError: the file is missing, or a line is not JSON or not a document (file and line number are named).
        """
        return cls.from_documents(read_jsonl(path), max_segment_tokens=max_segment_tokens)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, in order."""
        return tuple(self._segments.values())

    @property
    def ids(self) -> tuple[str, ...]:
        """The segments' ids, in order."""
        return tuple(self._segments)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges: pairs (source id, target id) with a kind and a weight."""
        return tuple(self._edges[pair] for pair in self._graph.edges)

    @property
    def networkx(self) -> nx.DiGraph[str]:
        """A copy as a networkx graph: ``text``, ``title``, ``score`` and the metadata on the nodes, ``kind`` and ``weight`` on the edges."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        for id, segment in self._segments.items():
            fields = {"text": segment.text, "title": segment.title, "score": segment.score}
            graph.add_node(id)
            graph.nodes[id].update({**segment.metadata, **{k: v for k, v in fields.items() if v is not None}})
        graph.add_edges_from((*edge, edge.data) for edge in self.edges)
        return graph

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments.values())

    def __contains__(self, id: object) -> bool:
        return id in self._segments

    def __getitem__(self, id: str) -> Segment:
        if id not in self._segments:
            raise GraphError(f"no segment {id!r} in the graph")
        return self._segments[id]

    def __repr__(self) -> str:
        return f"SegmentGraph({len(self)} segments, {self._graph.number_of_edges()} edges)"

    def sources(self, id: str) -> tuple[str, ...]:
        """Ids of the segments that `id` reads, in the graph's order."""
        self[id]
        return tuple(sorted(self._graph.predecessors(id), key=self._rank.__getitem__))

    def targets(self, id: str) -> tuple[str, ...]:
        """Ids of the segments that read `id`, in the graph's order."""
        self[id]
        return tuple(sorted(self._graph.successors(id), key=self._rank.__getitem__))

    def edge(self, source: str, target: str) -> Edge:
        """The edge between two segments. Raises GraphError if there is none."""
        if (source, target) not in self._edges:
            raise GraphError(f"no edge {source!r} → {target!r} in the graph")
        return self._edges[source, target]

    def topological(self) -> tuple[str, ...]:
        """Ids so that every source comes before its targets; among equals the graph's order.

        Raises:
            GraphError: there is a cycle; it is shown.
        """
        try:
            return tuple(nx.lexicographical_topological_sort(self._graph, key=self._rank.__getitem__))
        except nx.NetworkXUnfeasible:
            cycle = [u for u, _ in nx.find_cycle(self._graph)]
            raise GraphError(f"the graph has a cycle ({' → '.join([*cycle, cycle[0]])}): topological mode needs none; use rounds=1, or remove an edge") from None

    def with_edges(self, edges: Iterable[tuple[str, str]]) -> SegmentGraph:
        """The same segments under other edges."""
        return SegmentGraph(self.segments, edges, max_segment_tokens=self.max_segment_tokens)

    def subgraph(self, ids: Iterable[str]) -> SegmentGraph:
        """The segments with these ids, in the graph's order, and the edges between them. Raises GraphError for an id that is not in the graph."""
        kept = {id for id in ids if self[id]}
        order = sorted(kept, key=self._rank.__getitem__)
        edges = (self._edges[pair] for pair in self._graph.out_edges(order) if pair[1] in kept)
        return SegmentGraph((self._segments[id] for id in order), edges, max_segment_tokens=self.max_segment_tokens)

    def with_segments(self, segments: Iterable[Segment]) -> SegmentGraph:
        """The same edges between changed segments (their ids stay). Raises GraphError if an edge has lost an end."""
        return SegmentGraph(segments, self.edges, max_segment_tokens=self.max_segment_tokens)

    def reordered(self, ids: Iterable[str]) -> SegmentGraph:
        """The same segments and edges in another order. Raises GraphError unless `ids` names every segment once."""
        order = list(ids)
        if sorted(order) != sorted(self._segments):
            raise GraphError("reordered() needs every id exactly once")
        return SegmentGraph((self[id] for id in order), self.edges, max_segment_tokens=self.max_segment_tokens)

    def split(self, count: Callable[[str | None, str], int], max_tokens: int) -> SegmentGraph:
        """Long documents as chains of segments; the edges a reader would expect.

        A document that does not fit is cut at sentence boundaries into parts ``id#1 → id#2 → ...``: each part reads
        the one before it. Where a document read another, each of its parts reads each part of the other.

        Args:
            count: tokens of a segment with this title and this text, as it will be rendered.
            max_tokens: the longest a segment may be.

        Raises:
            DocumentError: the limit has no room for a word beside the title, or a part's id is taken already.
        """
        parts = {segment.id: split_segment(segment, count, max_tokens) for segment in self.segments}
        edges = [Edge(a.id, b.id, kind="next") for chain in parts.values() for a, b in itertools.pairwise(chain)]
        edges += [edge.between(a.id, b.id) for edge in self.edges if edge[0] != edge[1] for a in parts[edge[0]] for b in parts[edge[1]]]
        edges += [edge.between(part.id, part.id) for edge in self.edges if edge[0] == edge[1] for part in parts[edge[0]]]
        for id, chain in parts.items():
            for part in chain:
                if part.id != id and part.id in self:
                    raise DocumentError(f"document {id!r} is cut into parts named {id}#1, {id}#2, ..., but {part.id!r} is a document already; rename it")
        return SegmentGraph((part for chain in parts.values() for part in chain), edges)


LONGEST_LINE = 256 * 2**20
"""Characters of a line of JSON Lines; a longer one is refused before it is read to its end."""


def read_jsonl(path: str | Path) -> list[Document]:
    """Documents of a JSON Lines file. Raises DocumentError naming the file and the line."""
    path = Path(path)
    documents: list[Document] = []
    first: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number in itertools.count(1):
                line = file.readline(LONGEST_LINE + 1)  # not splitlines(): U+2028 may stand inside a JSON string
                if not line:
                    break
                where = f"{path}, line {number}"
                if len(line) > LONGEST_LINE:
                    raise DocumentError(f"{where}: longer than {LONGEST_LINE:,} characters; expected one JSON object a line")
                if not line.strip():
                    continue
                document = Document.from_dict(_row(line, where), where=where)
                if document.id in first:
                    raise DocumentError(f"{where}: duplicate id {document.id!r}, first on line {first[document.id]}")
                first[document.id] = number
                documents.append(document)
    except FileNotFoundError:
        raise DocumentError(f"no such file: {path}; expected a JSON Lines file of documents") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path} cannot be read as UTF-8 text: {error}") from None
    if not documents:
        raise GraphError(f"{path} holds no documents: expected one JSON object a line")
    return documents


def _row(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise DocumentError(f"{where}: not valid JSON ({error.msg} at column {error.colno}); expected one JSON object a line") from None
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        raise DocumentError(f"{where}: JSON that cannot be read ({error})") from None
