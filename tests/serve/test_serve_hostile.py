"""Requests that mean harm, in what they say: each is refused with one clear line or answered; nothing fails, nothing is written elsewhere, and others are served."""

from __future__ import annotations

import copy
import json
import random
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hostile_helpers import Target, bystander, one_error, refused, target, unharmed_by_it
from serve_helpers import DOCUMENTS, chat, raw, request, wait_until

CHAT, DOCS = "/v1/chat/completions", "/v1/documents"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("hostile"), request_seconds=120.0) as found:  # much is encoded here, maybe on a busy machine
        yield found


@pytest.fixture(autouse=True)
def unharmed(attacked: Target) -> Iterator[None]:
    with unharmed_by_it(attacked):
        yield


@pytest.fixture(scope="module")
def client(attacked: Target) -> Iterator[httpx.Client]:
    with attacked.client() as client:
        yield client


def send(client: httpx.Client, path: str, body: bytes | str, method: str = "POST") -> httpx.Response:
    return client.request(method, path, content=body, headers={"Content-Type": "application/json"})


def fine_or_refused(response: httpx.Response) -> bool:
    """Answered, or refused as it should be; True if answered."""
    if response.status_code < 300:
        return True
    refused(response.status_code, response.json())
    return False


# Wrong types and values at every level.

WRONG: list[Any] = [None, True, 0, -1, 0.5, 1e300, 10**30, "", " ", "x", "\x00\x1b", "../..", [], [[]], [None], ["x"], [{}], {}, {"": {}}, {"id": "x"}, {"name": 7}]
BODIES: dict[str, Any] = {
    CHAT: {
        "model": "embedded",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Who?"}]}],
        "documents": [*DOCUMENTS, {"id": "c", "data": {"title": "T", "snippet": "s"}}, {"type": "document", "source": {"type": "text", "data": "d"}, "title": "U", "context": "v"}],
        "graph": {"edges": [["a", "c"], {"source": "b", "target": "c", "kind": "cites", "weight": 1}], "layout": {"name": "graph", "rounds": 1, "view": "all"}, "trace": True},
        "max_tokens": 1,
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "seed": 3,
        "stop": ["."],
        "stream": False,
        "stream_options": {"include_usage": True},
        "citation_options": {"mode": "FAST"},
    },
    "/v1/score": {"question": "Who?", "documents": DOCUMENTS, "graph": {"layout": "block"}, "continuations": [" Ada"]},
    "/v1/graph": {"documents": DOCUMENTS, "graph": {"edges": [["b", "a"]], "layout": {"name": "graph_topk", "m": 1}}},
    DOCS: {"documents": [{"id": "w", "title": "W", "text": "Some text.", "sources": ["a"], "score": 0.5, "metadata": {"k": 1}}], "encode": True, "layout": {"name": "graph"}},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a body."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from places(part, (*path, name))


def replaced(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """The body with another value in one place."""
    if not path:
        return other
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], other)
    return changed


@pytest.mark.parametrize("path", BODIES)
def test_wrong_values_at_every_level(client: httpx.Client, path: str) -> None:
    assert send(client, path, json.dumps(BODIES[path])).status_code == 200
    cases = [(where, wrong) for where in places(BODIES[path]) for wrong in WRONG]
    answered = 0
    for where, wrong in random.Random(1).sample(cases, min(150, len(cases))):
        response = send(client, path, json.dumps(replaced(BODIES[path], where, wrong)))
        try:
            answered += fine_or_refused(response)
        except AssertionError as error:
            raise AssertionError(f"{where} = {wrong!r}: {response.status_code} {response.text[:300]}") from error
    assert answered < 100


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", "1" + "0" * 30),
        ("max_tokens", "9" * 5000),
        ("seed", "1e400"),
        ("seed", "-" + "9" * 100),
        ("temperature", "1e309"),
        ("temperature", "NaN"),
        ("temperature", "-Infinity"),
        ("temperature", "-0.1"),
        ("top_p", "0"),
        ("top_p", "1e-400"),
        ("top_k", "2" * 50),
        ("n", "1e99"),
        ("stop", json.dumps(["x"] * 17)),
        ("stop", json.dumps("")),
        ("messages", json.dumps([{"role": "user", "content": "x"}] * 5000)),
        ("messages", json.dumps([{"role": "tool", "content": "x"}])),
        ("documents", json.dumps(["x"] * 5000)),
        ("documents", json.dumps([{"id": "a", "text": "x"}] * 2)),
        ("graph", json.dumps({"layout": "graph' or 1=1"})),
        ("graph", json.dumps({"layout": {"name": "graph", "rounds": 10**9}})),
        ("graph", json.dumps({"layout": {"name": "graph_hops", "tiers": [10**8] * 1001}})),
        ("graph", json.dumps({"layout": {"name": "graph_topk", "m": -1}})),
        ("graph", json.dumps({"layout": {"name": "ape", "temperature": 0}})),
        ("graph", json.dumps({"documents": ["missing"]})),
        ("model", json.dumps("../../etc/passwd")),
    ],
)
def test_values_out_of_range_are_refused(client: httpx.Client, field: str, value: str) -> None:
    body = json.dumps({name: part for name, part in chat(max_tokens=1).items() if name != field})
    response = send(client, CHAT, f'{body[:-1]}, "{field}": {value}}}')
    refused(response.status_code, response.json())


# JSON that would hurt its parser.


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "x"}], "metadata": ' + b'{"a":' * 500 + b"1" + b"}" * 501,
        b"{" + b'"a": 1, ' * 100_000 + b'"b": 2}',
        b"[" + b"0," * 400_000 + b"0]",
        b'{"messages": "\\ud800"}',
        b'{"messages": [{"role": "user", "content": "\\ud83d\\ud83d"}]}',
        b'{"\\udfff": 1}',
        b'{"messages": "\xff\xfe"}',
        b'{"messages": "\xed\xa0\x80"}',
        json.dumps(chat()).encode("utf-16"),
        b'{"messages": "\x00"}',
        b'{"messages": "\n"}',
        b'{"messages": [{"role": "user", "content": "unended',
        b'{"messages": [}',
        b"{'messages': []}",
        b"nul",
        b"null",
        b'"text"',
        b"7",
        b"-",
        b"\x00",
        b"",
        b" " * 100_000,
        b"\\" * 100_000,
        b'"' * 100_001,
        b"<xml/>",
        b"messages=1&b=2",
    ],
    ids=lambda body: repr(body[:20]),
)
@pytest.mark.parametrize("path", [CHAT, DOCS])
def test_what_is_no_json_of_ours(client: httpx.Client, path: str, body: bytes) -> None:
    begin = time.monotonic()
    response = send(client, path, body)
    refused(response.status_code, response.json())
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("kind", ["", "text/plain", "application/xml", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "application/json, text/html", "\xff"])
def test_other_content_types(attacked: Target, kind: str) -> None:
    body = json.dumps(chat()).encode()
    refused(*raw(attacked.address, request("POST", CHAT, body, *([f"Content-Type: {kind}"] if kind else []), "Connection: close")))


# Ids, paths and control characters.

IDS = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "..", ".", "a/../../../b", "~/.ssh/id", "C:\\Windows\\x", "con", "%00", "%", "a?b#c", "'; drop table documents; --"]
IDS += ["$(touch pwned)", "<script>alert(1)</script>", "{{7*7}}", "\u202egpj.exe", "é\u0301🎉", "\ufeff", "\uffff", " ", "-rf", "file:///etc/passwd", "a" * 512]


@pytest.mark.parametrize("id", IDS, ids=lambda id: repr(id[:20]))
def test_an_id_is_a_name_and_never_a_path(client: httpx.Client, id: str) -> None:
    quoted = f"{DOCS}/{urllib.parse.quote(id, safe='')}"
    text = f"Document {id}"
    put = client.put(DOCS, json={"documents": [{"id": id, "text": text}], "encode": True})
    assert put.status_code == 200 and put.json()["data"][0]["id"] == id
    got = client.get(quoted)
    if id in (".", ".."):  # a client makes another path of these before it sends them
        assert got.status_code < 500
    else:
        assert (got.json()["id"], got.json()["text"]) == (id, text)
        assert client.put(quoted, json={"text": text}).status_code == 200
    asked = client.post(CHAT, json={"messages": [{"role": "user", "content": "Who?"}], "graph": {"documents": [id]}, "max_tokens": 2})
    assert asked.status_code == 200, asked.text
    assert id in [row["id"] for row in client.get(DOCS, params={"limit": 1000}).json()["data"]]
    if id not in (".", ".."):
        assert client.delete(quoted).status_code == 200 and client.get(quoted).status_code == 404
        page = client.get(f"/page/{urllib.parse.quote(id, safe='')}")
        refused(page.status_code, page.json())


@pytest.mark.parametrize("id", ["", "\x00", "a\nb", "a\r\nX-Injected: 1", "\x1b[31m", "\x7f", "\u2028", "a" * 10_000, None, True, 1.5, [], {}], ids=lambda id: repr(id)[:20])
def test_what_is_no_id(client: httpx.Client, id: Any) -> None:
    for response in (
        client.put(DOCS, json={"documents": [{"id": id, "text": "x"}]}),
        client.post(CHAT, json=chat() | {"graph": {"documents": [id]}}),
        client.post(CHAT, json=chat() | {"graph": {"edges": [["a", id]]}}),
    ):
        refused(response.status_code, response.json())
    if isinstance(id, str) and id:
        for method in ("GET", "PUT", "DELETE"):
            response = client.request(method, f"{DOCS}/{urllib.parse.quote(id, safe='')}", json={"text": "x"} if method == "PUT" else None)
            refused(response.status_code, response.json())
            assert "x-injected" not in response.headers


CONTROLS = [chr(c) for c in range(32)] + ["\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\ufeff", "\ufffe", "\U0010ffff", "</s>", "<|im_start|>", "<s>"]


def test_control_characters_everywhere(client: httpx.Client) -> None:
    for c in CONTROLS:
        text = f"a{c}b {c}"
        body = {
            "messages": [{"role": "system", "content": text}, {"role": "user", "content": text}],
            "documents": [{"id": "d", "title": text, "text": text}, {"title": c, "text": f"x{c}"}],
            "max_tokens": 2,
            "stop": [text],
            "user": text,
            "metadata": {text: text},
        }
        for path, sent in ((CHAT, body), (CHAT, body | {"stream": True, "graph": {"trace": True}}), ("/v1/graph", {"documents": body["documents"]})):
            response = client.post(path, json=sent)
            assert fine_or_refused(response), (c, response.text)
    for c in CONTROLS[::4]:
        for name, value in (("model", c), ("citation_options", {"mode": c}), ("graph", {"layout": c})):
            response = client.post(CHAT, json=chat(max_tokens=1) | {name: value})
            refused(response.status_code, response.json())


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/page/../../../pyproject.toml", "/page/..%2f..%2fapp.py", "/%00", "/v1/%2e%2e/%2e%2e/etc/passwd", "//evil.example/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_paths_that_lead_nowhere(attacked: Target, method: str, path: str) -> None:
    status, body = (0, None) if method == "HEAD" else raw(attacked.address, request(method, path, b"", "Connection: close"))
    assert method == "HEAD" or refused(status, body)


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", f"limit={'9' * 50}", "limit=1e3", "limit=NaN", "limit=", "limit[]=1", f"after={'a' * 10_000}", "after=%00", "after=%ff", "after=%ed%a0%80", "%00=%00"])
def test_queries(client: httpx.Client, query: str) -> None:
    fine_or_refused(client.get(f"{DOCS}?{query}"))


# Bombs.


def ring(count: int) -> list[list[str]]:
    return [[f"n{i}", f"n{(i + 1) % count}"] for i in range(count)]


def nodes(count: int) -> list[dict[str, str]]:
    return [{"id": f"n{i}", "text": f"Text {i}."} for i in range(count)]


BOMBS: dict[str, tuple[dict[str, Any], bool]] = {
    # What is sent, and whether it must be refused.
    "100k edges": ({"documents": nodes(2), "graph": {"edges": [["n0", "n1"]] * 100_000}}, True),
    "a complete graph of 300": ({"documents": nodes(300), "graph": {"edges": [[f"n{i}", f"n{j}"] for i in range(300) for j in range(300)]}}, True),
    "5,000 documents": ({"documents": nodes(5000)}, True),
    "5,000 of the library": ({"graph": {"documents": [f"n{i}" for i in range(5000)]}}, True),
    "everybody reads everybody": ({"documents": nodes(500), "graph": {"layout": "graph_full"}}, True),
    "a cycle in order": ({"documents": nodes(3), "graph": {"edges": ring(3), "layout": {"name": "graph", "rounds": "topological"}}}, True),
    "too many rounds": ({"documents": nodes(2), "graph": {"edges": [["n0", "n1"]], "layout": {"name": "graph", "rounds": 60_000}}}, True),
    "rounds beyond the window": ({"documents": nodes(10), "graph": {"edges": ring(10), "layout": {"name": "graph", "rounds": 2_000}}}, True),
    "beyond the window": ({"documents": [{"text": "word " * 20_000}], "graph": {"layout": "sequential"}}, True),
    "one word without end": ({"documents": [{"text": "a" * 500_000}]}, True),
    "sources that are not there": ({"documents": [{"id": "n0", "text": "x", "sources": [f"m{i}" for i in range(10_000)]}]}, True),
    "edges to nowhere": ({"documents": nodes(1), "graph": {"edges": [["n0", f"m{i}"] for i in range(10_000)]}}, True),
    "edges, no documents": ({"graph": {"edges": ring(3)}}, True),
    "the same edge 10,000 times": ({"documents": nodes(2), "graph": {"edges": [["n0", "n1"]] * 10_000}}, False),
    "loops": ({"documents": nodes(20), "graph": {"edges": [[f"n{i}", f"n{i}"] for i in range(20)]}}, False),
    "a cycle": ({"documents": nodes(20), "graph": {"edges": ring(20)}}, False),
    "a complete graph of 40": ({"documents": nodes(40), "graph": {"edges": [[f"n{i}", f"n{j}"] for i in range(40) for j in range(40) if i != j]}}, False),
    "one that reads 500": ({"documents": nodes(501), "graph": {"edges": [[f"n{i}", "n0"] for i in range(1, 501)]}}, False),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(attacked: Target, name: str) -> None:
    body, must = BOMBS[name]
    with attacked.client() as client, bystander(attacked):
        for path, more in ((CHAT, {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 1}), ("/v1/graph", {})):
            response = client.post(path, json=body | more)
            assert not fine_or_refused(response) if must else response.status_code == 200, (path, response.status_code, response.text[:300])


def test_texts_without_end(client: httpx.Client, attacked: Target) -> None:
    """Whatever is tokenised has an end: a question as long as a body may be would keep a thread busy for a minute."""
    long = "word " * 70_000
    begin = time.monotonic()
    with bystander(attacked):
        for path, body in (
            (CHAT, {"messages": [{"role": "user", "content": long}]}),
            (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "word " * 1000}] * 80}]}),
            ("/v1/score", {"question": long, "continuations": ["x"]}),
            ("/v1/score", {"question": "x", "continuations": ["word " * 10_000] * 8}),
            (DOCS, {"documents": [{"id": "n", "text": long}]}),
        ):
            response = client.post(path, json=body)
            assert "characters" in refused(response.status_code, response.json()), path
    assert time.monotonic() - begin < 10


def test_a_library_of_bombs(attacked: Target) -> None:
    with attacked.client(timeout=120.0) as client, bystander(attacked, most=30.0):
        put = client.put(DOCS, json={"documents": [{"id": f"n{i}", "text": f"Text {i}.", "sources": [f"n{j}" for j in range(0, i, 40)]} for i in range(200)], "encode": True})
        assert put.status_code == 200 and put.json()["encoded"]["tokens_computed"] > 1000
        for documents in (nodes(5000), [{"id": "n1", "text": "x", "metadata": {"a": "x" * 2**20}}], [{"id": "n1", "text": "x", "sources": [f"m{i}" for i in range(60_000)]}]):
            response = client.put(DOCS, json={"documents": documents})
            refused(response.status_code, response.json())


def test_time_is_up(tmp_path: Path) -> None:
    """A request that is not done in time: 504, or in a stream an event with the error and no [DONE]; and nothing of it goes on."""
    with target(tmp_path, request_seconds=3.0) as short, short.client() as client:
        body = {"messages": [{"role": "user", "content": "Who?"}], "documents": nodes(50), "graph": {"edges": ring(50), "layout": {"name": "graph", "rounds": 900}}}
        whole = client.post(CHAT, json=body)
        assert whole.status_code == 504 and one_error(whole.json())
        streamed = client.post(CHAT, json=body | {"stream": True})
        assert streamed.status_code == 504 or ("[DONE]" not in streamed.text and one_error(json.loads(streamed.text.split("data: ")[-1])))
        wait_until(short.idle, 8)
        wait_until(lambda: client.post(CHAT, json=chat()).status_code == 200, 10)  # what was being laid out may still take a moment
