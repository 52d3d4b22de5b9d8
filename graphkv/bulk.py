"""A whole corpus into a store: by one process or several, resumable, holding nothing but a batch in memory.

:func:`graphkv.encode.encode_context` keeps every block for the question that follows; here each goes to the store and is forgotten, and
what reads it fetches it from there. Blocks are done level by level (what reads nothing, what reads those, ...), so workers never wait for
one another inside a level. What is in the store already is not encoded again: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from graphkv.encode import Progress, batches, block_keys, block_tokens, encode_batch, encoding_order
from graphkv.engine import GraphKV
from graphkv.errors import GraphKVError, InputError, ModelError, check_count
from graphkv.kv import SegmentKV
from graphkv.layout import Layout
from graphkv.model import GraphModel
from graphkv.store import FileStore, Store
from graphkv.tokens import Documents, Text


@dataclass(frozen=True)
class Encoded:
    """What a run did.

    Attributes:
        keys: of all blocks of the corpus. blocks_found, tokens_found: in the store before. blocks_encoded, tokens_encoded: encoded now.
        blocks_kept: in the store afterwards; fewer than `keys` if its budget is too small for the corpus.
    """

    keys: tuple[str, ...]
    blocks_kept: int
    blocks_found: int
    tokens_found: int
    blocks_encoded: int
    tokens_encoded: int


@dataclass(frozen=True, eq=False)
class _Work:
    """What a worker needs to know: the layout, the token ids and keys of its blocks, and whose numbers the keys promise."""

    layout: Layout
    ids: Sequence[tuple[int, ...]]
    keys: Sequence[str]
    identity: str


def encode_corpus(
    engine: GraphKV,
    documents: Documents,
    *,
    layout: str = "graph",
    workers: int = 1,
    load: Mapping[str, Any] | None = None,
    pin: bool = False,
    prefix: Text | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Encoded:
    """Encode every block that `layout` makes of the documents into the engine's store.

    Args:
        workers: processes that encode. With more than one each loads the model by itself, by
            ``GraphKV.from_pretrained(**load)``, and torch's threads are shared out among them. They are started afresh (spawn), so a
            script must guard its own start with ``if __name__ == "__main__"``.
        pin: never evict the blocks of this corpus, while it is encoded and afterwards.
        progress: called with (tokens encoded, tokens to encode).
        options: the layout's own.

    Raises:
        InputError: as :meth:`GraphKV.ask` does; several workers without `load`, with a store in memory, or with a model that is not the
            engine's. StoreError: no room, or the store is read-only. ModelError: a worker died.

    Example:
        >>> encode_corpus(engine, SegmentGraph.from_jsonl("papers.jsonl")).tokens_encoded  # doctest: +SKIP
        448
    """
    check_count("workers", workers)
    if workers > 1 and (load is None or not isinstance(engine.store, FileStore)):
        raise InputError("several workers need a store in files, and load= with what GraphKV.from_pretrained takes, for each loads the model itself")
    if isinstance(engine.store, FileStore):
        engine.store.folder.sweep()  # what killed runs left; raises StoreError for a store that is read-only
    tokens = engine.reader.read(documents, [()], prefix)
    plan = engine._plan(tokens, layout, options)
    ids = block_tokens(plan, tokens.segments, tokens.prefix)
    keys = block_keys(engine.model, engine.store, plan, ids)
    present = set(keys).intersection(engine.store.keys())
    for key in sorted(present):
        engine.store.touch(key)
    for key in sorted(set(keys)) if pin else ():
        engine.store.pin(key, ahead=True)
    missing = encoding_order(plan, keys, present)
    work = _Work(plan, ids, keys, engine.model.identity)
    levels = [list(batches(plan, level, keys, [len(t) for t in ids], engine.batch_tokens)) for level in _levels(plan, missing)]
    total, done = sum(len(ids[i]) for i in missing), 0
    with _encoder(engine, work, min(workers, max(map(len, levels), default=1)), load or {}) as encode:
        for parts in levels:
            for encoded in encode(parts):
                done += encoded
                if progress:
                    progress(done, total)
    found = {key: len(t) for key, t in zip(keys, ids, strict=True) if key in present}
    kept = set(keys).intersection(engine.store.keys())
    return Encoded(tuple(dict.fromkeys(keys)), len(kept), len(found), sum(found.values()), len(missing), total)


def encode_blocks(model: GraphModel, store: Store, work: _Work, batch: Sequence[int]) -> int:
    """Encode one batch; what it reads comes from the store, or is encoded again if it was evicted meanwhile or is damaged. Returns the number of tokens."""
    blocks, found = work.layout.blocks, dict[str, SegmentKV]()
    needed, wanted = set[int](), [j for i in batch for j in blocks[i].reads if j not in batch]
    while wanted:  # down to what the store has; every block stands behind those it reads
        j = wanted.pop()
        if j in needed or work.keys[j] in found:
            continue
        kept = store.get(work.keys[j], work.ids[j])
        if kept is None:
            needed.add(j)
            wanted += blocks[j].reads
        else:
            found[work.keys[j]] = kept.to(model.layer_devices)
    for j in sorted(needed):
        if work.keys[j] not in found:
            (fresh,) = encode_batch(model, work.layout, [j], work.ids, work.keys, found)
            found[fresh.key] = store.put(fresh).to(model.layer_devices)
    for kv in encode_batch(model, work.layout, batch, work.ids, work.keys, found):
        store.put(kv)
    return sum(len(work.ids[i]) for i in batch)


def _levels(layout: Layout, missing: Sequence[int]) -> Iterator[list[int]]:
    """The blocks to encode, cut where a block reads one before it."""
    wanted = set(missing)
    depth: dict[int, int] = {}
    for i in layout.context:
        depth[i] = max((depth[j] + (j in wanted) for j in layout.blocks[i].reads), default=0)
    for level in sorted({depth[i] for i in missing}):
        yield [i for i in missing if depth[i] == level]


@contextmanager
def _encoder(engine: GraphKV, work: _Work, workers: int, load: Mapping[str, Any]) -> Iterator[Callable[[Sequence[Sequence[int]]], Iterator[int]]]:
    """A function from batches to the tokens of each, as it is done; by this process, or by workers that live as long as the context."""
    store = engine.store
    if workers == 1 or not isinstance(store, FileStore):
        yield lambda parts: (encode_blocks(engine.model, store, work, part) for part in parts)
        return
    place = {"place": store.place, "max_bytes": store.max_bytes, "codec": store.codec.name, "options": store.options}
    threads = max(1, torch.get_num_threads() // workers)
    start = partial(_start, dict(load), place, work, threads, os.getpid())
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=start)

    def run(parts: Sequence[Sequence[int]]) -> Iterator[int]:
        waiting: set[Future[int]] = {pool.submit(_encode_there, part) for part in parts}
        while waiting:
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ready:
                yield future.result()

    try:
        yield run
    except BrokenProcessPool as error:
        raise ModelError(f"a worker process died; each of the {workers} holds the model, fewer need less memory. What was encoded is in the store") from error
    finally:  # after Ctrl-C or an error: what runs is finished and stored, what waits is not begun
        pool.shutdown(wait=True, cancel_futures=True)


_HERE: Callable[[Sequence[int]], int] | None = None


def _start(load: dict[str, Any], place: dict[str, Any], work: _Work, threads: int, parent: int) -> None:
    """In a worker: load the model once. An error is kept for the first batch, which tells it to the parent."""
    global _HERE
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    try:
        engine = GraphKV.from_pretrained(**load, store=FileStore(**place))
        if engine.model.identity != work.identity:
            raise InputError("load= gives another model than the engine's (weights, dtype or tokenizer differ): its numbers must not stand under the engine's keys")
        _HERE = partial(encode_blocks, engine.model, engine.store, work)
    except GraphKVError as error:
        _HERE = partial(_fail, error)


def _encode_there(batch: Sequence[int]) -> int:
    if _HERE is None:
        raise ModelError("the worker was not started")
    return _HERE(batch)


def _fail(error: GraphKVError, batch: Sequence[int]) -> int:
    raise error


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
