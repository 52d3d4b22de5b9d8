"""`graphkv bench`: benchmarks by name. To add one: a file with one function, and a line here."""

from __future__ import annotations

import typer

from graphkv.cli.bench.answer_time import answer_time
from graphkv.cli.bench.arxiv_qa import arxiv_qa
from graphkv.cli.bench.attention import attention
from graphkv.cli.bench.citation_world import citation_world
from graphkv.cli.bench.codecs import codecs
from graphkv.cli.bench.compare import compare
from graphkv.cli.bench.download import download
from graphkv.cli.bench.infini_retri_peer import infini_retri_peer
from graphkv.cli.bench.landmark_index import landmark_index
from graphkv.cli.bench.lm_eval import lm_eval
from graphkv.cli.bench.merge import merge
from graphkv.cli.bench.needle import needle
from graphkv.cli.bench.offline import offline
from graphkv.cli.bench.passkey import passkey
from graphkv.cli.bench.rag import rag
from graphkv.cli.bench.retrieval import retrieval
from graphkv.cli.bench.retrieval_scale import retrieval_scale
from graphkv.cli.bench.ruler import ruler
from graphkv.cli.bench.serving import serving
from graphkv.cli.bench.store_size import store_size
from graphkv.cli.bench.strategies import strategies
from graphkv.cli.bench.topic import topic
from graphkv.cli.bench.ttft import ttft
from graphkv.cli.common import guarded

app = typer.Typer(help="Measure kernels and models; run benchmarks.", no_args_is_help=True)
app.command("answer-time")(guarded(answer_time))
app.command("arxiv-qa")(guarded(arxiv_qa))
app.command("attention")(guarded(attention))
app.command("citation-world")(guarded(citation_world))
app.command("codecs")(guarded(codecs))
app.command("compare")(guarded(compare))
app.command("download")(guarded(download))
app.command("infini-retri-peer")(guarded(infini_retri_peer))
app.command("landmark-index")(guarded(landmark_index))
app.command("lm-eval")(guarded(lm_eval))
app.command("merge")(guarded(merge))
app.command("needle")(guarded(needle))
app.command("offline")(guarded(offline))
app.command("passkey")(guarded(passkey))
app.command("rag")(guarded(rag))
app.command("retrieval")(guarded(retrieval))
app.command("retrieval-scale")(guarded(retrieval_scale))
app.command("ruler")(guarded(ruler))
app.command("serving")(guarded(serving))
app.command("store-size")(guarded(store_size))
app.command("strategies")(guarded(strategies))
app.command("topic")(guarded(topic))
app.command("ttft")(guarded(ttft))


@app.callback()
def main() -> None:
    """Measure kernels and models; run benchmarks."""


__all__ = ["app"]
