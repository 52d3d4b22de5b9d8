"""The page at / as files: what is served, what is not, and that the pieces fit each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from graphkv.graph import SegmentGraph
from graphkv.layouts import LAYOUTS
from graphkv.serve.page import FILES, router

FOLDER = files("graphkv").joinpath("serve/page")
CODE = {name: FOLDER.joinpath(name).read_text(encoding="utf-8") for name in FILES if name.endswith(".js")}
INDEX = FOLDER.joinpath("index.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Every element of a page: (tag, attributes, the text inside, the tags around it)."""

    VOID = ("meta", "link", "input", "br", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[int] = []
        self.all: list[tuple[str, dict[str, str], list[str], list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, {name: value or "" for name, value in attrs}, [], [self.all[i][0] for i in self.open]))
        if tag not in self.VOID:
            self.open.append(len(self.all) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.all[self.open.pop()][0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        for i in self.open:
            self.all[i][2].append(data)


ELEMENTS = Elements(INDEX).all
IDS = [attributes["id"] for _, attributes, _, _ in ELEMENTS if "id" in attributes]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(router)
    with TestClient(app) as client:
        yield client


def test_the_page_is_served_and_may_load_nothing_from_elsewhere(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200 and answer.text == INDEX
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy and "*" not in policy
    head = client.head("/")
    assert head.status_code == 200 and not head.content


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_once_and_then_only_when_it_changes(client: TestClient, name: str) -> None:
    answer = client.get(f"/page/{name}")
    folder, media_type = FILES[name]
    assert answer.status_code == 200 and answer.content == files("graphkv").joinpath(folder, name).read_bytes()
    assert answer.headers["content-type"] == media_type and answer.headers["x-content-type-options"] == "nosniff"
    again = client.get(f"/page/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304 and not again.content


@pytest.mark.parametrize("name", ["", "nothing.js", "..%2fpage.py", "%2e%2e/page.py", "..%5cpage.py", "/etc/passwd", "page.py", "index.html%00", "page.js/x"])
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/page/{name}").status_code == 404


def test_the_table_names_every_file_of_the_folder() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {name for name, (folder, _) in FILES.items() if folder == "serve/page"}


def test_the_pieces_of_the_page_exist() -> None:
    linked = re.findall(r'(?:src|href)="page/([^"]+)"', INDEX)
    imported = [name for text in CODE.values() for name in re.findall(r'from "\./([^"]+)"', text)]
    loaded = [name for text in CODE.values() for name in re.findall(r'page/([\w.]+)"', text)]
    assert linked and imported and loaded
    assert {*linked, *imported, *loaded, "index.html", "papers.jsonl"} == set(FILES)


def test_every_element_that_the_code_asks_for_is_there() -> None:
    assert len(IDS) == len(set(IDS))
    wanted = {id for text in CODE.values() for id in re.findall(r'\$\("([\w-]+)"\)', text)}
    assert wanted and wanted <= set(IDS)
    for _, attributes, _, _ in ELEMENTS:
        assert {attributes[name] for name in ("for", "aria-labelledby", "aria-controls") if name in attributes} <= set(IDS)


def test_code_and_style_stand_in_files_of_their_own() -> None:
    for tag, attributes, text, _ in ELEMENTS:
        assert not (tag == "script" and "".join(text).strip()), "inline script"
        assert tag != "style" and "style" not in attributes, "inline style"
        assert not [name for name in attributes if name.startswith("on")], "inline handler"


def test_no_text_is_taken_for_markup_and_nothing_is_asked_for_elsewhere() -> None:
    for name, text in {**CODE, "index.html": INDEX, "page.css": FOLDER.joinpath("page.css").read_text(encoding="utf-8")}.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|localStorage", text), name
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), name


def test_every_control_has_a_name() -> None:
    labelled = {attributes["for"] for tag, attributes, text, _ in ELEMENTS if tag == "label" and "".join(text).strip()}
    for tag, attributes, text, _ in ELEMENTS:
        if tag in ("input", "select", "textarea"):
            assert attributes.get("id") in labelled or attributes.get("aria-label"), attributes
        if tag == "button":
            assert "".join(text).strip(), attributes
            assert attributes["type"] in ("button", "submit"), attributes


def test_every_layout_can_be_chosen_and_is_explained() -> None:
    options = [attributes for tag, attributes, _, around in ELEMENTS if tag == "option" and around[-1] == "select"]
    assert sorted(attributes["value"] for attributes in options) == sorted(LAYOUTS)
    assert all(attributes["data-note"].endswith(".") for attributes in options)
    assert [attributes["value"] for attributes in options if "selected" in attributes] == ["graph"]


def test_the_example_is_a_graph_and_has_questions(client: TestClient, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("example") / "papers.jsonl"
    path.write_bytes(client.get("/page/papers.jsonl").content)
    assert len(SegmentGraph.from_jsonl(path).edges) > 0
    assert all(row["question"] for row in client.get("/page/questions.json").json())
