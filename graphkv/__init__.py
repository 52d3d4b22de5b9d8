"""graphkv: let a Hugging Face language model read a graph of documents.

    from graphkv import GraphKV, SegmentGraph
    engine = GraphKV.from_pretrained()
    print(engine.ask(SegmentGraph.from_jsonl("papers.jsonl"), "Who wrote Night Maple?"))

Start reading at `graphkv/engine.py`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphkv.chat import ChatPrompt, chat_prompt
    from graphkv.engine import GraphKV
    from graphkv.errors import (
        BusyError,
        CancelledError,
        DocumentError,
        GraphError,
        GraphKVError,
        InputError,
        KernelError,
        LayoutError,
        LengthError,
        ModelError,
        StoreError,
        StoreWarning,
        UnsupportedModelError,
    )
    from graphkv.graph import Edge, SegmentGraph
    from graphkv.layout import Block, Layout
    from graphkv.layouts import LAYOUTS, make_layout
    from graphkv.prompt import PromptTemplate
    from graphkv.question import Question
    from graphkv.sampling import Sampling
    from graphkv.scheduler import Scheduler
    from graphkv.segments import Document, Segment
    from graphkv.store import FileStore, MemoryStore, Store, open_store
    from graphkv.strategies import Request, Strategy, find_strategy, strategy_names
    from graphkv.strategy import Answer, Citation, Score, SegmentUse, Timings
    from graphkv.ticket import Piece, Ticket

__version__ = "0.1.0"

__all__ = [
    "LAYOUTS",
    "Answer",
    "Block",
    "BusyError",
    "CancelledError",
    "ChatPrompt",
    "Citation",
    "Document",
    "DocumentError",
    "Edge",
    "FileStore",
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
    "Piece",
    "PromptTemplate",
    "Question",
    "Request",
    "Sampling",
    "Scheduler",
    "Score",
    "Segment",
    "SegmentGraph",
    "SegmentUse",
    "Store",
    "StoreError",
    "StoreWarning",
    "Strategy",
    "Ticket",
    "Timings",
    "UnsupportedModelError",
    "__version__",
    "chat_prompt",
    "find_strategy",
    "make_layout",
    "open_store",
    "strategy_names",
]

# torch and transformers take seconds to import: a name is fetched when it is first asked for, so that `graphkv --help`
# and those who only build graphs do not wait for them.
_HOMES = {
    "chat": ("ChatPrompt", "chat_prompt"),
    "engine": ("GraphKV",),
    "errors": tuple(name for name in __all__ if name.endswith(("Error", "Warning"))),
    "graph": ("Edge", "SegmentGraph"),
    "layout": ("Block", "Layout"),
    "layouts": ("LAYOUTS", "make_layout"),
    "prompt": ("PromptTemplate",),
    "question": ("Question",),
    "sampling": ("Sampling",),
    "scheduler": ("Scheduler",),
    "segments": ("Document", "Segment"),
    "store": ("FileStore", "MemoryStore", "Store", "open_store"),
    "strategies": ("Request", "Strategy", "find_strategy", "strategy_names"),
    "strategy": ("Answer", "Citation", "Score", "SegmentUse", "Timings"),
    "ticket": ("Piece", "Ticket"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'graphkv' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"graphkv.{_HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
