"""RAG with LangChain over a folder of Markdown files: a link from one file to another becomes an edge that retrieval follows and the model reads along.

    python examples/rag_langchain_folder.py
    python examples/rag_langchain_folder.py my/notes "What do they say?"

Needs `pip install 'graphkv[langchain]'`; nothing of LangChain but langchain-core.
"""

import re
import sys
from pathlib import Path

from langchain_core.documents import Document

from graphkv.langchain import ChatGraphKV, GraphKVRetriever, create_graph_rag_chain

FOLDER = Path(__file__).parent / "papers"
QUESTIONS = ["Who is the author of the paper extended by Violet Oak?", "Who wrote the paper extended by the paper that Pearl Hazel compares against?"]
LINK = re.compile(r"\[([^\]]+)\]\(([^)/]+)\.md\)")


def load(path: Path) -> Document:
    """A file as a document: its first line is the title, its links name the files that it cites."""
    title, _, text = path.read_text(encoding="utf-8").partition("\n")
    cites = [name for _, name in LINK.findall(text)]
    return Document(LINK.sub(r"\1", text).strip(), id=path.stem, metadata={"title": title.lstrip("# ") or path.stem, "cites": cites})


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
documents = [load(path) for path in sorted(folder.glob("*.md"))]
# Three documents a question: the best by BM25, and the nearest of those that are at most two links away from it. Take more from a larger folder.
retriever = GraphKVRetriever.from_documents(documents, k=3, hits=1, expand="hops", hops=2)
chain = create_graph_rag_chain(retriever, ChatGraphKV())  # the embedded model; ChatGraphKV(model="...") takes any other

for question in sys.argv[2:] or QUESTIONS:
    print(question)
    for piece in chain.stream(question):
        if "documents" in piece:
            print("    found:", ", ".join(document.metadata["title"] for document in piece["documents"]))
        print(piece.get("answer", ""), end="", flush=True)
        for citation in piece.get("citations", []):
            print(f"\n    from {citation['title']} ({citation['extras']['share']:.0%} of the attention)", end="")
    print()
