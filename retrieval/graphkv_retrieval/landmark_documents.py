"""Documents into a landmark memory: read chunk by chunk, once; what was read before comes from the store.

A chunk's keys and values depend on everything before it, so its name in the store covers that, as the name of a target covers its sources:
the chunk before, its settings, and the chunk's token ids. A text that begins like another one shares its first chunks with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphkv.encode import Keeper
from graphkv.errors import InputError, LengthError, check_count, one_of
from graphkv.kv import SegmentKV, block_key
from graphkv.landmark import LandmarkConfig, insert_landmarks
from graphkv.landmark_reading import LandmarkReading, positions_needed
from graphkv.model import GraphModel
from graphkv.store import Store
from graphkv_retrieval.landmark_index import check_index
from graphkv_retrieval.landmark_memory import LandmarkMemory, check_offload

GRANULARITIES = ("token", "head")
CHUNK = 256
"""Tokens of a chunk where nobody says, or fewer in a small window."""
K = 4
"""Blocks that are chosen where nobody says, or fewer of a short text."""


@dataclass(frozen=True)
class LandmarkSettings:
    """How a text is read.

    Attributes:
        config: the model's landmarks. blocks: of the text. k: blocks that are chosen. chunk: tokens read at a time, landmarks included.
        granularity: ``token``: for each head and token; ``head``: for each head, one choice for the whole chunk.
        index, offload: as :class:`graphkv_retrieval.landmark_memory.LandmarkMemory` has them.
    """

    config: LandmarkConfig
    blocks: int
    k: int
    chunk: int
    granularity: str
    index: str
    offload: str

    @classmethod
    def of(
        cls, model: GraphModel, config: LandmarkConfig, tokens: int, k: int | None, chunk: int | None, granularity: str, index: str, offload: str
    ) -> LandmarkSettings:
        """Checked, with defaults filled in, for a text of so many `tokens` without landmarks.

        Raises:
            InputError: a value that cannot be meant, more blocks than there are. LengthError: they and a chunk do not fit into the model's window.
        """
        if granularity not in GRANULARITIES:
            raise InputError(one_of("granularity", granularity, GRANULARITIES))
        check_index(index)
        check_offload(offload)
        for name, value in (("k", k), ("chunk", chunk)):
            if value is not None:
                check_count(name, value)
        block = config.block
        blocks = -(-tokens // (block - 1))
        if k is not None and k > blocks:
            raise InputError(f"k={k} is larger than the number of blocks: the documents have {blocks} of {block} tokens, so k is at most {blocks}")
        k = min(K, blocks) if k is None else k
        before, limit = positions_needed(k, block, blocks), min(model.window, model.sliding_window or model.window)
        if chunk is None:
            chunk = max(block, min(CHUNK, limit - before) // block * block)
        if chunk % block:
            raise InputError(f"chunk must be a multiple of the model's block of {block} tokens, got {chunk}")
        longest = min(chunk, tokens + blocks)
        if before + longest > limit:
            raise LengthError(
                f"{k} chosen blocks and the {k} before a chunk take {before} positions and the chunk {longest}, the model's window has {limit}: choose a smaller k or chunk"
            )
        return cls(config, blocks, k, chunk, granularity, index, offload)

    @property
    def positions(self) -> int:
        """Positions before a question."""
        return positions_needed(self.k, self.config.block, self.blocks)

    @property
    def name(self) -> str:
        """Everything that keys and values depend on beside model and text: flat and torch choose the same blocks."""
        how = "hnsw" if self.index == "hnsw" else "exact"
        return f"landmark block={self.config.block} token={self.config.token_id} k={self.k} chunk={self.chunk} granularity={self.granularity} search={how}"


@dataclass(frozen=True, eq=False)
class DocumentsRead:
    """A text in a memory.

    Attributes:
        reading: what questions are answered with. tokens_reused, tokens_computed: tokens whose KV came from the store, and that were read
            now, landmarks included.
        reused: for each chunk, whether it came from the store.
    """

    reading: LandmarkReading
    tokens_reused: int
    tokens_computed: int
    reused: tuple[bool, ...]


def read_documents(
    model: GraphModel, store: Store, token_ids: Sequence[int], settings: LandmarkSettings, *, progress: Callable[[int, int], None] | None = None
) -> DocumentsRead:
    """Read a text without its question.

    Args:
        token_ids: without landmarks. progress: called with (tokens done, tokens to do).

    Raises:
        StoreError: with ``offload="store"``, the store cannot keep a chunk.
    """
    text, block = insert_landmarks(token_ids, settings.config), settings.config.block
    memory = LandmarkMemory(
        block, settings.blocks, settings.chunk, model.layer_devices, index=settings.index, offload=settings.offload, store=store
    )
    reading = LandmarkReading(memory, block, settings.k, settings.granularity == "token", model.ropes)
    identity, keeper = f"{model.identity}|{settings.name}", Keeper(store, must_store=settings.offload == "store")
    key, found = "", []
    for start in range(0, len(text), settings.chunk):
        part = tuple(text[start : start + settings.chunk])
        key = block_key(identity, part, [(key, -settings.chunk)] if key else (), store.codec.name)
        kept = store.get(key, part)
        found.append(kept is not None)
        if kept is None:
            keys, values = model.encode_chunk(part, reading)
            kept = keeper.put(SegmentKV(key, part, tuple(keys), tuple(values), f"landmark chunk {len(found)}", model.name))
        memory.add(kept)
        if progress:
            progress(memory.tokens, len(text))
    reused = sum(min(settings.chunk, len(text) - i * settings.chunk) for i, hit in enumerate(found) if hit)
    return DocumentsRead(reading, reused, len(text) - reused, tuple(found))
