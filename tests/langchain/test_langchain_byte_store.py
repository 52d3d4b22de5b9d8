"""GraphKVByteStore: keys that try to get out, damage, budgets, and blocks that travel."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from store_helpers import block, same

from graphkv import FileStore, GraphKV, InputError, MemoryStore, StoreError, StoreWarning
from graphkv.langchain import GraphKVByteStore

HOSTILE = ["../../etc/passwd", "/etc/passwd", "a/b", "..", ".", "C:\\x", "nul\x00byte", "line\nbreak", "~", "🌲", "blocks/ab/abc", " ", "a" * 4096]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_keys_never_leave_the_folder(tmp_path: Path) -> None:
    store = GraphKVByteStore(str(tmp_path / "in" / "kv"))
    store.mset([(key, key.encode()) for key in HOSTILE])
    assert store.mget(HOSTILE) == [key.encode() for key in HOSTILE] and set(store.yield_keys()) == set(HOSTILE)
    assert all(name.startswith(("in/kv/values/", "in/kv/graphkv-store.json")) for name in files(tmp_path))
    store.mdelete(HOSTILE)
    assert files(tmp_path) == {"in/kv/graphkv-store.json"}


@pytest.mark.parametrize("key", ["", "a" * 4097, "\ud800", 3, None, b"a"])
@pytest.mark.parametrize("place", ["memory", "folder"])
def test_what_is_no_key_is_refused(tmp_path: Path, key: Any, place: str) -> None:
    store = GraphKVByteStore("memory" if place == "memory" else str(tmp_path / "kv"))
    for act in (lambda: store.mget([key]), lambda: store.mset([("good", b"1"), (key, b"2")]), lambda: store.mdelete([key])):
        with pytest.raises(InputError, match="a key must be"):
            act()
    assert list(store.yield_keys()) == []


def test_what_is_no_pair_is_refused(tmp_path: Path) -> None:
    store = GraphKVByteStore(str(tmp_path / "kv"))
    for pairs in ([("a", b"1"), ("b", "text")], [("a", b"1"), "b"], [("a", b"1"), ("b",)]):
        with pytest.raises(InputError, match="pairs"):
            store.mset(pairs)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="list of keys"):
        store.mget("abc")
    assert list(store.yield_keys()) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "ab", "../a", "é"]), st.one_of(st.none(), st.binary(max_size=40))), max_size=12))
def test_it_is_a_dictionary(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes | None]]) -> None:
    """Any sequence of writes and deletions, against a dict; read by another object over the same folder."""
    place = str(tmp_path_factory.mktemp("kv") / "store")
    store, wanted = GraphKVByteStore(place), dict[str, bytes]()
    for key, value in steps:
        if value is None:
            store.mdelete([key])
            wanted.pop(key, None)
        else:
            store.mset([(key, value)])
            wanted[key] = value
    other = GraphKVByteStore(place)
    assert {key: other.mget([key])[0] for key in other.yield_keys()} == wanted
    assert sorted(other.yield_keys(prefix="a")) == sorted(key for key in wanted if key.startswith("a"))


def test_damage_is_a_miss_and_is_told(tmp_path: Path) -> None:
    """A flipped bit, a cut, nothing at all; and a file that was copied under another name."""
    store = GraphKVByteStore(str(tmp_path / "kv"))
    store.mset([("a", b"value")])
    (path,) = (tmp_path / "kv" / "values").rglob("*/*")
    data = path.read_bytes()
    for damaged in (data[:-1], data[:3], b"", data[:20] + bytes([data[20] ^ 1]) + data[21:], data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]):
        path.write_bytes(damaged)
        with pytest.warns(StoreWarning, match="the value of 'a'"):
            assert store.mget(["a"]) == [None]
    store.mset([("a", b"value"), ("b", b"other")])
    assert store.mget(["a", "b"]) == [b"value", b"other"]
    (second,) = (p for p in (tmp_path / "kv" / "values").rglob("*/*") if p != path)
    path.write_bytes(second.read_bytes())
    assert store.mget(["a", "b"]) == [None, b"other"] and list(store.yield_keys()) == ["b"]


@pytest.mark.parametrize("place", ["memory", "folder"])
def test_a_full_store_refuses_and_keeps_what_it_has(tmp_path: Path, place: str) -> None:
    store = GraphKVByteStore("memory" if place == "memory" else str(tmp_path / "kv"), max_bytes=300)
    store.mset([("a", bytes(100)), ("b", bytes(20))])
    with pytest.raises(StoreError, match="nothing was written"):
        store.mset([("c", b"1"), ("d", bytes(200))])
    assert sorted(store.yield_keys()) == ["a", "b"]
    store.mset([("a", bytes(110))])
    store.mdelete(["a"])
    store.mset([("d", bytes(150))])
    assert store.mget(["d", "a"]) == [bytes(150), None]
    with pytest.raises(InputError, match="max_bytes"):
        GraphKVByteStore("memory", max_bytes=-1)


def test_what_another_deleted_makes_room(tmp_path: Path) -> None:
    one, other = (GraphKVByteStore(str(tmp_path / "kv"), max_bytes=300) for _ in range(2))
    one.mset([("a", bytes(200))])
    other.mdelete(["a"])
    one.mset([("b", bytes(200))])
    assert one.mget(["a", "b"]) == [None, bytes(200)]


def test_values_and_blocks_do_not_meet(tmp_path: Path, embedded: GraphKV, papers: list[Document]) -> None:
    """A folder that values made is a store; clearing the blocks leaves the values, and the other way round."""
    place = tmp_path / "kv"
    values = GraphKVByteStore(str(place))
    values.mset([("0" * 64, b"no block"), ("blocks/00/" + "0" * 64, b"nor this")])
    engine = GraphKV(embedded.model, store=place)
    rows = [{"id": p.id, "text": p.page_content} for p in papers]
    first = engine.ask(rows, "Who wrote Onyx Anchor?")
    assert first.tokens_reused == 0 and engine.ask(rows, "Who wrote Onyx Anchor?").tokens_reused > 0
    assert "0" * 64 not in engine.store and len(list(values.yield_keys())) == 2
    engine.store.clear()
    assert values.mget(["0" * 64]) == [b"no block"]


def test_blocks_travel(tmp_path: Path) -> None:
    """Into any LangChain store, and from there into another folder, bit by bit."""
    here, there, between = FileStore(tmp_path / "a"), FileStore(tmp_path / "b"), GraphKVByteStore("memory")
    blocks = [block(i) for i in range(3)]
    for one in blocks:
        here.put(one)
    out, back = GraphKVByteStore(here, blocks=True), GraphKVByteStore(there, blocks=True)
    keys = list(out.yield_keys())
    between.mset([(key, value) for key, value in zip(keys, out.mget(keys), strict=True) if value is not None])
    back.mset([(key, value) for key, value in zip(keys, between.mget(keys), strict=True) if value is not None])
    assert all(same(there.get(one.key, one.token_ids), one) for one in blocks) and sorted(back.yield_keys(prefix="0" * 60)) == sorted(keys)
    back.mdelete([blocks[0].key])
    assert len(there) == 2 and back.mget([blocks[0].key]) == [None]


def test_what_is_no_block_does_not_get_in(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "kv")
    store.put(block(1))
    view = GraphKVByteStore(store, blocks=True)
    (good,) = view.mget([block(1).key])
    assert good is not None
    flipped = good[:100] + bytes([good[100] ^ 1]) + good[101:]
    for key, value in ((block(2).key, b"value1"), (block(2).key, good), (block(2).key, flipped), ("../x", good), ("foo", good), (block(2).key, b"")):
        with pytest.raises(InputError):
            view.mset([(block(1).key, good), (key, value)])
        assert list(store.keys()) == [block(1).key]
    path = next((tmp_path / "kv" / "blocks").rglob("*.safetensors"))
    path.write_bytes(flipped)
    with pytest.warns(StoreWarning, match="damaged"):
        assert view.mget([block(1).key]) == [None]


def test_places_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no bytes"):
        GraphKVByteStore(MemoryStore(), blocks=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        GraphKVByteStore(str(tmp_path / "file"))
    GraphKVByteStore(str(tmp_path / "kv")).mset([("a", b"1")])
    sealed = GraphKVByteStore(FileStore(tmp_path / "kv", read_only=True))
    assert sealed.mget(["a"]) == [b"1"]
    for act in (lambda: sealed.mset([("a", b"2")]), lambda: sealed.mdelete(["a"])):
        with pytest.raises(StoreError, match="read-only"):
            act()
    (tmp_path / "kv" / "values").rename(tmp_path / "moved")
    (tmp_path / "kv" / "values").write_text("in the way")
    with pytest.raises(StoreError, match="cannot keep a value"):
        GraphKVByteStore(str(tmp_path / "kv")).mset([("a", b"2")])


def test_an_address_of_fsspec() -> None:
    address = f"memory://graphkv-{os.getpid()}-{torch.randint(0, 10**9, ()).item()}"
    store = GraphKVByteStore(address)
    store.mset([("a/b", b"1"), ("c", b"")])
    assert GraphKVByteStore(address).mget(["a/b", "c", "d"]) == [b"1", b"", None]
    assert sorted(GraphKVByteStore(address).yield_keys()) == ["a/b", "c"]


def test_many_writers_leave_whole_values(tmp_path: Path) -> None:
    stores = [GraphKVByteStore(str(tmp_path / "kv")) for _ in range(4)]

    def write(store: GraphKVByteStore, letter: str) -> None:
        for _ in range(30):
            store.mset([("shared", letter.encode() * 5000), (letter, letter.encode())])

    threads = [threading.Thread(target=write, args=pair) for pair in zip(stores, "abcd", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (shared,) = stores[0].mget(["shared"])
    assert shared is not None and len(set(shared)) == 1 and len(shared) == 5000
    assert sorted(stores[0].yield_keys()) == ["a", "b", "c", "d", "shared"]
