"""Streaming from Python, and the time to the first token: the first question encodes the documents, the second finds them encoded.

    python examples/streaming.py
    python examples/streaming.py papers.jsonl "First question?" "Second question?"

A file has one document a line: {"id": ..., "title": ..., "text": ..., "sources": [ids of the documents that it reads]}.
"""

import sys
import time
from pathlib import Path

import graphkv
from graphkv import GraphKV, SegmentGraph

PAPERS = Path(graphkv.__file__).parent / "demo" / "papers.jsonl"
QUESTIONS = ["Who is the author of the paper extended by Violet Oak?", "Which dataset does the paper that Temple Ruby compares against use?"]

graph = SegmentGraph.from_jsonl(sys.argv[1] if len(sys.argv) > 1 else PAPERS)
engine = GraphKV.from_pretrained(store="memory")  # with the default store, a folder, a second run of this script is fast from its first question on
engine.ask([{"id": "warm", "text": "up"}], "Ready?", max_new_tokens=1)  # a process is slow at its very first token, whatever it reads

for question in sys.argv[2:] or QUESTIONS:
    print(question)
    begin = time.perf_counter()
    first = None
    for piece in engine.stream(graph, question):
        first = first or time.perf_counter() - begin
        print(piece, end="", flush=True)
    print(f"\n    first token after {first or 0.0:.3f} s, all after {time.perf_counter() - begin:.3f} s")
