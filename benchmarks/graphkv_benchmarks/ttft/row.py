"""One row: one model, one context length, every way in turn, in this process alone.

    python -m graphkv_benchmarks.ttft.row '{"model": "embedded", "tokens": 512, "documents": 8, ...}'

prints the row as JSON on its last line.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from graphkv.engine import GraphKV
from graphkv.graph import SegmentGraph
from graphkv.model import EMBEDDED, GraphModel
from graphkv.segments import Segment
from graphkv.store import FileStore, MemoryStore
from graphkv.store.tensors import from_bytes
from graphkv.support import check_kernel

from ..attention import nearest
from ..machine import machine
from ..memory import peak_mb

QUESTION = 50
"""Tokens of the question, as in Block-Attention's table 3."""

QWEN = "qwen2.5-0.5b-shape"
WINDOW = 65536

_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_CHECKED_TOKENS = 2048


@dataclass(frozen=True)
class Spec:
    """What a row is asked to measure; `decode` tokens follow the first one, `ways` in the order in which they take turns."""

    model: str
    dtype: str
    tokens: int
    documents: int
    repeats: int
    decode: int
    seed: int
    ways: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """One measured call: seconds to the first token, tokens per second after it, and what ask() says of its parts."""

    first: float
    decode: float
    parts: Mapping[str, float]


def load(name: str, dtype: str, seed: int) -> GraphModel:
    """``qwen2.5-0.5b-shape``: random weights and the embedded model's tokenizer; ``embedded``, a folder or a hub id: that model, its window widened for timing."""
    check_kernel(None)
    if name != QWEN:
        return GraphModel.load(None if name == "embedded" else name, dtype=dtype, max_position_embeddings=WINDOW)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        model = Qwen2ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return GraphModel(model, AutoTokenizer.from_pretrained(EMBEDDED))


class Row:
    """The documents, the question and the stores of a row, and one method a way."""

    def __init__(self, model: GraphModel, spec: Spec, folder: Path) -> None:
        self.model, self.spec = model, spec
        generator = torch.Generator().manual_seed(spec.seed)
        size = model.tokenizer.vocab_size - 1
        each = spec.tokens // spec.documents
        self.documents = [Segment.from_tokens(f"d{i}", torch.randint(1, size, (each,), generator=generator)) for i in range(spec.documents)]
        self.question: list[int] = torch.randint(1, size, (QUESTION,), generator=generator).tolist()
        self.order = torch.Generator().manual_seed(spec.seed + 1)
        pattern = nearest(spec.documents, each)
        ids = [s.id for s in self.documents]
        self.alone = SegmentGraph.from_segments(self.documents, [])
        self.ego = SegmentGraph.from_segments(self.documents, [(other, ids[0]) for other in ids[1:]])
        self.near = SegmentGraph.from_segments(self.documents, [(ids[u], v) for v, reads in zip(ids, pattern.reads[spec.documents :], strict=True) for u in reads])
        self.config = GenerationConfig(do_sample=False, min_new_tokens=spec.decode + 1, max_new_tokens=spec.decode + 1)
        self.memory, self.disk = MemoryStore(), FileStore(folder / "store")

    def check(self) -> dict[str, float]:
        """Equality before any timing: sequential reading against the model's own forward (up to 2,048 tokens); at full length every store against a cold encoding."""
        few = self.documents[: max(1, _CHECKED_TOKENS * len(self.documents) // self.spec.tokens)]
        ours = self.engine(MemoryStore()).logits(SegmentGraph.from_segments(few, []), self.question, layout="sequential").double()
        with torch.no_grad():
            theirs = self.model.model(input_ids=torch.tensor([[*(t for s in few for t in s.tokens or ()), *self.question]])).logits[0, -QUESTION:].double()
        apart = float((ours - theirs).norm() / theirs.norm())
        if not apart < _TOLERANCE[self.model.dtype]:
            raise ArithmeticError(f"sequential reading is {apart:.1e} (relative) away from the model's own forward: no time of it counts")
        cold = self.engine(self.memory).logits(self.alone, self.question, layout="block")
        for block in self.engine(self.memory).encode(self.alone, layout="block", prefix=()).blocks:
            self.disk.put(block)
        for name, store in (("memory", self.memory), ("disk", self.disk)):
            if not torch.equal(self.engine(store).logits(self.alone, self.question, layout="block"), cold):
                raise ArithmeticError(f"the logits over the store ({name}) are not those of the cold encoding: no time of it counts")
        return {"sequential_apart": apart, "checked_tokens": sum(len(s.tokens or ()) for s in few)}

    def engine(self, store: MemoryStore | FileStore) -> GraphKV:
        return GraphKV(self.model, store=store)

    def ask(self, store: MemoryStore | FileStore, graph: SegmentGraph, layout: str) -> Answered:
        answer = self.engine(store).ask_many(graph, [self.question], layout=layout, prefix=(), generation_config=self.config, max_new_tokens=self.spec.decode + 1)[0]  # type: ignore[list-item]
        times = answer.timings
        return Answered(times.first_token, self.spec.decode / (times.total - times.first_token), {"plan": times.plan, "encode": times.encode, "assemble": times.assemble})

    def sequential(self) -> Answered:
        """transformers alone: one prompt, its own generate."""
        ids = torch.tensor([[*(t for s in self.documents for t in s.tokens or ()), *self.question]])
        stamps: list[float] = []

        def clock(input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            stamps.append(time.perf_counter())
            return torch.zeros(input_ids.shape[0], dtype=torch.bool)

        start = time.perf_counter()
        with torch.no_grad():
            self.model.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=GenerationConfig(**self.config.to_diff_dict(), pad_token_id=0),
                stopping_criteria=[clock],
            )
        return Answered(stamps[0] - start, self.spec.decode / (stamps[-1] - stamps[0]), {})

    def cold_ego(self) -> Answered:
        return self.ask(MemoryStore(), self.ego, "graph")

    def cold_nearest(self) -> Answered:
        return self.ask(MemoryStore(), self.near, "graph")

    def warm_memory(self) -> Answered:
        return self.ask(self.memory, self.alone, "block")

    def shuffled(self) -> Answered:
        """The same documents in another order at every repeat."""
        order = torch.randperm(len(self.documents), generator=self.order).tolist()
        return self.ask(self.memory, SegmentGraph.from_segments([self.documents[i] for i in order], []), "block")

    def warm_disk(self) -> Answered:
        """The files' pages are dropped from memory first, so the disk itself is read."""
        drop_pages(Path(self.disk.place))
        return self.ask(self.disk, self.alone, "block")

    def warm_disk_cached(self) -> Answered:
        return self.ask(self.disk, self.alone, "block")


def drop_pages(folder: Path) -> None:
    """Ask Linux to forget what it holds of the files in a folder."""
    gc.collect()
    os.sync()
    for path in folder.rglob("*.safetensors"):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def read_speed(folder: Path, repeats: int) -> dict[str, float]:
    """Bytes a second of reading every entry, beside plain ``read`` of the same files; pages in memory, then dropped."""
    store = FileStore(folder, read_only=True)
    keys = [entry.key for entry in store.entries()]
    files = {key: folder / "blocks" / key[:2] / f"{key}.safetensors" for key in keys}
    total = sum(path.stat().st_size for path in files.values())
    ids = {key: from_bytes(store.folder.read(key), key).token_ids for key in keys}

    def plain() -> None:
        kept = [path.read_bytes() for path in files.values()]
        del kept

    def ours() -> None:
        kept = [store.get(key, ids[key]) for key in keys]
        del kept

    rates: dict[str, float] = {}
    for state in ("cached", "dropped"):
        times: dict[str, list[float]] = {"read": [], "store": []}
        for _ in range(repeats):
            for name, call in (("read", plain), ("store", ours)):
                if state == "dropped":
                    drop_pages(folder)
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
        rates |= {f"{name}_{state}_gb_s": round(total / statistics.median(seconds) / 1e9, 3) for name, seconds in times.items()}
        rates[f"{state}_ratio"] = round(statistics.median(times["read"]) / statistics.median(times["store"]), 3)
    return rates


def measure(spec: Spec) -> dict[str, Any]:
    """The row.

    Raises:
        ArithmeticError: a way does not give the numbers that it should; a wrong answer has no time.
    """
    transformers.utils.logging.set_verbosity_error()
    model = load(spec.model, spec.dtype, spec.seed)
    tiny = Spec(**{**spec.__dict__, "tokens": 128, "documents": 8, "decode": 2})
    with _folder() as folder:
        warm = Row(model, tiny, folder)
        warm.check()
        for way in spec.ways:  # what only a first call pays for is no way's time
            getattr(warm, way)()
    with _folder() as folder:
        row = Row(model, spec, folder)
        checked = row.check()
        results: dict[str, list[Answered]] = {way: [] for way in spec.ways}
        peaks: dict[str, list[float]] = {way: [] for way in spec.ways}
        for number in range(spec.repeats):
            for way in spec.ways:
                gc.collect()
                call: Callable[[], Answered] = getattr(row, way)
                peak, answered = peak_mb(call)
                results[way].append(answered)
                peaks[way] += [] if peak is None else [peak]
                print(f"repeat {number + 1}: {way} {answered.first:.3f} s", file=sys.stderr, flush=True)
        raw = row.memory.nbytes
        store = {"bytes": row.disk.nbytes, "raw_bytes": raw, "over_raw": round(row.disk.nbytes / raw, 5), **read_speed(Path(row.disk.place), spec.repeats)}
    ways = {way: _summary(results[way], peaks[way]) for way in spec.ways}
    return {"model": spec.model, "dtype": spec.dtype, "tokens": spec.tokens, "documents": spec.documents, "checked": checked, "ways": ways, "store": store, "machine": machine()}


def _summary(answered: list[Answered], peaks: list[float]) -> dict[str, Any]:
    parts = {name: round(statistics.median(a.parts[name] for a in answered), 4) for name in answered[0].parts}
    return {
        "ttft": round(statistics.median(a.first for a in answered), 4),
        "ttft_all": [round(a.first, 4) for a in answered],
        "decode_tokens_s": round(statistics.median(a.decode for a in answered), 2),
        "peak_mb": max(peaks) if peaks else None,
        **({"parts": parts} if parts else {}),
    }


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="graphkv-ttft-", dir=os.environ.get("GRAPHKV_BENCH_DIR")) as folder:
        yield Path(folder)


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    print(json.dumps(measure(Spec(**{**settings, "ways": tuple(settings["ways"])}))))
