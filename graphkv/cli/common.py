"""What the verbs share: how errors are shown, how options are read, how documents and the model are loaded."""

from __future__ import annotations

import ast
import functools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from graphkv.errors import GraphKVError, InputError, StoreWarning
from graphkv.progress import late_progress

if TYPE_CHECKING:
    from graphkv.engine import GraphKV
    from graphkv.graph import SegmentGraph
    from graphkv.layout import Layout
    from graphkv.segments import Segment
    from graphkv.store import Store
    from graphkv_benchmarks.readers import Row

P = ParamSpec("P")
R = TypeVar("R")

_PLAIN = warnings.formatwarning
_DEBUG: ContextVar[bool] = ContextVar("graphkv_debug", default=False)

Model = Annotated[str | None, typer.Option("--model", "-m", help="A folder or a hub id; the embedded model without it.", show_default=False)]
Dtype = Annotated[str | None, typer.Option("--dtype", help="float32, bfloat16, float16 or auto; the checkpoint's own without it.", show_default=False)]
MaxSegmentTokens = Annotated[int | None, typer.Option(help="Cut longer documents into chains of segments.", min=1, show_default=False)]
LayoutOptions = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the layout: rounds=2, view=final, m=1, tiers=1,2,2 ...", show_default=False),
]
Edges = Annotated[str, typer.Option(help="For a data set: none, or decomposition (gold information, see the reader).")]
StorePlace = Annotated[
    str | None,
    typer.Option("--store", metavar="PLACE", help="A folder, an fsspec address (s3://…), or 'memory'; without it GRAPHKV_STORE, or the user's cache folder.", show_default=False),
]
CodecName = Annotated[str, typer.Option("--codec", help="How keys and values are stored: exact, int8, fp8, int4.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, nothing else.")]


def set_debug(on: bool) -> None:
    """Whether errors keep their traceback, for the rest of this command."""
    _DEBUG.set(on)


def guarded(verb: Callable[P, R]) -> Callable[P, R]:
    """A verb whose own errors become one red line on stderr and exit code 2."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        before, warnings.formatwarning = warnings.formatwarning, _warning_line  # type: ignore[assignment]
        try:
            return verb(*args, **kwargs)
        except (GraphKVError, PermissionError, FileExistsError, NotADirectoryError) as error:
            if _DEBUG.get():
                raise
            # As text, not as markup: a message may hold square brackets.
            typer.secho(f"error: {' '.join(str(error).split())}", fg=typer.colors.RED, err=True)
            raise typer.Exit(2) from None
        finally:
            warnings.formatwarning = before

    return run


def _warning_line(message: Warning | str, category: type[Warning], *where: Any) -> str:
    """A warning of ours as one line; of others as Python writes it."""
    if issubclass(category, StoreWarning):
        return f"warning: {' '.join(str(message).split())}\n"
    return _PLAIN(message, category, *where)


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


@contextmanager
def working(label: str) -> Iterator[None]:
    """A spinner on stderr, if that is a terminal, while something slow runs."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(label):
        yield


@contextmanager
def quiet(label: str) -> Iterator[None]:
    """:func:`working` while torch and transformers are loaded; from then on transformers prints no bars and no hints."""
    with working(label):
        import transformers

        # They would stand between a user and one plain line of ours.
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        yield


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """``["m=1", "tiers=1,2,2", "view=final"]`` as ``{"m": 1, "tiers": (1, 2, 2), "view": "final"}``.

    Raises:
        InputError: a pair without ``=``, or the same key twice.
    """
    options: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key or not value.strip():
            raise InputError(f"--option needs key=value, got {pair!r}; for example --option rounds=2")
        if key in options:
            raise InputError(f"--option {key} is given twice")
        options[key] = _value(value.strip())
    return options


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)  # numbers, and 1,3 as a tuple
    except (ValueError, SyntaxError):
        return text


def load_engine(
    model: str | None, dtype: str | None, max_segment_tokens: int | None = None, store: Store | str = "memory", *, weights: bool = True
) -> GraphKV:
    """The engine, with a spinner while weights are read; with a store of its own unless another is given. Without `weights` it can plan, not answer.

    Raises:
        InputError: an unknown dtype. ModelError: the model cannot be loaded.
    """
    from graphkv.errors import one_of

    names = ("auto", "bfloat16", "float16", "float32")
    if dtype is not None and dtype not in names:
        raise InputError(one_of("dtype", dtype, names))
    with quiet(f"loading {model or 'the embedded model'}"):
        from graphkv.engine import GraphKV

        place = None if weights else "meta"
        return GraphKV.from_pretrained(model, dtype=dtype, device_map=place, max_segment_tokens=max_segment_tokens, store=store)


def planned(engine: GraphKV, graph: SegmentGraph, question: str | None, layout: str, options: Mapping[str, Any]) -> tuple[SegmentGraph, Layout]:
    """The graph with long documents cut, and its layout, whether or not the model's window is large enough for it."""
    from graphkv.layouts import make_layout

    tokens = engine.reader.read(graph, [() if question is None else question], None)
    lengths = {id: len(ids) for id, ids in tokens.segments.items()}
    return tokens.graph, make_layout(layout, tokens.graph, lengths, prefix=len(tokens.prefix), question=len(tokens.questions[0]), **options)


def token_counter(model: str | None) -> Callable[[Segment], int]:
    """A function that tells how many tokens a segment has for a model; its weights are not read."""
    return load_engine(model, None, weights=False).reader.count


def warm_up(engine: GraphKV) -> None:
    """Two words, one reading the other, and a third asked, into a store of its own: what only the first call pays for is no layout's time."""
    from graphkv.engine import GraphKV

    GraphKV(engine.model, store="memory", template=engine.template).ask([{"id": "a", "text": "a"}, {"id": "b", "text": "b", "sources": ["a"]}], "c", max_new_tokens=1)


def read_graph(path: Path) -> SegmentGraph:
    """A graph: from JSON Lines of documents, where every line must be right, or from anything else that `graphkv build` reads.

    What was left out of the latter is said in one line on stderr.
    """
    from graphkv.graph import SegmentGraph

    if path.suffix.lower() in (".jsonl", ".ndjson") and is_documents(path):
        return SegmentGraph.from_jsonl(path)
    from graphkv.importers import build_graph

    with late_progress("reading files") as progress:
        built = build_graph(path, progress=progress)
    counts = [f"{len(found):,} {name}" for name, found in (("skipped", built.report.skipped), ("unresolved", built.report.unresolved)) if found]
    if counts:
        typer.secho(f"{path}: {', '.join(counts)}; `graphkv build {path}` says which", fg=typer.colors.YELLOW, err=True)
    return built.graph


def is_documents(path: Path) -> bool:
    """Whether a JSON Lines file is one of documents: its first line is one, or is no row of another format. A broken file counts, so that its line is named."""
    from graphkv.importers.json_rows import ROW_FORMATS, row_format
    from graphkv.importers.reading import Reading

    reading = Reading()
    for _, line in reading.lines(path):
        try:
            row = reading.json(line, str(path))
        except GraphKVError:
            return True
        if not isinstance(row, dict) or row_format("documents").matches(row):
            return True
        return not any(row_format(name).matches(row) for name in ROW_FORMATS)
    return True


def read_rows(path: Path, edges: str) -> list[Row] | None:
    """Rows of a data set that `graphkv_benchmarks.readers` recognises; None for a file of documents."""
    from graphkv_benchmarks.readers import recognise

    reader = recognise(path)
    return None if reader is None else reader(path, edges=edges)


def choose_rows(rows: list[Row], row: int | None, limit: int | None) -> list[Row]:
    """One row by its index, or the first `limit`.

    Raises:
        InputError: there is no such row.
    """
    if row is None:
        return rows[:limit]
    if not 0 <= row < len(rows):
        raise InputError(f"--row {row}: the file has rows 0 to {len(rows) - 1}")
    return [rows[row]]
