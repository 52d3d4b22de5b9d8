"""Retrieval over many short segments: seconds to build, milliseconds a question, recall of HNSW against flat, memory, an interrupted build."""

from __future__ import annotations

import functools
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from graphkv.errors import check_count
from graphkv.graph import Edge, SegmentGraph
from graphkv.segments import Segment
from graphkv_retrieval import DenseRetriever, Embedder, build_index, load_embedder, open_index, retrieve
from graphkv_retrieval.shards import SHARD

from .citation_world import make_world
from .memory import status_mb

K = 10
PAPERS = 60
"""Of one world."""
ROUNDS = 3
CHECKED = 20
"""Questions on which flat is compared with numpy before anything is timed."""

HOW = {
    "corpus": "each segment is one sentence of a citation world's paper ('This paper' and 'It' replaced by the title), all different; each reads the sentence before it in its paper; the questions are those of the worlds, one a world in turn",
    "processes": "every number is taken in a process of its own; peak_mb is the most memory of that process since its start (VmHWM, MiB), with interpreter, libraries, corpus and graph",
    "killed": "the dense build (HNSW) is killed (SIGKILL) when a tenth of the shards is on disk, and then run again: 'kept' vectors were not embedded again, 'embedded' were; seconds of both runs",
    "ms": "one question at a time, from an index that is open: median and 95th percentile in milliseconds",
    "search": "retriever.search([question], 10); for dense that includes embedding the question",
    "retrieve": "retrieve(graph, question, k=10) with the open BM25 index, without expanding, and with PageRank to 50 segments",
    "index": "the index alone, from the question's vector to ten rows; flat and HNSW in one process with one FAISS thread, all questions of one and then all of the other, three rounds",
    "ratio": "flat's median over HNSW's",
    "recall": "share of flat's ten that HNSW finds, mean over n questions; flat was first compared with numpy's inner products on 20 questions",
}


def corpus(segments: int, queries: int) -> tuple[SegmentGraph, list[str]]:
    """The segments and the questions, the same for the same numbers."""
    made: list[Segment] = []
    edges: list[Edge] = []
    questions: list[list[str]] = []
    seen: set[str] = set()
    for seed in itertools.count():
        if len(made) >= segments and sum(map(len, questions)) >= queries:
            break
        world = make_world(seed, PAPERS)
        questions.append([question.question for question in world.questions])
        for paper in world.papers:
            before = None
            for number, sentence in enumerate(re.split(r"(?<=[.!?]) ", paper.text)):
                text = re.sub(r"\b([Tt]his (paper|work)|It)\b", paper.title, sentence)
                if text in seen or len(made) >= segments:
                    continue
                seen.add(text)
                made.append(Segment.from_text(f"w{seed}-{paper.id}-{number}", text))
                edges += [Edge(before, made[-1].id, kind="next")] if before else []
                before = made[-1].id
    in_turn = (question for row in itertools.zip_longest(*questions) for question in row if question is not None)
    return SegmentGraph(made, edges), list(itertools.islice(dict.fromkeys(in_turn), queries))


def run_retrieval_scale(
    *, segments: int = 100_000, embedder: str = "minilm", queries: int = 200, report: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Build and search every kind of index over `segments` sentences, in a temporary folder.

    Args:
        embedder: minilm, engine (the embedded model's hidden states), or a sentence-transformers model. report: (embedded, to embed).

    Raises:
        InputError: a number below 1, or the embedder is missing. RuntimeError: flat is not what numpy computes, so nothing is reported.
    """
    from .machine import machine

    for name, value in (("segments", segments), ("queries", queries)):
        check_count(name, value)
    load = _embedder(embedder)  # a missing package is told before minutes have passed
    common = {"segments": segments, "queries": queries, "embedder": embedder}
    with tempfile.TemporaryDirectory(prefix="graphkv-retrieval-") as folder:
        bm25, flat, hnsw = (str(Path(folder) / name) for name in ("bm25", "flat", "hnsw"))
        built = {"bm25": _stage("_build", common, folder=bm25, method="bm25")}
        killed = _killed(common, hnsw, segments, report)
        built["hnsw"] = _stage("_build", common, folder=hnsw, method="dense", kind="hnsw", watch=_watch(hnsw, segments, report))
        shutil.copytree(Path(hnsw) / "shards", Path(flat) / "shards")
        (Path(flat) / "graphkv-index.unfinished").touch()
        built["flat"] = _stage("_build", common, folder=flat, method="dense", kind="flat")
        compared = _stage("_compare", common, flat=flat, hnsw=hnsw)
        found = {name: _stage("_search", common, folder=place) for name, place in (("bm25", bm25), ("flat", flat), ("hnsw", hnsw))}
        sizes = {name: round(sum(p.stat().st_size for p in Path(place).rglob("*") if p.is_file()) / 2**20, 1) for name, place in (("bm25", bm25), ("flat", flat), ("hnsw", hnsw))}
    libraries = {name: version(name) for name in ("faiss-cpu", "bm25s", "numpy", "transformers")}
    return {
        "machine": machine() | libraries,
        "how": HOW,
        "settings": {**common, "embedder": load.identity, "dimension": load.dimension, "k": K},
        "killed": killed | {"kept": segments - built["hnsw"]["embedded"], "embedded": built["hnsw"]["embedded"], "second_s": built["hnsw"]["seconds"]},
        "build": built,
        "folder_mb": sizes,
        "search": found,
        **compared,
    }


def _embedder(name: str) -> Embedder:
    # Imported here: BM25 is measured without torch and transformers in its process.
    import transformers

    from graphkv.model import GraphModel

    transformers.utils.logging.disable_progress_bar()
    return load_embedder(name, model=GraphModel.load(None) if name == "engine" else None)


class _Counting:
    """An embedder that counts what it is asked for."""

    def __init__(self, inner: Embedder) -> None:
        self.inner, self.name, self.identity, self.dimension, self.texts = inner, inner.name, inner.identity, inner.dimension, 0

    def encode(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        self.texts += len(texts)
        return self.inner.encode(texts)


def _start(stage: str, arguments: dict[str, Any]) -> subprocess.Popen[str]:
    code = f"import json, sys; from graphkv_benchmarks.retrieval_scale import {stage}; print(json.dumps({stage}(**json.load(sys.stdin))))"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if process.stdin is not None:
        with process.stdin as pipe:
            json.dump(arguments, pipe)
    return process


def _stage(stage: str, common: dict[str, Any], *, watch: Callable[[], None] | None = None, **arguments: Any) -> dict[str, Any]:
    """What one of the functions below returns, in a process of its own; `watch` is called meanwhile."""
    with _start(stage, common | arguments) as process:
        while watch is not None and process.poll() is None:
            watch()
            time.sleep(0.2)
        out = process.stdout.read() if process.stdout is not None else ""
    if process.returncode:
        raise RuntimeError(f"{stage} of the benchmark ended with {process.returncode}; what it says stands above")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def _watch(folder: str, segments: int, report: Callable[[int, int], None] | None) -> Callable[[], None]:
    return lambda: report(min(SHARD * _shards(folder), segments), segments) if report else None


def _shards(folder: str) -> int:
    return len(list((Path(folder) / "shards").glob("*.npy")))


def _killed(common: dict[str, Any], folder: str, segments: int, report: Callable[[int, int], None] | None) -> dict[str, Any]:
    """Start the dense build and kill it when a tenth is on disk."""
    started, enough, watch = time.perf_counter(), max(1, segments // SHARD // 10), _watch(folder, segments, report)
    with _start("_build", common | {"folder": folder, "method": "dense", "kind": "hnsw"}) as process:
        while process.poll() is None and _shards(folder) < enough:
            watch()
            time.sleep(0.02)
        process.kill()
    return {"first_s": round(time.perf_counter() - started, 2), "shards": _shards(folder)}


def _build(segments: int, queries: int, embedder: str, folder: str, method: str, kind: str = "flat") -> dict[str, Any]:
    graph, _ = corpus(segments, queries)
    counting = _Counting(_embedder(embedder)) if method == "dense" else None
    started = time.perf_counter()
    build_index(graph, folder, method, embedder=counting or embedder, kind=kind)
    return {"seconds": round(time.perf_counter() - started, 2), "embedded": counting.texts if counting else 0, "peak_mb": _peak()}


def _search(segments: int, queries: int, embedder: str, folder: str) -> dict[str, Any]:
    graph, questions = corpus(segments, queries)
    ready = _embedder(embedder) if not folder.endswith("bm25") else None
    started = time.perf_counter()
    retriever = open_index(folder, embedder=ready)
    opened = round(time.perf_counter() - started, 3)
    retriever.search(questions[:1], K)
    result = {"open_s": opened, "search": _summary(_times(lambda question: retriever.search([question], K), questions)), "peak_mb": _peak()}
    if ready is None:
        retrieve(graph, questions[0], K, retriever=retriever, expand="ppr", max_segments=50)
        for way in ("none", "ppr"):
            call = functools.partial(retrieve, graph, k=K, retriever=retriever, expand=way, max_segments=50)
            result[f"retrieve_{way}"] = _summary(_times(call, questions))
        result["peak_mb_with_retrieve"] = _peak()
    return result


def _compare(segments: int, queries: int, embedder: str, flat: str, hnsw: str) -> dict[str, Any]:
    import faiss

    _, questions = corpus(segments, queries)
    ready = _embedder(embedder)
    exact, near = (open_index(place, embedder=ready) for place in (flat, hnsw))
    if not isinstance(exact, DenseRetriever) or not isinstance(near, DenseRetriever):
        raise TypeError(f"expected two dense indexes, got {type(exact).__name__} and {type(near).__name__}")
    vectors = ready.encode(questions)
    faiss.omp_set_num_threads(1)
    best = np.sort(vectors[:CHECKED] @ exact.index.vectors(0, segments).T, axis=1)[:, ::-1][:, :K]
    apart = float(np.abs(exact.index.search(vectors[:CHECKED], K)[0] - best).max())
    if apart > 1e-5:
        raise RuntimeError(f"flat's scores differ from numpy's by up to {apart}: no time is reported")
    recall = [len(set(a) & set(b)) / len(a) for a, b in zip(exact.index.search(vectors, K)[1], near.index.search(vectors, K)[1], strict=True)]
    alone: dict[str, list[float]] = {"flat": [], "hnsw": []}
    for _ in range(ROUNDS):
        for name, kind in (("flat", exact.index), ("hnsw", near.index)):
            alone[name] += _times(functools.partial(kind.search, k=K), vectors[:, None])
    index = {name: _summary(times) for name, times in alone.items()}
    return {
        "equal_to_numpy": {"questions": len(best), "largest_difference": float(f"{apart:.2g}")},
        "index": index,
        "ratio": round(index["flat"]["median"] / index["hnsw"]["median"], 1),
        "recall": {"mean": round(statistics.fmean(recall), 4), "n": len(recall), "least": min(recall)},
    }


def _times(call: Callable[[Any], object], items: Iterable[Any]) -> list[float]:
    """Milliseconds of each call."""
    out = []
    for item in items:
        started = time.perf_counter()
        call(item)
        out.append(1000 * (time.perf_counter() - started))
    return out


def _summary(times: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(times), 4), "p95": round(float(np.percentile(times, 95)), 4), "n": len(times)}


def _peak() -> float | None:
    try:
        return round(status_mb("VmHWM"), 1)
    except OSError:
        return None


def lines(result: dict[str, Any]) -> list[str]:
    """What was measured, for people."""
    build, search, index, recall, killed = (result[key] for key in ("build", "search", "index", "recall", "killed"))
    out = [f"{result['settings']['segments']:,} segments, embedder {result['settings']['embedder']}"]
    out.append(f"dense build killed after {killed['first_s']} s; the next kept {killed['kept']:,} vectors, embedded {killed['embedded']:,} and took {killed['second_s']} s")
    for name in ("bm25", "flat", "hnsw"):
        ms = search[name]["search"]
        out.append(
            f"{name:<5} built in {build[name]['seconds']:>7} s, peak {build[name]['peak_mb']} MiB; opened in {search[name]['open_s']} s; "
            f"a question {ms['median']:.2f} ms (p95 {ms['p95']:.2f}), peak {search[name]['peak_mb']} MiB"
        )
    plain, ppr = search["bm25"]["retrieve_none"], search["bm25"]["retrieve_ppr"]
    out.append(f"retrieve() with BM25 {plain['median']:.2f} ms (p95 {plain['p95']:.2f}), with PageRank {ppr['median']:.2f} ms (p95 {ppr['p95']:.2f})")
    out.append(f"index alone: flat {index['flat']['median']:.3f} ms, HNSW {index['hnsw']['median']:.3f} ms, {result['ratio']} times; recall@10 {recall['mean']:.4f} (n = {recall['n']})")
    return out
