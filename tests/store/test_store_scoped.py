"""One store for many: nobody meets what was put in under another scope. What every store does is in test_store_contract.py, which runs over this one too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from store_helpers import block, same

from graphkv import InputError
from graphkv.store import FileStore, MemoryStore, Store
from graphkv.store.scoped import ScopedStore


@pytest.fixture(params=["memory", "folder"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "kv")


def test_a_block_is_there_under_its_own_scope_only(shared: Store) -> None:
    mine, yours, one = ScopedStore(shared, "mine"), ScopedStore(shared, "yours"), block(1)
    assert same(mine.put(one), one)
    for other in (yours, shared, ScopedStore(shared, ""), ScopedStore(mine, "mine")):
        assert one.key not in other and other.get(one.key, one.token_ids) is None
        assert not other.remove(one.key)
        with pytest.raises(InputError, match="there is no block"):
            other.pin(one.key)
    assert one.key in mine and same(mine.get(one.key, one.token_ids), one)
    assert same(ScopedStore(shared, "mine").get(one.key, one.token_ids), one), "the scope is all that counts"
    yours.put(block(1, tokens=9))
    assert same(mine.get(one.key, one.token_ids), one) and len(shared) == 2


def test_what_is_done_under_one_scope_is_not_done_under_another(shared: Store) -> None:
    mine, yours, one = ScopedStore(shared, "mine"), ScopedStore(shared, "yours"), block(1)
    mine.put(one)
    yours.put(one)
    mine.pin(one.key)
    assert sorted(entry.pinned for entry in shared.entries()) == [False, True]
    yours.unpin(one.key)
    assert sorted(entry.pinned for entry in shared.entries()) == [False, True]
    assert [entry.key for entry in mine.entries() if entry.pinned] == [one.key]
    assert yours.remove(one.key) and one.key in mine
    mine.unpin(one.key)
    assert [entry.pinned for entry in shared.entries()] == [False]


def test_a_touch_counts_for_the_block_of_ones_own_scope() -> None:
    shared = MemoryStore()
    mine, yours = ScopedStore(shared, "mine"), ScopedStore(shared, "yours")
    for number in (1, 2):
        mine.put(block(number))
        yours.put(block(number))
    mine.touch(block(1).key)
    assert next(reversed([*mine.entries()])).key == block(1).key and next(reversed([*yours.entries()])).key != block(1).key


def test_the_budget_is_everybodys() -> None:
    shared = MemoryStore(max_bytes=3 * block(1).nbytes)
    mine, yours = ScopedStore(shared, "mine"), ScopedStore(shared, "yours")
    assert mine.max_bytes == shared.max_bytes and mine.codec.name == shared.codec.name
    for number in range(1, 4):
        mine.put(block(number))
    yours.put(block(1))
    assert [number for number in range(1, 4) if block(number).key in mine] == [2, 3] and block(1).key in yours
    assert mine.nbytes == yours.nbytes == shared.nbytes


@pytest.mark.parametrize("length", [16, 40, 64, 128])
def test_names_are_keys_again_and_lead_back(length: int) -> None:
    store = ScopedStore(MemoryStore(), "mine")
    for key in ("0" * length, "f" * length, "0123456789abcdef" * 8):
        name = store.key(key[:length])
        assert re.fullmatch(r"[0-9a-f]+", name) and len(name) == length and name != key[:length]
        assert store.key(name) == key[:length]


def test_scopes_that_look_alike_are_others() -> None:
    scopes = ["", "a", "A", "a ", "aa", "ä", "a\u0308", "0", "\x00", "a" * 1000]
    assert len({ScopedStore(MemoryStore(), scope).key("0" * 64) for scope in scopes}) == len(scopes)


@pytest.mark.parametrize("key", ["../../etc/passwd", "ABCDEF0123456789", "abc", "g" * 64, "", "0x00000000000000ff", "1_000_000_000_000_000"])
def test_what_is_no_key(shared: Store, key: str) -> None:
    store = ScopedStore(shared, "mine")
    for call in (lambda: store.get(key, ()), lambda: store.remove(key), lambda: store.touch(key)):
        with pytest.raises(InputError, match="expected a block's key"):
            call()
