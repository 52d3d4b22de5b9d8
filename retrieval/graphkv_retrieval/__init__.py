"""Retrieval: which documents a question needs. One file a method; heavy libraries are imported only when one runs.

    bm25.py   scores by BM25, no model needed
"""

from graphkv_retrieval.bm25 import score_documents

__all__ = ["score_documents"]
