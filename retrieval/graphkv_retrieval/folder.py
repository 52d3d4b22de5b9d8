"""An index in a folder: built, gone on with after an interruption, and opened again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from graphkv.errors import InputError, one_of
from graphkv.graph import SegmentGraph
from graphkv.progress import late_progress
from graphkv_retrieval.base import Retriever, corpus_digest, searchable_texts
from graphkv_retrieval.bm25 import BM25Retriever
from graphkv_retrieval.dense import DenseRetriever
from graphkv_retrieval.embedders import Embedder, load_embedder
from graphkv_retrieval.hybrid import HybridRetriever, finish_hybrid, part_names
from graphkv_retrieval.manifest import MANIFEST, begin, damaged, read_manifest
from graphkv_retrieval.vectors import check_kind

if TYPE_CHECKING:
    from graphkv.model import GraphModel

METHODS = ("bm25", "dense", "hybrid")


def build_index(
    graph: SegmentGraph,
    folder: str | Path,
    method: str = "bm25",
    *,
    embedder: str | Embedder = "minilm",
    kind: str = "flat",
    model: GraphModel | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Retriever:
    """Index a graph's segments (title and text) in a folder, and open it.

    A build that was interrupted goes on where it was when it is called again with the same arguments. An index that is whole and of
    the same segments is opened as it is; where texts have changed, only those are embedded again. For that the vectors stay in the folder
    ``shards`` beside the index, which doubles what a flat index takes on disk; an index is opened and searched without them. Two builds
    must not run in one folder.

    Args:
        method: "bm25", "dense", or "hybrid" (both, by reciprocal rank).
        embedder: for dense and hybrid, as :func:`load_embedder` takes it, with `model` for "engine". kind: of the vectors' index: flat, hnsw or ivfpq.
        progress: called with (done, to do) while segments are embedded and then indexed; without it a bar appears on a terminal.

    Raises:
        InputError: an unknown method or kind, a segment without text, other files in the folder, too few segments for ivfpq.

    Example:
        >>> build_index(graph, "index", "hybrid", kind="hnsw").search(["Which river?"], k=10)  # doctest: +SKIP
    """
    if method not in METHODS:
        raise InputError(one_of("method", method, METHODS))
    digest = corpus_digest(graph.ids, searchable_texts(graph))
    place = Path(folder)
    if method == "bm25":
        if not _is_whole(place, digest, "bm25"):
            BM25Retriever.build(graph).save(place)
        return open_index(place)
    check_kind(kind, len(graph))
    ready = load_embedder(embedder, model=model)
    if method == "dense":
        if not _is_whole(place, digest, "dense", {"identity": ready.identity, "kind": kind}):
            with late_progress("indexing segments") as bar:
                DenseRetriever.build(graph, ready, kind, folder=place, report=progress or bar)
        return open_index(place, embedder=ready)
    begin(place, "hybrid")
    lexical, dense = part_names(2)
    build_index(graph, place / lexical, "bm25")
    build_index(graph, place / dense, "dense", embedder=ready, kind=kind, progress=progress)
    finish_hybrid(place, graph.ids, digest, 2)
    return open_index(place, embedder=ready)


def open_index(
    folder: str | Path,
    graph: SegmentGraph | None = None,
    *,
    embedder: str | Embedder | None = None,
    model: GraphModel | None = None,
    verify: bool = True,
) -> Retriever:
    """Open an index that :func:`build_index` or a retriever's ``save`` wrote; its large files are memory-mapped.

    Args:
        graph: if given, it must have the ids and texts that were indexed.
        embedder: the one that the vectors were made with, if it is one of your own; others are loaded by name. model: the engine's model
            (``engine.model``), if its hidden states are the vectors.
        verify: read every file once and compare its digest (about 0.1 s for 100,000 vectors); without it only the sizes are compared.

    Raises:
        InputError: no index, one that is unfinished, damaged, of another version or of another graph; another embedder.
    """
    place = Path(folder)
    manifest = read_manifest(place, verify=verify)
    found: Retriever
    if manifest.method == "bm25":
        found = BM25Retriever.load(place, manifest)
    elif manifest.method == "dense":
        found = DenseRetriever.load(place, manifest, embedder, model)
    elif manifest.method == "hybrid":
        with damaged(place):
            names = part_names(int(manifest.settings["parts"]))
        found = HybridRetriever([open_index(place / name, embedder=embedder, model=model, verify=verify) for name in names])
    else:
        raise InputError(one_of(f"method of the index in {place}:", manifest.method, METHODS))
    if graph is not None:
        found.check(graph)
    return found


def _is_whole(place: Path, digest: str, method: str, settings: dict[str, str] | None = None) -> bool:
    """Whether just this index is there already; one that is damaged is not, and is built again."""
    if not (place / MANIFEST).is_file():
        return False
    try:
        manifest = read_manifest(place)
    except InputError:
        return False
    known = (settings or {}).items() <= dict(manifest.settings).items()
    return (manifest.method, manifest.digest) == (method, digest) and known
