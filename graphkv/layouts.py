"""The layouts by name. Each says which paper or code it follows, and draws itself on a small example.

The drawings show three segments a, b, c with edges ``a → b → c`` (b reads a, c reads b), prefix P and question Q, one
character a block: row reads column. :func:`make_layout` is the way in.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphkv.errors import DocumentError, GraphError, LayoutError, check_count, one_of
from graphkv.graph import SegmentGraph
from graphkv.layout import Block, Layout, Positions, Rounds, place, rounds_of


@dataclass(frozen=True)
class Sizes:
    """Tokens of each segment (by id), of the prefix and of the question."""

    segments: Mapping[str, int]
    prefix: int = 0
    question: int = 0


def sequential(graph: SegmentGraph, sizes: Sizes) -> Layout:
    """Plain causal attention over prefix, segments in the graph's order, question: the model's own forward.

    ::

             P a b c Q
        P    1
        a    1 1
        b    1 1 1
        c    1 1 1 1
        Q    1 1 1 1 1
    """
    reads = {(id, 0): tuple((before, 0) for before in graph.ids[:i]) for i, id in enumerate(graph.ids)}
    return _place("sequential", reads, sizes, positions="sequential", prefix_visible=True)


def block(graph: SegmentGraph, sizes: Sizes) -> Layout:
    """Block-Attention (Ma et al., ICLR 2025, arXiv 2409.15355): each segment alone, positions running one after the other.

    Keys are kept without rotation and rotated to where the segment stands, as the paper's re-encoding does. The first
    block (the prefix) is a block like the others: segments do not see it.

    ::

             P a b c Q
        P    1
        a    0 1
        b    0 0 1
        c    0 0 0 1
        Q    1 1 1 1 1
    """
    return _place("block", _alone(graph), sizes, positions="sequential")


def pcw(graph: SegmentGraph, sizes: Sizes) -> Layout:
    """Parallel Context Windows (Ratner et al., ACL 2023, arXiv 2212.10947): windows share one position range.

    One prefix (the paper keeps one BOS) is seen by every window; the task starts after the longest window.

    ::

             P a b c Q
        P    1
        a    1 1
        b    1 0 1
        c    1 0 0 1
        Q    1 1 1 1 1
    """
    return _place("pcw", _alone(graph), sizes, prefix_visible=True)


def ape(graph: SegmentGraph, sizes: Sizes, *, temperature: float = 0.9, scale: float = 0.9) -> Layout:
    """Adaptive Parallel Encoding (Yang et al., ICLR 2025, arXiv 2502.05431): PCW's mask, and the question re-weighs the context.

    The question's logits over the segments are divided by T (`temperature`) and that group's log-sum-exp is multiplied
    by S (`scale`) before it is merged with prefix and question. The released code multiplies by S·T where the paper has
    S: pass ``scale=S*T`` to follow the code. T = S = 0.9 by default; T = S = 1 is PCW. Raises LayoutError unless both are
    finite and above 0.

    ::

             P a b c Q
        P    1
        a    1 1
        b    1 0 1
        c    1 0 0 1
        Q    1 ~ ~ ~ 1      ~ re-weighed by T and S
    """
    for name, value in (("temperature", temperature), ("scale", scale)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise LayoutError(f"ape needs a finite {name} above 0, got {value!r}")
    return _place("ape", _alone(graph), sizes, prefix_visible=True, temperature=float(temperature), scale=float(scale))


def graph(graph: SegmentGraph, sizes: Sizes, *, rounds: Rounds = 1, view: str = "all", positions: Positions = "tight", prefix_visible: bool = False) -> Layout:
    """Graph-KV (arXiv 2506.07334): every target is re-encoded reading its sources, along the edges as given.

    With the defaults this is the paper's attention (section 3) under the shared positions of the official Arxiv-QA
    code: sources start at P, targets where the longest source ends, the question where the longest target ends. (For one
    ego graph that is the official code; with distractors it places each centre behind its own longest neighbour, here all
    targets of a round start together.)

    ::

             P a0 b0 b1 c1 Q
        P    1
        a0   0 1
        b0   0 0  1
        b1   0 1  0  1
        c1   0 0  1  0  1
        Q    1 1  1  1  1  1      view="final" leaves out b0
    """
    blocks = rounds_of(graph, rounds)
    return _place("graph", blocks, sizes, positions=positions, view=view, prefix_visible=prefix_visible, max_round=rounds if isinstance(rounds, int) else None)


def graph_full(graph: SegmentGraph, sizes: Sizes, *, rounds: Rounds = 1, view: str = "all", positions: Positions = "tight", prefix_visible: bool = False) -> Layout:
    """Graph-KV "Full" (arXiv 2506.07334, section 4.1): every segment reads every other segment; given edges are not used.

    ::

             P a0 b0 c0 a1 b1 c1 Q
        P    1
        a0   0 1
        b0   0 0  1
        c0   0 0  0  1
        a1   0 0  1  1  1
        b1   0 1  0  1  0  1
        c1   0 1  1  0  0  0  1
        Q    1 1  1  1  1  1  1  1
    """
    edges = [(u, v) for v in graph.ids for u in graph.ids if u != v]
    blocks = rounds_of(graph.with_edges(edges), rounds)
    return _place("graph_full", blocks, sizes, positions=positions, view=view, prefix_visible=prefix_visible, max_round=rounds if isinstance(rounds, int) else None)


def graph_topk(graph: SegmentGraph, sizes: Sizes, *, m: int = 3, view: str = "all", positions: Positions = "tight", prefix_visible: bool = False) -> Layout:
    """Graph-KV "Top-m" (arXiv 2506.07334, section 4.1): the m best segments are the sources of the rest.

    Best by `score`; without scores the graph's order counts, best first (as retrievers return it). The paper uses
    m = 1 and 3. Drawn with m = 1:

    ::

             P a0 b1 c1 Q
        P    1
        a0   0 1
        b1   0 1  1
        c1   0 1  0  1
        Q    1 1  1  1  1
    """
    ranked = ranking(graph)
    check_count("m", m, LayoutError)
    edges = [(best, rest) for best in ranked[:m] for rest in ranked[m:]]
    return _place("graph_topk", rounds_of(graph.with_edges(edges), 1), sizes, positions=positions, view=view, prefix_visible=prefix_visible, max_round=1)


def graph_hops(
    graph: SegmentGraph, sizes: Sizes, *, tiers: Sequence[int] = (1, 3), view: str = "all", positions: Positions = "tight", prefix_visible: bool = False
) -> Layout:
    """Graph-KV "2-hop" and "3-hop" (arXiv 2506.07334, section 4.1): tiers of ranked segments, each reading the tier before.

    ``tiers=(1, 3)``, the default, is 1 → 2-4 → rest (2-hop); ``tiers=(1, 2, 2)`` is 1 → 2-3 → 4-5 → rest (3-hop). Each
    segment is encoded once, reading the updated blocks of the tier before (topological). Raises LayoutError unless `tiers`
    is a sequence of whole numbers of at least 1. Drawn with ``tiers=(1, 1)``:

    ::

             P a0 b1 c2 Q
        P    1
        a0   0 1
        b1   0 1  1
        c2   0 0  1  1
        Q    1 1  1  1  1
    """
    if isinstance(tiers, str) or not isinstance(tiers, Sequence) or not tiers:
        raise LayoutError(f"tiers must be a sequence of sizes such as (1, 3), got {tiers!r}")
    ranked, groups, at = ranking(graph), [], 0
    for size in tiers:
        check_count("every tier", size, LayoutError)
        groups.append(ranked[at : at + size])
        at += size
    groups.append(ranked[at:])
    edges = [(u, v) for before, after in itertools.pairwise(groups) for u in before for v in after]
    return _place("graph_hops", rounds_of(graph.with_edges(edges), "topological"), sizes, positions=positions, view=view, prefix_visible=prefix_visible)


def graph_sequential(graph: SegmentGraph, sizes: Sizes, *, m: int = 3) -> Layout:
    """The official RAG code of Graph-KV (GitHub Graph-COM/GraphKV, `gapemp` and `gapemp_appr`), which departs from the paper.

    1. Every segment is encoded alone. 2. The m best stand one after the other from position 0; every segment, the m
    best included, is re-encoded right behind them, reading them (so the best also see themselves). 3. For the question
    prefix, all first encodings and all second encodings are re-rotated to one running range, in rank order, best last.
    Because keys move between 2 and 3 there is no packed forward. With m at least the number of segments this is
    `gapemp`. Best by `score`, else the graph's order, best first. Drawn with m = 1:

    ::

             P c0 b0 a0 c1 b1 a1 Q
        P    1
        c0   0 1
        b0   0 0  1
        a0   0 0  0  1
        c1   0 0  0  1  1
        b1   0 0  0  1  0  1
        a1   0 0  0  1  0  0  1
        Q    1 1  1  1  1  1  1  1
    """
    check_count("m", m, LayoutError)
    ascending = ranking(graph)[::-1]
    best = ascending[-m:]
    reads: dict[tuple[str, int], tuple[tuple[str, int], ...]] = {(id, 0): () for id in ascending}
    reads |= {(id, 1): tuple((s, 0) for s in best) for id in ascending}
    layout = _place("graph_sequential", reads, sizes, positions="sequential")
    running, at = 0, {}
    for id in best:
        at[id] = running
        running += sizes.segments[id]

    def staged(b: Block) -> Block:
        if b.segment is None:
            return b
        return replace(b, position=running if b.round == 1 else at.get(b.segment, 0))

    return replace(layout, blocks=tuple(staged(b) for b in layout.blocks))


LAYOUTS: Mapping[str, Callable[..., Layout]] = {
    f.__name__: f for f in (sequential, block, pcw, ape, graph, graph_full, graph_topk, graph_hops, graph_sequential)
}
"""Every layout by its name."""


def layout_options(name: str) -> dict[str, Any]:
    """The options of a layout and their defaults, for example ``{"m": 3, ...}``. Raises LayoutError for an unknown name."""
    if not isinstance(name, str) or name not in LAYOUTS:
        raise LayoutError(one_of("layout", name, LAYOUTS))
    parameters = inspect.signature(LAYOUTS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def make_layout(name: str, graph: SegmentGraph, lengths: Mapping[str, int], *, prefix: int = 0, question: int = 0, **options: Any) -> Layout:
    """The layout `name` for a graph whose segments have `lengths` tokens.

    Args:
        name: one of :data:`LAYOUTS`. lengths: tokens of each segment, by id. prefix, question: tokens of each.
        options: what the layout's own function takes (`rounds`, `view`, `positions`, `prefix_visible`, `m`, `tiers`,
            `temperature`, `scale`).

    Raises:
        LayoutError: unknown layout or option. GraphError: cycle in topological mode, or a segment without a length.

    Example:
        >>> g = SegmentGraph.from_documents([{"id": "a", "text": "x"}])
        >>> make_layout("block", g, {"a": 5}, prefix=1, question=3).question.position
        6
    """
    valid = layout_options(name)
    for option in options:
        if option not in valid:
            raise LayoutError(f"layout {name!r} has no option {option!r}; " + (f"valid: {', '.join(sorted(valid))}" if valid else "it has none"))
    missing = [id for id in graph.ids if id not in lengths]
    if missing:
        raise GraphError(f"no length given for segment {missing[0]!r}")
    empty = [id for id in graph.ids if lengths[id] < 1]
    if empty:
        raise DocumentError(f"segment {empty[0]!r} has no tokens: the tokeniser made nothing of its text; leave it out")
    sizes = Sizes({id: lengths[id] for id in graph.ids}, prefix, question)
    return replace(LAYOUTS[name](graph, sizes, **options), options=dict(options))


def ranking(graph: SegmentGraph) -> tuple[str, ...]:
    """Ids, best first: by `score` where every segment has one (equal scores keep their order), else as they stand.

    Raises:
        GraphError: only some of the segments have a score.
    """
    scores = {segment.id: segment.score for segment in graph.segments}
    unscored = [id for id, score in scores.items() if score is None]
    if len(unscored) == len(scores):
        return graph.ids
    if unscored:
        raise GraphError(f"segment {unscored[0]!r} has no score but others do: score all of them or none")
    return tuple(sorted(graph.ids, key=lambda id: -(scores[id] or 0.0)))


def _alone(graph: SegmentGraph) -> dict[tuple[str, int], tuple[tuple[str, int], ...]]:
    return {(id, 0): () for id in graph.ids}


def _place(name: str, reads: Mapping[tuple[str, int], tuple[tuple[str, int], ...]], sizes: Sizes, **options: Any) -> Layout:
    return place(name, reads, sizes.segments, prefix=sizes.prefix, question=sizes.question, **options)
