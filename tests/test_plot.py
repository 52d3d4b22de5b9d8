"""Pictures: what they show, how large they may get, and that they leave matplotlib's global state alone."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphkv.errors import InputError
from graphkv.graph import Edge, SegmentGraph
from graphkv.layouts import LAYOUTS, make_layout
from graphkv.places import label_of, node_places, overview, shorten
from graphkv.plot import ROLE_COLOURS, _mask_image, _rgb, draw_layout
from graphkv.plot_graph import draw_graph
from graphkv.segments import Segment


def graph_of(count: int, *, cycle: bool = False) -> SegmentGraph:
    """A binary tree of papers, with a loop if a cycle is wanted, and one paper that has no links."""
    rows = [{"id": f"p{i}", "text": "x", "sources": [f"p{i // 2}"] if i else (["p1"] if cycle else [])} for i in range(count)]
    return SegmentGraph.from_documents([*rows, {"id": "alone", "text": "x"}])


def size_of(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.mark.parametrize("cycle", [False, True])
@pytest.mark.parametrize("count", [1, 5, 230])
def test_no_two_labels_stand_on_each_other(count: int, cycle: bool) -> None:
    places = node_places(graph_of(count, cycle=cycle and count > 1))
    assert set(places.xy) == set(graph_of(count).ids)
    columns: dict[float, list[float]] = {}
    for x, y in places.xy.values():
        assert 0 <= x <= places.width and 0 <= y <= places.height
        columns.setdefault(round(x, 3), []).append(y)
    if not places.angles:
        for ys in columns.values():
            assert all(b - a >= 1 for a, b in zip(sorted(ys), sorted(ys)[1:], strict=False))
    else:
        points = list(places.xy.values())
        assert all(np.hypot(a[0] - b[0], a[1] - b[1]) >= 1 for a, b in itertools.pairwise(points))


def test_sources_stand_left_of_their_targets() -> None:
    graph = graph_of(40)
    places = node_places(graph)
    assert all(places.xy[u][0] < places.xy[v][0] for u, v in graph.edges)


@pytest.mark.parametrize("count", [5, 230])
def test_draw_graph(count: int, tmp_path: Path) -> None:
    path = draw_graph(graph_of(count), tmp_path / "new" / "graph.png")
    width, height = size_of(path)
    assert width >= 300 and height >= 200


@pytest.mark.parametrize("name", LAYOUTS)
def test_draw_every_layout(name: str, tmp_path: Path) -> None:
    graph = graph_of(5)
    layout = make_layout(name, graph, dict.fromkeys(graph.ids, 7), prefix=2, question=3)
    assert size_of(layout.draw(tmp_path / "mask.png"))[0] > 800


def test_titles_with_dollars_are_texts(tmp_path: Path) -> None:
    rows = [{"id": "$\\bad$", "title": "On $\\Nc{4}$ SYM", "text": "x", "role": "$r_$"}, {"id": "b", "text": "y", "sources": [{"id": "$\\bad$", "kind": "$\\k{$"}]}]
    graph = SegmentGraph.from_documents(rows)
    draw_graph(graph, tmp_path / "graph.png")
    draw_layout(make_layout("graph", graph, dict.fromkeys(graph.ids, 7), prefix=2, question=3), tmp_path / "mask.png")


def test_a_large_graph_is_drawn_as_its_papers(tmp_path: Path) -> None:
    """300 papers of two sections, each citing the one before: papers are shown, joined by the citations of their sections."""
    segments, edges = [], []
    for i in range(300):
        segments.append(Segment(f"p{i}", text="x", title=f"Paper {i}", metadata={"role": "paper"}))
        segments += [Segment(f"p{i}/{n}", text="x", metadata={"role": "section", "paper": f"p{i}", "section": f"{n} Part", "number": n}) for n in (1, 2)]
        edges += [Edge(f"p{i - 1}", f"p{i}/2", kind="cites")] if i else []
    graph = SegmentGraph.from_segments(segments, edges)
    shown = overview(graph)
    assert shown.graph.ids == tuple(f"p{i}" for i in range(300)) and shown.note == "600 sections are folded into their papers"
    assert set(shown.graph.edges) == {(f"p{i - 1}", f"p{i}") for i in range(1, 300)}
    few = overview(graph, most=50)
    assert len(few.graph) == 50 and few.note is not None and few.note.endswith("50 of 300 nodes, those with the most edges")
    assert label_of(graph, "p7/2") == "§ 2 Part" and label_of(shown.graph, "p7") == "Paper 7 +2"
    small = overview(graph.subgraph(graph.ids[:6]))
    assert small.graph.ids == graph.ids[:6] and small.note is None
    assert size_of(draw_graph(graph, tmp_path / "graph.png"))[0] > 2000


def test_draw_four_hundred_blocks(tmp_path: Path) -> None:
    graph = graph_of(398)
    layout = make_layout("graph_full", graph, dict.fromkeys(graph.ids, 250), prefix=2, question=3)
    assert size_of(draw_layout(layout, tmp_path / "mask.png"))[0] > 800


def test_the_picture_is_the_mask() -> None:
    """1. The mask by tokens. 2. The picture, sampled at the middle of each token. White exactly where nothing is read."""
    graph = graph_of(4)
    layout = make_layout("graph", graph, {id: 3 + i for i, id in enumerate(graph.ids)}, prefix=2, question=3)
    image = _mask_image(layout)
    scale = image.shape[0] / layout.total_tokens
    middle = ((np.arange(layout.total_tokens) + 0.5) * scale).astype(int)
    # Just above the middle of the diagonal's own cells the triangle begins; one pixel lower is inside.
    drawn = (image[np.ix_(middle + 1, middle)] != 255).any(-1)
    assert (drawn == layout.mask().numpy()).all()
    question, first_source = layout.total_tokens - 1, layout.starts[1]
    assert tuple(image[middle[question], middle[first_source]]) == _rgb(ROLE_COLOURS["source"])


def test_shorten() -> None:
    assert shorten("a  b\nc") == "a b c"
    assert shorten("x" * 40, 10) == "x" * 9 + "…"


def test_pyplot_is_not_touched(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from graphkv.graph import SegmentGraph\n"
        "from graphkv.plot_graph import draw_graph\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"draw_graph(SegmentGraph.from_documents([{{'id': 'a', 'text': 'x'}}]), {str(tmp_path / 'g.png')!r})\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"pip install graphkv\[viz\]"):
        draw_graph(graph_of(2), tmp_path / "g.png")
