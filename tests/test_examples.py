"""The examples, run as a reader would run them: what they print is right."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
KEYS = "a-key-for-the-examples,another-key"
ANSWERS = ("Jane Sintil", "Zirdak")


def run(name: str, *arguments: str, **environment: str) -> str:
    """What an example prints; it is run in no folder of ours, with an empty store."""
    settings = {**os.environ, "GRAPHKV_STORE": "memory", "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, str(EXAMPLES / name), *arguments], env=settings, cwd="/", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """The same in this process, which has everything imported already: for other arguments."""

    def ran(name: str, *arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return ran


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running `graphkv serve` that wants a key."""
    log = tmp_path_factory.mktemp("serve") / "log"
    environment = {**os.environ, "GRAPHKV_STORE": "memory", "GRAPHKV_API_KEY": KEYS, "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        server = subprocess.Popen([sys.executable, "-c", "from graphkv.cli import app; app()", "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, stderr=file, text=True)
    assert server.stdout is not None
    try:
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None, log.read_text()
        yield f"{found[0]}/v1"
    finally:
        server.terminate()
        server.wait(timeout=60)
        server.stdout.close()


def test_custom_graph(run_here: Callable[..., list[str]]) -> None:
    printed = run("custom_graph.py")
    assert re.search(r"^graph: Jane Sintil ", printed, re.M)  # along the edge
    assert re.search(r"^block: not in the documents ", printed, re.M)  # without it
    assert "oak@1     target" in printed
    assert run_here("custom_graph.py", "Which lab is Violet Oak from?")[-2].startswith("graph: Zixtoszus ")


def test_custom_graph_is_as_short_as_it_says() -> None:
    text = (EXAMPLES / "custom_graph.py").read_text(encoding="utf-8")
    behind = text.split('"""')[2]
    assert len([line for line in behind.splitlines() if line.strip()]) <= 20


def test_streaming(tmp_path: Path, run_here: Callable[..., list[str]]) -> None:
    lines = run("streaming.py").splitlines()
    assert (lines[1], lines[4]) == ANSWERS
    for line in (lines[2], lines[5]):
        assert re.fullmatch(r"    first token after \d+\.\d{3} s, all after \d+\.\d{3} s", line)
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps({"id": "a", "title": "Delta Thunder", "text": "Delta Thunder uses the dataset Basrol. Delta Thunder comes from Zerrentik."}))
    assert run_here("streaming.py", str(file), "Which lab does Delta Thunder come from?")[1] == "Zerrentik"


def test_rag_langchain_folder(tmp_path: Path, run_here: Callable[..., list[str]]) -> None:
    printed = run("rag_langchain_folder.py").splitlines()
    first, second = printed.index("Jane Sintil"), printed.index("Cora Rasteskel")
    assert "Violet Oak" in printed[first - 1] and "Onyx Anchor" in printed[first - 1]  # found by words, and along its link
    assert printed[first + 1].startswith("    from Onyx Anchor (")
    assert any(line.startswith("    from Ruby Geyser (") for line in printed[second:])
    (tmp_path / "thunder.md").write_text("# Delta Thunder\n\nDelta Thunder uses the dataset Basrol. Delta Thunder comes from Zerrentik.\n")
    assert "Zerrentik" in run_here("rag_langchain_folder.py", str(tmp_path), "Which lab does Delta Thunder come from?")


def test_openai_client(address: str, run_here: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    printed = run("openai_client.py", "--base-url", address, GRAPHKV_API_KEY=KEYS)
    lines = printed.splitlines()
    assert lines[1] == ANSWERS[0] and re.match(r"    'Jane Sintil' was read from Onyx Anchor \(\d+%\)", lines[2])
    used = [tuple(map(int, found)) for found in re.findall(r"(\d+) tokens in the prompt, (\d+) of them were encoded already", printed)]
    assert used[0][1] == 0 and used[1][1] > 400
    assert lines[lines.index("The last answer once more, as a stream:") + 1] == ANSWERS[1]
    monkeypatch.setenv("GRAPHKV_API_KEY", KEYS)
    assert run_here("openai_client.py", "--base-url", address, "Which lab does Delta Thunder come from?")[1] == "Zerrentik"


def test_openai_client_without_a_server(run_here: Callable[..., list[str]]) -> None:
    with pytest.raises(SystemExit, match=r"no server at http://127\.0\.0\.1:9/v1: start one with `graphkv serve`"):
        run_here("openai_client.py", "--base-url", "http://127.0.0.1:9/v1")


def test_each_example_says_how_to_run_it_and_is_tested() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    found = sorted(EXAMPLES.glob("*.py"))
    assert len(found) >= 4
    for path in found:
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert f"python examples/{path.name}" in said, path.name
        assert f'run("{path.name}"' in tested, path.name
