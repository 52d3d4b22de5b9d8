"""Whatever happens to the files: a clear error, or a miss and a new encoding; never other numbers than were written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import byte_tokenizer, random_graph, random_ids, tiny_model
from store_helpers import block, same

from graphkv import FileStore, GraphKV, StoreError, StoreWarning
from graphkv.store import Folder
from graphkv.store.files import LocalFiles

GRAPH = random_graph({"a": 5, "b": 7, "c": 3}, [("a", "b"), ("b", "c")])


@pytest.fixture
def kept(tmp_path: Path) -> tuple[FileStore, Path]:
    """A store with one block, and the block's file."""
    store = FileStore(tmp_path / "kv")
    store.put(block(1, tokens=3, layers=1, dim=2))
    (path,) = (tmp_path / "kv" / "blocks").rglob("*.safetensors")
    return store, path


def read(store: FileStore) -> Any:
    wanted = block(1, tokens=3, layers=1, dim=2)
    return store.get(wanted.key, wanted.token_ids)


def test_every_flipped_bit_is_noticed(kept: tuple[FileStore, Path]) -> None:
    store, path = kept
    whole = path.read_bytes()
    assert 500 < len(whole) < 1500
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        with pytest.warns(StoreWarning, match="is damaged"):
            assert read(store) is None
        assert store.folder.damage(block(1).key) is not None
    path.write_bytes(whole)
    assert same(read(store), block(1, tokens=3, layers=1, dim=2)) and store.folder.damage(block(1).key) is None


def test_every_cut_and_every_added_byte_is_noticed(kept: tuple[FileStore, Path]) -> None:
    store, path = kept
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.warns(StoreWarning, match="is damaged"):
            assert read(store) is None
    path.write_bytes(whole + b"\0")
    with pytest.warns(StoreWarning):
        assert read(store) is None


def test_a_file_under_anothers_name_is_noticed(kept: tuple[FileStore, Path]) -> None:
    store, path = kept
    store.put(block(2, tokens=3, layers=1, dim=2))
    shutil.copy(store.folder.place + f"/blocks/00/{block(2).key}.safetensors", path)
    with pytest.warns(StoreWarning, match="it holds the block 000000"):
        assert read(store) is None


def test_an_entry_of_another_version_is_a_miss(kept: tuple[FileStore, Path]) -> None:
    from graphkv.store.entry import seal

    store, path = kept
    data = bytearray(path.read_bytes().replace(b"graphkv-kv-1", b"graphkv-kv-2"))
    seal(data)
    path.write_bytes(data)
    with pytest.warns(StoreWarning, match="not of format graphkv-kv-1"):
        assert read(store) is None


def test_a_damaged_block_is_encoded_again_and_the_answer_is_the_same(tmp_path: Path) -> None:
    engine = GraphKV.from_pretrained((tiny_model(), byte_tokenizer()), store=tmp_path / "kv")
    before = engine.logits(GRAPH, random_ids(4))
    files = sorted((tmp_path / "kv").rglob("*.safetensors"))
    for path in files[::2]:
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.unlink()  # a new file: the engine may have the old one mapped
        path.write_bytes(data)
    with pytest.warns(StoreWarning, match="is damaged"):
        after = engine.logits(GRAPH, random_ids(4))
    assert torch.allclose(before, after, rtol=1e-5, atol=1e-5), "equal but for rounding: other blocks stood in the same batch"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert engine.encode(GRAPH, prefix=()).tokens_computed == 0, "the blocks were written anew"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.write_text("x"), "is a file: expected a folder"),
        (lambda p: (p.mkdir(), (p / "thesis.tex").write_text("x")), "is no store: expected an empty or a new folder, found 'thesis.tex'"),
        (lambda p: (p.mkdir(), (p / "graphkv-store.json").write_text('{"graphkv_store": 7}')), "is of version 7, this graphkv reads version 1"),
        (lambda p: (p.mkdir(), (p / "graphkv-store.json").write_text("{")), "is damaged: delete that file"),
        (lambda p: (p.mkdir(), (p / "graphkv-store.json").write_text("[]")), "is damaged: delete that file"),
    ],
)
def test_a_place_that_is_no_store(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "kv")
    with pytest.raises(StoreError, match=message):
        FileStore(tmp_path / "kv")


def test_a_file_in_place_of_a_folder_inside(tmp_path: Path) -> None:
    (tmp_path / "kv").mkdir()
    (tmp_path / "kv" / "blocks").write_text("x")
    store = FileStore(tmp_path / "kv")
    assert store.get(block(1).key, block(1).token_ids) is None
    with pytest.raises(StoreError, match="cannot keep a block of"):
        store.put(block(1))
    assert not list((tmp_path / "kv" / "tmp").iterdir())


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"graphkv_manifest": 99}\n["x"]\n', '{"graphkv_manifest": 1}\n[1, 2]\nnonsense\n', "\0\xff"])
def test_a_manifest_that_is_old_cut_or_nonsense_is_made_again(kept: tuple[FileStore, Path], text: str) -> None:
    store, _ = kept
    manifest = Path(store.place) / "manifest.jsonl"
    expected = [(e.key, e.nbytes, e.tokens, e.label) for e in store.entries()]
    assert manifest.is_file()
    manifest.write_text(text, encoding="latin-1")
    assert [(e.key, e.nbytes, e.tokens, e.label) for e in store.entries()] == expected
    assert json.loads(manifest.read_text().splitlines()[1])[0] == block(1).key


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "kv")
    store.put(block(1))
    real = os.write
    monkeypatch.setattr("os.write", lambda fd, data: real(fd, memoryview(data)[:100]) if len(data) < 700 else _raise(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StoreError, match="cannot keep a block of 2,080 bytes: No space left on device"):
        store.put(block(2, tokens=12))
    monkeypatch.undo()
    assert not list((tmp_path / "kv" / "tmp").iterdir()) and list(store.keys()) == [block(1).key]


def test_an_answer_does_not_need_the_store_but_encode_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = GraphKV.from_pretrained((tiny_model(), byte_tokenizer()), store=tmp_path / "kv")
    right = GraphKV(engine.model, store="memory").logits(GRAPH, random_ids(4))
    monkeypatch.setattr(LocalFiles, "write", lambda *_: _raise(OSError(errno.EROFS, "Read-only file system")))
    with pytest.warns(StoreWarning, match="Read-only file system; the answer is right"):
        assert engine.logits(GRAPH, random_ids(4)).equal(right)
    with pytest.raises(StoreError, match=r"cannot keep a block of .* Read-only file system"):
        engine.encode(GRAPH)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_a_small_disk_and_a_read_only_one(tmp_path: Path) -> None:
    """1. a tmpfs of 64 KiB runs full; 2. the same, remounted read-only, is still read."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no mount here")
    try:
        store = FileStore(disk / "kv")
        with pytest.raises(StoreError, match="No space left on device"):
            for number in range(100):
                store.put(block(number, tokens=64))
        kept = list(store.keys())
        assert 2 < len(kept) < 64 and all(store.folder.damage(key) is None for key in kept) and not list((disk / "kv" / "tmp").iterdir())
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        store = FileStore(disk / "kv")
        assert same(store.get(block(0).key, block(0, tokens=64).token_ids), block(0, tokens=64)) and len(list(store.entries())) == len(kept)
        with pytest.raises(StoreError, match="Read-only file system"):
            store.put(block(200))
        with pytest.raises(StoreError, match="Read-only file system"):
            store.remove(block(0).key)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_what_killed_writers_left_is_swept_up_when_it_is_old(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "kv")
    FileStore(tmp_path / "kv").put(block(1))
    left, fresh = (tmp_path / "kv" / "tmp" / name for name in ("1-dead", "2-alive"))
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(left, (1, 1))
    assert list(folder.keys()) == [block(1).key] and folder.sweep() == 1
    assert not left.exists() and fresh.exists()


def test_a_codec_of_a_later_version_is_a_miss(kept: tuple[FileStore, Path]) -> None:
    from graphkv.store.entry import seal

    store, path = kept
    data = bytearray(path.read_bytes().replace(b'"exact"', b'"exakt"'))
    seal(data)
    path.write_bytes(data)
    with pytest.warns(StoreWarning, match="not by this version: codec 'exakt'"):
        assert read(store) is None


def test_without_room_a_lossy_block_is_read_as_it_would_have_been_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a target that does find room would be kept under a key that promises other numbers."""
    model = (tiny_model(), byte_tokenizer())
    kept = GraphKV.from_pretrained(model, store=FileStore(tmp_path / "kv", codec="int4")).logits(GRAPH, random_ids(4), rounds=2)
    monkeypatch.setattr(LocalFiles, "write", lambda *_: _raise(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.warns(StoreWarning) as warned:
        full = GraphKV.from_pretrained(model, store=FileStore(tmp_path / "full", codec="int4")).logits(GRAPH, random_ids(4), rounds=2)
    assert full.equal(kept) and len(warned) == 1, "one warning a call"


def test_errors_of_a_cloud_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    class NoCredentials(Exception):
        pass

    store = FileStore("memory://cloud")
    fs = type(fsspec.filesystem("memory"))
    for name in ("cat_file", "pipe_file", "find"):
        monkeypatch.setattr(fs, name, lambda *_, **__: _raise(NoCredentials("no credentials")))
    for call in (lambda: store.get(block(1).key, ()), lambda: store.put(block(1)), lambda: list(store.entries()), lambda: store.nbytes):
        with pytest.raises(StoreError, match="NoCredentials: no credentials"):
            call()
    with pytest.raises(StoreError, match="cannot be opened"):
        FileStore("nonsense://bucket/kv")


def _raise(error: BaseException) -> None:
    raise error
