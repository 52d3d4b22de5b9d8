"""Segments → KV: encode the blocks of a layout that are not in the store yet."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphkv.errors import InputError, StoreError, StoreWarning
from graphkv.kv import SegmentKV, block_key
from graphkv.layout import Layout
from graphkv.model import GraphModel
from graphkv.store import Store
from graphkv_kernels import BlockPattern, ContextWeight

Progress = Callable[[int, int], None]
"""Called with (tokens encoded so far, tokens to encode)."""


@dataclass(frozen=True, eq=False)
class EncodedContext:
    """KV of every block of a layout but the question.

    Attributes:
        blocks: one :class:`SegmentKV` a block, in packed order.
        reused: for each block, whether it came from the store.
        tokens_reused, tokens_computed: context tokens from the store, and encoded now.
    """

    layout: Layout
    blocks: tuple[SegmentKV, ...]
    reused: tuple[bool, ...]
    tokens_reused: int
    tokens_computed: int


def block_tokens(layout: Layout, tokens: Mapping[str, Sequence[int]], prefix: Sequence[int]) -> list[tuple[int, ...]]:
    """Token ids of every block but the question, in packed order."""
    return [tuple(prefix if layout.blocks[i].segment is None else tokens[layout.blocks[i].segment or ""]) for i in layout.context]


def encode_context(
    model: GraphModel,
    store: Store,
    layout: Layout,
    tokens: Mapping[str, Sequence[int]],
    prefix: Sequence[int] = (),
    *,
    batch_tokens: int = 4096,
    progress: Progress | None = None,
    must_store: bool = False,
    between: Callable[[], None] | None = None,
) -> EncodedContext:
    """Fetch each block from the store or encode it, sources before targets.

    Blocks are encoded several at a time in one packed forward, up to `batch_tokens` new tokens; with ``batch_tokens=1``
    this is the segment-by-segment procedure. What is encoded goes into the store at once, so an interrupted run keeps it.

    Args:
        tokens: token ids of each segment, by id. prefix: token ids of the prefix.
        progress: called after every forward.
        between: called after every forward, and after every block that was fetched: for those who have other things to do, or give up by an error.
        must_store: whether it is an error if a block cannot be kept. If not, a StoreWarning says so, and the context is right all the same.

    Raises:
        StoreError: the store cannot be read, or, with `must_store`, not be written to.
    """
    ids = block_tokens(layout, tokens, prefix)
    keys = block_keys(model, store, layout, ids)
    devices = model.layer_devices
    found: dict[str, SegmentKV] = {}
    for key, token_ids in zip(keys, ids, strict=True):
        if key not in found and (hit := store.get(key, token_ids)) is not None:
            found[key] = hit.to(devices)
            if between:
                between()
    reused = tuple(key in found for key in keys)
    missing = encoding_order(layout, keys, found)
    total, done, keeper = sum(len(ids[i]) for i in missing), 0, Keeper(store, must_store)
    for batch in batches(layout, missing, keys, [len(t) for t in ids], batch_tokens):
        for kv in encode_batch(model, layout, batch, ids, keys, found):
            found[kv.key] = keeper.put(kv).to(devices)
        done += sum(len(ids[i]) for i in batch)
        if progress:
            progress(done, total)
        if between:
            between()
    tokens_reused = sum(len(t) for t, hit in zip(ids, reused, strict=True) if hit)
    return EncodedContext(layout, tuple(found[key] for key in keys), reused, tokens_reused, total)


def block_keys(model: GraphModel, store: Store, layout: Layout, ids: Sequence[Sequence[int]]) -> list[str]:
    """The name of every block but the question in `store`, in packed order; see :func:`graphkv.kv.block_key`."""
    identity, keys = model.identity, list[str]()
    for block, token_ids in zip(layout.blocks[:-1], ids, strict=True):
        sources = [(keys[j], layout.blocks[j].position - block.position) for j in block.reads]
        keys.append(block_key(identity, token_ids, sources, store.codec.name))
    return keys


class Keeper:
    """Puts blocks into a store. Where that need not succeed, the first failure is a warning and the last attempt of this call."""

    def __init__(self, store: Store, must_store: bool) -> None:
        self.store, self.must_store, self.failed = store, must_store, False

    def put(self, kv: SegmentKV) -> SegmentKV:
        """What later reads will see of the block, kept or not: so what reads it has the numbers that its key promises."""
        if not self.failed:
            try:
                kept = self.store.put(kv)
                if self.must_store and kv.key not in self.store:
                    raise StoreError(f"the store did not keep a block of {kv.nbytes:,} bytes: it is read-only, or its budget is smaller than that")
                return kept
            except StoreError as error:
                if self.must_store:
                    raise
                self.failed = True
                kept = self.store.as_stored(kv)  # a codec that cannot hold these numbers is an error all the same
                warnings.warn(f"{error}; the answer is right, but the documents will be encoded again next time", StoreWarning, stacklevel=4)
                return kept
        return self.store.as_stored(kv)


def encoding_order(layout: Layout, keys: Sequence[str], found: Container[str]) -> list[int]:
    """The blocks to encode, one for each key that is missing: sources before targets, and else by key.

    The order, and with it the make-up of every batch, depends on content only: the same documents in another order
    are rounded in the same way.
    """
    depth: list[int] = []
    for block in layout.blocks[:-1]:
        depth.append(1 + max((depth[j] for j in block.reads), default=-1))
    first: dict[str, int] = {}
    for i, key in enumerate(keys):
        if key not in found:
            first.setdefault(key, i)
    return sorted(first.values(), key=lambda i: (depth[i], keys[i]))


def batches(layout: Layout, missing: Sequence[int], keys: Sequence[str], lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Cut `missing` into runs of at most `limit` tokens (a longer block stands alone).

    A block that reads a copy of one in the same batch (the same text under another id, or at another place) waits for the next.
    """
    batch: list[int] = []
    for i in missing:
        inside = {keys[j] for j in batch}
        copies = any(j not in batch and keys[j] in inside for j in layout.blocks[i].reads)
        if batch and (copies or sum(lengths[j] for j in batch) + lengths[i] > limit):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def encode_batch(
    model: GraphModel, layout: Layout, batch: Sequence[int], ids: Sequence[tuple[int, ...]], keys: Sequence[str], found: Mapping[str, SegmentKV]
) -> list[SegmentKV]:
    """One forward over the blocks of `batch`, which read one another and blocks that are in `found` already."""
    blocks = layout.blocks
    outside = sorted({j for i in batch for j in blocks[i].reads} - set(batch), key=lambda j: (keys[j], blocks[j].position, j))
    order = [*outside, *batch]
    place = {j: n for n, j in enumerate(order)}
    reads = [()] * len(outside) + [tuple(place[j] for j in blocks[i].reads) for i in batch]
    pattern = BlockPattern(tuple(len(ids[i]) for i in order), tuple(reads))

    def positions(chosen: Sequence[int]) -> list[int]:
        return [p for i in chosen for p in range(blocks[i].position, blocks[i].position + len(ids[i]))]

    past = None
    if outside:
        read = [found[keys[j]] for j in outside]
        layers = range(len(model.ropes))
        past = ([torch.cat([kv.keys[n] for kv in read], 1) for n in layers], [torch.cat([kv.values[n] for kv in read], 1) for n in layers], positions(outside))
    new_keys, new_values = model.encode([t for i in batch for t in ids[i]], positions(batch), pattern, past)
    made, start = [], 0
    for i in batch:
        stop = start + len(ids[i])
        made.append(SegmentKV(keys[i], ids[i], _slices(new_keys, start, stop), _slices(new_values, start, stop), blocks[i].name, model.name))
        start = stop
    return made


def _slices(layers: Sequence[Tensor], start: int, stop: int) -> tuple[Tensor, ...]:
    # clone: a slice would keep the whole batch's memory alive as long as one of its blocks
    return tuple(layer[:, start:stop].clone() for layer in layers)


def packed_pattern(layout: Layout) -> BlockPattern:
    """The whole layout, question included, as the kernels take it. Raises LayoutError if it is staged only."""
    layout.require_packable("packed forward")
    blocks = [b for b in layout.blocks if b.length]
    context: tuple[ContextWeight | None, ...] = ()
    if (layout.temperature, layout.scale) != (1.0, 1.0):
        weighed = tuple(i for i in layout.exposed if layout.blocks[i].segment is not None)
        context = (*[None] * (len(blocks) - 1), ContextWeight(weighed, layout.temperature, layout.scale))
    return BlockPattern(tuple(b.length for b in blocks), tuple(b.reads for b in blocks), context)


def packed_logits(
    model: GraphModel,
    layout: Layout,
    tokens: Mapping[str, Sequence[int]],
    prefix: Sequence[int],
    question: Sequence[int],
    *,
    impl: str | None = None,
) -> Tensor:
    """Logits ``[T_question, vocab]`` of the whole layout in one packed forward, without cache or store; differentiable.

    Args:
        impl: attention kernel, ``dense``, ``gather``, ``flex`` or ``varlen``; the model's own choice by default.

    Raises:
        LayoutError: the layout exists only as a staged procedure. KernelError: the kernel cannot do it.
    """
    pattern = packed_pattern(layout)
    ids = [t for block in block_tokens(layout, tokens, prefix) for t in block] + list(question)
    return model.packed_logits(ids, layout.position_ids().tolist(), pattern, impl=impl, keep=len(question))


def pack_rows(
    layout: Layout, tokens: Mapping[str, Sequence[int]], prefix: Sequence[int], rows: Sequence[Sequence[int]]
) -> tuple[list[int], list[int], BlockPattern]:
    """Many questions over one context as one packed row: token ids, positions, and who reads whom.

    Every row is a block of its own at the question's place: it reads what the layout shows to the question, itself causally, and no
    other row. The layout's own question length does not count.

    Raises:
        LayoutError: the layout exists only as a staged procedure.
    """
    one = packed_pattern(layout.with_question(1))
    many = len(rows)
    context = (*one.context[:-1], *one.context[-1:] * many)
    pattern = BlockPattern((*one.lengths[:-1], *map(len, rows)), (*one.reads[:-1], *one.reads[-1:] * many), context)
    positions: list[int] = layout.with_question(0).position_ids().tolist()
    positions += [layout.question.position + i for row in rows for i in range(len(row))]
    return [t for block in (*block_tokens(layout, tokens, prefix), *rows) for t in block], positions, pattern


def packed_rows(
    model: GraphModel,
    layout: Layout,
    tokens: Mapping[str, Sequence[int]],
    prefix: Sequence[int],
    rows: Sequence[Sequence[int]],
    *,
    last: Sequence[int] | None = None,
    impl: str | None = None,
) -> list[Tensor]:
    """Logits after the tokens of many questions over one context, in one packed forward; differentiable.

    Every row (a question, or a question and its answer) is a block of its own at the question's place: it reads what the layout
    shows to the question, itself causally, and no other row. So the numbers are those of :func:`packed_logits` row by row.

    Args:
        tokens: token ids of each segment, by id. prefix: token ids of the prefix.
        rows: token ids, at least one row and at least one token a row. The layout's own question length does not count.
        last: how many of each row's last tokens are wanted; all by default. A large vocabulary makes logits the largest tensor.
        impl: attention kernel; the model's own choice by default.

    Returns:
        One tensor ``[T_i or last_i, vocab]`` a row.

    Raises:
        InputError: no rows, an empty one, or a `last` that does not fit its row.
        LayoutError: the layout exists only as a staged procedure. KernelError: the kernel cannot do it.

    Example:
        >>> context = engine.reader.read(documents, ["Who wrote it?", "When?"], None)  # doctest: +SKIP
        >>> who, when = packed_rows(engine.model, plan, context.segments, context.prefix, context.questions)  # doctest: +SKIP
    """
    wanted = [len(row) for row in rows] if last is None else list(last)
    if not rows or any(not row for row in rows):
        raise InputError(f"expected at least one row and at least one token in each, got rows of {[len(row) for row in rows]} tokens")
    if len(wanted) != len(rows) or any(not 1 <= n <= len(row) for n, row in zip(wanted, rows, strict=True)):
        raise InputError(f"last must say for each row how many of its tokens are wanted, got {wanted} for rows of {[len(row) for row in rows]} tokens")
    ids, positions, pattern = pack_rows(layout, tokens, prefix, rows)
    keep = [end - n + i for end, n in zip(pattern.starts[-len(rows) :], wanted, strict=True) for i in range(n)]
    logits = model.packed_logits(ids, positions, pattern, impl=impl, keep=torch.tensor(keep))
    return list(torch.split(logits, wanted))
