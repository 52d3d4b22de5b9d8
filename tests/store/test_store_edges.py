"""Edges that a review found: many held blocks, pins against eviction, two processes at a new folder, manifests, archives, places."""

from __future__ import annotations

import io
import resource
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from store_helpers import block, same

from graphkv import FileStore, InputError, MemoryStore, StoreError
from graphkv.kv import SegmentKV
from graphkv.store import Folder, open_store
from graphkv.store.archive import import_blocks
from graphkv.store.files import LocalFiles
from graphkv.store.manifest import manifest_bytes, read_manifest


def test_blocks_that_are_held_hold_no_file_descriptors(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "kv")
    for number in range(1, 101):
        store.put(block(number))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 20, hard))
    try:
        held = [store.get(block(number).key, block(number).token_ids) for number in range(1, 101)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(same(one, block(number)) for number, one in enumerate(held, start=1))


def test_a_block_that_is_evicted_while_it_is_opened_is_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "kv")
    store.put(block(1))
    files = store.folder.files
    mapper = files.mapper  # type: ignore[attr-defined]

    def late(path: str, size: int) -> Any:
        Path(path).unlink()  # another process, between opening and mapping
        return mapper(path, size)

    monkeypatch.setattr(files, "mapper", late)
    assert store.get(block(1).key, block(1).token_ids) is None


def test_a_block_that_is_pinned_while_others_are_evicted_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process pins it after the listing and before its turn."""
    store, other = FileStore(tmp_path / "kv"), Folder(tmp_path / "kv")
    for number in (1, 2):
        store.put(block(number))
    pins = Folder.pins

    def late(self: Folder) -> frozenset[str]:
        seen = pins(self)
        other.pin(block(1).key)
        return seen

    monkeypatch.setattr(Folder, "pins", late)
    assert [entry.key for entry in store.prune(0)] == [block(2).key]
    monkeypatch.undo()
    assert store.folder.pins() == {block(1).key} and same(store.get(block(1).key, block(1).token_ids), block(1))


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_pinned_ahead(kind: str, tmp_path: Path) -> None:
    store = MemoryStore(max_bytes=1500) if kind == "memory" else FileStore(tmp_path / "kv", max_bytes=2500)
    store.pin(block(1).key, ahead=True)
    for number in range(1, 8):
        store.put(block(number))
    assert block(1).key in store and len(store) < 7


def test_a_folder_that_another_process_makes_a_store_this_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = LocalFiles.others

    def made_meanwhile(self: LocalFiles) -> list[str]:
        FileStore(tmp_path / "kv").put(block(1)) if not (tmp_path / "kv").exists() else None
        return others(self)

    def once(self: LocalFiles) -> list[str]:
        monkeypatch.setattr(LocalFiles, "others", others)
        return made_meanwhile(self)

    monkeypatch.setattr(LocalFiles, "others", once)
    assert same(FileStore(tmp_path / "kv").get(block(1).key, block(1).token_ids), block(1))


def test_no_flipped_byte_of_a_manifest_is_believed() -> None:
    known = {block(n).key: [100, 5, "exact", "float32", f"doc{n}@0", "tiny"] for n in (1, 2)}
    data = manifest_bytes(known)
    assert read_manifest(data) == known
    for place in range(len(data)):
        flipped = data[:place] + bytes([data[place] ^ 2]) + data[place + 1 :]
        assert read_manifest(flipped) in ({}, known), place  # a quote or a space of the first line may change nothing
    assert read_manifest(data[:-1]) == {} == read_manifest(None)


def test_one_unreadable_file_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path / "kv")
    for number in (1, 2):
        store.put(block(number))
    head = LocalFiles.head

    def broken(self: LocalFiles, name: str, size: int) -> bytes | None:
        if block(1).key in name:
            raise OSError(5, "Input/output error")
        return head(self, name, size)

    monkeypatch.setattr(LocalFiles, "head", broken)
    assert sorted(entry.label for entry in store.entries()) == ["(unreadable)", "doc2@0"]


def test_use_from_memory_counts_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr("graphkv.store.folder._TOUCH_SECONDS", 0.0)
    store = FileStore(tmp_path / "kv", memory_bytes=10_000)
    store.put(block(1))
    (path,) = (tmp_path / "kv").rglob("*.safetensors")
    os.utime(path, (1, 1))
    store.get(block(1).key, block(1).token_ids)
    assert path.stat().st_mtime > 1


@pytest.mark.parametrize("place", ["", 5, "~nobody-of-that-name/kv", "x" * 300, "sftp://no.such.host.invalid/kv"])
def test_places_that_cannot_be(place: Any) -> None:
    with pytest.raises((StoreError, InputError)):
        FileStore(place)


def test_options_of_a_local_folder_and_negative_sizes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a local folder takes no options, got anon"):
        FileStore(tmp_path / "kv", options={"anon": True})
    for store in (MemoryStore(), FileStore(tmp_path / "kv")):
        with pytest.raises(InputError, match="max_bytes must be a whole number"):
            store.prune(-1)


def test_the_variable_is_named_if_its_size_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAPHKV_STORE", str(tmp_path))
    for size in ("lots", "9" * 400):
        monkeypatch.setenv("GRAPHKV_STORE_SIZE", size)
        with pytest.raises(InputError, match="GRAPHKV_STORE_SIZE: expected a size"):
            open_store()


def test_a_network_that_is_gone_is_no_no(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    store = FileStore("memory://gone")
    store.put(block(1))
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "info", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("no route")))
    with pytest.raises(StoreError, match="no route"):
        store.pin(block(1).key)
    with pytest.raises(StoreError, match="no route"):
        assert block(1).key in store


def test_an_archive_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(f"{block(1).key}.safetensors")
        tar.addfile(member, io.BytesIO(b""))
    data = bytearray(path.read_bytes())
    data[124:136] = b"77777777777\0"  # eight gigabytes, says the header
    data[148:156] = b"        "
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"expected blocks of graphkv cache export|cannot be read as a tar file"):
        import_blocks(Folder(tmp_path / "kv"), path)


def test_import_repairs(tmp_path: Path) -> None:
    from graphkv.store.archive import export_blocks

    store = FileStore(tmp_path / "kv")
    store.put(block(1))
    assert export_blocks(store.folder, [block(1).key], tmp_path / "kv.tar") == 1
    (path,) = (tmp_path / "kv" / "blocks").rglob("*.safetensors")
    path.unlink()
    path.write_bytes(b"damaged")
    assert import_blocks(store.folder, tmp_path / "kv.tar") == (1, 0) and store.folder.damage(block(1).key) is None
    with pytest.raises(StoreError, match="cannot be written"):
        export_blocks(store.folder, [block(1).key], path / "under-a-file.tar")


@pytest.mark.parametrize("codec", ["int8", "fp8", "int4"])
def test_lossy_codecs_at_the_edge(codec: str) -> None:
    store = MemoryStore(codec=codec)
    assert len(store.put(block(1, tokens=0))) == 0 and store.put(block(2, tokens=1)).keys[0].shape == (2, 1, 4)
    odd = SegmentKV("a" * 64, (1, 2), (torch.randn(1, 2, 3),), (torch.randn(1, 2, 3),))
    if codec == "int4":
        with pytest.raises(StoreError, match="needs an even head dimension, this model has 3; use int8"):
            store.put(odd)
    else:
        assert store.put(odd).keys[0].shape == (1, 2, 3)
