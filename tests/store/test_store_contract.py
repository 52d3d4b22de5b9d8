"""What every store does: the same numbers back, token ids compared, a budget, pins. In memory, in a folder, and through fsspec."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from store_helpers import MakeStore, block, same

from graphkv import InputError
from graphkv.kv import SegmentKV
from graphkv.store import FileStore, MemoryStore, Store, open_store, parse_size


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_same_numbers_come_back(make_store: MakeStore, dtype: torch.dtype) -> None:
    store = make_store()
    kept = store.put(block(1, dtype=dtype))
    assert same(kept, block(1, dtype=dtype)) and same(store.get(kept.key, kept.token_ids), block(1, dtype=dtype))
    assert kept.key in store and len(store) == 1 and list(store.keys()) == [kept.key]


def test_layers_of_unequal_shapes_keep_their_order(make_store: MakeStore) -> None:
    shapes = [(2, 5, 4), (1, 5, 4), (3, 5, 8), *[(1, 5, 2)] * 9]  # more than ten: order by name must not put 10 before 2
    one = SegmentKV("a" * 64, tuple(range(5)), tuple(torch.randn(s) for s in shapes), tuple(torch.randn(s) for s in shapes))
    store = make_store()
    store.put(one)
    assert same(store.get(one.key, one.token_ids), one)


def test_other_token_ids_are_a_miss(make_store: MakeStore) -> None:
    store = make_store()
    kept = store.put(block(1))
    assert store.get(kept.key, kept.token_ids[:-1]) is None and store.get("b" * 64, kept.token_ids) is None
    assert store.get(kept.key, (*kept.token_ids[:-1], 99)) is None


def test_a_block_without_tokens(make_store: MakeStore) -> None:
    store = make_store()
    store.put(block(1, tokens=0))
    assert same(store.get(block(1).key, ()), block(1, tokens=0))


def test_the_least_recently_used_go_first_and_pinned_ones_never(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphkv.store.folder._TOUCH_SECONDS", 0.0)
    unlimited = make_store()
    size = _size(unlimited, block(9))
    unlimited.clear()
    store = make_store(max_bytes=3 * size + size // 2)
    is_remote = isinstance(store, FileStore) and not store.folder.place.startswith("/")
    for number in (1, 2, 3):
        store.put(block(number))
        _tick(store)
    store.pin(block(1).key)
    assert same(store.get(block(2).key, block(2).token_ids), block(2))  # now 3 is the oldest that is not pinned
    _tick(store)
    store.put(block(4))
    left = {entry.label for entry in store.entries()}
    # an object store notes no use: there, what was written first goes first
    assert left == ({"doc1@0", "doc3@0", "doc4@0"} if is_remote else {"doc1@0", "doc2@0", "doc4@0"})
    assert store.nbytes <= 3 * size + size // 2
    store.unpin(block(1).key)
    _tick(store)
    store.put(block(5))
    assert "doc1@0" not in {entry.label for entry in store.entries()}


def test_a_block_beyond_the_budget_is_not_kept(make_store: MakeStore) -> None:
    store = make_store(max_bytes=10)
    assert same(store.put(block(1)), block(1)) and len(store) == 0 and store.get(block(1).key, block(1).token_ids) is None


def test_prune_remove_and_clear(make_store: MakeStore) -> None:
    store = make_store()
    for number in range(1, 6):
        store.put(block(number))
        _tick(store)
    store.pin(block(1).key)
    each = store.nbytes // 5
    store.prune(2 * each + 10)
    assert sorted(entry.label for entry in store.entries()) == ["doc1@0", "doc5@0"]
    store.prune(0)
    assert [(entry.label, entry.pinned) for entry in store.entries()] == [("doc1@0", True)]
    assert store.remove(block(1).key) and not store.remove(block(1).key) and len(store) == 0
    store.put(block(1))
    assert [entry.pinned for entry in store.entries()] == [False], "a block that was removed has lost its pin"
    store.clear()
    assert (len(store), store.nbytes) == (0, 0)


def test_entries_say_what_is_there(make_store: MakeStore) -> None:
    store = make_store()
    store.put(block(1, tokens=7, dtype=torch.bfloat16))
    (entry,) = store.entries()
    assert (entry.tokens, entry.codec, entry.dtype, entry.label, entry.model) == (7, "exact", "bfloat16", "doc1@0", "tiny")
    assert entry.nbytes == store.nbytes >= block(1, tokens=7, dtype=torch.bfloat16).nbytes
    assert list(store.entries()) == [entry], "the second listing comes from the manifest"


def test_pinning_what_is_not_there(make_store: MakeStore) -> None:
    with pytest.raises(InputError, match="there is no block"):
        make_store().pin("c" * 64)


def test_threads_share_a_store(make_store: MakeStore) -> None:
    store, errors = make_store(max_bytes=20_000), []

    def work(start: int) -> None:
        try:
            for number in range(start + 1, start + 25):
                store.put(block(number))
                kept = store.get(block(number - 1).key, block(number - 1).token_ids)
                assert kept is None or same(kept, block(number - 1))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and store.nbytes <= 20_000


@pytest.mark.parametrize("budget", [-1, 1.5, True, "2GB"])
def test_a_budget_that_is_none(budget: object) -> None:
    with pytest.raises(InputError, match="max_bytes must be a whole number"):
        MemoryStore(max_bytes=budget)  # type: ignore[arg-type]


def test_a_codec_that_is_none() -> None:
    with pytest.raises(InputError, match="unknown codec 'int3'; valid: exact, fp8, int4, int8"):
        MemoryStore(codec="int3")


@pytest.mark.parametrize("key", ["../../etc/passwd", "ABCDEF0123456789", "abc", "g" * 64, ""])
def test_a_key_never_leaves_the_folder(tmp_path: Path, key: str) -> None:
    store = FileStore(tmp_path / "kv")
    for call in (lambda: store.get(key, ()), lambda: store.remove(key), lambda: key in store):
        with pytest.raises(InputError, match="expected a block's key"):
            call()


def test_reading_copies_nothing_and_changes_nothing_on_disk(tmp_path: Path) -> None:
    """The tensors are views of the mapped file; who writes to them writes to memory of his own."""
    store = FileStore(tmp_path / "kv")
    store.put(block(1))
    one = store.get(block(1).key, block(1).token_ids)
    assert one is not None
    assert len({t.untyped_storage().data_ptr() for t in one.keys}) == 1 and one.keys[0].untyped_storage().nbytes() > one.keys[0].nbytes
    one.keys[0].zero_()
    assert same(FileStore(tmp_path / "kv").get(block(1).key, block(1).token_ids), block(1))


def test_anybody_can_open_an_entry(tmp_path: Path) -> None:
    from safetensors import safe_open

    FileStore(tmp_path / "kv").put(block(1))
    (path,) = (tmp_path / "kv").rglob("*.safetensors")
    with safe_open(path, "pt") as file:
        assert file.metadata()["key"] == block(1).key and torch.equal(file.get_tensor("keys")[1], block(1).keys[1])
        assert file.get_tensor("token_ids").tolist() == list(block(1).token_ids)


def test_memory_in_front_of_files(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "kv", codec="int8", memory_bytes=10_000)
    kept = store.put(block(1))
    again = store.get(block(1).key, block(1).token_ids)
    assert again is not None and again.keys[0] is kept.keys[0], "from memory, without decoding"
    assert same(FileStore(tmp_path / "kv", codec="int8").get(block(1).key, block(1).token_ids), kept)
    store.remove(block(1).key)
    assert store.get(block(1).key, block(1).token_ids) is None


def test_a_read_only_store_keeps_nothing(tmp_path: Path) -> None:
    FileStore(tmp_path / "kv").put(block(1))
    before = sorted(str(p) for p in (tmp_path / "kv").rglob("*"))
    store = FileStore(tmp_path / "kv", read_only=True)
    assert same(store.get(block(1).key, block(1).token_ids), block(1)) and same(store.put(block(2)), block(2))
    assert len(list(store.entries())) == 1 and sorted(str(p) for p in (tmp_path / "kv").rglob("*")) == before


def test_nobody_else_may_read_a_store(tmp_path: Path) -> None:
    """The documents' texts can be read off their token ids."""
    FileStore(tmp_path / "deep" / "kv").put(block(1))
    assert (tmp_path / "deep" / "kv").stat().st_mode & 0o777 == 0o700


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHKV_STORE", str(tmp_path / "mine"))
    monkeypatch.setenv("GRAPHKV_STORE_SIZE", "2MB")
    default = open_store()
    assert isinstance(default, FileStore) and default.place == str(tmp_path / "mine") and default.max_bytes == 2_000_000
    monkeypatch.delenv("GRAPHKV_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    default = open_store()
    assert isinstance(default, FileStore) and default.place == str(tmp_path / "cache" / "graphkv" / "kv")
    assert not (tmp_path / "cache").exists(), "nothing is made before something is kept"
    assert isinstance(open_store("memory"), MemoryStore) and isinstance(open_store("memory://x"), FileStore)
    assert isinstance(open_store(f"file://{tmp_path}/kv"), FileStore)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("12", 12), ("1.5 GiB", 3 * 2**29), ("20GB", 20 * 10**9), ("2k", 2000), ("1 TiB", 2**40)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 XB", "1e9", "ten"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="expected a size such as 500MB"):
        parse_size(text)


def _size(store: Store, one: SegmentKV) -> int:
    store.put(one)
    return store.nbytes


def _tick(store: Store) -> None:
    """Let times of use differ: file systems note them in steps, and a test is quick."""
    if isinstance(store, FileStore):
        import time

        time.sleep(0.02)
