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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from graphkv.encode import Progress, batches, block_keys, block_tokens, encode_batch, encoding_order
from graphkv.engine import GraphKV
from graphkv.errors import InputError, check_count
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
    """

    keys: tuple[str, ...]
    blocks_found: int
    tokens_found: int
    blocks_encoded: int
    tokens_encoded: int


@dataclass(frozen=True, eq=False)
class _Work:
    """What a worker needs to know: the layout, and the token ids and keys of its blocks."""

    layout: Layout
    ids: Sequence[tuple[int, ...]]
    keys: Sequence[str]


def encode_corpus(
    engine: GraphKV,
    documents: Documents,
    *,
    layout: str = "graph",
    workers: int = 1,
    load: Mapping[str, Any] | None = None,
    prefix: Text | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Encoded:
    """Encode every block that `layout` makes of the documents into the engine's store.

    Args:
        workers: processes that encode. With more than one each loads the model by itself, by
            ``GraphKV.from_pretrained(**load)``, and torch's threads are shared out among them.
        progress: called with (tokens encoded, tokens to encode).
        options: the layout's own.

    Raises:
        InputError: as :meth:`GraphKV.ask` does; several workers without `load`, or with a store in memory. StoreError: no room.

    Example:
        >>> encode_corpus(engine, SegmentGraph.from_jsonl("papers.jsonl")).tokens_encoded  # doctest: +SKIP
        448
    """
    check_count("workers", workers)
    if workers > 1 and (load is None or not isinstance(engine.store, FileStore)):
        raise InputError("several workers need a store in files, and load= with what GraphKV.from_pretrained takes, for each loads the model itself")
    tokens = engine.reader.read(documents, [()], prefix)
    plan = engine.plan(documents, prefix=prefix, layout=layout, **options)
    ids = block_tokens(plan, tokens.segments, tokens.prefix)
    keys = block_keys(engine.model, engine.store, plan, ids)
    present = set(keys).intersection(engine.store.keys())
    missing = encoding_order(plan, keys, present)
    work = _Work(plan, ids, keys)
    total, done = sum(len(ids[i]) for i in missing), 0
    for level in _levels(plan, missing):
        parts = list(batches(plan, level, keys, [len(t) for t in ids], engine.batch_tokens))
        for encoded in _done(engine, work, parts, workers, load or {}):
            done += encoded
            if progress:
                progress(done, total)
    found = {key: len(t) for key, t in zip(keys, ids, strict=True) if key in present}
    return Encoded(tuple(dict.fromkeys(keys)), len(found), sum(found.values()), len(missing), total)


def encode_blocks(model: GraphModel, store: Store, work: _Work, batch: Sequence[int]) -> int:
    """Encode one batch; what it reads comes from the store. Returns the number of tokens."""
    read = {j for i in batch for j in work.layout.blocks[i].reads} - set(batch)
    found = {work.keys[j]: _block(model, store, work, j) for j in sorted(read)}
    for kv in encode_batch(model, work.layout, batch, work.ids, work.keys, found):
        store.put(kv)
    return sum(len(work.ids[i]) for i in batch)


def _block(model: GraphModel, store: Store, work: _Work, index: int) -> SegmentKV:
    """A block from the store; encoded again if it was evicted meanwhile, or is damaged."""
    kept = store.get(work.keys[index], work.ids[index])
    if kept is None:
        found = {work.keys[j]: _block(model, store, work, j) for j in work.layout.blocks[index].reads}
        (fresh,) = encode_batch(model, work.layout, [index], work.ids, work.keys, found)
        kept = store.put(fresh)
    return kept.to(model.layer_devices)


def _levels(layout: Layout, missing: Sequence[int]) -> Iterator[list[int]]:
    """The blocks to encode, cut where a block reads one before it."""
    wanted = set(missing)
    depth: dict[int, int] = {}
    for i in layout.context:
        depth[i] = max((depth[j] + (j in wanted) for j in layout.blocks[i].reads), default=0)
    for level in sorted({depth[i] for i in missing}):
        yield [i for i in missing if depth[i] == level]


def _done(engine: GraphKV, work: _Work, parts: Sequence[Sequence[int]], workers: int, load: Mapping[str, Any]) -> Iterator[int]:
    """Tokens of each batch, as it is done."""
    if workers == 1 or len(parts) < 2:
        for part in parts:
            yield encode_blocks(engine.model, engine.store, work, part)
        return
    store = engine.store
    if not isinstance(store, FileStore):
        raise InputError("several workers need a store in files")
    threads = max(1, torch.get_num_threads() // workers)
    start = partial(_start, dict(load), (store.place, store.max_bytes, store.codec.name), work, threads, os.getpid())
    pool = ProcessPoolExecutor(min(workers, len(parts)), mp_context=multiprocessing.get_context("spawn"), initializer=start)
    try:
        waiting: set[Future[int]] = {pool.submit(_encode_there, part) for part in parts}
        while waiting:
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ready:
                yield future.result()
    finally:  # after Ctrl-C or an error: what runs is finished and stored, what waits is not begun
        pool.shutdown(wait=True, cancel_futures=True)


_HERE: tuple[GraphKV, _Work] | None = None


def _start(load: dict[str, Any], place: tuple[str, int | None, str], work: _Work, threads: int, parent: int) -> None:
    """In a worker: load the model once."""
    global _HERE
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    where, max_bytes, codec = place
    _HERE = GraphKV.from_pretrained(**load, store=FileStore(where, max_bytes=max_bytes, codec=codec)), work


def _encode_there(batch: Sequence[int]) -> int:
    if _HERE is None:
        raise RuntimeError("the worker was not started")
    engine, work = _HERE
    return encode_blocks(engine.model, engine.store, work, batch)


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
