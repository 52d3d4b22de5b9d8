"""Layouts as literal drawings and numbers, and against the layout rules written a second time.

The small graph is the one of the docstrings: a → b → c (b reads a, c reads b), with 2, 4 and 3 tokens.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkv import LAYOUTS, GraphError, Layout, LayoutError, Segment, SegmentGraph, make_layout
from graphkv.encode import packed_pattern
from graphkv.layout import rounds_of
from graphkv_kernels import dense_mask

LENGTHS = {"a": 2, "b": 4, "c": 3}
CHAIN = [("a", "b"), ("b", "c")]


def graph_of(lengths: dict[str, int], edges: list[tuple[str, str]], scores: dict[str, float] | None = None) -> SegmentGraph:
    segments = [Segment.from_tokens(id, [1] * n, score=(scores or {}).get(id)) for id, n in lengths.items()]
    return SegmentGraph.from_segments(segments, edges)


def chain(name: str = "graph", prefix: int = 1, question: int = 1, **options: Any) -> Layout:
    return make_layout(name, graph_of(LENGTHS, CHAIN), LENGTHS, prefix=prefix, question=question, **options)


def drawn(layout: Layout) -> list[str]:
    """``name 0/1 row`` of every block; prefix and question as P and Q, a@1 as a1."""
    short = [{"prefix": "P", "question": "Q"}.get(b.name, b.name.replace("@", "")) for b in layout.blocks]
    return [f"{name} {''.join(map(str, row))}" for name, row in zip(short, layout.block_rows(), strict=True)]


def placed(layout: Layout) -> list[int]:
    return [b.position for b in layout.blocks]


WITH_PREFIX: dict[str, tuple[dict[str, Any], list[str]]] = {
    "sequential": ({}, ["P 10000", "a0 11000", "b0 11100", "c0 11110", "Q 11111"]),
    "block": ({}, ["P 10000", "a0 01000", "b0 00100", "c0 00010", "Q 11111"]),
    "pcw": ({}, ["P 10000", "a0 11000", "b0 10100", "c0 10010", "Q 11111"]),
    "ape": ({}, ["P 10000", "a0 11000", "b0 10100", "c0 10010", "Q 11111"]),
    "graph": ({}, ["P 100000", "a0 010000", "b0 001000", "b1 010100", "c1 001010", "Q 111111"]),
    "graph_full": (
        {},
        ["P 10000000", "a0 01000000", "b0 00100000", "c0 00010000", "a1 00111000", "b1 01010100", "c1 01100010", "Q 11111111"],
    ),
    "graph_topk": ({"m": 1}, ["P 10000", "a0 01000", "b1 01100", "c1 01010", "Q 11111"]),
    "graph_hops": ({"tiers": (1, 1)}, ["P 10000", "a0 01000", "b1 01100", "c2 00110", "Q 11111"]),
    "graph_sequential": (
        {"m": 1},
        ["P 10000000", "c0 01000000", "b0 00100000", "a0 00010000", "c1 00011000", "b1 00010100", "a1 00010010", "Q 11111111"],
    ),
}


def test_every_layout_is_drawn_here() -> None:
    assert set(WITH_PREFIX) == set(LAYOUTS)


@pytest.mark.parametrize("name", WITH_PREFIX)
def test_drawings_with_prefix(name: str) -> None:
    options, rows = WITH_PREFIX[name]
    assert drawn(chain(name, **options)) == rows


@pytest.mark.parametrize("name", WITH_PREFIX)
def test_drawings_without_prefix_lose_its_row_and_column(name: str) -> None:
    options, rows = WITH_PREFIX[name]
    assert drawn(chain(name, prefix=0, **options)) == [f"{label} {row[1:]}" for label, row in (r.split() for r in rows[1:])]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_docstring_draws_what_is_built(name: str) -> None:
    """The 0/1 example in each layout's docstring; cells above the diagonal may be left out there, ``~`` is a weighed 1."""
    _, rows = WITH_PREFIX[name]
    cells = re.findall(r"^ +([PQ]|[abc]\d?)((?: +[01~])+)", LAYOUTS[name].__doc__ or "", re.MULTILINE)
    found = [re.sub(r"\s", "", row).replace("~", "1")[: len(rows)].ljust(len(rows), "0") for _, row in cells]
    assert found == [row.split()[1] for row in rows]
    assert all(row.startswith(label) for (label, _), row in zip(cells, rows, strict=True))


def test_roles_rounds_and_names() -> None:
    blocks = chain().blocks
    assert [b.name for b in blocks] == ["prefix", "a@0", "b@0", "b@1", "c@1", "question"]
    assert [b.role for b in blocks] == ["prefix", "source", "source", "target", "target", "question"]
    assert [b.round for b in blocks][:-1] == [0, 0, 0, 1, 1]
    assert [b.length for b in blocks] == [1, 2, 4, 4, 3, 1]


ROUNDS: dict[Any, list[str]] = {
    0: ["P 10000", "a0 01000", "b0 00100", "c0 00010", "Q 11111"],
    1: ["P 100000", "a0 010000", "b0 001000", "b1 010100", "c1 001010", "Q 111111"],
    2: ["P 100000", "a0 010000", "b1 011000", "b2 010100", "c2 001010", "Q 111111"],  # b0 only served c1, which nobody reads
    3: ["P 100000", "a0 010000", "b2 011000", "b3 010100", "c3 001010", "Q 111111"],
    "topological": ["P 10000", "a0 01000", "b1 01100", "c2 00110", "Q 11111"],
}
POSITIONS: dict[tuple[Any, str], list[int]] = {
    (0, "tight"): [0, 1, 1, 1, 5],
    (0, "paper"): [0, 1, 1, 1, 5],
    (0, "sequential"): [0, 1, 3, 7, 10],
    (1, "tight"): [0, 1, 1, 5, 5, 9],
    (1, "paper"): [0, 1, 1, 5, 5, 9],
    (1, "sequential"): [0, 1, 3, 7, 11, 14],
    (2, "tight"): [0, 1, 3, 7, 7, 11],
    (2, "paper"): [0, 1, 5, 9, 9, 13],
    (2, "sequential"): [0, 1, 3, 7, 11, 14],
    (3, "tight"): [0, 1, 3, 7, 7, 11],
    (3, "paper"): [0, 1, 9, 13, 13, 17],
    (3, "sequential"): [0, 1, 3, 7, 11, 14],
    ("topological", "tight"): [0, 1, 3, 7, 10],
    ("topological", "paper"): [0, 1, 5, 9, 13],
    ("topological", "sequential"): [0, 1, 3, 7, 10],
}


@pytest.mark.parametrize("rounds", ROUNDS)
def test_rounds_of_a_chain(rounds: Any) -> None:
    assert drawn(chain(rounds=rounds)) == ROUNDS[rounds]


@pytest.mark.parametrize(("rounds", "positions"), POSITIONS)
def test_positions_of_a_chain(rounds: Any, positions: str) -> None:
    layout = chain(rounds=rounds, positions=positions)
    assert placed(layout) == POSITIONS[rounds, positions]
    assert layout.window == POSITIONS[rounds, positions][-1] + 1


@pytest.mark.parametrize(("rounds", "question"), [(0, 5), (1, 9), (3, 17)])
def test_paper_positions_keep_room_for_every_round(rounds: int, question: int) -> None:
    """The question at P + (rounds + 1)·L, also where no segment is updated."""
    layout = make_layout("graph", graph_of(LENGTHS, []), LENGTHS, prefix=1, rounds=rounds, positions="paper")
    assert placed(layout) == [0, 1, 1, 1, question]


def test_position_ids_by_token() -> None:
    assert chain(question=2).position_ids().tolist() == [0, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 9, 10]
    assert chain("sequential", question=2).position_ids().tolist() == list(range(12))
    assert placed(chain("block")) == placed(chain("sequential")) == [0, 1, 3, 7, 10]
    assert placed(chain("pcw")) == placed(chain("ape")) == [0, 1, 1, 1, 5]


def test_final_view_shows_each_segments_last_block() -> None:
    assert drawn(chain(view="final"))[-1] == "Q 110111"
    assert drawn(chain(rounds=2, view="final"))[-1] == "Q 110111"
    assert drawn(chain(rounds="topological", view="final"))[-1] == "Q 11111"
    assert placed(chain(view="final")) == placed(chain(view="all"))


def test_visible_prefix() -> None:
    assert drawn(chain(prefix_visible=True)) == ["P 100000", "a0 110000", "b0 101000", "b1 110100", "c1 101010", "Q 111111"]
    assert drawn(chain(prefix=0, prefix_visible=True)) == drawn(chain(prefix=0))


def test_cycles_and_self_loops() -> None:
    both = graph_of({"a": 1, "b": 1}, [("a", "b"), ("b", "a")])
    two = make_layout("graph", both, {"a": 1, "b": 1}, rounds=2)
    assert drawn(two) == ["a0 1000000", "b0 0100000", "a1 0110000", "b1 1001000", "a2 0001100", "b2 0010010", "Q 1111111"]
    loop = make_layout("graph", graph_of({"a": 2, "b": 1}, [("a", "a")]), {"a": 2, "b": 1}, rounds=2)
    assert drawn(loop) == ["a0 10000", "b0 01000", "a1 10100", "a2 00110", "Q 11111"]
    assert placed(loop) == [0, 0, 2, 4, 6]
    with pytest.raises(GraphError, match="cycle"):
        make_layout("graph", both, {"a": 1, "b": 1}, rounds="topological")


def test_ranking_by_scores_and_without() -> None:
    lengths = {"a": 1, "b": 1, "c": 1, "d": 1}
    scored = graph_of(lengths, [], {"a": 0.1, "b": 0.9, "c": 0.5, "d": 0.5})
    top = make_layout("graph_topk", scored, lengths, m=2)
    assert drawn(top) == ["b0 10000", "c0 01000", "a1 11100", "d1 11010", "Q 11111"]
    hops = make_layout("graph_hops", scored, lengths, tiers=(1, 2))
    assert drawn(hops) == ["b0 10000", "c1 11000", "d1 10100", "a2 01110", "Q 11111"]
    assert drawn(make_layout("graph_topk", graph_of(lengths, []), lengths, m=9)) == ["a0 10000", "b0 01000", "c0 00100", "d0 00010", "Q 11111"]
    staged = make_layout("graph_sequential", scored, lengths, m=1)
    assert [b.name for b in staged.blocks] == ["a@0", "d@0", "c@0", "b@0", "a@1", "d@1", "c@1", "b@1", "question"]
    with pytest.raises(GraphError, match="'b' has no score but others do"):
        make_layout("graph_topk", graph_of(lengths, [], {"a": 1.0}), lengths)


def test_given_edges_do_not_count_where_the_layout_makes_its_own() -> None:
    for name, (options, _) in WITH_PREFIX.items():
        if name != "graph":
            assert drawn(make_layout(name, graph_of(LENGTHS, []), LENGTHS, prefix=1, question=1, **options)) == drawn(chain(name, **options))


def test_ape_carries_its_weights() -> None:
    assert (chain("ape").temperature, chain("ape").scale) == (0.9, 0.9)
    assert (chain("ape", temperature=0.5, scale=2).temperature, chain("ape", temperature=0.5, scale=2).scale) == (0.5, 2.0)
    assert {(chain(n).temperature, chain(n).scale) for n in set(LAYOUTS) - {"ape"}} == {(1.0, 1.0)}


@pytest.mark.parametrize(("sources", "centre"), [([5, 3, 4], 6), ([4, 4], 4), ([7], 2)])
def test_arxiv_path_of_the_official_code_and_the_papers_positions(sources: list[int], centre: int) -> None:
    """1. official: sources at P, centre at P + longest source, question behind the centre, prefix seen by the question
    only; 2. paper: P, P + L, P + 2L. The same layout when all are equally long, else the paper leaves gaps."""
    prefix = 2
    lengths = {f"s{i}": n for i, n in enumerate(sources)} | {"centre": centre}
    graph = graph_of(lengths, [(f"s{i}", "centre") for i in range(len(sources))])
    tight = make_layout("graph", graph, lengths, prefix=prefix, question=1)
    at = prefix + max(sources)
    assert placed(tight) == [0, *[prefix] * len(sources), at, at + centre]
    assert [b.reads for b in tight.blocks[:-2]] == [()] * (1 + len(sources))
    assert tight.blocks[-2].reads == tuple(range(1, len(sources) + 1))
    assert tight.question.reads == tuple(range(len(sources) + 2))

    paper = make_layout("graph", graph, lengths, prefix=prefix, question=1, positions="paper")
    longest = max(*sources, centre)
    assert placed(paper) == [0, *[prefix] * len(sources), prefix + longest, prefix + 2 * longest]
    equal = len({*sources, centre}) == 1
    assert (tight.blocks == paper.blocks) is equal


def test_positions_of_the_official_rag_code() -> None:
    """1. the m best in a row from 0, every passage again right behind them; 2. prefix, first and second encodings in one running range."""
    one = chain("graph_sequential", m=1)
    assert [b.name for b in one.blocks[1:-1]] == ["c@0", "b@0", "a@0", "c@1", "b@1", "a@1"]
    assert placed(one)[1:-1] == [0, 0, 0, 2, 2, 2]
    assert [b.answer_position for b in one.blocks] == [0, 1, 4, 8, 10, 13, 17, 19]
    two = chain("graph_sequential", m=2)
    assert placed(two)[1:-1] == [0, 0, 4, 6, 6, 6]
    every = chain("graph_sequential", m=3)
    assert placed(every)[1:-1] == [0, 3, 7, 9, 9, 9]
    assert [b.answer_position for b in every.blocks] == [b.answer_position for b in one.blocks]
    assert not one.packable
    for call in (one.mask, one.position_ids):
        with pytest.raises(LayoutError, match="moves keys between its phases"):
            call()


def test_counts_of_tokens_and_pairs() -> None:
    layout = chain(question=2)
    assert (layout.total_tokens, layout.sequential_tokens) == (16, 12)
    assert layout.pairs == int(layout.mask().sum())
    assert layout.sequential_pairs == int(chain("sequential", question=2).mask().sum()) == 78
    longer = layout.with_question(5)
    assert (longer.total_tokens, longer.question.position) == (19, layout.question.position)


# The layout rules, written a second time, over random graphs.

Name = tuple[str, int]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, int], list[tuple[str, str]], dict[str, float] | None]:
    ids = [f"s{i}" for i in range(draw(st.integers(1, 6)))]
    lengths = {id: draw(st.integers(1, 4)) for id in ids}
    edges = draw(st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(ids)), max_size=12))
    scores = {id: float(draw(st.integers(0, 3))) for id in ids} if draw(st.booleans()) else None
    return lengths, edges, scores


def brute(ids: list[str], edges: list[tuple[str, str]], rounds: Any) -> dict[Name, set[Name]] | None:
    """Blocks and what they read: every update first, then blocks that nobody reads fall away. None for a cycle in topological mode."""
    reading = {id: {u for u, v in edges if v == id} for id in ids}
    final: dict[str, int]
    if rounds == "topological":
        final = {}
        while len(final) < len(ids):
            ready = [id for id in ids if id not in final and reading[id] <= set(final)]
            if not ready:
                return None
            final |= {id: max((final[u] + 1 for u in reading[id]), default=0) for id in ready}
        return {(id, final[id]): {(u, final[u]) for u in reading[id]} for id in ids}
    final = {id: rounds if reading[id] else 0 for id in ids}
    exist = {(id, r) for id in ids for r in range(final[id] + 1)}
    blocks = {(id, r): {max((u, q) for v, q in exist if v == u and q < r) for u in reading[id]} if r else set() for id, r in exist}
    while unread := [b for b in blocks if b[1] != final[b[0]] and not any(b in read for read in blocks.values())]:
        for b in unread:
            del blocks[b]
    return blocks


@settings(max_examples=300, deadline=None)
@given(graphs(), st.sampled_from([0, 1, 2, 3, "topological"]))
def test_rounds_against_the_rules_written_again(case: Any, rounds: Any) -> None:
    lengths, edges, _ = case
    expected = brute(list(lengths), edges, rounds)
    if expected is None:
        with pytest.raises(GraphError, match="cycle"):
            rounds_of(graph_of(lengths, edges), rounds)
        return
    got = rounds_of(graph_of(lengths, edges), rounds)
    assert {block: set(read) for block, read in got.items()} == expected
    assert list(got) == sorted(got, key=lambda b: (b[1], list(lengths).index(b[0])))
    assert all(len(set(read)) == len(read) for read in got.values())


def edges_of(name: str, ids: list[str], edges: list[tuple[str, str]], scores: dict[str, float] | None, options: dict[str, Any]) -> Any:
    """(edges, rounds) under which a layout is nothing but `graph`."""
    best = sorted(ids, key=lambda id: (-scores[id], ids.index(id))) if scores else ids
    if name == "graph":
        return edges, options["rounds"]
    if name == "graph_full":
        return [(u, v) for u in ids for v in ids if u != v], options["rounds"]
    if name == "graph_topk":
        return [(u, v) for u in best[: options["m"]] for v in best[options["m"] :]], 1
    first, second = options["tiers"]
    tiers = [best[:first], best[first : first + second], best[first + second :]]
    return [(u, v) for a, b in itertools.pairwise(tiers) for u in a for v in b], "topological"


OPTIONS = st.one_of(
    st.tuples(st.just("graph"), st.fixed_dictionaries({"rounds": st.sampled_from([0, 1, 2, 3, "topological"])})),
    st.tuples(st.just("graph_full"), st.fixed_dictionaries({"rounds": st.sampled_from([0, 1, 2])})),
    st.tuples(st.just("graph_topk"), st.fixed_dictionaries({"m": st.integers(1, 4)})),
    st.tuples(st.just("graph_hops"), st.fixed_dictionaries({"tiers": st.tuples(st.integers(1, 2), st.integers(1, 2))})),
)


@settings(max_examples=200, deadline=None)
@given(graphs(), OPTIONS, st.sampled_from(["all", "final"]), st.booleans(), st.integers(0, 2), st.integers(0, 2))
def test_masks_token_pair_by_token_pair(case: Any, chosen: Any, view: str, prefix_visible: bool, prefix: int, question: int) -> None:
    """1. `Layout.mask()`; 2. each pair of tokens decided from the rules; 3. the kernels' dense mask of the packed pattern."""
    lengths, given_edges, scores = case
    name, options = chosen
    ids = list(lengths)
    edges, rounds = edges_of(name, ids, given_edges, scores, options)
    blocks = brute(ids, edges, rounds)
    if blocks is None:
        return
    layout = make_layout(name, graph_of(lengths, given_edges, scores), lengths, prefix=prefix, question=question, view=view, prefix_visible=prefix_visible, **options)
    order = sorted(blocks, key=lambda b: (b[1], ids.index(b[0])))
    tokens: list[tuple[Any, int]] = [("P", k) for k in range(prefix)]
    tokens += [(b, k) for b in order for k in range(lengths[b[0]])]
    tokens += [("Q", k) for k in range(question)]
    last = {id: max(r for s, r in blocks if s == id) for id in ids}

    def reads(reader: Any, i: int, read: Any, j: int) -> bool:
        if reader == read:
            return j <= i
        if reader == "P" or read == "Q":
            return False
        if read == "P":
            return reader == "Q" or prefix_visible
        return view == "all" or read[1] == last[read[0]] if reader == "Q" else read in blocks[reader]

    expected = torch.tensor([[reads(*row, *column) for column in tokens] for row in tokens])
    assert torch.equal(layout.mask(), expected)
    assert torch.equal(dense_mask(packed_pattern(layout)), expected)
    assert layout.pairs == int(expected.sum())
