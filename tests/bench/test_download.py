"""Downloads from the Hub: a server on this machine that plays the Hub's API, so no network is needed."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from graphkv.cli import app
from graphkv.errors import InputError
from graphkv_benchmarks.download import RECORD, SOURCES, download, verify
from graphkv_benchmarks.tasks.rag_file import FILES

pytest.importorskip("huggingface_hub")

OLD, NEW = "a" * 40, "b" * 40
ROWS, SMALL = "datahub/rag/nq_eval/dataset", "datahub/rag/nq_eval/read [me].md"
CONTENT = {ROWS: b'{"question": "who"}\n' * 500, SMALL: b"About the rows.\n", "datahub/arxiv/questions/1.txt": b"Who?\n", "other.bin": b"never fetched"}


class Hub:
    """Two commits of one data set; `main` is the newer."""

    def __init__(self) -> None:
        self.commits = {OLD: dict(CONTENT), NEW: CONTENT | {ROWS: b'{"question": "new"}\n'}}
        self.main, self.served = OLD, dict[str, bytes]()  # `served`: what is sent in place of a file's true bytes
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                status, headers, content = hub.respond(urllib.parse.unquote(urllib.parse.urlsplit(self.path).path))
                self.send_response(status)
                for name, value in (headers | {"Content-Length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def respond(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        api, files = "/api/datasets/Graph-COM/GraphKV", "/datasets/Graph-COM/GraphKV/resolve/"
        commit = {"main": self.main, OLD: OLD, NEW: NEW}
        if path == api or path.startswith(f"{api}/revision/"):
            name = path.removeprefix(api).removeprefix("/revision/") or "main"
            if name not in commit:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            return 200, {}, json.dumps({"id": "Graph-COM/GraphKV", "sha": commit[name], "siblings": []}).encode()
        if path.startswith(f"{api}/tree/"):
            return 200, {}, json.dumps([stated(name, data) for name, data in self.commits[path.split("/")[-1]].items()]).encode()
        if path.startswith(files):
            sha, _, name = path.removeprefix(files).partition("/")
            entry = stated(name, self.commits[sha][name])
            etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
            return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": sha}, self.served.get(name, self.commits[sha][name])
        return 404, {"X-Error-Code": "RepoNotFound"}, b""


def stated(name: str, data: bytes) -> dict[str, Any]:
    """A file in the Hub's listing: with git's hash, and the SHA-256 where it is in LFS."""
    entry = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()}
    return entry | ({"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}} if name == ROWS else {})


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """huggingface_hub with an empty cache, and online whatever the environment says."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    yield made
    made.server.shutdown()
    made.server.server_close()


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_only_what_is_needed_lands_and_is_recorded(hub: Hub, tmp_path: Path) -> None:
    place = tmp_path / "data"
    found = download("nq", place, endpoint=hub.endpoint)
    assert (found.repo, found.revision, found.files, found.fetched, found.bytes) == ("Graph-COM/GraphKV", OLD, 2, 2, len(CONTENT[ROWS]) + len(CONTENT[SMALL]))
    assert files_of(place) == sorted([ROWS, SMALL, RECORD])
    assert all((place / name).read_bytes() == CONTENT[name] for name in (ROWS, SMALL))
    entry = json.loads((place / RECORD).read_text())["nq"]
    assert entry["files"] == {name: {"bytes": len(CONTENT[name]), "sha256": hashlib.sha256(CONTENT[name]).hexdigest()} for name in (ROWS, SMALL)}


def test_a_repeat_keeps_its_commit_and_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    download("nq", tmp_path, endpoint=hub.endpoint)
    hub.main = NEW
    hub.asked.clear()
    found = download("nq", tmp_path, endpoint=hub.endpoint)
    assert (found.revision, found.fetched, hub.asked) == (OLD, 0, [])
    (tmp_path / SMALL).unlink()
    assert download("nq", tmp_path, endpoint=hub.endpoint).fetched == 1
    assert (tmp_path / SMALL).read_bytes() == CONTENT[SMALL]
    assert download("arxiv-qa", tmp_path, endpoint=hub.endpoint).revision == OLD  # another set of the repository: the same commit
    with pytest.raises(InputError, match="expected one commit of Graph-COM/GraphKV a folder"):
        download("nq", tmp_path, revision="main", endpoint=hub.endpoint)
    assert download("nq", tmp_path / "new", endpoint=hub.endpoint).revision == NEW


@pytest.mark.parametrize("name", [ROWS, SMALL], ids=["lfs", "git"])
def test_a_damaged_file_never_lands(hub: Hub, tmp_path: Path, name: str) -> None:
    damaged = b"X" + CONTENT[name][1:]
    hub.served[name] = damaged
    with pytest.raises(InputError, match="came damaged") as error:
        download("nq", tmp_path, endpoint=hub.endpoint)
    assert name in str(error.value) and not (tmp_path / name).exists()
    with pytest.raises(InputError, match="no whole download"):
        verify("nq", tmp_path)
    hub.served.clear()
    hub.main = NEW  # the commit of the first try still holds
    assert download("nq", tmp_path, endpoint=hub.endpoint).revision == OLD
    assert (tmp_path / name).read_bytes() == CONTENT[name]


def test_verify_names_what_was_changed_or_is_missing(hub: Hub, tmp_path: Path) -> None:
    download("nq", tmp_path, endpoint=hub.endpoint)
    hub.asked.clear()
    assert verify("nq", tmp_path).files == 2
    (tmp_path / ROWS).write_bytes(CONTENT[ROWS][:-2] + b"!\n")
    for check in (lambda: verify("nq", tmp_path), lambda: download("nq", tmp_path, endpoint=hub.endpoint)):
        with pytest.raises(InputError, match="changed since the download of nq: datahub/rag/nq_eval/dataset;"):
            check()
    (tmp_path / ROWS).unlink()
    with pytest.raises(InputError, match="1 of 2 files of nq are missing: datahub/rag/nq_eval/dataset"):
        verify("nq", tmp_path)
    assert hub.asked == []
    (tmp_path / RECORD).write_text('{"nq": 3}')
    with pytest.raises(InputError, match="not the record of a download"):
        verify("nq", tmp_path)


def test_verify_compares_the_commit(hub: Hub, tmp_path: Path) -> None:
    download("nq", tmp_path, endpoint=hub.endpoint)
    assert verify("nq", tmp_path, revision=OLD).revision == verify("nq", tmp_path, revision="AAAAAAA").revision == OLD
    for other in (NEW, "main", "aaa"):
        with pytest.raises(InputError, match=f"holds nq of commit {OLD}, expected '{other}'"):
            verify("nq", tmp_path, revision=other)


def test_one_commit_a_folder_for_all_sets_of_a_repository(hub: Hub, tmp_path: Path) -> None:
    download("nq", tmp_path, endpoint=hub.endpoint)
    hub.main = NEW
    for revision in (NEW, "main"):
        with pytest.raises(InputError, match=f"holds nq of commit {OLD}, and {revision} is {NEW}: expected one commit of Graph-COM/GraphKV a folder"):
            download("arxiv-qa", tmp_path, revision=revision, endpoint=hub.endpoint)
    assert files_of(tmp_path) == sorted([ROWS, SMALL, RECORD])


def test_runs_side_by_side_lose_nothing(hub: Hub, tmp_path: Path) -> None:
    """Four runs, two of them of the same set, all of them fetching at the same time: both sets are recorded, and nothing else is left."""
    whole, here = hub.respond, threading.Barrier(4)

    def together(path: str) -> tuple[int, dict[str, str], bytes]:
        if "/tree/" in path:
            here.wait(20)
        return whole(path)

    hub.respond = together  # type: ignore[method-assign]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: download(name, tmp_path, endpoint=hub.endpoint), ["nq", "arxiv-qa", "nq", "arxiv-qa"]))
    assert (verify("nq", tmp_path).files, verify("arxiv-qa", tmp_path).files) == (2, 1)
    assert files_of(tmp_path) == sorted([ROWS, SMALL, RECORD, "datahub/arxiv/questions/1.txt"]) and not list(tmp_path.glob(".graphkv*"))


def test_another_run_takes_another_commit_meanwhile(hub: Hub, tmp_path: Path) -> None:
    whole = hub.respond

    def overtaken(path: str) -> tuple[int, dict[str, str], bytes]:
        if "/tree/" in path:
            hub.respond, hub.main = whole, NEW  # type: ignore[method-assign]
            download("arxiv-qa", tmp_path, endpoint=hub.endpoint)
        return whole(path)

    hub.respond = overtaken  # type: ignore[method-assign]
    with pytest.raises(InputError, match=f"holds arxiv-qa of commit {NEW}, and the newest is {OLD}"):
        download("nq", tmp_path, endpoint=hub.endpoint)
    assert verify("arxiv-qa", tmp_path).revision == NEW


def test_a_lock_that_a_killed_run_left(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / f".{RECORD}.lock"
    lock.touch()
    threading.Timer(0.3, lock.unlink).start()  # one that goes is waited for
    begin = time.monotonic()
    download("nq", tmp_path, endpoint=hub.endpoint)
    assert time.monotonic() - begin > 0.2
    lock.touch()
    monkeypatch.setattr("graphkv_benchmarks.download._LOCK_SECONDS", 0.1)
    with pytest.raises(InputError, match=r"graphkv_download\.json\.lock has been there for 0\.1 s.*delete it"):
        download("arxiv-qa", tmp_path, endpoint=hub.endpoint)


def test_a_file_that_is_there_is_checked_and_never_written_over(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / ROWS).parent.mkdir(parents=True)
    (tmp_path / ROWS).write_bytes(CONTENT[ROWS])
    assert download("nq", tmp_path, endpoint=hub.endpoint).fetched == 1
    (tmp_path / "other" / ROWS).parent.mkdir(parents=True)
    (tmp_path / "other" / ROWS).write_text("mine")
    with pytest.raises(InputError, match="is there already and is not the file of Graph-COM/GraphKV"):
        download("nq", tmp_path / "other", endpoint=hub.endpoint)
    assert (tmp_path / "other" / ROWS).read_text() == "mine"


def test_what_the_hub_does_not_have(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no revision 'v9'"):
        download("nq", tmp_path, revision="v9", endpoint=hub.endpoint)
    with pytest.raises(InputError, match=r"has no datahub/rag/2wiki_dev/\*: expected"):
        download("2wiki", tmp_path, endpoint=hub.endpoint)
    with pytest.raises(InputError, match="no data set THUDM/LongBench-v2"):
        download("longbench-v2", tmp_path, endpoint=hub.endpoint)
    hub.commits[OLD]["datahub/rag/nq_eval/../../../../escape"] = b"out"
    with pytest.raises(InputError, match="would lie outside"):
        download("nq", tmp_path, endpoint=hub.endpoint)
    assert files_of(tmp_path) == []


@pytest.mark.parametrize("name", ["arxiv-qa", "rag", "nq", "longbench-v2"])
def test_without_a_network_the_way_out_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as error:
        download(name, tmp_path, endpoint="http://127.0.0.1:9")
    said, source = str(error.value), SOURCES[name]
    assert "http://127.0.0.1:9 cannot be reached" in said and source.layout in said
    assert f"hf download {source.repo} --repo-type dataset --revision main" in said and all(pattern in said for pattern in source.patterns)
    assert "graphkv bench offline" in said and "\n" not in said
    assert files_of(tmp_path) == []


@pytest.mark.parametrize(
    "answer",
    [b"<html>Please log in</html>", b"[1]", b'"welcome"', b'{"welcome": "guest"}', b"null"],
    ids=["html", "list", "text", "object", "null"],
)
@pytest.mark.parametrize("asked", ["/api/datasets/Graph-COM/GraphKV", "/tree/", "/resolve/"])
def test_a_login_page_in_between(hub: Hub, tmp_path: Path, answer: bytes, asked: str) -> None:
    """Status 200, and something else than what the Hub says: about the commit, about what it holds, in place of a file."""
    whole = hub.respond

    def portal(path: str) -> tuple[int, dict[str, str], bytes]:
        return (200, {"Content-Type": "text/html"}, answer) if path == asked or (asked[-1] == "/" and asked in path) else whole(path)

    hub.respond = portal  # type: ignore[method-assign]
    with pytest.raises(InputError) as error:
        download("nq", tmp_path, endpoint=hub.endpoint)
    said = str(error.value)
    assert "\n" not in said and ("login page" in said or "cannot be reached" in said or "names no commit" in said or "has no datahub" in said), said
    assert set(files_of(tmp_path)) <= {RECORD} and not list(tmp_path.glob(".graphkv*"))


def test_a_runtime_error_is_a_lost_connection_only_while_files_come(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> None:
        raise RuntimeError("xet")

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.HfApi.dataset_info", fails)
        with pytest.raises(RuntimeError, match="xet"):
            download("nq", tmp_path, endpoint=hub.endpoint)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    with pytest.raises(InputError, match="cannot be reached"):
        download("nq", tmp_path, endpoint=hub.endpoint)


def test_offline_mode_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="cannot be reached for Graph-COM/GraphKV"):
        download("nq", tmp_path, endpoint="http://127.0.0.1:9")


def test_files_are_refused_after_the_listing(hub: Hub, tmp_path: Path) -> None:
    whole = hub.respond

    def broken(path: str) -> tuple[int, dict[str, str], bytes]:
        return (403, {}, b"") if "/resolve/" in path else whole(path)

    hub.respond = broken  # type: ignore[method-assign]
    with pytest.raises(InputError, match="did not give Graph-COM/GraphKV"):
        download("nq", tmp_path, endpoint=hub.endpoint)
    hub.respond = whole  # type: ignore[method-assign]
    assert download("nq", tmp_path, endpoint=hub.endpoint).files == 2


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "part"), "no room in"),
        (PermissionError(13, "Permission denied", "part"), "part cannot be written: Permission denied"),
        (OSError("Consistency check failed"), "Consistency check failed"),
    ],
    ids=["full", "permission", "size"],
)
def test_what_stops_a_download(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, said: str) -> None:
    def fails(*args: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.snapshot_download", fails)
        with pytest.raises(InputError, match=said):
            download("nq", tmp_path, endpoint=hub.endpoint)
    assert files_of(tmp_path) == [RECORD] and not list(tmp_path.glob(".graphkv*"))
    assert download("nq", tmp_path, endpoint=hub.endpoint).fetched == 2


@pytest.mark.parametrize("stop", [OSError(28, "No space left on device", "part"), KeyboardInterrupt()], ids=["full", "interrupt"])
def test_what_had_come_whole_is_kept(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException) -> None:
    def half(*args: object, local_dir: Path, **options: object) -> None:
        for name, data in ((ROWS, CONTENT[ROWS]), (SMALL, CONTENT[SMALL][:-3])):
            (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (local_dir / name).write_bytes(data)
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.snapshot_download", half)
        with pytest.raises(InputError if isinstance(stop, OSError) else KeyboardInterrupt):
            download("nq", tmp_path, endpoint=hub.endpoint)
    assert files_of(tmp_path) == sorted([ROWS, RECORD]) and not list(tmp_path.glob(".graphkv*"))
    assert download("nq", tmp_path, endpoint=hub.endpoint).fetched == 1


def test_the_folders_name_is_taken(hub: Hub, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(InputError, match="cannot be"):
        download("nq", taken, endpoint=hub.endpoint)


def test_what_is_fetched_is_what_the_readers_look_for() -> None:
    for name, files in FILES.items():
        assert any(fnmatch.fnmatchcase(files[0], pattern) for pattern in SOURCES[name].patterns), name
        assert files[0] in SOURCES[name].layout
        assert name == "longbench-v2" or set(SOURCES[name].patterns) <= set(SOURCES["rag"].patterns)


def test_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown set 'nqq'; valid: 2wiki"):
        download("nqq", tmp_path)
    with pytest.raises(InputError, match=r"cora is not on the Hub: expected are cora\.content"):
        download("cora", tmp_path)


def test_command_line(hub: Hub, tmp_path: Path) -> None:
    run = CliRunner().invoke
    listed = run(app, ["bench", "download"])
    assert listed.exit_code == 0 and all(name in listed.stdout for name in SOURCES)
    download("nq", tmp_path, endpoint=hub.endpoint)
    checked = run(app, ["bench", "download", "nq", "--to", str(tmp_path), "--verify"])
    assert checked.exit_code == 0 and f"checked; Graph-COM/GraphKV at {OLD}" in checked.stdout
    assert json.loads(run(app, ["bench", "download", "nq", "--to", str(tmp_path), "--json"]).stdout)["fetched"] == 0
    other = run(app, ["bench", "download", "nq", "--to", str(tmp_path), "--verify", "--revision", NEW])
    assert other.exit_code == 2 and f"expected '{NEW}'" in other.stderr
    for options in (["--verify"], ["--to", str(tmp_path)], ["--revision", OLD, "--json"]):
        alone = run(app, ["bench", "download", *options])
        assert alone.exit_code == 2 and f"error: {options[0]}: of which set? expected SET, one of arxiv-qa" in alone.stderr
    (tmp_path / SMALL).write_text("changed")
    refused = run(app, ["bench", "download", "nq", "--to", str(tmp_path), "--verify"])
    assert refused.exit_code == 2 and "changed since the download of nq" in refused.stderr
