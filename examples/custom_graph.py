"""A graph of your own in twenty lines: three papers, an edge, and a question that only the edge answers.

    python examples/custom_graph.py
    python examples/custom_graph.py "Which lab is Violet Oak from?"
"""

import sys

from graphkv import GraphKV, SegmentGraph

question = sys.argv[1] if len(sys.argv) > 1 else "Who is the author of the paper extended by Violet Oak?"
oak = "This work is evaluated on Pesnos. It extends the cited work. The author of this paper is Uma Tilkux. Violet Oak is from the lab Zixtoszus."
anchor = "This work uses the dataset Konluxlam. Onyx Anchor was written by Jane Sintil. It was done at Damtur. The score of Onyx Anchor is 55.8."
hazel = "The dataset of this work is Resbaszir. This paper was done at Damnaxkom. The author of Pearl Hazel is Dana Resdispel."
graph = SegmentGraph.from_documents(
    [
        {"id": "oak", "title": "Violet Oak", "text": oak, "sources": ["anchor"]},  # oak reads anchor: an edge anchor → oak
        {"id": "anchor", "title": "Onyx Anchor", "text": anchor},
        {"id": "hazel", "title": "Pearl Hazel", "text": hazel},
    ]
)

engine = GraphKV.from_pretrained()  # the embedded model; or a folder, a hub id, a (model, tokenizer) pair
print(engine.plan(graph, question))  # blocks, positions, who reads whom
for layout in ("graph", "block"):  # along the edges, and without them
    answer = engine.ask(graph, question, layout=layout)
    print(f"{layout}: {answer}   ({answer.tokens_reused} tokens reused, {answer.tokens_computed} computed)")
