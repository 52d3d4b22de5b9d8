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
    [([], "at least one"), (["grpah"], "unknown arm"), (["graph", "graph"], "twice"), (["graph:m"], "key=value"), (["graph:tempo=1"], "tempo"), (["graph:layout=block"], "name says the layout"), (["infini_retri:chunk=1"], "chunk")],
)
def test_what_is_no_arm(specs: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_arms(specs)
