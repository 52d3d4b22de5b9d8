"""`graphkv serve`: answer questions over HTTP, with OpenAI's API and a page to try it."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphkv.cli.common import CodecName, Dtype, MaxSegmentTokens, Model, StorePlace, load_engine, quiet
from graphkv.errors import InputError

if TYPE_CHECKING:
    from graphkv.serve.settings import Settings
    from graphkv.store import Store

_NEEDED = ("fastapi", "uvicorn", "sse_starlette", "prometheus_client")


def serve(
    model: Model = None,
    store: StorePlace = None,
    host: Annotated[str, typer.Option(help="Address to listen at; this machine only by default.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="0: any that is free.", min=0, max=65535)] = 8000,
    name: Annotated[str | None, typer.Option(help="The model's name in the API; the last part of --model without it.", show_default=False)] = None,
    layout: Annotated[str, typer.Option("--layout", "-l", help="The layout of requests that name none.")] = "graph",
    max_segment_tokens: MaxSegmentTokens = None,
    dtype: Dtype = None,
    codec: CodecName = "exact",
    store_size: Annotated[str | None, typer.Option(help="Budget of the store: 20GiB, 500MB; the least recently used blocks go first.", show_default=False)] = None,
    documents: Annotated[Path | None, typer.Option(help="File for the documents that clients leave here.", show_default="in the store's folder")] = None,
    queue: Annotated[int, typer.Option(help="Questions that may wait; the next one is answered 429.", min=1)] = 256,
    rows: Annotated[int, typer.Option(help="Questions that are decoded at a time.", min=1)] = 64,
    context_memory: Annotated[str, typer.Option(help="Memory for contexts that are kept assembled.")] = "1GiB",
    timeout: Annotated[float, typer.Option(help="Seconds until a request is given up.")] = 300.0,
    max_body: Annotated[str, typer.Option(help="Size of the largest request.")] = "32MiB",
    allow_host: Annotated[list[str] | None, typer.Option(help="A further name under which this machine may be asked for (without keys on loopback).", show_default=False)] = None,
    without_key: Annotated[bool, typer.Option("--without-key", help="Serve everybody who reaches the address, though it is not this machine's alone.")] = False,
) -> None:
    """Serve a model over HTTP: OpenAI's API with documents and the edges between them, and a page at / to try it.

    One process with one worker: it holds the model, and decodes many questions together. Keys are taken from the environment variable
    GRAPHKV_API_KEY, several separated by commas; nothing left or encoded under one is seen under another. SIGTERM or Ctrl-C: no more requests
    are taken, answers that were begun end. Each request is one JSON line on stderr.

    [bold]A session[/bold]

    \b
    $ graphkv serve --store kv
    graphkv serves embedded at http://127.0.0.1:8000 (store kv, no key, this machine only)
    $ curl -s localhost:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{
        "messages": [{"role": "user", "content": "Who wrote Night Maple?"}], "documents": [
        {"id": "a", "title": "Night Maple", "text": "Night Maple was written by Ada Reed."},
        {"id": "b", "title": "Onyx Anchor", "text": "Onyx Anchor was written by Jane Sintil.", "sources": ["a"]}]}' | jq .choices[0].message.content
    "Ada Reed"
    """
    missing = [package for package in _NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        raise InputError(f"the server needs {', '.join(missing)}: pip install 'graphkv[serve]'")
    from graphkv.store.place import open_store, parse_size

    settings = _settings(
        host,
        without_key,
        tuple(allow_host or ()),
        model_name=name or (Path(model).absolute().name if model else "embedded"),
        layout=layout,
        queue=queue,
        max_rows=rows,
        context_bytes=parse_size(context_memory),
        request_seconds=timeout,
        max_body_bytes=parse_size(max_body),
    )
    budget = None if store_size is None else parse_size(store_size)
    with quiet("starting"):
        from graphkv.layouts import layout_options
        from graphkv.scheduler import Scheduler
        from graphkv.serve.library import Library
        from graphkv.serve.log import set_up_logging
        from graphkv.serve.run import bind, serve

    layout_options(layout)
    with ExitStack() as open_things:
        listener = open_things.enter_context(closing(bind(host, port)))
        kept = open_store(store, max_bytes=budget, codec=codec)
        library = open_things.enter_context(closing(Library(documents or _beside(kept))))
        engine = load_engine(model, dtype, max_segment_tokens, kept)
        scheduler = Scheduler(engine, max_waiting=settings.queue, max_rows=settings.max_rows, context_bytes=settings.context_bytes)
        set_up_logging()
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        line = f"graphkv serves {settings.model_name} at {address} ({_about(settings, host, str(store or getattr(kept, 'place', 'memory')), library.path)})"
        serve(scheduler, settings, listener, library=library, started=lambda: _announce(line))


def _settings(host: str, without_key: bool, hosts: tuple[str, ...], *, max_body_bytes: int, **more: object) -> Settings:
    """What the server allows.

    Raises:
        InputError: an option that is wrong; an address that others reach, without a key.
    """
    from graphkv.serve.settings import KEYS, Settings, allowed_hosts, is_loopback, keys_from_environment

    keys = keys_from_environment()
    if without_key and keys:
        raise InputError(f"--without-key serves everybody, but {KEYS} holds keys: leave one of them out")
    if not keys and not without_key and not is_loopback(host):
        raise InputError(f"others can reach {host}: put an API key into {KEYS} (several separated by commas), or serve everybody with --without-key")
    held = max(Settings.max_held_bytes, 2 * max_body_bytes)
    return Settings(keys=keys, hosts=allowed_hosts(host, keys, hosts), max_body_bytes=max_body_bytes, max_held_bytes=held, **more)  # type: ignore[arg-type]


def _beside(store: Store) -> Path | None:
    """Where documents are kept that clients leave here: in the folder of the store, where it has one."""
    from graphkv.store import FileStore
    from graphkv.store.files import LocalFiles

    local = isinstance(store, FileStore) and isinstance(store.folder.files, LocalFiles)
    return Path(store.place) / "serve" / "documents.sqlite" if local else None  # type: ignore[attr-defined]


def _about(settings: Settings, host: str, place: str, documents: str | Path | None) -> str:
    """Where things are kept, and who is served."""
    from graphkv.serve.settings import is_loopback

    keys = f"{len(settings.keys)} API key{'s' if len(settings.keys) > 1 else ''}" if settings.keys else "no key"
    lost = ", documents until it stops" if documents is None else ""
    return f"store {place}{lost}, {keys}, {'this machine only' if is_loopback(host) else 'others can reach it'}"


def _announce(line: str) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(line, markup=False, style="bold" if console.is_terminal else None)
    console.file.flush()  # whoever waits for the line in a pipe should get it now
