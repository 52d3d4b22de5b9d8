"""Indexes in folders: saved and opened, interrupted and gone on with, changed, damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from retrieval_helpers import WordHashes, graph_of, sentences

from graphkv import InputError, SegmentGraph, StoreWarning
from graphkv_retrieval import BM25Retriever, DenseRetriever, HybridRetriever, Retriever, build_index, open_index
from graphkv_retrieval.manifest import MANIFEST, MARKER
from graphkv_retrieval.shards import SHARD

QUESTIONS = ["Who wrote Night Maple?", "Which lab does Silver Dawn come from?"]


def small() -> SegmentGraph:
    return graph_of(sentences(60))


@pytest.mark.parametrize("method", ["bm25", "dense", "hybrid"])
def test_built_opened_and_saved_again(method: str, tmp_path: Path) -> None:
    graph, embedder = small(), WordHashes()
    built = build_index(graph, tmp_path / "a", method, embedder=embedder)
    hits = built.search(QUESTIONS, 5)
    opened = open_index(tmp_path / "a", graph, embedder=embedder)
    assert opened.search(QUESTIONS, 5) == hits and opened.ids == graph.ids
    opened.save(tmp_path / "b")
    opened.save(tmp_path / "a")  # over the files that it has mapped
    for folder in ("a", "b"):
        assert open_index(tmp_path / folder, graph, embedder=embedder, verify=False).search(QUESTIONS, 5) == hits
    bm25, dense = BM25Retriever.build(graph), DenseRetriever.build(graph, embedder)
    in_memory: dict[str, Retriever] = {"bm25": bm25, "dense": dense, "hybrid": HybridRetriever([bm25, dense])}
    assert in_memory[method].search(QUESTIONS, 5) == hits


def test_a_whole_index_is_not_built_again(tmp_path: Path) -> None:
    graph, embedder = small(), WordHashes()
    for method in ("dense", "hybrid"):
        build_index(graph, tmp_path / method, method, embedder=embedder)
        embedder.asked.clear()
        files = {path: path.stat().st_ino for path in tmp_path.rglob("vectors.faiss")}
        build_index(graph, tmp_path / method, method, embedder=embedder)
        assert embedder.asked == [] and {path: path.stat().st_ino for path in tmp_path.rglob("vectors.faiss")} == files


BUILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background has it ignored
from retrieval_helpers import WordHashes, graph_of, sentences
from graphkv_retrieval import build_index
class Slow(WordHashes):
    def encode(self, texts):
        if self.asked:
            print("second shard", flush=True)
            time.sleep(60)
        return super().encode(texts)
build_index(graph_of(sentences(int(sys.argv[2]))), sys.argv[1], "dense", embedder=Slow())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_build_goes_on(by: int, tmp_path: Path) -> None:
    """1. A build that is killed while it embeds the second shard. 2. The same, to its end: what the first did is not embedded again, and the result is that of a build without interruption."""
    count = 2 * SHARD + 100
    graph = graph_of(sentences(count))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path / "killed"), str(count)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert process.stdout is not None and process.stdout.readline() == b"second shard\n"
    process.send_signal(by)
    assert process.wait(timeout=30) != 0
    process.stdout.close()
    kept = list((tmp_path / "killed" / "shards").glob("*.npy"))
    assert len(kept) == 1
    with pytest.raises(InputError, match="not finished: call build_index again"):
        open_index(tmp_path / "killed")

    embedder = WordHashes()
    calls: list[tuple[int, int]] = []
    resumed = build_index(graph, tmp_path / "killed", "dense", embedder=embedder, progress=lambda done, total: calls.append((done, total)))
    assert len(embedder.asked) == count - SHARD and not set(embedder.asked) & set(sentences(SHARD))
    assert calls == [(2 * SHARD, 2 * count), (count, 2 * count), (2 * count, 2 * count)]
    whole = build_index(graph, tmp_path / "whole", "dense", embedder=WordHashes())
    assert resumed.search(QUESTIONS, 50) == whole.search(QUESTIONS, 50)
    assert kept[0].exists() and (tmp_path / "killed" / "vectors.faiss").read_bytes() == (tmp_path / "whole" / "vectors.faiss").read_bytes()
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == [MANIFEST, "ids.json", "shards", "vectors.faiss"]


def test_only_what_changed_is_embedded_again(tmp_path: Path) -> None:
    texts, embedder = sentences(60), WordHashes()
    build_index(graph_of(texts), tmp_path / "index", "dense", embedder=embedder)
    embedder.asked.clear()
    changed = ["A new one in front.", *texts[:10], "Another text.", *texts[11:], texts[0]]
    retriever = build_index(graph_of(changed), tmp_path / "index", "dense", embedder=embedder)
    assert embedder.asked == ["A new one in front.", "Another text."]
    fresh = build_index(graph_of(changed), tmp_path / "fresh", "dense", embedder=WordHashes())
    assert retriever.search(QUESTIONS, 61) == fresh.search(QUESTIONS, 61)

    other = WordHashes("other")
    build_index(graph_of(changed), tmp_path / "index", "dense", embedder=other)
    assert len(other.asked) == 62 - 1, "every text anew with another embedder, equal ones once"
    assert len(list((tmp_path / "index" / "shards").iterdir())) == 1, "the other embedder's shards are gone"


def test_a_whole_index_that_is_built_over_is_no_longer_whole(tmp_path: Path) -> None:
    class Stopped(WordHashes):
        def encode(self, texts):  # type: ignore[no-untyped-def]
            raise KeyboardInterrupt

    build_index(graph_of(["a river", "maples"]), tmp_path / "index", "dense", embedder=WordHashes())
    with pytest.raises(KeyboardInterrupt):
        build_index(graph_of(["a river", "oaks"]), tmp_path / "index", "dense", embedder=Stopped())
    with pytest.raises(InputError, match="not finished"):
        open_index(tmp_path / "index", embedder=WordHashes())


def test_an_index_of_another_graph(tmp_path: Path) -> None:
    build_index(graph_of(["a river", "maples"]), tmp_path / "index")
    with pytest.raises(InputError, match="changed since the index was built; build it again"):
        open_index(tmp_path / "index", graph_of(["a river", "oaks"]))
    with pytest.raises(InputError, match="1 of the graph are not in it, 0 of it are not in the graph"):
        open_index(tmp_path / "index", graph_of(["a river", "maples", "oaks"]))


def test_a_damaged_shard_is_embedded_again(tmp_path: Path) -> None:
    graph, embedder = small(), WordHashes()
    before = build_index(graph, tmp_path / "index", "dense", embedder=embedder).search(QUESTIONS, 60)
    (tmp_path / "index" / MANIFEST).unlink()
    (tmp_path / "index" / MARKER).write_text("")
    shard = next((tmp_path / "index" / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    (shard.parent / ".x.npy.1.part").write_text("of a build that was killed")
    embedder.asked.clear()
    with pytest.warns(StoreWarning, match="was damaged: its texts are embedded again"):
        again = build_index(graph, tmp_path / "index", "dense", embedder=embedder)
    assert len(embedder.asked) == 60 and again.search(QUESTIONS, 60) == before and len(list(shard.parent.iterdir())) == 1


@pytest.mark.parametrize("method", ["bm25", "dense", "hybrid"])
def test_every_damaged_file_is_found(method: str, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    embedder = WordHashes()
    build_index(small(), folder, method, embedder=embedder)
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "shards"]
    assert len(files) > 2
    for path in files:
        data = path.read_bytes()
        for broken in (data[: len(data) // 2], data[:-1] + bytes([data[-1] ^ 1]), b"", None):
            if broken is None:
                path.unlink()
            else:
                path.write_bytes(broken)
            with pytest.raises(InputError, match=r"is damaged|no index in"):
                open_index(folder, embedder=embedder)
            path.write_bytes(data)
    open_index(folder, embedder=embedder)


def test_cut_files_are_found_without_reading_them(tmp_path: Path) -> None:
    build_index(small(), tmp_path / "index", "dense", embedder=WordHashes())
    os.truncate(tmp_path / "index" / "vectors.faiss", 1000)
    with pytest.raises(InputError, match=r"vectors\.faiss is not what was written"):
        open_index(tmp_path / "index", embedder=WordHashes(), verify=False)


def test_no_pickle_is_read(tmp_path: Path) -> None:
    graph = small()
    build_index(graph, tmp_path / "index")
    path = tmp_path / "index" / "data.csc.index.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    manifest = json.loads((tmp_path / "index" / MANIFEST).read_text())
    from graphkv_retrieval.manifest import _file_digest

    manifest["files"][path.name] = [path.stat().st_size, _file_digest(path)]
    (tmp_path / "index" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="is damaged"):
        open_index(tmp_path / "index")


def test_folders_that_are_no_index(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no index in"):
        open_index(tmp_path / "nowhere")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for method in ("bm25", "dense", "hybrid"):
        with pytest.raises(InputError, match="has files that are not an index"):
            build_index(small(), tmp_path / "mine", method, embedder=WordHashes())
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="is a file"):
        build_index(small(), tmp_path / "mine" / "thesis.txt")
    with pytest.raises(InputError, match="unknown method 'bm52'; valid: bm25, dense, hybrid"):
        build_index(small(), tmp_path / "index", "bm52")
    with pytest.raises(InputError, match="unknown kind of index"):
        build_index(small(), tmp_path / "index", "dense", embedder=WordHashes(), kind="tree")
    build_index(small(), tmp_path / "index")
    manifest = json.loads((tmp_path / "index" / MANIFEST).read_text())
    (tmp_path / "index" / MANIFEST).write_text(json.dumps(manifest | {"graphkv_index": 99}))
    with pytest.raises(InputError, match="format 99"):
        open_index(tmp_path / "index")


def test_another_embedder_is_refused(tmp_path: Path) -> None:
    build_index(small(), tmp_path / "index", "dense", embedder=WordHashes())
    with pytest.raises(InputError, match="built with the embedder 'word-hashes@1', got 'other@1'"):
        open_index(tmp_path / "index", embedder=WordHashes("other"))
