"""`graphkv encode` and `graphkv cache`, over a tiny random model in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from graphkv.cli import app

DOCUMENTS = [
    {"id": "a", "title": "Alpha", "text": "The first paper.", "sources": ["b"]},
    {"id": "b", "title": "Beta", "text": "The second paper, which says more about rivers."},
    {"id": "c", "text": "A third one. It has two sentences."},
]


@pytest.fixture
def docs(tmp_path: Path) -> str:
    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps(d) + "\n" for d in DOCUMENTS), encoding="utf-8")
    return str(path)


@pytest.fixture
def kv(tmp_path: Path, docs: str, model: str) -> str:
    """A store with the three documents."""
    place = str(tmp_path / "kv")
    assert run("encode", docs, "--store", place, "--model", model).exit_code == 0
    return place


def run(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), env={"COLUMNS": "200", "GRAPHKV_DEBUG": ""})


def found(*args: str) -> Any:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("\n") == 1, result.output
    return result.stderr


def test_encode_then_ask_in_another_process(tmp_path: Path, docs: str, model: str) -> None:
    place = str(tmp_path / "kv")
    first = found("encode", docs, "--store", place, "--model", model)
    assert first["blocks_encoded"] == first["blocks"] == first["store_blocks"] == 3 and first["blocks_found"] == 0  # b, c, and a reading b
    again = run("encode", docs, "--store", place, "--model", model)
    assert again.stdout.startswith("3 blocks: 3 were there, 0 encoded (0 tokens)\n") and "3 blocks" in again.stdout.splitlines()[1]
    code = f"from graphkv.cli import app; app(['ask', {docs!r}, 'Which river?', '--store', {place!r}, '--model', {model!r}, '--max-new-tokens', '2', '--json'])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    answer = json.loads(out.stdout)
    assert answer["tokens_reused"] == first["tokens_encoded"] and all(s["reused"] for s in answer["segments"])


def test_workers_codec_budget_and_pin(tmp_path: Path, docs: str, model: str) -> None:
    place = str(tmp_path / "kv")
    done = found("encode", docs, "--store", place, "--model", model, "--codec", "int8", "--pin", "--max-size", "1MB", "--layout", "graph", "-o", "rounds=2")
    assert done["pinned"] and all(e["pinned"] and e["codec"] == "int8" for e in found("cache", "ls", "--store", place))
    assert found("cache", "prune", "--store", place, "--max-size", "0")["removed"] == []
    assert "the rest is pinned" in run("cache", "prune", "--store", place, "--max-size", "0").stdout


def test_several_workers_and_a_budget_that_is_too_small(tmp_path: Path) -> None:
    path, place = tmp_path / "many.jsonl", str(tmp_path / "kv")
    path.write_text("".join(json.dumps({"id": f"p{i}", "text": f"{i} It rains. " * 300}) + "\n" for i in range(6)), encoding="utf-8")
    done = found("encode", str(path), "--store", place, "--workers", "2")
    assert done["blocks_encoded"] == done["blocks_kept"] == 7 == len(found("cache", "ls", "--store", place))
    small = run("encode", str(path), "--store", str(tmp_path / "small"), "--max-size", "10MB")
    assert small.exit_code == 0 and "of the 7 blocks are in the store: its budget of 9.5 MiB is too small" in small.stderr


def test_encode_refuses(tmp_path: Path, docs: str, model: str) -> None:
    assert "a store in memory ends with this command" in refused("encode", docs, "--store", "memory", "--model", model)
    assert "expected a size such as" in refused("encode", docs, "--max-size", "much", "--model", model)
    assert "unknown codec 'int2'" in refused("encode", docs, "--store", str(tmp_path / "kv"), "--codec", "int2", "--model", model)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("x")
    assert "is no store: expected an empty or a new folder, found 'notes.txt'" in refused("encode", docs, "--store", str(tmp_path / "full"), "--model", model)
    assert not (tmp_path / "kv").exists()


def test_ls_and_info(kv: str) -> None:
    lines = run("cache", "ls", "--store", kv).stdout.splitlines()
    assert lines[0].split() == ["key", "tokens", "size", "codec", "dtype", "used", "pin", "model", "label"] and len(lines) == 4
    entries = found("cache", "ls", "--store", kv)
    assert {e["label"] for e in entries} == {"b@0", "c@0", "a@1"}
    assert found("cache", "ls", "b", "--store", kv)[0]["key"] == found("cache", "info", "b@0", "--store", kv)[0]["key"]
    assert len(found("cache", "ls", "--store", kv, "--limit", "2")) == 2
    about = found("cache", "info", "--store", kv)
    assert about["blocks"] == 3 == about["by"][0]["blocks"] and about["bytes"] == sum(e["nbytes"] for e in entries) and about["pinned"] == 0
    assert run("cache", "info", "--store", kv).stdout.splitlines()[1].startswith("blocks: 3, ")
    assert "tokens: " in run("cache", "info", entries[0]["key"][:10], "--store", kv).stdout


def test_verify_finds_removes_and_the_next_run_encodes_again(kv: str, docs: str, model: str) -> None:
    assert run("cache", "verify", "--store", kv).stdout == "3 blocks are whole, 0 are damaged\n"
    path = next(Path(kv).rglob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    result = run("cache", "verify", "--store", kv)
    assert result.exit_code == 1 and "the checksum does not fit" in result.stdout and "2 blocks are whole, 1 are damaged" in result.stdout
    assert path.stem in found("cache", "verify", "--store", kv, "--remove")["damaged"] and not path.exists()
    assert found("encode", docs, "--store", kv, "--model", model)["blocks_encoded"] == 1


def test_a_damaged_block_is_one_plain_line_for_who_asks(kv: str, docs: str, model: str) -> None:
    for path in Path(kv).rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    code = f"from graphkv.cli import app; app(['ask', {docs!r}, 'Which river?', '--store', {kv!r}, '--model', {model!r}, '--max-new-tokens', '1', '--json'])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout)["tokens_reused"] == 0
    lines = [line for line in out.stderr.splitlines() if line.startswith("warning")]
    assert len(lines) == 3 and all(line.startswith("warning: the block ") and line.endswith("it is encoded again") for line in lines)


def test_pin_prune_and_rm(kv: str) -> None:
    assert run("cache", "pin", "b", "--store", kv).stdout.startswith("pinned 1 blocks")
    assert len(found("cache", "prune", "--max-size", "0", "--store", kv)["removed"]) == 2
    assert run("cache", "pin", "b", "--off", "--store", kv).stdout.startswith("unpinned 1 blocks")
    assert run("cache", "rm", "b@0", "--store", kv).stdout.startswith("removed 1 blocks")
    assert found("cache", "ls", "--store", kv) == []


def test_rm_by_model_and_all(kv: str, model: str) -> None:
    assert "no block is of model 'x'" in refused("cache", "rm", "--of-model", "x", "--store", kv)
    assert len(found("cache", "rm", "c", "--of-model", model, "--store", kv)["removed"]) == 1
    assert len(found("cache", "rm", "--all", "--store", kv)["removed"]) == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("rm",), "nothing is named: give blocks, --of-model, or --all"),
        (("pin",), "nothing is named: give blocks, or --of-model"),
        (("rm", ""), "a block's name is empty"),
        (("rm", "b", "--all"), "--all means everything"),
        (("rm", "zzz"), "no block is called 'zzz'"),
        (("ls", "0000"), "no block is called '0000'"),
        (("prune", "--max-size", "-1"), "expected a size such as"),
        (("export", "{docs}"), "exists: choose another name"),
        (("import", "{docs}"), "cannot be read as a tar file"),
        (("import", "nowhere.tar"), "cannot be read as a tar file"),
    ],
)
def test_cache_refuses(kv: str, docs: str, args: tuple[str, ...], message: str) -> None:
    assert message in refused("cache", *(arg.replace("{docs}", docs) for arg in args), "--store", kv)


@pytest.mark.parametrize("args", [("ls",), ("rm", "--all"), ("verify",), ("prune", "--max-size", "0"), ("export", "x.tar")])
def test_a_store_that_is_not_there(tmp_path: Path, args: tuple[str, ...]) -> None:
    assert "there is no store at" in refused("cache", *args, "--store", str(tmp_path / "typo"))
    assert "expected the place of a store" in refused("cache", *args, "--store", "")


@pytest.mark.parametrize("verb", ["ls", "info", "verify"])
def test_a_store_in_memory_has_nothing_to_show(verb: str) -> None:
    assert "a store in memory ends with its process" in refused("cache", verb, "--store", "memory")


def test_export_and_import(kv: str, tmp_path: Path, docs: str, model: str) -> None:
    tar, other = str(tmp_path / "kv.tar"), str(tmp_path / "other")
    assert run("cache", "export", tar, "--store", kv).stdout.startswith(f"wrote 3 blocks to {tar}")
    assert found("cache", "import", tar, "--store", other) == {"file": tar, "came": 3, "known": 0}
    assert found("cache", "import", tar, "--store", other)["known"] == 3
    assert found("encode", docs, "--store", other, "--model", model)["blocks_encoded"] == 0
    part = str(tmp_path / "part.tar")
    run("cache", "export", part, "b", "--store", kv)
    assert found("cache", "import", part, "--store", str(tmp_path / "third"))["came"] == 1


def test_an_archive_that_is_none_of_ours_or_damaged(kv: str, tmp_path: Path) -> None:
    import tarfile

    evil, bad = tmp_path / "evil.tar", tmp_path / "bad.tar"
    with tarfile.open(evil, "w") as tar:
        tar.add(next(Path(kv).rglob("*.safetensors")), arcname="../../outside.safetensors")
    assert "holds '../../outside.safetensors': expected blocks" in refused("cache", "import", str(evil), "--store", str(tmp_path / "new"))
    run("cache", "export", str(bad), "--store", kv)
    data = bytearray(bad.read_bytes())
    data[1200] ^= 1
    bad.write_bytes(data)
    assert "is damaged" in refused("cache", "import", str(bad), "--store", str(tmp_path / "new"))
    assert not list((tmp_path / "new").rglob("*.safetensors")) and not (tmp_path / "outside.safetensors").exists()


def test_looking_into_a_store_loads_no_torch(kv: str) -> None:
    code = f"import sys; from graphkv.cli import app\ntry: app(['cache', 'ls', '--store', {kv!r}])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.returncode == 0 and len(out.stdout.splitlines()) == 4, out.stderr
