"""The benchmark of the server: it runs, what it compares can differ, and whatever is wrong is said and ends it with code 1."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from graphkv import GraphKV, InputError, ModelError
from graphkv.cli import app
from graphkv_benchmarks.serving import contexts, first_token, load, process, run, together, verdicts
from graphkv_benchmarks.serving.client import ask, client_of

SMALL = contexts.Context("c", ({"id": "c-a", "text": "Some text.", "sources": []}, {"id": "c-b", "text": "Other text.", "sources": ["c-a"]}), ("one?", "two?"), 20)
RIGHT = {("c", "one?"): "yes", ("c", "two?"): "yes"}


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """A run of everything, tiny."""
    plan = run.Plan(tokens=(256,), repeats=1, clients=4, seconds=1.5, contexts=2, load_tokens=256, load_questions=2, together=3, together_tokens=(256,), turns=1)
    return run.run_serving(plan)


def test_a_whole_run(whole: dict[str, Any]) -> None:
    assert whole["problems"] == {"first_token": [], "single": [], "together": [], "server": []}
    (row,) = whole["first_token"]
    assert set(row["ways"]) == set(first_token.WAYS) and not row["ways"]["first"]["all_cached"]
    assert all(way["ttft"] > 0 and (way["all_cached"] or name == "first") for name, way in row["ways"].items())
    found = whole["load"]
    assert found["failed"] == found["different"] == 0 and found["answered"] + found["left"] == found["questions"] >= 4 and found["throughput"]["questions_s"] > 0
    assert found["memory"] and found["memory"]["first_third_mb"] > 50 and set(found["statuses"]) <= {"200", "429"}
    assert [r["questions"] for r in whole["together"]] == [3, 3] and len(whole["restart_seconds"]) == 2
    assert whole["peer"][0]["ways"]["prefix_cache"]["questions_s"] > 0 and whole["settings"]["model"] == "embedded"
    names = {check["name"]: check for check in whole["checks"]}
    assert len(names) == len(whole["checks"]) == 4 + 4 + 3 + 2
    assert all(names[name]["met"] for name in ("answers of single clients", "answers before the load", "answers at once", "4 clients, errors", "4 clients, answers"))
    assert whole["met"] == all(check["met"] for check in whole["checks"])


SPOILT: dict[str, tuple[str, Any]] = {
    # What is changed, and the line that must fail.
    "a wrong answer": ("answers of single clients", lambda r: r["problems"]["first_token"].append("t, second: 'x' came, 'y' is the answer of ask()")),
    "a failure in the log": ("failures in the server's log", lambda r: r["problems"]["server"].append("Traceback")),
    "a slow second question": ("256 tokens, second", lambda r: r["first_token"][0]["ways"]["second"].update(times_faster=4.9)),
    "nothing cached": ("256 tokens, restarted", lambda r: r["first_token"][0]["ways"]["restarted"].update(all_cached=False)),
    "no answer at all": ("256 tokens, moved", lambda r: r["first_token"][0]["ways"].pop("moved")),
    "a 500": ("4 clients, errors", lambda r: r["load"].update(failed=1, failures=["status 500: no"])),
    "nobody was answered": ("4 clients, errors", lambda r: r["load"].update(answered=0)),
    "another answer": ("4 clients, answers", lambda r: r["load"].update(different=1, differences=["'x' instead of 'y'"])),
    "memory that grows": ("memory under load", lambda r: r["load"]["memory"].update(first_third_mb=500.0, last_third_mb=516.0)),
    "memory not measured": ("memory under load", lambda r: r["load"].update(memory=None)),
    "no batching": ("3 questions at once", lambda r: r["together"][0].update(times_faster=3.9)),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_is_said(whole: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line, spoil = SPOILT[name]
    good = copy.deepcopy(whole)
    for way in good["first_token"][0]["ways"].values():
        way["times_faster"] = 9.0
    for row in good["together"]:
        row["times_faster"] = 5.0
    good["load"]["memory"].update(first_third_mb=500.0, last_third_mb=505.0)
    assert all(check["met"] for check in verdicts.verdicts(good))
    spoil(good)
    checks = verdicts.verdicts(good)
    assert [check["name"].startswith(line) for check in checks if not check["met"]] == [True]
    monkeypatch.setattr(run, "run_serving", lambda *args, **more: {**good, "checks": checks, "met": False})
    done = CliRunner().invoke(app, ["bench", "serving", "--quick"], env={"COLUMNS": "200"})
    assert done.exit_code == 1 and f"failed: {line}" in done.stderr and "missed" in done.stdout


def test_the_command(whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[run.Plan] = []
    monkeypatch.setattr(run, "run_serving", lambda plan, **more: asked.append(plan) or {**whole, "checks": [], "met": True})
    out = tmp_path / "new" / "serving.json"
    done = CliRunner().invoke(app, ["bench", "serving", "--output", str(out), "--json", "--seconds", "3", "-t", "512"])
    assert done.exit_code == 0 and json.loads(done.stdout) == json.loads(out.read_text())
    assert CliRunner().invoke(app, ["bench", "serving", "--quick"]).exit_code == 0
    assert (asked[0].tokens, asked[0].seconds, asked[0].clients) == ((512,), 3.0, 64) and (asked[1].tokens, asked[1].seconds, asked[1].repeats) == ((512,), 2.0, 1)


# Servers that are wrong.


@contextmanager
def pretending(answer: Any) -> Iterator[str]:
    """A server whose answer to the n-th question is ``answer(n)``: (status, headers, text of the answer or of the stream)."""
    count = [0]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/documents":
                count[0] += 1
            status, headers, text = answer(count[0]) if self.path != "/v1/documents" else (200, {}, "")
            if body.get("stream") and status == 200:
                text = text if text.startswith("data:") else "".join(f"data: {json.dumps(event)}\n\n" for event in events(text)) + "data: [DONE]\n\n"
            elif status == 200:
                usage = {"prompt_tokens": 20, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 20}}
                text = json.dumps({"choices": [{"message": {"content": text}}], "usage": usage})
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def events(text: str) -> list[dict[str, Any]]:
    return [
        {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
        *({"choices": [{"delta": {"content": letter}}]} for letter in text),
        {"choices": [{"delta": {}}]},
        {"choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 20}}},
    ]


def loaded(url: str, **more: Any) -> dict[str, Any]:
    return asyncio.run(load.run_load(url, [SMALL], RIGHT, lambda: (100.0, 50.0), **{"clients": 3, "seconds": 0.4, "seed": 1, **more}))


def test_a_right_server_under_load() -> None:
    with pretending(lambda n: (200, {}, "yes")) as url:
        found = loaded(url)
    assert found["failed"] == found["different"] == 0 and found["statuses"] == {"200": found["questions"]} and found["left"] < found["questions"]
    assert found["memory"]["first_third_mb"] == found["memory"]["last_third_mb"] == 100 and found["memory"]["slope_mb_a_minute"] == 0


def test_one_wrong_answer_among_many_is_found() -> None:
    with pretending(lambda n: (200, {}, "no" if n == 5 else "yes")) as url:
        found = loaded(url)
    assert found["different"] == 1 and found["differences"] == ["'no' instead of 'yes'"]


@pytest.mark.parametrize("bad", [(500, {}, "broken"), (503, {}, "{}"), (200, {}, 'data: {"error": {"message": "no"}}\n\n'), (200, {}, "data: nonsense\n\n"), (200, {}, "data: {}\n\n")], ids=repr)
def test_one_failure_among_many_is_found(bad: Any) -> None:
    streams = bad[0] == 200

    async def all_of(url: str) -> list[Any]:
        async with client_of(url) as client:
            return [await ask(client, SMALL.body("one?", stream=streams), stream=streams) for _ in range(3)]

    with pretending(lambda n: bad if n == 2 else (200, {}, "yes")) as url:
        replies = asyncio.run(all_of(url))
    assert [reply.text for reply in replies] == ["yes", None, "yes"] and replies[1].error
    counts = load._counts([(reply, "yes") for reply in replies])
    assert counts["failed"] == 1 and counts["different"] == 0


def test_a_busy_server_is_waited_for_as_long_as_it_says() -> None:
    async def one(url: str, **more: Any) -> Any:
        async with client_of(url) as client:
            return await ask(client, SMALL.body("one?"), **more)

    with pretending(lambda n: (429, {"Retry-After": "0.1"}, "{}") if n <= 2 else (200, {}, "yes")) as url:
        reply = asyncio.run(one(url))
    assert (reply.text, reply.busy) == ("yes", 2) and load._counts([(reply, "yes")])["statuses"] == {"200": 1, "429": 2}
    with pretending(lambda n: (429, {"Retry-After": "0.01"}, "{}")) as url:
        reply = asyncio.run(one(url, tries=3))
    assert (reply.status, reply.busy, reply.text) == (429, 2, None) and load._counts([(reply, "yes")])["failed"] == 0


def test_a_server_that_is_gone_is_a_failure() -> None:
    found = loaded(f"http://127.0.0.1:{process.free_port()}", seconds=0.3)
    assert found["failed"] == found["questions"] == found["statuses"]["0"] > 0 and found["answered"] == 0
    assert not verdicts._load(found)[0]["met"]


def test_answers_at_once_are_compared() -> None:
    with pretending(lambda n: (200, {}, "no" if n % 2 else "yes")) as url:
        found = asyncio.run(together.run_together(url, SMALL, RIGHT, turns=1, stored=True))
    assert len(found["problems"]) == 4 and "'no' instead of 'yes'" in found["problems"][0] and found["times_faster"] > 0


def test_single_answers_are_those_of_the_server() -> None:
    with pretending(lambda n: (200, {}, "yes") if n < 2 else (400, {}, "{}")) as url:
        answers, problems = asyncio.run(load.single_answers(url, [SMALL]))
    assert answers == {("c", "one?"): "yes", ("c", "two?"): ""} and problems == ["c: status 400: {}"]


def test_memory_that_grows_has_a_slope() -> None:
    found = load.memory_of([(float(t), 100.0 + t, 50.0) for t in range(61)], 60.0)
    assert found and found["slope_mb_a_minute"] == 60.0 and found["last_third_mb"] - found["first_third_mb"] == pytest.approx(31, abs=1)
    assert not verdicts._load({"clients": 1, "failed": 0, "different": 0, "answered": 1, "statuses": {}, "memory": found})[-1]["met"]
    assert load.memory_of([(0.0, 1.0, 1.0), (50.0, 1.0, 1.0)], 60.0) is None


def test_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = GraphKV.from_pretrained(store="memory")
    context = contexts.make_context(engine, "x", 3, 1024, 5)
    assert 800 < context.tokens < 1300 and len(set(context.questions)) == 5 and all(id.startswith("x-") for id in context.ids)
    moved = context.shuffled(1)
    assert moved.ids != context.ids and sorted(moved.ids) == sorted(context.ids)
    named, brought = json.loads(context.body("q", stored=True)), json.loads(context.body("q", stream=True))
    assert named["graph"]["documents"] == context.ids and "documents" not in named and brought["documents"] == list(context.documents) and brought["stream"]
    with pytest.raises(InputError, match="ask for more tokens"):
        contexts.make_context(engine, "x", 3, 64, 500)
    with pytest.raises(InputError, match="repeats"):
        run.Plan(repeats=0)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"ended at once with code 2: .*no such model folder"):
        process.Server(tmp_path, str(tmp_path / "nowhere")).start()


def test_citations_are_counted_against_the_gold_segments() -> None:
    """One small world, whose counts must fit each other."""
    from graphkv_benchmarks.serving.cited import measure

    found = measure(GraphKV.from_pretrained(store="memory"), seed=7, worlds=1, documents=4, questions=6)
    assert found["asked"] == 6 >= found["right"] + found["unanswerable"] and found["right"] >= found["cited"] >= found["gold_first"] > 0
    assert found["unanswerable"] >= found["unanswerable_cited"]
