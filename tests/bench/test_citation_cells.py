"""The cells of the citation-world benchmark: what the arms do to a world, and who is asked what."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from graphkv.errors import InputError
from graphkv_benchmarks.citation_bench.arms import ARMS, documents_for
from graphkv_benchmarks.citation_bench.cells import KINDS, PER_WORLD, Batch, worlds_of
from graphkv_benchmarks.citation_world import NOT_FOUND, make_world, one_style

HOPS = KINDS[:3]
SMALL = Batch("graph", "named", 4, 0, ("1 hop", "2 hops"), 10)


def test_arms_do_to_edges_and_documents_what_they_say() -> None:
    world = make_world(3, 8, True, one_style("bare"))
    given = {p.id: p.sources for p in world.papers}
    text = {p.id: p.text for p in world.papers}
    cited = next(source for sources in given.values() for source in sources)
    for arm in ARMS.values():
        documents = documents_for(arm, world, "seed", cited)
        sources = {d["id"]: d["sources"] for d in documents}
        assert all(d["text"] == text[d["id"]] for d in documents)
        if arm.name == "graph-wrong":
            assert {id: len(s) for id, s in sources.items()} == {id: len(s) for id, s in given.items()}
            assert not any(set(sources[id]) & {id, *given[id]} for id in sources)
            assert documents == documents_for(arm, world, "seed") and documents != documents_for(arm, world, "other")
        elif arm.name == "graph-removed":
            assert list(sources) == [id for id in given if id != cited]
            assert sources == {id: [s for s in given[id] if s != cited] for id in sources}
        elif arm.name == "shared-no-edges":
            assert not any(sources.values()) and list(sources) == list(given)
        else:
            assert sources == given
    assert {p.id: p.sources for p in world.papers} == given  # the world itself is not touched


def test_moving_a_document_draws_the_same_wrong_edges() -> None:
    world = make_world(3, 12, True, one_style("named"))
    moved = replace(world, papers=[*world.papers[5:], *world.papers[:5]])
    first, second = ({d["id"]: d["sources"] for d in documents_for(ARMS["graph-wrong"], w, "seed")} for w in (world, moved))
    assert first == second and list(first) != list(second)


def test_the_gold_document_must_be_named_to_be_taken_out() -> None:
    with pytest.raises(InputError, match="expected one of p0, p1, p2, p3, got None"):
        documents_for(ARMS["graph-removed"], make_world(1, 4, True), "")


# Cells


@pytest.mark.parametrize("style", ["named", "numbered", "bare"])
def test_a_cell_has_its_number_and_kind_of_questions(style: str) -> None:
    kinds = (*HOPS, "comparison", "unanswerable")
    worlds = list(worlds_of(Batch("graph", style, 8, 0, kinds, 30), seed=1))
    for kind in kinds:
        asked = [q for world in worlds for q in world.questions.get(kind, ())]
        assert len(asked) == 30
        assert max(len(world.questions.get(kind, ())) for world in worlds) <= PER_WORLD
        if kind in HOPS:
            assert {q.style for q in asked} == {style} and {q.hops for q in asked} == {HOPS.index(kind) + 1}
        if kind == "1 hop":
            assert {q.type for q in asked} == ({"attribute", "title"} if style == "named" else {"title"})
        if kind == "unanswerable":
            assert {q.answer for q in asked} == {NOT_FOUND}
    assert all(paper.style == style for world in worlds for paper in world.world.papers if paper.cites)


def test_arms_kinds_and_places_share_worlds_and_questions() -> None:
    batch = Batch("graph", "named", 8, 0, HOPS, 25)

    def asked(batch: Batch, kind: str) -> list[tuple[int, str]]:
        return [(world.number, q.question) for world in worlds_of(batch, seed=4) for q in world.questions.get(kind, ())]

    for kind in HOPS:
        assert asked(batch, kind) == asked(replace(batch, arm="block"), kind) == asked(replace(batch, kinds=(kind,)), kind)
        assert asked(replace(batch, place=0), kind) == asked(replace(batch, place=7, arm="pcw"), kind)
    assert asked(batch, "1 hop") != [(world.number, q.question) for world in worlds_of(batch, seed=5) for q in world.questions.get("1 hop", ())]


def test_a_place_is_where_the_gold_document_stands() -> None:
    worlds = [list(worlds_of(replace(SMALL, documents=6, place=place), seed=1)) for place in (0, 3, 5)]
    for first, *moved in zip(*worlds, strict=True):
        for place, world in zip((0, 3, 5), (first, *moved), strict=True):
            assert {q.gold for questions in world.questions.values() for q in questions} == {world.gold}
            assert world.world.papers[place].id == world.gold
        others = [[p.id for p in world.world.papers if p.id != first.gold] for world in (first, *moved)]
        assert all(one == other for one, other in pairwise(others))


def test_needles_are_asked_for() -> None:
    worlds = list(worlds_of(Batch("graph", "named", 2, 60, ("needle",), 12), seed=1))
    assert sum(len(world.questions["needle"]) for world in worlds) == 12
    assert max(len(world.questions["needle"]) for world in worlds) > 1
    assert all(len(world.world.papers) == 2 and q.type == "needle" for world in worlds for q in world.questions["needle"])


def test_cells_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="had no question of kind 3 hops: allow more documents"):
        list(worlds_of(replace(SMALL, documents=2, kinds=("3 hops",)), seed=1))
    with pytest.raises(InputError, match="cannot be moved or taken out"):
        list(worlds_of(replace(SMALL, kinds=("unanswerable",), place=0), seed=1))
    with pytest.raises(InputError, match="unknown citation style 'boxed'"):
        list(worlds_of(replace(SMALL, style="boxed"), seed=1))
    with pytest.raises(InputError, match="place must be from 0 to 3, got 4"):
        list(worlds_of(replace(SMALL, place=4), seed=1))
