"""Retrieval: which segments a question needs, and which belong together. Heavy libraries are imported only when something runs.

    base.py                   what a retriever is; a segment's searchable text
    bm25.py                   BM25 through bm25s: scores for documents, and a retriever
    likest.py                 a segment's neighbours by BM25, without scoring every segment
    embedders.py              embedders by name
    minilm.py                 all-MiniLM-L6-v2 from a package, offline
    hidden.py                 the engine's own hidden states
    sentence_transformer.py   any sentence-transformers model
    vectors.py                FAISS: flat, HNSW, IVF-PQ
    shards.py                 vectors on disk as soon as they are made, so that a build goes on where it was
    dense.py                  an embedder and a FAISS index
    hybrid.py                 several retrievers by reciprocal rank
    manifest.py               what an index' folder must have, and how damage is found
    folder.py                 build_index, open_index
    links.py                  a graph's edges as arrays, both ways
    pagerank.py               personalised PageRank
    expand.py                 from hits along the edges, to a budget
    retrieve.py               one question: the part of the graph that goes into a layout
    infini_retri.py           the strategy: a text of any length past the question, window by window
    scan.py                   its windows, scores, and what is kept
    sentences.py              sentences as token ids
    options.py                its settings: the user's, the model's, the paper's
    heads.py                  which heads look at what an answer is copied from; needles.py hides something for them
    head_file.py              where that is written down
    nearest.py                edges between segments that are alike
    mentions.py               edges from titles that stand in a text
    landmark.py               the strategy that reads with landmarks
    landmark_documents.py     documents into a landmark memory, once
    landmark_memory.py        blocks and their landmarks: near, on the CPU, or in the store
    landmark_index.py         which landmarks a query is nearest to: FAISS
"""

from graphkv_retrieval.base import Hit, Retriever
from graphkv_retrieval.bm25 import BM25Retriever, score_documents
from graphkv_retrieval.dense import DenseRetriever
from graphkv_retrieval.embedders import Embedder, load_embedder
from graphkv_retrieval.expand import expand
from graphkv_retrieval.folder import build_index, open_index
from graphkv_retrieval.hidden import HiddenStates
from graphkv_retrieval.hybrid import HybridRetriever
from graphkv_retrieval.mentions import mention_edges
from graphkv_retrieval.minilm import MiniLM
from graphkv_retrieval.nearest import nearest_edges
from graphkv_retrieval.pagerank import personalised_pagerank
from graphkv_retrieval.retrieve import retrieve
from graphkv_retrieval.sentence_transformer import SentenceTransformerModel

__all__ = [
    "BM25Retriever",
    "DenseRetriever",
    "Embedder",
    "HiddenStates",
    "Hit",
    "HybridRetriever",
    "MiniLM",
    "Retriever",
    "SentenceTransformerModel",
    "build_index",
    "expand",
    "load_embedder",
    "mention_edges",
    "nearest_edges",
    "open_index",
    "personalised_pagerank",
    "retrieve",
    "score_documents",
]
