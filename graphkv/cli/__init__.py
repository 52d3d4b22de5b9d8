"""The command line. One file a verb; nothing heavy is imported before a verb runs.

    build.py    graphkv build   papers, pages and graphs into one file of documents that read one another; part.py chooses a part
    stats.py    graphkv stats   what a graph is like and what reading it costs
    index.py    graphkv index   make a graph searchable; retrieval.py has the options that search
    ask.py      graphkv ask     answer a question from a file of documents
    encode.py   graphkv encode  documents into a store
    cache/      graphkv cache   look into a store and keep house
    show.py     graphkv show    draw a graph and its block mask; page.py and page.html make the HTML page
    heads.py    graphkv heads   which heads of a model look at what an answer is copied from
    serve.py    graphkv serve   answer over HTTP, with OpenAI's API and a page to try it
    train.py    graphkv train   train a model under a mixture of layouts
    demo.py     graphkv demo    the main job on the embedded model
    doctor.py   graphkv doctor  what this machine has
    bench/      graphkv bench   benchmarks, one file each
    common.py   what the verbs share: errors, options, loading

To add a verb: a file with one function, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from graphkv.cli import ask, bench, build, cache, demo, doctor, encode, heads, index, serve, show, stats, train
from graphkv.cli.common import guarded, set_debug

app = typer.Typer(
    help="Let a language model read a graph of documents: each is encoded once and attends along the edges.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
VERBS: dict[str, Callable[..., None]] = {
    "build": build.build,
    "encode": encode.encode,
    "index": index.index,
    "ask": ask.ask,
    "show": show.show,
    "stats": stats.stats,
    "heads": heads.heads,
    "serve": serve.serve,
    "train": train.train,
    "demo": demo.demo,
    "doctor": doctor.doctor,
}
for name, verb in VERBS.items():
    app.command(name)(guarded(verb))
app.add_typer(cache.app, name="cache")
app.add_typer(bench.app, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"graphkv {version('graphkv')}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", envvar="GRAPHKV_DEBUG", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    set_debug(debug)


__all__ = ["app"]
