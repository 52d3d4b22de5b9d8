"""The library: documents by scope that survive a restart, in the file alone, and over HTTP."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from helpers import tiny_engine
from starlette.testclient import TestClient

from graphkv import Document
from graphkv.cli.demo import read_demo
from graphkv.errors import DocumentError, InputError, StoreError
from graphkv.scheduler import Scheduler
from graphkv.serve.app import create_app
from graphkv.serve.library import Library, Stored, _more, id_problem
from graphkv.serve.settings import Settings
from graphkv.store import FileStore

NASTY = ["../../etc/passwd", "a/b", ".", "a b", "ä", "😀", "'; drop table documents; --", "%2e%2e%2f", "C:\\x", "-rf", "x" * 512]


@pytest.fixture(params=["memory", "file"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Library]:
    library = Library(None if request.param == "memory" else tmp_path / "deep" / "documents.sqlite")
    yield library
    library.close()


def ids(library: Library, scope: str) -> list[str]:
    return [row.id for row in library.page(scope)[0]]


def test_put_get_page_delete(library: Library) -> None:
    stored = Stored("a", "It\0rains.\n", "Weather", ("b", {"id": "c", "kind": "cites", "weight": 2.0}), 0.5, {"year": 1999, "tags": ["x"]}, created=5)
    library.put("", [stored, Stored("b", "x", created=6)])
    assert library.get("", ["b", "nowhere", "a", "a"]) == {"b": Stored("b", "x", created=6), "a": stored}
    assert replace(Stored.of(stored.document), created=5) == stored
    assert stored.document == Document("a", "It\0rains.\n", "Weather", ("b", "c"), 0.5) and stored.document.edges == {"c": {"kind": "cites", "weight": 2.0}}
    assert library.characters("", ["a", "b", "nowhere"]) == len("It\0rains.\n") + len("Weather") + 1

    library.put("", [Stored("a", "other", created=99)])
    assert library.get("", ["a"]) == {"a": Stored("a", "other", created=5)}  # replaced as a whole, but for when it was put first
    assert library.delete("", ["a", "nowhere"]) == {"a"} and library.delete("", ["a"]) == set()
    assert ids(library, "") == ["b"]


def test_pages(library: Library) -> None:
    library.put("", [Stored(f"d{i:03}", "x") for i in range(25)])
    seen, after, more = list[str](), "", True
    while more:
        rows, more = library.page("", limit=10, after=after)
        seen += [row.id for row in rows]
        after = rows[-1].id
    assert seen == [f"d{i:03}" for i in range(25)]


def test_scopes_do_not_meet(library: Library) -> None:
    library.put("one", [Stored("a", "the one's"), Stored("b", "x")])
    library.put("two", [Stored("a", "the other's")])
    assert library.get("one", ["a"])["a"].text == "the one's" and library.get("two", ["a", "b"])["a"].text == "the other's"
    assert ids(library, "two") == ["a"] and ids(library, "three") == []
    assert library.delete("two", ["a", "b"]) == {"a"} and ids(library, "one") == ["a", "b"]
    assert library.characters("two", ["a", "b"]) == 0


def test_more_ids_than_one_statement_takes(library: Library) -> None:
    library.put("", [Stored(str(i), "x") for i in range(1200)])
    assert len(library.get("", map(str, range(1500)))) == 1200 and library.characters("", map(str, range(1500))) == 1200


def test_ids_are_values_and_no_paths(tmp_path: Path) -> None:
    library = Library(tmp_path / "library" / "documents.sqlite")
    library.put("../scope", [Stored(id, f"text of {id}") for id in NASTY])
    assert {id: stored.text for id, stored in library.get("../scope", NASTY).items()} == {id: f"text of {id}" for id in NASTY}
    assert library.delete("../scope", NASTY) == set(NASTY)
    library.close()
    assert {p.name.split("-")[0] for p in tmp_path.rglob("*") if p.is_file()} == {"documents.sqlite"}
    assert [p.name for p in tmp_path.iterdir()] == ["library"]


@pytest.mark.parametrize("id", ["", "x" * 513, "a\0", "a\n", "\x7f", "\x85", "\u2028", "\ud800", None, 5])
def test_what_is_no_id(library: Library, id: str) -> None:
    assert id_problem(id)
    with pytest.raises(InputError, match="an id must"):
        library.put("", [Stored("good", "x"), Stored(id, "x")])
    assert ids(library, "") == []


def test_all_or_nothing(library: Library) -> None:
    for metadata in ({"x": float("nan")}, {"x": "\ud800"}, {"x": object()}):
        with pytest.raises(DocumentError, match="must be JSON"):
            library.put("", [Stored("a", "x"), Stored("b", "x", metadata=metadata)])
    library.max_characters = 60 + len(_more(Stored("a", "")))
    library.put("other", [Stored("a", "x" * 50)])
    library.put("", [Stored("a", "x" * 6)])
    with pytest.raises(InputError, match=r"\d+ characters with ids and metadata, at most \d+"):
        library.put("", [Stored("b", "x" * 4), Stored("c", "xx")])
    assert ids(library, "") == ["a"]
    library.put("", [Stored("a", "x" * 50)])  # a larger one in its place


@pytest.mark.parametrize("stored", [Stored("b", "x", "t" * 900), Stored("b", "x", sources=("s" * 500, "t" * 400)), Stored("b", "x", metadata={"m": "y" * 900})], ids=["title", "sources", "metadata"])
def test_all_that_is_kept_counts(library: Library, stored: Stored) -> None:
    library.max_characters = 800
    with pytest.raises(InputError, match="would hold 9"):
        library.put("", [stored])


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (Stored("b", "x", "t" * 2001), "title may have 2,000 characters, got 2,001"),
        (Stored("b", "x", metadata={"m": "ä" * 33_000}), "metadata may have 65,536 bytes as JSON, got 66,009"),
        (Stored("b", "x", sources=tuple(["s" * 500] * 600)), "sources may have 262,144 bytes"),
    ],
    ids=["title", "metadata", "sources"],
)
def test_what_is_too_long_beside_the_text(library: Library, stored: Stored, said: str) -> None:
    with pytest.raises(InputError, match=said):
        library.put("", [Stored("a", "x"), stored])
    assert ids(library, "") == []


@pytest.mark.parametrize("umask", [0, 0o022, 0o277], ids=oct)
def test_the_file_is_its_owner_s_alone(tmp_path: Path, umask: int) -> None:
    """And the store takes the folder that was made for it."""
    before = os.umask(umask)
    try:
        library = Library(tmp_path / "store" / "serve" / "documents.sqlite")
    finally:
        os.umask(before)
    library.put("", [Stored("a", "x")])
    made = {path.relative_to(tmp_path).as_posix(): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert {made.pop(folder) for folder in ("store", "store/serve")} == {0o700} and set(made.values()) == {0o600}
    assert not list(FileStore(tmp_path / "store").entries())
    library.close()


def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    library = Library(tmp_path / "documents.sqlite")
    library.put("one", [Stored("a", "x", metadata={"year": 1999}, created=5)])
    other = Library(tmp_path / "documents.sqlite")  # as if the first had been killed: it was not closed
    assert other.get("one", ["a"]) == {"a": Stored("a", "x", metadata={"year": 1999}, created=5)}
    other.close()
    library.close()


def test_many_threads(library: Library) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(20):
                library.put(f"scope{number % 3}", [Stored(f"{number}-{i}", f"{number}")])
                assert library.get(f"scope{number % 3}", [f"{number}-{i}"])[f"{number}-{i}"].text == str(number)
                if i % 2:
                    library.delete(f"scope{number % 3}", [f"{number}-{i}"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [len(library.page(f"scope{s}")[0]) for s in range(3)] == [30, 30, 30]


def test_what_is_no_library_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("create table theirs (x)")
    with pytest.raises(StoreError, match="not a document library"):
        Library(other)
    text = tmp_path / "text.txt"
    text.write_text("This is no database, but a text that is long enough to be looked at. " * 20)
    before = text.read_bytes()
    with pytest.raises(StoreError, match="cannot be opened"):
        Library(text)
    assert text.read_bytes() == before
    with pytest.raises(StoreError, match="cannot be made"):
        Library(text / "documents.sqlite")
    library = Library(None)
    library.close()
    with pytest.raises(StoreError, match="cannot be read"):
        library.get("", ["a"])


# Over HTTP.


@pytest.fixture
def client(app_client: TestClient) -> Iterator[TestClient]:
    """A client of a server whose library is empty."""
    yield app_client
    if ids := listed(app_client):
        assert app_client.delete("/v1/documents", params={"id": ids}).status_code == 200


def listed(client: httpx.Client | TestClient) -> list[str]:
    return [d["id"] for d in client.get("/v1/documents").json()["data"]]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_put_one_or_many(client: TestClient, method: str) -> None:
    many: list[dict[str, Any]] = [
        {"id": "a", "title": "A", "text": "x", "sources": ["b"], "year": 1999},
        {"id": "b", "data": {"snippet": "yy"}},
        {"id": 5, "source": {"type": "text", "data": "z"}},
    ]
    reply = client.request(method, "/v1/documents", json={"documents": many})
    assert reply.status_code == 200 and [(d["id"], d["object"], d.get("title"), d["characters"]) for d in reply.json()["data"]] == [
        ("a", "document", "A", 2),
        ("b", "document", None, 2),
        ("5", "document", None, 1),
    ]
    assert listed(client) == ["5", "a", "b"]
    got = client.get("/v1/documents/a").json()
    assert (got["text"], got["sources"], got["metadata"], got["score"]) == ("x", ["b"], {"year": 1999}, None)
    assert client.request(method, "/v1/documents", json={"id": "a", "text": "changed"}).status_code == 200
    assert client.get("/v1/documents/a").json()["text"] == "changed" and listed(client) == ["5", "a", "b"]


def test_one_by_its_path(live_server: str) -> None:
    with httpx.Client(base_url=live_server) as client:
        for id in NASTY:
            path = f"/v1/documents/{quote(id, safe='').replace('.', '%2E')}"
            assert client.put(path, json={"text": f"text of {id}"}).status_code == 200, id
            assert client.get(path).json()["id"] == id and client.get(path).json()["text"] == f"text of {id}"
        assert sorted(listed(client)) == sorted(NASTY)
        assert client.put("/v1/documents/x", json={"id": "y", "text": "x"}).json()["error"]["param"] == "body.id"
        for path in ("x", "a%00b", "%0a", "y" * 513, ""):
            for method in ("GET", "DELETE"):
                assert client.request(method, f"/v1/documents/{path}").status_code == (404 if path == "x" else 400), path
        gone = client.delete("/v1/documents", params={"id": [*NASTY[1:], "nowhere"]}).json()["data"]
        assert {d["id"] for d in gone if d["deleted"]} == set(NASTY[1:]) and listed(client) == NASTY[:1]
        assert client.delete(f"/v1/documents/{quote(NASTY[0], safe='')}").json() == {"id": NASTY[0], "object": "document", "deleted": True}
        for query in ({}, {"id": ""}, {"id": "a\0"}):
            assert client.delete("/v1/documents", params=query).status_code == 400


def test_http_pages(client: TestClient) -> None:
    client.put("/v1/documents", json={"documents": [{"id": f"d{i}", "text": "x"} for i in range(5)]})
    page = client.get("/v1/documents", params={"limit": 3}).json()
    assert ([d["id"] for d in page["data"]], page["has_more"], page["last_id"]) == (["d0", "d1", "d2"], True, "d2")
    page = client.get("/v1/documents", params={"limit": 3, "after": "d2"}).json()
    assert ([d["id"] for d in page["data"]], page["has_more"], page["last_id"]) == (["d3", "d4"], False, "d4")
    for query in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"after": "x" * 513}):
        assert client.get("/v1/documents", params=query).status_code == 400


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        ({"documents": []}, "documents", "at least 1 item"),
        ({"documents": [{"text": "x"}]}, "documents[0].id", "to be found again"),
        ({"documents": ["x"]}, "documents[0].id", "to be found again"),
        ({"documents": [{"id": "a"}]}, "documents[0]", "expected a text"),
        ({"documents": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]}, "documents[1].id", "there twice"),
        ({"documents": [{"id": "a", "text": ""}]}, "documents[0].text", "empty"),
        ({"documents": [{"id": "a", "text": "x"}], "encod": True}, "encod", "not permitted"),
        ({"documents": [{"id": "a", "text": "x"}], "encode": True, "layout": "grpah"}, "", "unknown layout"),
        ({"documents": [{"id": "a", "text": "word " * 20_000}], "encode": True}, "", "window"),
        ({}, "documents[0]", "an empty object"),
        ([], "body", "expected a JSON object"),
    ],
)
def test_mistakes_keep_nothing(client: TestClient, body: Any, place: str, said: str) -> None:
    reply = client.put("/v1/documents", json=body)
    assert reply.status_code == 400 and said in reply.json()["error"]["message"] and (reply.json()["error"]["param"] or "") == place
    assert listed(client) == []


def test_questions_name_documents_by_id(client: TestClient) -> None:
    graph, questions = read_demo()
    papers = [{"id": s.id, "title": s.title, "text": s.text, "sources": list(graph.sources(s.id))} for s in graph]
    asked = {"messages": [{"role": "user", "content": questions[2]["question"]}], "max_tokens": 24}
    inline = client.post("/v1/chat/completions", json={**asked, "documents": papers}).json()["choices"]
    client.put("/v1/documents", json={"documents": papers})
    for body in (
        {"documents": [{"id": id} for id in graph.ids]},
        {"graph": {"documents": list(graph.ids)}},
        {"documents": papers[:1], "graph": {"documents": list(graph.ids[1:])}},
    ):
        assert client.post("/v1/chat/completions", json={**asked, **body}).json()["choices"] == inline
    client.delete(f"/v1/documents/{graph.ids[0]}")
    assert client.post("/v1/chat/completions", json={**asked, "graph": {"documents": list(graph.ids)}}).status_code == 404


def test_encoded_ahead_the_first_question_computes_nothing_of_the_documents(client: TestClient) -> None:
    texts = [{"id": f"e{i}", "text": f"Entry {i} of a list that no other test has. " * 6} for i in range(4)]
    assert client.put("/v1/documents", json={"documents": texts[:2], "encode": True}).json()["encoded"]["tokens_computed"] > 150
    texts[3]["sources"] = ["e0"]  # type: ignore[assignment]
    done = client.put("/v1/documents", json={"documents": texts[2:], "encode": True}).json()["encoded"]
    assert done["tokens_reused"] == 1 and done["tokens_computed"] > 0  # the prompt's first token was there
    assert client.put("/v1/documents/e2?encode=true", json=texts[2]).json()["encoded"]["tokens_computed"] == 0

    def usage(ids: list[str]) -> dict[str, Any]:
        body = {"messages": [{"role": "user", "content": "Which?"}], "max_tokens": 1, "graph": {"documents": ids}}
        got: dict[str, Any] = client.post("/v1/chat/completions", json=body).json()["usage"]["graphkv"]
        return got

    for ids in (["e1", "e2"], ["e2", "e0", "e1"], ["e3", "e0"], ["e3"]):  # with its source and without
        assert usage(ids)["computed"] < 15, ids  # the question's own


def test_encode_may_stand_beside_the_fields_of_one_document(client: TestClient) -> None:
    text = "Only this test has heard of the meadow behind the seventh mill. " * 4
    done = client.put("/v1/documents/mill", json={"text": text, "year": 1999, "encode": True, "layout": "block"})
    assert done.status_code == 200 and done.json()["encoded"]["tokens_computed"] > 20
    assert client.get("/v1/documents/mill").json()["metadata"] == {"year": 1999}
    for body, place in (({"encode": "yes"}, "encode"), ({"encode": True, "layout": 5}, "layout")):
        reply = client.put("/v1/documents/mill", json={"text": text, **body})
        assert reply.status_code == 400 and reply.json()["error"]["param"] == place


def test_documents_over_a_restart(tmp_path: Path) -> None:
    engine = tiny_engine()
    for round in range(2):
        library = Library(tmp_path / "documents.sqlite")
        with Scheduler(engine) as scheduler, TestClient(create_app(scheduler, Settings(), library=library), base_url="http://127.0.0.1") as client:
            if round == 0:
                client.put("/v1/documents", json={"documents": [{"id": "a", "text": "x", "year": 1999}]})
            assert listed(client) == ["a"] and client.get("/v1/documents/a").json()["metadata"] == {"year": 1999}
        library.close()
