"""`graphkv bench lm-eval`: tasks of EleutherAI's lm_eval, documents and edges read by a layout."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from graphkv.cli.common import Dtype, Json, LayoutOptions, MaxSegmentTokens, Model, StorePlace, load_engine, parse_options, print_json
from graphkv.errors import InputError

_OWN = "A folder with tasks of your own as YAML files; data files are looked for beside the YAML."
_WAYS = "graph, full_context, infini_retri ...; others than graph answer, they have no log-likelihoods."
_CHAT = "lm_eval renders prompts by the model's chat template; for rows without documents."
_FEWSHOT = "Examples in front of each question, in place of the task's own number."

_FLAGS = ("dtype", "layout", "strategy", "raw", "documents_key", "edges_key", "graph_key", "max_segment_tokens", "store", "batch_size", "max_gen_toks")
_NO_OPTIONS = {
    "pretrained": "--model",
    **{name: f"--{name.replace('_', '-')}" for name in _FLAGS},
    **dict.fromkeys(("device", "trust_remote_code", "max_batch_size"), "for --model_args of graphkv-lm-eval"),
}
"""Arguments of GraphKVLM that have a name, and where they are given; whatever else it takes is an option of the layout or strategy."""


def lm_eval(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Names of tasks or groups, patterns (mmlu_*), or YAML files.", show_default=False)],
    include_path: Annotated[Path | None, typer.Option(metavar="DIR", help=_OWN, show_default=False)] = None,
    model: Model = None,
    dtype: Dtype = None,
    layout: Annotated[str | None, typer.Option("--layout", "-l", help="How documents of a row are read.", show_default="graph")] = None,
    option: LayoutOptions = None,
    strategy: Annotated[str, typer.Option("--strategy", "-s", help=_WAYS)] = "graph",
    raw: Annotated[bool, typer.Option("--raw", help="Nothing is put around documents and question: no template, no titles.")] = False,
    documents_key: Annotated[str, typer.Option(metavar="KEY", help="Where a row has its documents; none: read every row without.")] = "documents",
    edges_key: Annotated[str, typer.Option(metavar="KEY", help="Where a row has edges: pairs of source id and target id.")] = "edges",
    graph_key: Annotated[str, typer.Option(metavar="KEY", help="Where a row has a whole graph as node-link JSON.")] = "graph",
    limit: Annotated[int | None, typer.Option(help="The first rows of each task.", min=1, show_default=False)] = None,
    num_fewshot: Annotated[int | None, typer.Option(help=_FEWSHOT, min=0, show_default=False)] = None,
    batch_size: Annotated[int, typer.Option(help="Prompts, questions or continuations in one forward.", min=1)] = 16,
    max_gen_toks: Annotated[int, typer.Option(help="Tokens of the longest answer, where a task names none.", min=1)] = 256,
    apply_chat_template: Annotated[bool, typer.Option("--apply-chat-template", help=_CHAT)] = False,
    max_segment_tokens: MaxSegmentTokens = None,
    store: StorePlace = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="results.json goes here.", show_default=False)] = None,
    log_samples: Annotated[bool, typer.Option("--log-samples", help="samples_TASK.jsonl beside it: every row with what was asked and answered.")] = False,
    as_json: Json = False,
) -> None:
    """Tasks of lm_eval with a model that reads graphs.

    A row with documents (and edges) is read by the layout, with the rendered doc_to_text as the question. A row without is read as
    lm_eval's own hf reads it: the same numbers. Needs the extra: pip install 'graphkv\\[bench]'. docs/lm_eval.md says more.

    [bold]A session[/bold]

    \b
    $ graphkv bench lm-eval citation_world_generate --include-path examples/lm_eval_task | grep -o "exact_match.*"
    exact_match|↑  |    1|±  |     0|
    """
    if log_samples and out is None:
        raise InputError("--log-samples writes files: say where with --out DIR")
    options: dict[str, Any] = parse_options(option)
    if wrong := [f"{name} ({_NO_OPTIONS[name]})" for name in options if name in _NO_OPTIONS]:
        raise InputError(f"--option is for options of a layout or strategy, not for {', '.join(wrong)}")
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError("lm_eval is not installed: pip install 'graphkv[bench]'")
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")  # without it a task over local files would ring up to be counted
    from graphkv.store.memory import MemoryStore
    from graphkv_benchmarks.harness.lm import STORE_BYTES, GraphKVLM
    from graphkv_benchmarks.harness.run import as_json as plain
    from graphkv_benchmarks.harness.run import run, table, write

    def make() -> GraphKVLM:
        engine = load_engine(model, dtype, max_segment_tokens, MemoryStore(max_bytes=STORE_BYTES) if store is None else store)
        keys = {"documents_key": documents_key, "edges_key": edges_key, "graph_key": graph_key}
        settings = {name: None if key.lower() == "none" else key for name, key in keys.items()} | options
        return GraphKVLM(engine, layout=layout, strategy=strategy, raw=raw, batch_size=batch_size, max_gen_toks=max_gen_toks, **settings)

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # before the run: where nothing can be written, nothing need be read
    results = run(
        tasks, make, include_path=include_path, limit=limit, num_fewshot=num_fewshot, apply_chat_template=apply_chat_template, log_samples=log_samples,
        say=lambda line: typer.secho(f"note: {line}", fg=typer.colors.YELLOW, err=True),
    )  # fmt: skip
    if out is not None:
        write(results, out)
    if as_json:
        print_json(plain(results))
    else:
        typer.echo(table(results))
