"""graphkv: let a Hugging Face language model read a graph of documents.

    from graphkv import GraphKV, SegmentGraph
    engine = GraphKV.from_pretrained()
    print(engine.ask(SegmentGraph.from_jsonl("papers.jsonl"), "Who wrote Night Maple?"))

Start reading at `graphkv/engine.py`.
"""

from graphkv.engine import GraphKV
from graphkv.errors import (
    DocumentError,
    GraphError,
    GraphKVError,
    InputError,
    KernelError,
    LayoutError,
    LengthError,
    ModelError,
    UnsupportedModelError,
)
from graphkv.graph import SegmentGraph
from graphkv.layout import Block, Layout
from graphkv.layouts import LAYOUTS, make_layout
from graphkv.prompt import PromptTemplate
from graphkv.segments import Document, Segment
from graphkv.store import MemoryStore
from graphkv.strategy import Answer, Score, SegmentUse, Strategy, Timings

__version__ = "0.1.0"

__all__ = [
    "LAYOUTS",
    "Answer",
    "Block",
    "Document",
    "DocumentError",
    "GraphError",
    "GraphKV",
    "GraphKVError",
    "InputError",
    "KernelError",
    "Layout",
    "LayoutError",
    "LengthError",
    "MemoryStore",
    "ModelError",
    "PromptTemplate",
    "Score",
    "Segment",
    "SegmentGraph",
    "SegmentUse",
    "Strategy",
    "Timings",
    "UnsupportedModelError",
    "__version__",
    "make_layout",
]
