"""Arms by name."""

from __future__ import annotations

import pytest

from graphkv.errors import InputError
from graphkv.layouts import LAYOUTS, layout_options
from graphkv.strategies import GRAPH, strategy_names
from graphkv_benchmarks.runner.arms import ARMS, make_arms


def test_every_layout_and_strategy_has_an_arm() -> None:
    assert {arm.layout for arm in ARMS.values() if arm.strategy == GRAPH} == set(LAYOUTS)
    assert {arm.strategy for arm in ARMS.values()} == {GRAPH, *strategy_names()}


@pytest.mark.parametrize("name", sorted(ARMS))
def test_an_arms_options_are_those_of_its_layout(name: str) -> None:
    arm = ARMS[name]
    if arm.layout is not None:
        assert set(arm.options) - {"layout"} <= set(layout_options(arm.layout))


def test_options_behind_colons() -> None:
    (arm,) = make_arms(["hops2:tiers=(2, 2):view=final"])
    assert arm.name == "hops2:tiers=(2, 2):view=final" and arm.options == {"layout": "graph_hops", "tiers": (2, 2), "view": "final"}


@pytest.mark.parametrize(
    ("specs", "message"),
    [([], "at least one"), (["grpah"], "unknown arm"), (["graph", "graph"], "twice"), (["graph:m"], "key=value"), (["graph:tempo=1"], "tempo"), (["graph:layout=block"], "name says the layout"), (["infini_retri:chunk=1"], "chunk"),
     (["block:m=3"], "arm 'block:m=3': layout 'block' has no option 'm'; it has none"), (["graph:m=3"], "layout 'graph' has no option 'm'; valid: positions, prefix_visible, rounds, view"),
     (["graph:rounds=-1"], "arm 'graph:rounds=-1': rounds must be a number"), (["graph:positions=nonsense"], "unknown positions option 'nonsense'; valid: paper, sequential, tight"),
     (["top1:m=0"], "m must be a whole number of at least 1"), (["hops2:tiers=3"], "tiers must be a sequence"), (["ape:scale=0"], "finite scale above 0"),
     (["full:rounds=topological"], "has a cycle"), (["official-full:view=final"], "has no option 'view'; valid: m")],
)
def test_what_is_no_arm(specs: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_arms(specs)


@pytest.mark.parametrize("spec", ["graph:rounds=2:positions=512", "top1:m=99", "hops2:tiers=(1,9,9)", "ape:temperature=0.5", "graph:rounds=topological", "official-top3:m=1"])
def test_options_that_can_be_meant_need_no_data(spec: str) -> None:
    assert [arm.name for arm in make_arms([spec])] == [spec]


def test_an_arm_with_options_does_not_say_what_no_longer_holds() -> None:
    top, graph, infini = make_arms(["top1:m=3", "graph:rounds=2:view=final", "infini_retri:neighbours=sources"])
    assert top.about == "with m=3 in place of 1, else as top1: Graph-KV Top-1: the best segment is the source of the rest"
    assert graph.about.startswith("with rounds=2, view=final, else as graph: ") and infini.about.startswith("with neighbours=sources, else as infini_retri: ")
    assert make_arms(["top1"]) == [ARMS["top1"]]


def test_the_cost_of_sharing_is_measured_over_every_layout_arm() -> None:
    from graphkv_benchmarks.runner.sharing import SETS

    assert set(SETS["all"]) == {name for name, arm in ARMS.items() if arm.layout is not None} and {"top1", "top3", "official-full", "official-top3"} < set(SETS["all"])
    assert set(SETS["paper"]) < set(SETS["family"]) < set(SETS["all"])
