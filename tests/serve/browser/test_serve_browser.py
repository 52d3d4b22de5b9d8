"""The page at / in headless Chromium: the real server, the drawing, and windows of every kind."""

from __future__ import annotations

import json
import random
import re

import pytest
from page_helpers import Open, Script, ask, chunk, lit, needs_chromium, row, upload, usage
from playwright.sync_api import Page, expect

pytestmark = [needs_chromium, pytest.mark.timeout(60)]


@pytest.fixture
def example(live_server: str, open_page: Open) -> Page:
    """The page before the real server, with the example loaded."""
    page = open_page(live_server)
    page.click("text=Load the example")
    expect(page.locator(".node")).to_have_count(8)
    return page


# --- with the real server


def test_the_example_is_drawn_as_it_is(example: Page) -> None:
    expect(example.locator("#rows tr")).to_have_count(8)
    expect(example.locator(".edge")).to_have_count(5)
    assert "Temple Ruby reads Ruby Geyser" in example.locator(".edge title").all_text_contents()
    assert all(int(cell.inner_text()) > 5 for cell in example.locator("#rows td:nth-child(3)").all())
    expect(example.locator("#plan")).to_contain_text("8 documents, 5 arrows")
    expect(example.locator("#model")).not_to_be_empty()
    assert set(example.locator(".label").all_text_contents()) >= {"Temple Ruby", "Ruby Geyser"}


def box(page: Page, elements: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each."""
    boxes: list[tuple[float, float, float, float]] = page.locator(elements).evaluate_all("(all) => all.map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.top, b.right, b.bottom])")
    return boxes


@pytest.mark.parametrize("graph", ["example", "chain"])
def test_labels_do_not_overlap_and_arrows_end_beside_nodes(example: Page, graph: str) -> None:
    if graph == "chain":  # one line, a column for each
        example.click("text=Remove all")
        upload(example, "chain.json", [{"id": f"c{i}", "title": f"Chained paper {i}", "text": "x", "sources": [f"c{i - 1}"] if i else []} for i in range(4)])
        expect(example.locator(".node")).to_have_count(4)
    labels = box(example, ".label")
    left, top, right, bottom = box(example, "#drawing")[0]
    for i, (x0, y0, x1, y1) in enumerate(labels):
        assert x1 - x0 > 40 and left <= x0 and x1 <= right and top <= y0 and y1 <= bottom
        assert all(x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0 for u0, v0, u1, v1 in labels[:i])
    places = [numbers(node.get_attribute("transform")) for node in example.locator(".node").all()]
    for edge in example.locator(".edge").all():
        path = numbers(edge.get_attribute("d"))
        for end in (path[:2], path[-4:-2]):
            assert all(abs(x - end[0]) > 5 or abs(y - end[1]) > 5 for x, y in places)


def numbers(attribute: str | None) -> list[float]:
    return [float(n) for n in re.findall(r"-?[\d.]+", attribute or "")]


def test_an_answer_streams_in_pieces_while_its_documents_are_lit(example: Page) -> None:
    example.locator("#answer").evaluate(
        """(answer) => {
            window.seen = { pieces: [], lit: 0 };
            new MutationObserver((records) => {
                if (answer.getAttribute("aria-busy") !== "true") return;
                for (const record of records) for (const node of record.addedNodes) if (node.nodeValue) window.seen.pieces.push(node.nodeValue);
                window.seen.lit = Math.max(window.seen.lit, document.querySelectorAll(".node.lit").length);
            }).observe(answer, { childList: true });
        }"""
    )
    example.select_option("#suggestions", "Which lab does Delta Thunder come from?")
    example.click("#send")
    expect(example.locator("#answer")).to_have_text("Zerrentik")
    expect(example.locator("#state")).to_have_text("Done.")
    seen = example.evaluate("window.seen")
    assert "".join(seen["pieces"]) == "Zerrentik" and len(seen["pieces"]) > 1
    assert seen["lit"] >= 1
    assert "paper6" in lit(example)  # Delta Thunder, which says so
    expect(example.locator("#shares")).to_contain_text("Delta Thunder")


def test_asking_again_reuses_what_was_read(example: Page) -> None:
    ask(example, "Which lab does Delta Thunder come from?")
    example.click("text=Ask again")
    expect(example.locator("#history li")).to_have_count(2)
    numbers = dict(zip(example.locator("#numbers dt").all_inner_texts(), example.locator("#numbers dd").all_inner_texts(), strict=True))
    reused, computed = (int(numbers[name].split()[0].replace(",", "")) for name in ("Tokens reused", "Tokens computed"))
    assert reused > 10 * computed > 0
    assert numbers["First token"].endswith("s") and numbers["Total"].endswith("s")
    expect(example.locator("#history li").first).to_contain_text(f"{reused} reused")


def test_a_citation_lights_up_what_it_was_taken_from(example: Page) -> None:
    ask(example, "Which lab does Delta Thunder come from?")
    mark = example.locator("#answer mark").first
    assert mark.inner_text() in "Zerrentik"
    before = lit(example)
    mark.hover()
    expect(mark).to_have_attribute("title", re.compile("Delta Thunder"))
    assert "paper6" in lit(example)
    example.mouse.move(1, 1)
    assert lit(example) == before


def test_another_layout_is_another_plan(example: Page) -> None:
    plans = []
    for layout in ("graph", "block", "graph_full"):
        example.select_option("#layout", layout)
        expect(example.locator("#plan")).to_contain_text("positions")
        expect(example.locator("#layout-note")).not_to_be_empty()
        plans.append(example.locator("#plan").inner_text())
        expect(example.locator(".node")).to_have_count(8)
        ask(example, "Which lab does Delta Thunder come from?")
        expect(example.locator("#history li").first).to_contain_text(f"layout {layout}")
    assert len(set(plans)) == 3


def test_two_hundred_documents(live_server: str, open_page: Open) -> None:
    dice = random.Random(1)
    documents = [{"id": f"d{i}", "title": f"Paper {i}", "text": f"It says {i}.", "sources": [f"d{j}" for j in dice.sample(range(i), min(i, 2))]} for i in range(200)]
    page = open_page(live_server)
    upload(page, "many.jsonl", "\n".join(map(json.dumps, documents)))
    expect(page.locator(".node")).to_have_count(200)
    expect(page.locator(".edge")).to_have_count(sum(len(d["sources"]) for d in documents))  # type: ignore[misc,arg-type]
    left, top, right, bottom = box(page, "#drawing")[0]
    for x0, y0, x1, y1 in box(page, ".dot"):
        assert x1 - x0 >= 6 and left <= x0 and x1 <= right and top <= y0 and y1 <= bottom
    row(page, "d150").hover()
    expect(page.locator(".node.near")).to_have_count(1 + sum("d150" in d["sources"] or d["id"] in documents[150]["sources"] for d in documents))  # type: ignore[operator]
    assert all(x1 > x0 for x0, _, x1, _ in box(page, ".node.near .label"))
    assert all(x1 == x0 for x0, _, x1, _ in box(page, ".node:not(.near) .label"))  # of two hundred, no others


# --- the drawing and the window


def test_pointing_at_a_node_shows_its_neighbours(page: Page) -> None:
    upload(page, "c.json", [{"id": "c", "title": "Gamma", "text": "Alone."}])
    expect(page.locator(".node")).to_have_count(3)
    page.locator(".node", has_text="Alpha").locator(".dot").hover()
    near = set(page.locator(".node.near .label").all_text_contents())
    assert near == {"Alpha", "Beta"}
    expect(page.locator(".edge.near")).to_have_count(1)
    page.locator(".node", has_text="Alpha").locator(".dot").click()
    expect(page.locator("#detail")).to_contain_text("read by: b")
    page.mouse.move(1, 1)
    expect(page.locator(".node.near")).to_have_count(0)
    row(page, "c").locator("button").first.focus()
    expect(page.locator(".node.near")).to_have_count(1)


def test_pan_and_zoom(page: Page) -> None:
    def view() -> list[float]:
        return numbers(page.locator("#drawing > g").get_attribute("transform"))

    fitted = view()
    page.click("[aria-label='Zoom in']")
    assert view()[2] > fitted[2]
    page.locator("#drawing").press("ArrowRight")
    moved = view()
    page.locator("#drawing").press("-")
    assert view()[2] < moved[2]
    page.locator("#drawing").press("0")
    assert view() == fitted
    box = page.locator("#drawing").bounding_box()
    assert box
    x, y = box["x"] + box["width"] - 30, box["y"] + box["height"] - 30
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y - 40)
    page.mouse.up()
    assert view() == pytest.approx([fitted[0] - 60, fitted[1] - 40, fitted[2]])
    page.mouse.wheel(0, 200)  # scrolls the page, if anything
    assert view()[2] == fitted[2]
    page.click("text=Fit")
    assert view() == fitted
    page.click("text=Enlarge")
    larger = page.locator("#drawing").bounding_box()
    assert larger and larger["width"] > box["width"] and larger["height"] > box["height"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_window_and_both_schemes_are_readable(scripted: tuple[str, Script], script: Script, open_page: Open, scheme: str, width: int) -> None:
    page = open_page(scripted[0], color_scheme=scheme, viewport={"width": width, "height": 800})
    page.click("text=Load the example")
    expect(page.locator(".node")).to_have_count(8)
    upload(page, "long.json", [{"id": "x" * 120, "title": "y" * 300, "text": "z" * 900, "sources": ["paper1"]}])
    script.events = [chunk("w" * 400, used={"paper1": 0.9}), usage(30, 10, 2)]
    ask(page, "q" * 300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = page.evaluate(
        """() => {
            const numbers = (colour) => { const c = new OffscreenCanvas(1, 1).getContext("2d"); c.fillStyle = colour; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
            const light = (colour) => numbers(colour).slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const ground = (e) => { for (; e; e = e.parentElement) { const b = getComputedStyle(e).backgroundColor; if (numbers(b)[3] === 255) return b; } return "white"; };
            const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
            const wanted = "h1, h2, p, label, td, th, dt, dd, li, button:enabled, .chip, #answer, .soft";
            const seen = [...document.querySelectorAll(wanted)].filter((e) => e.offsetParent && e.textContent.trim());
            const texts = seen.map((e) => [e.tagName + "#" + e.id, ratio(getComputedStyle(e).color, ground(e))]);
            const label = document.querySelector(".node.lit .label");
            return [...texts, ["lit label", ratio(getComputedStyle(label).fill, getComputedStyle(label.previousElementSibling).fill)]];
        }"""
    )
    assert len(contrasts) > 30
    assert [(name, round(ratio, 2)) for name, ratio in contrasts if ratio < 4.5] == []
