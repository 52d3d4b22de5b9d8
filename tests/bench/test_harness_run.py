"""`graphkv bench lm-eval`: local tasks with documents and edges in their rows, from any folder and without a network."""

from __future__ import annotations

import inspect
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("lm_eval", reason="lm_eval is not installed (graphkv[bench])")

from graphkv.cli import app
from graphkv.cli.bench.lm_eval import _NO_OPTIONS
from graphkv.errors import InputError
from graphkv_benchmarks.harness import __main__ as own_command
from graphkv_benchmarks.harness import parts_of_lm_eval
from graphkv_benchmarks.harness.lm import GraphKVLM
from graphkv_benchmarks.harness.run import as_json, write
from graphkv_benchmarks.harness.tasks import load_tasks

EXAMPLE = Path(__file__).parents[2] / "examples" / "lm_eval_task"
TASKS = ("citation_world_generate", "citation_world_choice")
CHOICE = str(EXAMPLE / "citation_world_choice.yaml")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the library `datasets` keeps of a file goes into a folder of the test's; lm_eval brings no tasks of its own."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
    nothing = tmp_path_factory.mktemp("lm_eval") / "manager.py"
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(nothing))  # its 14,000 files take ten seconds to be read
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # runs pip


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["bench", "lm-eval", *arguments])


def results(*arguments: str) -> dict[str, Any]:
    done = invoke(*TASKS, "--include-path", str(EXAMPLE), "--json", *arguments)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def accuracies(found: dict[str, Any]) -> tuple[float, float]:
    return found["results"]["citation_world_generate"]["exact_match,none"], found["results"]["citation_world_choice"]["acc,none"]


def test_the_edges_of_the_rows_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight questions whose answer hangs on which paper an unnamed citation means: all right along the edges, none without them."""
    monkeypatch.chdir(tmp_path)
    found = results("--out", str(tmp_path / "out"), "--log-samples")
    assert accuracies(found) == (1.0, 1.0)
    assert found["config"]["model"] == "graphkv" and found["config"]["graphkv"]["layout"] == "graph"
    assert json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8")) == found
    samples = [json.loads(line) for line in (tmp_path / "out" / "samples_citation_world_generate.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(samples) == 8 and all(sample["resps"] == [[sample["doc"]["answer"]]] for sample in samples)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["results.json", *(f"samples_{task}.jsonl" for task in sorted(TASKS))]
    assert accuracies(results("--edges-key", "none")) == (0.0, 0.0)
    assert accuracies(results("--layout", "sequential", "--limit", "3")) == (0.0, 0.0)


def test_a_file_a_limit_and_lm_evals_table(tmp_path: Path) -> None:
    done = invoke(str(EXAMPLE / "citation_world_generate.yaml"), "--limit", "2", "-o", "rounds=2")
    assert done.exit_code == 0, done.output
    names = [line.split("|")[1].strip() for line in done.stdout.splitlines()]
    assert names == ["Tasks", "-" * len(done.stdout.splitlines()[1].split("|")[1]), "citation_world_generate"]
    assert "note:" not in done.stderr
    assert results("--limit", "2")["n-samples"]["citation_world_choice"]["effective"] == 2


def test_without_documents_every_row_is_read_plainly() -> None:
    assert accuracies(results("--documents-key", "none", "--limit", "3"))[0] == 0.0


def task(folder: Path, name: str = "mine", without: int = 0, keys: tuple[str, ...] = ("documents", "edges"), **changes: Any) -> Path:
    """A task of the test's own in `folder`, with the example's rows; the first `without` rows lack what stands under `keys`."""
    import yaml

    folder.mkdir(exist_ok=True)
    config = yaml.safe_load((EXAMPLE / "citation_world_generate.yaml").read_text(encoding="utf-8"))
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**config, "task": name, **changes}), encoding="utf-8")
    rows = [json.loads(line) for line in (EXAMPLE / "citation_world.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [row if number >= without else row | dict.fromkeys(keys) for number, row in enumerate(rows)]
    (folder / "citation_world.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in kept), encoding="utf-8")
    return path


def test_few_shot_examples_are_shown_without_their_documents(tmp_path: Path) -> None:
    path = task(tmp_path / "tasks", fewshot_split="test", num_fewshot=1)
    done = invoke(str(path), "--limit", "1", "--out", str(tmp_path / "out"), "--log-samples")
    assert done.exit_code == 0 and "note: mine: few-shot examples are shown in front of the question, without their documents" in done.stderr
    asked = json.loads((tmp_path / "out" / "samples_mine.jsonl").read_text(encoding="utf-8"))["arguments"]
    assert (asked["gen_args_0"]["arg_0"] if isinstance(asked, dict) else asked[0][0]).count("?") == 2
    assert "note:" not in invoke(str(path), "--limit", "1", "--num-fewshot", "0").stderr


def test_what_is_said_about_rows_without_documents(tmp_path: Path) -> None:
    """Two rows without come first: a limit that ends before the third lets no documents through."""
    path = task(tmp_path / "tasks", without=2, fewshot_split="test", num_fewshot=1)
    none = "note: mine: no row has anything under 'documents' or 'graph': all are read without documents, as lm_eval's hf reads them"
    for limit, said in (("2", [none]), ("3", ["note: mine: few-shot examples are shown in front of the question, without their documents"])):
        done = invoke(str(path), "--limit", limit)
        assert done.exit_code == 0 and [line for line in done.stderr.splitlines() if line.startswith("note:")] == said
    assert "note:" not in invoke(str(path), "--limit", "1", "--documents-key", "none", "--graph-key", "none").stderr
    done = invoke(str(task(tmp_path / "half", without=2, keys=("documents",))))
    assert done.exit_code == 2 and "error: task mine, row 0: edges under 'edges' without documents: there is nothing under 'documents' or 'graph'" in done.stderr


def test_a_group_of_own_tasks(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    for name in ("one", "two"):
        task(folder, name)
    (folder / "group.yaml").write_text("group: pair\ntask: [one, two]\naggregate_metric_list:\n  - metric: exact_match\n    weight_by_size: true\n", encoding="utf-8")
    (folder / "broken.yaml").write_text("task: broken\ndataset_path: json\ndataset_kwargs: {data_files: {test: nosuch.jsonl}}\ntest_split: test\n", encoding="utf-8")
    done = invoke("pair", "--include-path", str(folder), "--limit", "1")
    assert done.exit_code == 0, done.output
    assert "|pair" in done.stdout and "| - one" in done.stdout.replace("|  - one", "| - one")
    done = invoke("broken", "--include-path", str(folder))
    assert done.exit_code == 2 and done.stderr.splitlines()[-1].startswith("error: task 'broken' cannot be loaded: FileNotFoundError")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch_task"], "unknown task 'nosuch_task'.*--include-path FOLDER, or the file itself"),
        (["nosuch.yaml"], "no such file: nosuch.yaml"),
        (["x", "--include-path", "/nosuch"], "there is no folder /nosuch"),
        (["x", "--log-samples"], "say where with --out DIR"),
        (["x", "-o", "layout=block"], r"--option is for options of a layout or strategy, not for layout \(--layout\)$"),
        (["x", "-o", "device=cpu", "-o", "edges-key=e"], r"not for device \(for --model_args of graphkv-lm-eval\), edges_key \(--edges-key\)$"),
        (["x", "-o", "pretrained=y"], r"not for pretrained \(--model\)$"),
        ([CHOICE, "--layout", "grpah"], "unknown layout 'grpah'; valid: ape"),
        ([CHOICE, "--edges-key", "answer"], "task citation_world_choice, row 0: expected a list of .* under 'answer', got str 'Nukvol'"),
        ([CHOICE, "--documents-key", "choices"], "task citation_world_choice, row 0: document 0: expected an object"),
        ([CHOICE, "--documents-key", "papers"], "row 0: edges under 'edges' without documents: there is nothing under 'papers' or 'graph'"),
        ([CHOICE, "-s", "full_context"], "row 0: strategy 'full_context' generates answers"),
        ([str(EXAMPLE / "citation_world.jsonl")], "unknown task"),
    ],
)
def test_errors_are_one_line(arguments: list[str], words: str) -> None:
    done = invoke(*arguments)
    last = done.stderr.strip().splitlines()[-1]
    assert done.exit_code == 2 and last.startswith("error: ") and re.search(words, last), done.stderr


def test_a_yaml_that_is_no_task_and_rows_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- a\n", encoding="utf-8")
    (tmp_path / "nothing.yaml").write_text("dataset_path: json\n", encoding="utf-8")
    for name in ("list", "nothing"):
        with pytest.raises(InputError, match=f"{name}.yaml is no task"):
            load_tasks([str(tmp_path / f"{name}.yaml")])
    for text, words in (("{{nosuch}}", "task 'mine' cannot be loaded: UndefinedError"), ("{{choices[3]}}", "a row does not fit the task's doc_to_text")):
        done = invoke(str(task(tmp_path / "tasks", doc_to_text=text)))
        assert done.exit_code == 2 and words in done.stderr.splitlines()[-1]


def test_a_task_that_runs_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="task 'mine' runs code that a model wrote"):
        load_tasks([str(task(tmp_path / "tasks", unsafe_code=True))])


def test_every_argument_of_the_model_is_refused_as_an_option() -> None:
    parameters = inspect.signature(GraphKVLM.__init__).parameters.values()
    assert {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"} == set(_NO_OPTIONS)


def test_another_version_of_lm_eval() -> None:
    words = r"^lm_eval \d+\.\d+.* is installed, and lacks what is needed .*_nosuch.*: expected 0\.4\.13, `pip install lm_eval==0\.4\.13`$"
    with pytest.raises(InputError, match=words), parts_of_lm_eval():
        from lm_eval.tasks import _nosuch  # noqa: F401


def test_lm_eval_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "lm_eval" else find(name, *a))
    done = invoke("x")
    assert done.exit_code == 2 and done.stderr.strip() == "error: lm_eval is not installed: pip install 'graphkv[bench]'"
    monkeypatch.setitem(sys.modules, "lm_eval", None)  # type: ignore[arg-type]
    with pytest.raises(SystemExit, match=r"^error: lm_eval is not installed: pip install 'graphkv\[bench\]'$"):
        own_command.main()


def test_the_own_command_says_what_is_wrong_with_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "graphkv_benchmarks.harness.lm")
    monkeypatch.delattr("graphkv_benchmarks.harness.lm", raising=False)
    monkeypatch.delattr("lm_eval.api.model.TemplateLM")
    with pytest.raises(SystemExit, match=r"^error: lm_eval .* is installed, and lacks what is needed of it .*TemplateLM"):
        own_command.main()


def test_writing_results(tmp_path: Path) -> None:
    found: dict[str, Any] = {"results": {"a": {"acc,none": 1.0}}, "configs": {"a": {"function": len}}, "samples": {"a/b": [{"x": 1}]}}
    assert [path.name for path in write(found, tmp_path)] == ["results.json", "samples_a_b.jsonl"] == sorted(path.name for path in tmp_path.iterdir())
    assert as_json(found)["results"] == found["results"] and "samples" not in as_json(found)
    file = tmp_path / "file"
    file.write_text("")
    done = invoke(CHOICE, "--out", str(file))
    assert done.exit_code == 2 and "error:" in done.stderr


_BLOCKED = """
import socket, sys, torch.utils.collect_env
torch.utils.collect_env.get_pretty_env_info = lambda: ""  # runs pip, for lm_eval's results
def blocked(*a, **k):
    sys.stderr.write(f"NETWORK {a}\\n")
    raise OSError("no network")
socket.getaddrinfo = socket.create_connection = blocked
"""


def value_of(stdout: str) -> list[str]:
    return [line.split("|")[7].strip() for line in stdout.splitlines() if line.startswith(f"|{TASKS[0]}")]


def test_offline_in_a_fresh_process(tmp_path: Path) -> None:
    """Without HF_HUB_OFFLINE: nothing is even looked up, whatever the folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "OMP_NUM_THREADS": "1"}
    arguments = ["bench", "lm-eval", TASKS[0], "--include-path", str(EXAMPLE), "--limit", "3"]
    command = [sys.executable, "-c", _BLOCKED + "from graphkv.cli import app; app()", *arguments]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr and value_of(done.stdout) == ["1"]


def test_lm_evals_own_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m graphkv_benchmarks.harness`; it looks for data files in the working folder only, and names a GPU where there is none."""
    monkeypatch.chdir(EXAMPLE)
    monkeypatch.setattr("lm_eval.utils.setup_logging", lambda *a: None)
    monkeypatch.setattr("lm_eval.__main__.setup_logging", lambda *a: None)
    model = ["--model", "graphkv", "--model_args", "layout=graph,rounds=1", "--device", "cuda:0"]
    monkeypatch.setattr(sys, "argv", ["lm_eval", "run", *model, "--tasks", TASKS[0], "--include_path", str(EXAMPLE), "--limit", "3"])
    monkeypatch.delitem(sys.modules, own_command.__name__)  # or runpy warns that it was imported before
    runpy.run_module("graphkv_benchmarks.harness", run_name="__main__")
    assert value_of(capsys.readouterr().out) == ["1"]
