"""Four processes encode the same corpus into one store and are killed (-9) at a random moment.

1. Afterwards every visible block is whole. 2. A rerun encodes exactly what is missing. 3. Answers are those over a store that saw no kill.
GRAPHKV_KILLS=50 makes it fifty moments; the seed is in the test.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from graphkv import FileStore, GraphKV, MemoryStore, SegmentGraph
from graphkv.bulk import encode_corpus
from graphkv.store import Folder
from graphkv_benchmarks.citation_world import make_world

KILLS = int(os.environ.get("GRAPHKV_KILLS", "6"))


@pytest.fixture(scope="module")
def engine() -> GraphKV:
    return GraphKV.from_pretrained()


@pytest.fixture(scope="module")
def corpus() -> tuple[SegmentGraph, list[str]]:
    """Forty papers of five worlds, and a question about each world."""
    documents, questions = [], []
    for seed in range(5):
        world = make_world(seed, 8, held_out=True)
        for document in world.to_row()["documents"]:
            documents.append({**document, "id": f"{seed}-{document['id']}", "sources": [f"{seed}-{s}" for s in document["sources"]]})
        questions.append(world.questions[0].question)
    return SegmentGraph.from_documents(documents), questions


def encode_in_a_child(engine: GraphKV, place: Path, graph: SegmentGraph) -> int:
    """Fork: the child encodes into the store and ends. torch runs one thread in these tests, so a fork is safe."""
    pid = os.fork()
    if pid == 0:
        try:
            encode_corpus(GraphKV(engine.model, store=FileStore(place), template=engine.template, batch_tokens=64), graph)
        finally:
            os._exit(0)
    return pid


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment(engine: GraphKV, corpus: tuple[SegmentGraph, list[str]], tmp_path: Path) -> None:
    graph, questions = corpus
    clean = GraphKV(engine.model, store=MemoryStore(), template=engine.template)
    answers = [str(a) for a in clean.ask_many(graph, questions)]
    started = time.perf_counter()
    total = len(encode_corpus(GraphKV(engine.model, store=FileStore(tmp_path / "whole"), template=engine.template, batch_tokens=64), graph).keys)
    span = 2.5 * (time.perf_counter() - started)
    draw, partial = random.Random(1), 0
    for number in range(KILLS):
        place = tmp_path / f"kv{number}"
        children = [encode_in_a_child(engine, place, graph) for _ in range(4)]
        time.sleep(draw.uniform(0, span))
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
        folder = Folder(place)
        visible = set(folder.keys())
        partial += 0 < len(visible) < total
        assert [folder.damage(key) for key in visible] == [None] * len(visible)
        again = GraphKV(engine.model, store=FileStore(place), template=engine.template)
        done = encode_corpus(again, graph)
        assert (done.blocks_found, done.blocks_encoded) == (len(visible), total - len(visible)) and set(folder.keys()) == set(done.keys)
        found = again.ask_many(graph, questions)
        assert [str(a) for a in found] == answers and found[0].tokens_reused > 0
        assert len(list(again.store.entries())) == total
    assert partial >= KILLS // 4, "too few moments fell into the writing to show anything"
